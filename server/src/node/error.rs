//! Why a node cannot start, and why it did not stop well. Must never know what is done
//! about it.

use crate::http::HttpError;
use crate::node::data_dir::DataDirError;
use crate::node::memory::MemoryError;
use crate::node::role::RoleError;

/// A node that could not start. Nothing was acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error(transparent)]
    Role(#[from] RoleError),
    #[error(transparent)]
    Memory(#[from] MemoryError),
    #[error("the log cannot be opened: {0}")]
    Log(#[from] wal::WalError),
    #[error("replication cannot start: {0}")]
    Replication(#[from] replica::ReplicaError),
    #[error("HTTP cannot start: {0}")]
    Http(#[from] HttpError),
    #[error("MQTT cannot start: {0}")]
    Mqtt(#[from] mqtt::MqttError),
}

/// A log whose last group may not be on disk. None of that group was acknowledged.
#[derive(Debug, thiserror::Error)]
#[error("the log did not close cleanly: {0}")]
pub struct StopError(#[from] pub wal::WalError);
