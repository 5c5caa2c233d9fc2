//! What verifying a node's data has found, whether this process did it or a running node. The body
//! of `/api/v1/verify` as the command line reads it. Must never judge: a torn tail is no fault.

use serde::Deserialize;

/// What was read, and what is wrong with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Verification {
    pub(crate) segments: u64,
    pub(crate) blocks: u64,
    /// Rows in segments.
    pub(crate) rows: u64,
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    pub(crate) torn_tail: Option<Torn>,
    pub(crate) faults: Vec<Fault>,
}

/// An unfinished write at the log's end, which the next start cuts.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Torn {
    pub(crate) file: String,
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
    pub(crate) reason: String,
}

/// Bytes that are not what was written.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Fault {
    pub(crate) file: String,
    pub(crate) offset: u64,
    pub(crate) reason: String,
    /// The rows that are in danger.
    pub(crate) covers: String,
}

impl From<wal::VerifyReport> for Verification {
    fn from(report: wal::VerifyReport) -> Self {
        let torn_tail = report.torn_tail.map(|torn| Torn {
            file: torn.file,
            offset: torn.offset,
            bytes: torn.bytes,
            reason: torn.reason,
        });
        let faults = report.faults.into_iter().map(|fault| Fault {
            file: fault.file,
            offset: fault.offset,
            reason: fault.reason,
            covers: fault.covers,
        });
        Self {
            segments: report.segments,
            blocks: report.blocks,
            rows: report.rows,
            files: report.files,
            bytes: report.bytes,
            torn_tail,
            faults: faults.collect(),
        }
    }
}
