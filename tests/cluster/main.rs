//! Promises of whole nodes, kept by real processes, real sockets and real clients.

mod durability;
mod full_disk;
mod identical;
mod input;
mod load;
mod refusals;
mod repair;
mod sql;
mod storage;
mod tables;
