//! What goes wrong while following. It owns the sentences that people read about it, the
//! state to show for each and the code to close with; it must never decide what is done next.

use std::io;
use std::mem::{self, Discriminant};
use std::net::SocketAddr;
use std::time::Duration;

use wal::{Epoch, Position, WalError};

use crate::error::{CloseCode, LinkError, LinkKind, ReplicaError};
use crate::files::fetch::FetchError;
use crate::status::FollowPhase;
use crate::wire::Refuse;
use crate::wire::assembler::AssembleError;
use crate::wire::blocks::BlockFrameError;
use crate::wire::refusal::{DAMAGED, NO_LOG_YET};

/// What ended a connection, or kept it from coming about.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FollowError {
    #[error("cannot resolve {upstream}: {source}")]
    Resolve { upstream: String, source: io::Error },
    #[error("{0} resolves to no address")]
    NoAddress(String),
    #[error(
        "no answer from {address} within {within:?}: is a node listening there, and do firewalls let UDP through to that port, both ways?"
    )]
    Unanswered { address: String, within: Duration },
    #[error("cannot resolve {upstream} within {within:?}: the name server does not answer")]
    Unresolved { upstream: String, within: Duration },
    #[error("this machine has no way to {address}: {source}")]
    NoWay {
        address: SocketAddr,
        source: io::Error,
    },
    #[error(transparent)]
    Setup(#[from] ReplicaError),
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("nothing heard from the upstream for {0:?}")]
    Silent(Duration),
    #[error("the upstream broke the protocol: {0}")]
    Protocol(String),
    #[error("the upstream refuses: {}", .0.message)]
    Refused(Refuse),
    #[error("the upstream ended the connection: {0}")]
    EndedByPeer(String),
    #[error("{0}")]
    Stream(#[from] AssembleError),
    #[error("{0}")]
    Frame(#[from] BlockFrameError),
    #[error("the upstream's blocks do not continue the local log: {0}")]
    BadBlock(WalError),
    #[error("the local log stands at {found}, not at {wanted}")]
    Moved { wanted: Position, found: Position },
    #[error("the system lacks what is needed, which is tried again: {0}")]
    NoRoom(WalError),
    #[error("the local log has failed: {0}")]
    LocalLog(String),
    #[error("no manifest came: {0}")]
    NoManifest(FetchError),
    #[error("{peer} is not followed: {reason}")]
    Untrusted {
        /// Common name of its certificate.
        peer: String,
        reason: String,
    },
    #[error("a ring: {0}")]
    Ring(String),
    #[error(
        "the upstream holds another history of this log than the one that this node has from {held:?}, in the same epoch {epoch}: both {held:?} and {other:?} have been primary. Find out which of them is right and stop the other; a node leaves the history it has for this one only if replication.upstream names no other upstream",
        epoch = .epoch.0
    )]
    OtherHistory {
        /// Name of the primary whose history is held.
        held: String,
        /// Name of the other one.
        other: String,
        epoch: Epoch,
    },
    #[error("{0}")]
    Behind(String),
    #[error("files of the snapshot cannot be taken in: {0}")]
    Unfilled(String),
}

/// What tells one way in which following ends from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FollowKind {
    error: Discriminant<FollowError>,
    link: Option<LinkKind>,
    code: u16,
}

impl FollowError {
    /// The state to show until the next attempt succeeds.
    pub(crate) fn phase(&self) -> FollowPhase {
        match self {
            Self::Refused(refuse) if [NO_LOG_YET, DAMAGED].contains(&refuse.code) => {
                FollowPhase::Connecting
            }
            Self::Refused(_)
            | Self::Ring(_)
            | Self::OtherHistory { .. }
            | Self::Untrusted { .. } => FollowPhase::Refused,
            Self::Link(error) if error.is_about_certificate() => FollowPhase::Refused,
            Self::LocalLog(_) => FollowPhase::Failed,
            _ => FollowPhase::Connecting,
        }
    }

    /// Tells one kind from another, whatever the words: they may count seconds.
    pub(crate) fn kind(&self) -> FollowKind {
        let (link, code) = match self {
            Self::Link(error) => (Some(error.kind()), 0),
            Self::Refused(refuse) => (None, refuse.code),
            _ => (None, 0),
        };
        FollowKind {
            error: mem::discriminant(self),
            link,
            code,
        }
    }

    /// What to tell the primary when closing.
    pub(crate) fn close_code(&self) -> CloseCode {
        match self {
            Self::Protocol(_) | Self::Link(LinkError::Codec(_)) => CloseCode::Protocol,
            Self::BadBlock(_) | Self::Stream(_) | Self::Frame(_) => CloseCode::BadBlock,
            Self::LocalLog(_) | Self::Moved { .. } => CloseCode::Internal,
            Self::Silent(_) => CloseCode::Silent,
            _ => CloseCode::Done,
        }
    }

    /// What an error of the local log means: a block it will not have, or its end.
    pub(crate) fn of_append(error: WalError) -> Self {
        match error {
            WalError::Diverged { .. }
            | WalError::InvalidBlock(_)
            | WalError::Corrupt { .. }
            | WalError::NewerFormat { .. } => Self::BadBlock(error),
            other => Self::LocalLog(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::CertFault;

    #[test]
    fn words_that_count_do_not_make_another_kind() {
        let expired = |at| {
            FollowError::Link(LinkError::PeerCertificate {
                name: Some("p".to_owned()),
                fault: CertFault::Expired(Some(at)),
            })
        };
        assert_eq!(expired(1).kind(), expired(2).kind());
        let revoked = FollowError::Link(LinkError::PeerCertificate {
            name: Some("p".to_owned()),
            fault: CertFault::Revoked,
        });
        assert_ne!(expired(1).kind(), revoked.kind());
        let refused = |code, message: &str| {
            FollowError::Refused(Refuse {
                code,
                message: message.to_owned(),
                ..Refuse::default()
            })
        };
        assert_eq!(refused(4, "at 1").kind(), refused(4, "at 2").kind());
        assert_ne!(refused(4, "").kind(), refused(5, "").kind());
    }

    #[test]
    fn what_ended_a_connection_shows_as_a_state() {
        let refuse = |code| {
            FollowError::Refused(Refuse {
                code,
                ..Refuse::default()
            })
        };
        assert_eq!(refuse(NO_LOG_YET).phase(), FollowPhase::Connecting);
        assert_eq!(refuse(4).phase(), FollowPhase::Refused);
        let certificate = LinkError::PeerCertificate {
            name: None,
            fault: CertFault::UnknownIssuer,
        };
        assert_eq!(FollowError::from(certificate).phase(), FollowPhase::Refused);
        let gone = FollowError::from(LinkError::TimedOut);
        assert_eq!(gone.phase(), FollowPhase::Connecting);
        let failed = FollowError::LocalLog("disk".to_owned());
        assert_eq!(failed.phase(), FollowPhase::Failed);
    }
}
