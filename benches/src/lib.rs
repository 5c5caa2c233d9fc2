//! Benchmarks and load generators: what BENCHMARKS.md is measured with.
//!
//! Every number is a ratio taken in one run on one machine: Headwater beside the cheapest thing that
//! could do the same job. The programs in `src/bin` only parse arguments and print; what they share
//! is here. Nothing in this package is part of the product, and nothing here may talk to anything
//! but loopback addresses or end a process it did not start.

pub mod args;
pub mod bulk;
pub mod catchup;
pub mod compacting;
pub mod compare;
pub mod conn;
pub mod cpu;
pub mod error;
pub mod fanout;
pub mod filesize;
pub mod fleet;
pub mod http;
pub mod lag;
mod light;
pub mod lights;
pub mod load;
pub mod logsize;
pub mod lossy;
pub mod machine;
pub mod node;
pub mod noise;
pub mod noop;
pub mod packet;
pub mod peak;
pub mod probe;
pub mod process;
pub mod recovery;
pub mod rows;
#[cfg(feature = "scan")]
pub mod scan;
#[cfg(test)]
mod selftest;
pub mod sensors;
pub mod stats;
pub mod tls;
pub mod transfer;
pub mod visible;
pub mod writer;

pub use error::{BenchError, Context, finish};
