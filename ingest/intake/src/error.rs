//! Why a payload is no rows, and why rows were not written. Must never leave open whether something
//! was written: each kind says so.

use std::time::Duration;

use wal::Refusal;

/// Why a payload does not become rows. On MQTT the text is the dead letter's `reason`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    #[error("the payload is empty")]
    Empty,
    #[error("the payload is neither a JSON object, an array of objects nor JSON lines")]
    NotJson,
    #[error("invalid JSON: {0}")]
    Json(String),
    #[error("an array without rows")]
    NoRows,
    #[error("time field {field:?}: {reason}")]
    Time { field: &'static str, reason: String },
    #[error("the payload is not UTF-8 at byte {at}")]
    Utf8 { at: usize },
    #[error("invalid CSV in line {line}: {reason}")]
    Csv { line: u64, reason: String },
    #[error("invalid gzip: {0}")]
    Gzip(String),
    #[error("the payload is longer than {limit} bytes once it is unpacked")]
    TooLong { limit: usize },
    #[error("the payload has more than {limit} rows")]
    TooManyRows { limit: usize },
}

/// Why nothing was written, or not for certain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IntakeError {
    /// Nothing was written.
    #[error(transparent)]
    Payload(#[from] PayloadError),
    /// Nothing was written.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Nothing was written: the log takes nothing for now.
    #[error("{0}")]
    Stalled(String),
    /// Nothing for certain: the log has failed, or the node stops.
    #[error("the log takes no more rows: {0}")]
    Closed(String),
    /// The rows may become durable yet.
    #[error("not on disk within {} s; it may be stored yet", .limit.as_secs())]
    NotDurable { limit: Duration },
    /// A bug.
    #[error("internal error: {0}")]
    Internal(String),
}
