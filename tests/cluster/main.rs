//! Promises of whole nodes, kept by real processes, real sockets and real clients. Must never
//! reach into a process.

#![allow(clippy::expect_used, reason = "a test that panics has failed")]

mod clock;
mod closed_output;
mod data_dir;
mod durability;
mod field;
mod full_disk;
mod healing;
mod hostile;
mod http_door;
mod identical;
mod ingest;
mod input;
mod limits;
mod load;
mod log_lines;
mod names;
mod network;
mod refusals;
mod relays;
mod repair;
mod replicated;
mod sql;
mod storage;
mod tables;
mod unopened;
mod values;
