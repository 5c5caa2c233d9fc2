//! The ways into the log: appenders and the committer on a primary, the follower on a secondary,
//! and the writer of the active segment below both. One thread owns the writer; they must never
//! call a position durable before the `fdatasync` that covers it.

mod alter;
pub(crate) mod appender;
pub(crate) mod appenders;
pub(crate) mod batch;
pub(crate) mod change;
pub(crate) mod committer;
pub(crate) mod declared;
pub(crate) mod demand;
pub(crate) mod encode;
pub(crate) mod expiry;
pub(crate) mod follower;
pub(crate) mod group;
pub(crate) mod inbox;
pub(crate) mod old_ints;
pub(crate) mod pacer;
mod quota;
pub(crate) mod registry;
pub(crate) mod size_cap;
pub(crate) mod space;
mod spare;
pub(crate) mod taken_times;
pub(crate) mod upkeep;
pub(crate) mod writer;
