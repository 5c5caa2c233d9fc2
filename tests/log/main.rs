//! Promises of the log: what was acknowledged survives any crash, damage is found and named,
//! every earlier format is read for ever. Must never start a node.

mod compaction;
mod crash;
mod damage;
mod golden;
mod join;
