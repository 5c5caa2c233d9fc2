//! Measures: one file or folder for each table of BENCHMARKS.md, its options and what it prints.
//! Must never compare numbers of two runs.

pub mod args;
pub mod catchup;
pub mod compare;
pub mod fanout;
pub mod filesize;
pub mod lag;
pub mod load;
pub mod logsize;
pub mod noop;
pub mod recovery;
mod rounds;
#[cfg(feature = "scan")]
pub mod scan;
pub mod sensors;
pub mod transfer;
pub mod visible;
