//! Promises of the whole crate that no single file can make. Tests only; must never hold what the
//! product needs.

mod as_of;
mod digests;
mod model;
mod refusals;
pub(crate) mod refusing_disk;
mod retention;
mod roundtrip;
