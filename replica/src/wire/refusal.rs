//! Why a primary turns a secondary away, as a sentence, a number and a detail. It owns the numbers
//! and must never decide: `plan` does.

use std::net::SocketAddr;

use wal::{Epoch, LogId, Lsn};

use crate::wire::message::Refuse;
use crate::wire::version::Versions;

/// Why a secondary must not follow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RefuseReason {
    /// The two builds share no protocol version.
    #[error(
        "no common protocol version: the secondary speaks {theirs}, this primary {ours}; upgrade the older of the two"
    )]
    Protocol {
        /// The secondary's.
        theirs: Versions,
        /// The primary's.
        ours: Versions,
    },
    /// The secondary writes a newer log format.
    #[error("the secondary writes log format {theirs}, this primary {ours}: upgrade the primary")]
    FormatNewer {
        /// The secondary's format.
        theirs: u8,
        /// The primary's format.
        ours: u8,
    },
    /// The secondary writes an older log format.
    #[error("the secondary writes log format {theirs}, this primary {ours}: upgrade the secondary")]
    FormatOlder {
        /// The secondary's format.
        theirs: u8,
        /// The primary's format.
        ours: u8,
    },
    /// The secondary holds another log.
    #[error(
        "the secondary holds log {theirs}, this primary's is {ours}: one of them points at the wrong node or directory"
    )]
    ForeignLog {
        /// The secondary's log.
        theirs: LogId,
        /// The primary's log.
        ours: LogId,
    },
    /// The secondary has seen a later epoch of this log.
    #[error(
        "the secondary's log is of epoch {their_epoch}, this primary's of {own_epoch}: another node was made primary",
        their_epoch = .theirs.0,
        own_epoch = .ours.0
    )]
    NewerEpoch {
        /// The secondary's epoch.
        theirs: Epoch,
        /// The primary's epoch.
        ours: Epoch,
    },
    /// The secondary's log is longer than the primary's.
    #[error(
        "the secondary's log ends at {position}, beyond this primary's end {durable}: the primary lost data or was restored from a backup"
    )]
    Ahead {
        /// End of the secondary's log.
        position: Lsn,
        /// Durable end of the primary's.
        durable: Lsn,
    },
    /// No block of the primary ends where the secondary's log does.
    #[error(
        "the secondary's log ends at {position}, inside a block of this primary: the logs have diverged"
    )]
    NotABoundary {
        /// End of the secondary's log.
        position: Lsn,
    },
    /// The same LSN, but other blocks before it.
    #[error("the logs differ before {position}: they have diverged")]
    Diverged {
        /// End of the secondary's log.
        position: Lsn,
    },
    /// The Hello itself makes no sense.
    #[error("the secondary's first message is not usable: {what}")]
    BadHello {
        /// What is wrong with it.
        what: &'static str,
    },
    /// The secondary stands on this node's own way to the primary.
    #[error("this node follows the secondary itself: a ring of nodes would follow each other")]
    Loop,
    /// Another node of the same id is connected.
    #[error(
        "node id {id} is in use by {name:?}, which is connected from {address}: one data directory was copied from the other; stop the copy, remove the file node-id in its data directory and give it a certificate of its own"
    )]
    CloneId {
        /// The id of both.
        id: String,
        /// Name of the other one's certificate.
        name: String,
        /// Where the other one is.
        address: SocketAddr,
    },
    /// The secondary has the id of this node, or of the primary.
    #[error(
        "the secondary's data directory is a copy of that of {name:?}, whose node id it has (or it follows itself): remove the file node-id there and start it again, it makes a new one"
    )]
    Copy {
        /// Name of the node that was copied.
        name: String,
    },
    /// What this node would compare with is damaged here.
    #[error(
        "this node's log is damaged around {position}: it must be repaired before the secondary can go on"
    )]
    Damaged {
        /// End of the secondary's log.
        position: Lsn,
    },
    /// A relay that has no log yet.
    #[error("this node has no log yet: it has never reached its own upstream")]
    NoLogYet,
    /// As many secondaries as the primary takes are connected.
    #[error("this primary remembers {limit} secondaries, all of them connected, and takes no more")]
    Full {
        /// How many.
        limit: usize,
    },
}

impl RefuseReason {
    /// Its number in [`Refuse`]; never reused. Number 9 told secondaries of version 2 that they
    /// needed a snapshot.
    #[must_use]
    pub fn code(&self) -> u16 {
        match self {
            Self::Protocol { .. } => 1,
            Self::FormatNewer { .. } => 2,
            Self::FormatOlder { .. } => 3,
            Self::ForeignLog { .. } => 4,
            Self::NewerEpoch { .. } => 5,
            Self::Ahead { .. } => 6,
            Self::NotABoundary { .. } => 7,
            Self::Diverged { .. } => 8,
            Self::BadHello { .. } => 10,
            Self::Full { .. } => 11,
            Self::Loop => 12,
            Self::Copy { .. } => 17,
            Self::CloneId { .. } => 13,
            Self::NoLogYet => NO_LOG_YET,
            Self::Damaged { .. } => DAMAGED,
        }
    }

    fn detail(&self) -> String {
        match self {
            Self::Protocol { ours, .. } => format!("min={} max={}", ours.min, ours.max),
            Self::FormatNewer { ours, .. } | Self::FormatOlder { ours, .. } => {
                format!("format={ours}")
            }
            Self::ForeignLog { ours, .. } => format!("log={ours}"),
            Self::NewerEpoch { ours, .. } => format!("epoch={}", ours.0),
            Self::Ahead { durable, .. } => format!("durable={durable}"),
            Self::NotABoundary { position }
            | Self::Diverged { position }
            | Self::Damaged { position } => {
                format!("position={position}")
            }
            Self::CloneId { name, .. } | Self::Copy { name } => format!("name={name}"),
            Self::BadHello { .. } | Self::Full { .. } | Self::Loop | Self::NoLogYet => {
                String::new()
            }
        }
    }
}

impl From<&RefuseReason> for Refuse {
    fn from(reason: &RefuseReason) -> Self {
        Self {
            code: reason.code(),
            message: reason.to_string(),
            detail: reason.detail(),
        }
    }
}

/// Code of [`Refuse`] by a relay that will have a log soon.
pub const NO_LOG_YET: u16 = 14;

/// Code of [`Refuse`] by a node that must be repaired first.
pub const DAMAGED: u16 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_say_what_to_do_and_keep_their_numbers() {
        let (position, durable) = (Lsn(201), Lsn(200));
        let refuse = Refuse::from(&RefuseReason::Ahead { position, durable });
        assert_eq!(refuse.code, 6);
        assert_eq!(refuse.detail, "durable=200");
        assert!(refuse.message.contains("201") && refuse.message.contains("200"));
        let (theirs, ours) = (Epoch(6), Epoch(5));
        let message = RefuseReason::NewerEpoch { theirs, ours }.to_string();
        assert!(
            message.contains("epoch 6") && message.contains("of 5"),
            "{message}"
        );
        let (theirs, ours) = (Versions { min: 7, max: 8 }, Versions::OWN);
        let refuse = Refuse::from(&RefuseReason::Protocol { theirs, ours });
        assert!(refuse.message.contains("7 to 8"), "{}", refuse.message);
        assert_eq!(refuse.detail, "min=3 max=5");
    }
}
