//! Every way the log can fail, with the file, offset or position a reader needs.

use std::path::{Path, PathBuf};

use crate::ids::{LogId, Lsn, Position};

/// An error of the log.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// The operating system refused an operation.
    #[error("cannot {operation} {path}: {source}")]
    Io {
        operation: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    /// Bytes on disk are not what was written.
    #[error("{file} is damaged at offset {offset}: {reason}")]
    Corrupt {
        file: String,
        offset: u64,
        reason: String,
    },
    /// A block handed over from outside is no whole, valid block.
    #[error("invalid block: {0}")]
    InvalidBlock(String),
    /// A block does not continue this log.
    #[error(
        "the histories diverge at LSN {at}: this log ends at {tip}, the block continues {got_lsn}:{got_chain:016x}"
    )]
    Diverged {
        at: Lsn,
        tip: Position,
        got_lsn: Lsn,
        got_chain: u64,
    },
    /// The file was written by a newer version.
    #[error("{file} has format version {found}; this version reads up to {supported}")]
    NewerFormat {
        file: String,
        found: u32,
        supported: u32,
    },
    /// The directory holds something else than was asked for.
    #[error("{path}: {reason}")]
    WrongLog { path: PathBuf, reason: String },
    /// A table of the conf contradicts what the log has.
    #[error("table {table:?} cannot be declared so: {reason}")]
    Declaration { table: String, reason: String },
    /// The position is not in this log, or no longer held.
    #[error("position {0} is not held by this log")]
    NotHeld(Position),
    /// An earlier write or fsync failed; nothing more is accepted or acknowledged.
    #[error("the log has failed and accepts nothing more: {0}")]
    Poisoned(String),
    /// The log is being closed.
    #[error("the log is closed")]
    Closed,
}

impl WalError {
    /// Whether a write found no room. An fsync that says so is not meant: what it covered is lost.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Io {
                operation, source, ..
            } => crate::disk::is_full(source) && !operation.starts_with("fsync"),
            _ => false,
        }
    }

    pub(crate) fn io(operation: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            operation,
            path,
            source,
        }
    }

    pub(crate) fn corrupt(file: &str, offset: u64, reason: impl Into<String>) -> Self {
        Self::Corrupt {
            file: file.to_owned(),
            offset,
            reason: reason.into(),
        }
    }

    pub(crate) fn foreign(path: &Path, wanted: LogId, found: LogId) -> Self {
        Self::WrongLog {
            path: path.to_owned(),
            reason: format!("belongs to log {found}, not to {wanted}"),
        }
    }
}
