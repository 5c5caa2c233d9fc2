//! The bodies that a node answers with and the command line reads. Owns their shape; must never
//! know how they got from one to the other.

pub(crate) mod digest;
pub(crate) mod diverged;
pub(crate) mod status;
