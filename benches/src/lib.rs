//! Benchmarks and load generators: what BENCHMARKS.md is measured with.
//!
//! Every number is a ratio taken in one run on one machine: Headwater beside the cheapest thing
//! that could do the same job. Layers, each only downwards: [`load`] drives a server, [`node`]
//! starts Headwater, [`yardstick`] is what it is measured beside, [`measure`] puts them together,
//! `main.rs` names a measure. Nothing in this package is part of the product, and nothing here may
//! talk to anything but loopback addresses or end a process it did not start: it must never do
//! either.

pub mod error;
pub mod load;
pub mod machine;
pub mod measure;
pub mod node;
pub mod stats;
pub mod yardstick;

pub use error::{BenchError, Context};
