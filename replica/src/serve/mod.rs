//! The upstream's side of a connection: accepting secondaries, the handshake, one session each, and
//! the registry of those known. It must never know how a secondary follows.

pub(crate) mod admission;
pub(crate) mod borrow;
pub(crate) mod ended;
pub(crate) mod entries;
pub(crate) mod error;
pub(crate) mod handshake;
pub(crate) mod listener;
mod load;
pub(crate) mod memory;
pub(crate) mod pace;
pub(crate) mod registry;
pub(crate) mod reports;
pub(crate) mod session;
pub(crate) mod shared;
pub(crate) mod source;
pub(crate) mod vouchers;
