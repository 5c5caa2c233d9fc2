//! Why a quickstart ended badly. Owns the sentences; must never hide that rows are missing.

use crate::cli::client::ClientError;
use crate::node::error::{StartError, StopError};

/// Why the quickstart ended badly.
#[derive(Debug, thiserror::Error)]
pub(crate) enum QuickstartError {
    #[error("cannot start: {0}")]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("certificates cannot be made: {0}")]
    Certs(#[from] replica::certs::CertsError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Stop(#[from] StopError),
    #[error("the log has failed: {0}")]
    Failed(String),
    #[error("{acknowledged} messages were acknowledged, only {stored} rows arrived")]
    Missing { acknowledged: u64, stored: u64 },
}
