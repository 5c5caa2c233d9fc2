//! SQL over one snapshot of the log, and the formats that its answers take.
//!
//! Owns everything that knows DataFusion. Must never write to the log, open a file or address that
//! a query names, know who asks and over which protocol, or depend on how a snapshot came to be.

mod admit;
mod catalog;
mod config;
mod encode;
mod engine;
mod error;
mod guard;
mod locate;
mod names;
mod node;
mod params;
mod pump;
mod rewrite;
mod scan;
mod statement;
mod stats;
mod wording;

pub use arrow;
pub use config::Config;
pub use datafusion::execution::SendableRecordBatchStream;
pub use encode::format::Format;
pub use engine::Engine;
pub use error::QueryError;
pub use names::nearest;
pub use node::{Node, ReplicationRow};
pub use params::Params;
pub use pump::{Head, Transfer};
pub use statement::Statement;
pub use stats::{Outcome, QueryStats};
