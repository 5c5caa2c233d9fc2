//! Why the listener cannot run, and why a message goes to the dead letters.

use std::net::SocketAddr;

use wal::Refusal;

/// An error of the listener itself.
#[derive(Debug, thiserror::Error)]
pub enum MqttError {
    #[error("cannot listen for MQTT on {address}: {source}")]
    Listen {
        address: SocketAddr,
        source: std::io::Error,
    },
    #[error("cannot start the MQTT thread: {0}")]
    Thread(std::io::Error),
    #[error("the MQTT thread ended while it started")]
    Start,
}

/// Why a message does not become rows. The text is the dead letter's `reason`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    #[error("topic {0:?} has an empty first level, which names the table")]
    NoTable(String),
    #[error("topics that start with $ are not stored")]
    DollarTopic,
    #[error("the payload is empty")]
    EmptyPayload,
    #[error("the payload is neither a JSON object, an array of objects nor JSON lines")]
    NotJson,
    #[error("invalid JSON: {0}")]
    Json(String),
    #[error("an array without rows")]
    NoRows,
    #[error("time field {field:?}: {reason}")]
    Time { field: &'static str, reason: String },
    #[error(transparent)]
    Refused(#[from] Refusal),
}
