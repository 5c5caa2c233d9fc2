//! Parts of what a secondary says of its upstream: the way to the primary, a snapshot that is
//! brought in, what has diverged. Must never hold what is not in the node at that moment.

use serde::{Deserialize, Serialize};

/// A node on the way to the primary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HopStatus {
    pub id: String,
    pub name: String,
}

/// What of a snapshot is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootstrapStatus {
    pub files: u64,
    pub files_held: u64,
    pub bytes: u64,
    pub bytes_held: u64,
}

/// A diverged end of the log, kept as files of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DivergedStatus {
    pub path: String,
    pub from_lsn: u64,
    pub to_lsn: u64,
    pub rows: u64,
    pub bytes: u64,
}

impl From<wal::BootstrapProgress> for BootstrapStatus {
    fn from(bootstrap: wal::BootstrapProgress) -> Self {
        Self {
            files: bootstrap.files,
            files_held: bootstrap.files_held,
            bytes: bootstrap.bytes,
            bytes_held: bootstrap.bytes_held,
        }
    }
}

impl From<wal::Diverged> for DivergedStatus {
    fn from(diverged: wal::Diverged) -> Self {
        Self {
            path: diverged.path.display().to_string(),
            from_lsn: diverged.from.lsn.0,
            to_lsn: diverged.to.lsn.0,
            rows: diverged.rows,
            bytes: diverged.bytes,
        }
    }
}

impl From<replica::Hop> for HopStatus {
    fn from(hop: replica::Hop) -> Self {
        Self {
            id: hop.id,
            name: hop.name,
        }
    }
}
