//! SQL over one snapshot of the log, and the formats that its answers take.
//!
//! Owns everything that knows DataFusion. Must never write to the log, open a file or address that
//! a query names, know who asks and over which protocol, or depend on how a snapshot came to be.

mod account;
mod admit;
mod at_zone;
mod bounds;
mod catalog;
mod coding;
mod columns;
mod config;
mod dialect;
mod each_expr;
mod encode;
mod engine;
mod error;
mod guard;
mod locate;
mod mark;
mod names;
mod naming;
mod node;
mod params;
mod prepare;
mod pump;
mod resident;
mod rewrite;
mod running;
mod scan;
mod seat;
mod shadow;
mod show;
mod statement;
mod stats;
mod stop;
mod types;
mod version;
mod watch;
mod weight;
mod wording;
mod zone;

pub use account::{allocated, freed};
pub use arrow;
pub use coding::Coding;
pub use config::Config;
pub use datafusion::execution::SendableRecordBatchStream;
pub use encode::format::{Format, Output};
pub use engine::Engine;
pub use error::QueryError;
pub use names::nearest;
pub use node::{Node, ReplicationRow};
pub use params::Params;
pub use pump::{Head, Transfer};
pub use statement::Statement;
pub use stats::{Outcome, QueryStats};
pub use zone::TimeZone;
