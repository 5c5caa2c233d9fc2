//! Every way the log can fail, with the file, offset or position a reader needs. A message must
//! never decide what is done: variants and operations do.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::ids::{Chain, LogId, Lsn, Position};

/// An error of the log.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// The operating system refused an operation.
    #[error("cannot {operation} {path}: {source}")]
    Io {
        operation: Operation,
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
        "the histories diverge at LSN {at}: this log ends at {tip}, the block continues {got_lsn}:{got_chain}"
    )]
    Diverged {
        at: Lsn,
        tip: Position,
        got_lsn: Lsn,
        got_chain: Chain,
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
    /// The files that a log is written to have lost their names.
    #[error(
        "{} is not what this process has opened: {reason}; what it writes there would be lost",
        .path.display()
    )]
    Gone { path: PathBuf, reason: &'static str },
    /// A file that is not in force any more was still read, and its room was needed.
    #[error("{file} was replaced and has been given up for want of room on the disk")]
    GivenUp { file: String },
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
            } => crate::disk::is_full(source) && !operation.is_sync(),
            _ => false,
        }
    }

    /// Whether the machine or the process had run out of something, such as descriptors: nothing is
    /// known to be wrong, and the same may be asked again.
    pub fn is_exhausted(&self) -> bool {
        matches!(self, Self::Io { source, .. } if crate::disk::is_exhausted(source))
    }

    /// Whether something had run out that may come back: room, memory, descriptors. The same may be
    /// tried again then. Never after an fsync: what it covered may be lost.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Io {
                operation, source, ..
            } => crate::disk::has_run_out(source) && !operation.is_sync(),
            _ => false,
        }
    }

    pub(crate) fn io(operation: Operation, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
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

/// What was asked of the operating system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation {
    Create,
    CreateDir,
    Fsync,
    FsyncDir,
    List,
    Open,
    Read,
    Remove,
    RemoveDir,
    Rename,
    /// Of the thread with this name.
    StartThread(&'static str),
    Truncate,
    Write,
}

impl Operation {
    /// Whether what it failed on may be lost although it seemed to be written.
    #[must_use]
    pub fn is_sync(self) -> bool {
        matches!(self, Self::Fsync | Self::FsyncDir)
    }

    /// Whether after its failure a file may be found in its old or in its new place.
    #[must_use]
    pub fn moves_names(self) -> bool {
        matches!(self, Self::Rename | Self::FsyncDir)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create => f.write_str("create"),
            Self::CreateDir => f.write_str("create directory"),
            Self::Fsync => f.write_str("fsync"),
            Self::FsyncDir => f.write_str("fsync directory"),
            Self::List => f.write_str("list"),
            Self::Open => f.write_str("open"),
            Self::Read => f.write_str("read"),
            Self::Remove => f.write_str("remove"),
            Self::RemoveDir => f.write_str("remove directory"),
            Self::Rename => f.write_str("rename"),
            Self::StartThread(name) => write!(f, "start the {name} thread of"),
            Self::Truncate => f.write_str("truncate"),
            Self::Write => f.write_str("write"),
        }
    }
}
