//! The product as one program: conf, roles, wiring, shutdown and the command line.
//!
//! This crate joins the others: what MQTT is, how a log is shipped and how SQL is answered is
//! theirs, and it must never know how. It alone reads files of settings and the environment, and
//! it alone knows HTTP.

// It ends the process where nobody reads; `cli::output` does not.
#![warn(clippy::print_stdout)]

mod api;
mod cli;
pub mod conf;
mod http;
mod node;
mod report;
mod signals;
mod telemetry;

pub use api::diverged::DivergedStatus;
pub use api::status::{DeadLetterStatus, LogStatus, MqttStatus, Status, UpstreamStatus};
pub use cli::run;
pub use http::HttpError;
pub use node::data_dir::DataDirError;
pub use node::error::{StartError, StopError};
pub use node::memory::MemoryError;
pub use node::primary::Primary;
pub use node::role::RoleError;
pub use node::running::Running;
pub use node::secondary::Secondary;
pub use report::accounting::{Accounting, AtRisk, MessageCounts, RowCounts, Stages};
pub use report::memory::{Memory, MemoryPart};
