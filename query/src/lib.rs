//! SQL over one snapshot of the log, and the HTTP server in front of it.
//!
//! Owns everything that knows DataFusion or HTTP. Must never write to the log, open a file or
//! address that a query names, or depend on how a snapshot came to be.

mod admit;
mod catalog;
mod config;
mod encode;
mod engine;
mod error;
mod format;
mod guard;
mod http;
mod locate;
mod names;
mod node;
mod params;
mod progress;
mod prune;
mod pump;
mod scan;
mod stream;
mod system;
mod table;
mod tags;
mod work;

pub use arrow;
pub use config::Config;
pub use datafusion::execution::SendableRecordBatchStream;
pub use engine::Engine;
pub use error::{Mark, QueryError};
pub use http::HttpServer;
pub use node::{Forget, Node, ReplicationRow};
pub use params::Params;
