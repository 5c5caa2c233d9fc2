//! Promises of whole nodes, kept by real processes, real sockets and real clients.

mod durability;
mod identical;
mod input;
mod refusals;
mod sql;
