//! Compaction: sealed segments become Parquet files, small files become larger ones, expired ones
//! go. What is done next follows from the log and the manifest alone, so every node makes the same
//! files. It must never ask a clock, a memory size or a conf.

mod compactor;
mod distribute;
mod fingerprint;
pub(crate) mod merge;
mod part;
mod plan;
mod rows;
mod sort;
mod split;
mod step;

pub use compactor::{CompactionStats, Compactor, CompactorConfig, compact_now};
pub use part::{MergePart, MergedReader, merge_parts};
pub(crate) use step::remove_unnamed;
