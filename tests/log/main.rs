//! Promises of the log: what was acknowledged survives any crash, damage is found and named,
//! every earlier format is read for ever. Must never start a node.

#![allow(clippy::expect_used, reason = "a test that panics has failed")]

mod compaction;
mod crash;
mod damage;
mod golden;
mod holes;
mod join;
mod survival;
mod unreadable;
