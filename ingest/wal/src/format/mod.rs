//! The bytes of the log: blocks, what is in them, segments, and how they follow each other. Pure;
//! it must never touch a disk.

pub(crate) mod block;
pub(crate) mod body;
pub(crate) mod cast;
pub(crate) mod catalog;
pub(crate) mod chain;
pub(crate) mod column;
pub(crate) mod control;
pub(crate) mod number;
pub(crate) mod options;
pub(crate) mod row;
pub(crate) mod schema;
pub(crate) mod segment;
pub(crate) mod shared;
pub(crate) mod table;
