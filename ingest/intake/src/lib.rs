//! What comes in becomes rows, and rows that come without a session become durable.
//!
//! ```text
//! payload -> json | csv | line -> rows          (MQTT takes it from here by itself)
//! rows -> wal::Appender -> committer -> `Written`, once they are on disk
//! ```
//!
//! Knows no protocol: neither MQTT nor HTTP. It must never call rows written that are not durable.

mod append;
mod csv;
mod decoded;
mod error;
mod gunzip;
mod json;
mod line;
mod record;
mod service;
mod stats;
mod timestamp;
mod write;

pub use decoded::Decoded;
pub use error::{IntakeError, PayloadError};
pub use json::decode;
pub use service::Intake;
pub use stats::IntakeStats;
pub use timestamp::Unit;
pub use write::{Encoding, Fault, Format, Target, Write, Written};
