//! Benchmarks and load generators: what BENCHMARKS.md is measured with.
//!
//! Every number is a ratio taken in one run on one machine: Headwater beside the cheapest thing that
//! could do the same job. The programs in `src/bin` only parse arguments and print; what they share
//! is here. Nothing in this package is part of the product, and nothing here may talk to anything
//! but loopback addresses or end a process it did not start.

pub mod error;
pub mod load;
pub mod machine;
pub mod measure;
pub mod node;
pub mod stats;
pub mod yardstick;

pub use error::{BenchError, Context, finish};
