//! What has diverged, as the body of `/api/v1/status` tells it. Must never hold what is not on the
//! node's disk.

use serde::{Deserialize, Serialize};

/// A diverged end of the log, kept as files of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DivergedStatus {
    pub path: String,
    pub from_lsn: u64,
    pub to_lsn: u64,
    pub rows: u64,
    pub bytes: u64,
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
