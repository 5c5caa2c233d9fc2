//! How a connection with a secondary ends where nothing has failed, and what the secondary and the
//! log are told about either. It owns those words and codes; it must never decide when a connection
//! ends.

use std::fmt;
use std::mem::{self, Discriminant};

use crate::error::{CloseCode, LinkError};
use crate::serve::error::{ShipError, ShipKind};
use crate::wire::refusal::RefuseReason;

/// Why a connection ended in order.
#[derive(Debug)]
pub(crate) enum SessionEnd {
    /// The logs did not meet: the secondary was told where they still agree.
    Compared(RefuseReason),
    /// A newer connection of the same node took over.
    Superseded,
    /// This node serves another log now.
    OtherLog,
    /// This node stops.
    Stopping,
}

impl fmt::Display for SessionEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Compared(reason) => write!(f, "{reason}; it was told where they still agree"),
            Self::Superseded => f.write_str("a newer connection of the same node took over"),
            Self::OtherLog => f.write_str("this node serves another log now"),
            Self::Stopping => f.write_str("this node stops"),
        }
    }
}

/// How a connection ended.
pub(crate) type SessionResult = Result<SessionEnd, ShipError>;

/// What tells one way to end from another.
pub(crate) type EndKind = Result<Discriminant<SessionEnd>, ShipKind>;

/// The kind of it, whatever the words.
pub(crate) fn kind(ended: &SessionResult) -> EndKind {
    match ended {
        Ok(end) => Ok(mem::discriminant(end)),
        Err(error) => Err(error.kind()),
    }
}

/// The sentence about it.
pub(crate) fn reason(ended: &SessionResult) -> String {
    match ended {
        Ok(end) => end.to_string(),
        Err(error) => error.to_string(),
    }
}

/// What to tell the secondary when closing.
pub(crate) fn close_code(ended: &SessionResult) -> CloseCode {
    match ended {
        Ok(SessionEnd::Superseded) => CloseCode::Superseded,
        Ok(SessionEnd::Compared(_) | SessionEnd::OtherLog | SessionEnd::Stopping) => {
            CloseCode::Done
        }
        Err(ShipError::Link(LinkError::Codec(_)) | ShipError::Protocol(_)) => CloseCode::Protocol,
        Err(ShipError::Link(_)) => CloseCode::Done,
        Err(ShipError::Silent(_) | ShipError::Stalled(_)) => CloseCode::Silent,
        Err(ShipError::Refused(_) | ShipError::NoPlace(_) | ShipError::NoMemory(_)) => {
            CloseCode::Refused
        }
        Err(ShipError::Log(_) | ShipError::LogClosed | ShipError::Task(_)) => CloseCode::Internal,
    }
}

/// Whether connections end so every day, and nobody need look.
pub(crate) fn is_ordinary(ended: &SessionResult) -> bool {
    match ended {
        Ok(SessionEnd::Compared(_)) => false,
        Ok(SessionEnd::Superseded | SessionEnd::OtherLog | SessionEnd::Stopping) => true,
        Err(ShipError::Link(LinkError::Closed { code, .. })) => *code != CloseCode::BadBlock as u64,
        Err(ShipError::Link(LinkError::Codec(_))) => false,
        Err(ShipError::Link(error)) => !error.is_about_certificate(),
        Err(_) => false,
    }
}
