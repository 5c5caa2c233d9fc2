//! The product as one program: conf, roles, wiring, shutdown and the command line.
//!
//! This crate joins the others: what MQTT is, how a log is shipped and how SQL is answered is theirs,
//! and it must never know how. It alone reads files of settings and the environment, and it alone
//! knows HTTP.

mod accounting;
mod chore;
mod cli;
mod client;
pub mod conf;
mod data_dir;
mod digest;
mod error;
mod http;
mod members;
mod memory;
mod metrics;
mod node;
mod parts;
mod primary;
mod quickstart;
mod running;
mod secondary;
mod signals;
mod slot;
mod status;
mod table;
mod telemetry;
mod verification;
mod view;

pub use accounting::{Accounting, AtRisk, MessageCounts, RowCounts, Stages};
pub use cli::run;
pub use data_dir::DataDirError;
pub use error::{StartError, StopError};
pub use http::HttpError;
pub use memory::MemoryError;
pub use primary::Primary;
pub use running::Running;
pub use secondary::Secondary;
pub use status::{
    BootstrapStatus, DamagedStatus, DescendantStatus, DivergedStatus, HopStatus, LogStatus,
    MqttStatus, ScrubStatus, SecondaryStatus, Status, UpstreamStatus,
};
