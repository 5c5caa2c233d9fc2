//! Measures: one file for each table of BENCHMARKS.md. Must never compare numbers of two runs.

pub mod args;
pub mod catchup;
pub mod compacting;
pub mod compare;
pub mod fanout;
pub mod filesize;
pub mod lag;
pub mod logsize;
pub mod recovery;
#[cfg(feature = "scan")]
pub mod scan;
pub mod sensors;
pub mod transfer;
pub mod visible;
