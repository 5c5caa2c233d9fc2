//! How a benchmark fails: one sentence on standard error and exit code 1. Must never print it
//! itself.

use std::fmt;

/// Why a benchmark could not be run, or measured something that must not be reported.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// An operation of the system, a library or a server under test failed.
    #[error("cannot {what}: {reason}")]
    Failed {
        /// What was attempted, after "cannot".
        what: String,
        /// Why it failed.
        reason: String,
    },
    /// The server broke MQTT, or refused what the generator sent.
    #[error("the MQTT server {0}")]
    Protocol(String),
    /// The arguments ask for something that cannot or must not be done.
    #[error("{0}")]
    Usage(String),
    /// The benchmark ran, but its result would be wrong.
    #[error("invalid result: {0}")]
    Invalid(String),
}

/// Says what was being done when an error of another library appeared.
pub trait Context<T> {
    /// Turns any error into `cannot {what}: {error}`.
    ///
    /// # Errors
    /// The error that was there, with what was attempted.
    fn context(self, what: impl fmt::Display) -> Result<T, BenchError>;
}

impl<T, E: fmt::Display> Context<T> for Result<T, E> {
    fn context(self, what: impl fmt::Display) -> Result<T, BenchError> {
        self.map_err(|error| BenchError::Failed {
            what: what.to_string(),
            reason: error.to_string(),
        })
    }
}
