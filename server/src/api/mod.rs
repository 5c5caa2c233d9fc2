//! The bodies that a node answers with and the command line reads. Owns their shape; must never
//! know how they got from one to the other.

pub(crate) mod digest;
pub(crate) mod status;
pub(crate) mod upstream;
pub(crate) mod verification;
