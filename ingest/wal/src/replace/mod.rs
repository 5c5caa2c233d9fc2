//! A log that another one replaces: built beside it, exchanged by renames, and what has diverged
//! kept. It must never remove rows that are not proven to be elsewhere.

pub(crate) mod broken;
pub(crate) mod diverged;
pub(crate) mod parts;
pub(crate) mod rescue;
pub(crate) mod staging;
pub(crate) mod swap;
