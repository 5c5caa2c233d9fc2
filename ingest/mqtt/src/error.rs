//! Why the listener cannot run, and why a message goes to the dead letters. Owns the texts that
//! people read; must never be asked what to do next by its text.

use std::net::SocketAddr;

use intake::PayloadError;
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
    #[error("topic {0:?} has only empty levels: the first one that is not empty names the table")]
    NoTable(String),
    #[error("topics that start with $ are not stored")]
    DollarTopic,
    #[error(transparent)]
    Payload(#[from] PayloadError),
    #[error(transparent)]
    Refused(#[from] Refusal),
}
