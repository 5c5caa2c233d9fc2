//! What a node tells of itself: where rows are, the rows of `system.replication`, the series of
//! `/metrics`. Must never keep a number from one answer to the next.

pub(crate) mod accounting;
pub(crate) mod memory;
pub(crate) mod metrics;
pub(crate) mod replication_rows;
pub(crate) mod series;
pub(crate) mod view;
pub(crate) mod who;
