//! Why a payload is no rows, and why rows were not written. Must never leave open whether something
//! was written: each kind says so.

use std::time::Duration;

use wal::Refusal;

/// Why a payload does not become rows. On MQTT the text is the dead letter's `reason`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    #[error("the payload is empty")]
    Empty,
    /// What it looks like, and what to do.
    #[error("the payload is no JSON: {0}")]
    NotJson(String),
    #[error("invalid JSON in line {line}, column {column}: {reason}")]
    Json {
        line: usize,
        column: usize,
        reason: String,
    },
    /// A field of a JSON row, counted from 1.
    #[error("row {row}, field {field:?}: {reason}")]
    Field {
        row: usize,
        field: String,
        reason: String,
    },
    #[error("an array without rows")]
    NoRows,
    #[error("the payload is not UTF-8 at byte {at} (line {line}){seems}")]
    Utf8 {
        at: usize,
        line: usize,
        /// What else it seems to be.
        seems: String,
    },
    /// The bytes before the text, or the text as a whole, are of no known kind.
    #[error("the payload {0}")]
    Bytes(&'static str),
    /// Not taken for CSV: what it looks like, and what to do.
    #[error("the payload is not taken as CSV: {0}")]
    NotCsv(String),
    #[error("invalid CSV in line {line}: {reason}")]
    Csv { line: usize, reason: String },
    #[error("invalid {format}: {reason}")]
    Packed {
        format: &'static str,
        reason: String,
    },
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
    /// The same, with the row that it is for.
    #[error("{place}: {refusal}")]
    Misfit { place: String, refusal: Refusal },
    /// Nothing was written: the log takes nothing for now.
    #[error("{0}")]
    Stalled(String),
    /// Nothing for certain: the log has failed, or the node stops.
    #[error("the log takes no more rows: {0}")]
    Closed(String),
    /// The rows may become durable yet.
    #[error(
        "handed to the log, and not on disk within {} s: it is stored as soon as the log goes on, \
         unless this node ends before. Ask for the rows before sending them again: sent twice they \
         are there twice, but where the table has dedup = \"key\"",
        .limit.as_secs()
    )]
    NotDurable { limit: Duration },
    /// A bug.
    #[error("internal error: {0}")]
    Internal(String),
}
