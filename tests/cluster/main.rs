//! Promises of whole nodes, kept by real processes, real sockets and real clients. Must never
//! reach into a process.

mod clock;
mod durability;
mod field;
mod full_disk;
mod healing;
mod identical;
mod ingest;
mod input;
mod load;
mod network;
mod refusals;
mod relays;
mod repair;
mod replicated;
mod sql;
mod storage;
mod tables;
