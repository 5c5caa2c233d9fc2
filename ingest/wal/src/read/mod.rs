//! What is seen of an open log: its state as the one writer publishes it, views of it, and readers
//! of blocks. It must never write to the log.

pub(crate) mod as_of;
pub(crate) mod block_ref;
pub(crate) mod boundaries;
pub(crate) mod bundle;
pub(crate) mod counters;
pub(crate) mod cursor;
pub(crate) mod file_history;
pub(crate) mod fingerprints;
pub(crate) mod frame;
pub(crate) mod kept_files;
pub(crate) mod log;
pub(crate) mod lost;
pub(crate) mod maintenance;
pub(crate) mod place;
pub(crate) mod published;
pub(crate) mod replicas;
pub(crate) mod sealed;
pub(crate) mod segment_starts;
pub(crate) mod snapshot;
pub(crate) mod tail;
pub(crate) mod waiting_cuts;
