//! Why a connection with a secondary ends. It owns the sentences that people read about it and must
//! never decide what follows from one.

use std::time::Duration;

use tokio::task::JoinError;
use wal::WalError;

use crate::error::{CloseCode, LinkError};
use crate::wire::refusal::RefuseReason;
use crate::wire::{Message, Refuse};

/// Why a connection with a secondary ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ShipError {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("the secondary said nothing for {0:?}")]
    Silent(Duration),
    #[error("the secondary broke the protocol: {0}")]
    Protocol(String),
    #[error("refused: {}", .0.message)]
    Refused(Refuse),
    #[error("{0}; it was told where they still agree")]
    Diverged(RefuseReason),
    #[error("a newer connection of the same node took over")]
    Superseded,
    #[error("this node serves another log now")]
    Swapped,
    #[error("this node stops")]
    Stopping,
    #[error("the log cannot be read: {0}")]
    Log(#[from] WalError),
    #[error("the log is closed")]
    LogClosed,
    #[error("a task failed: {0}")]
    Task(#[from] JoinError),
}

impl ShipError {
    /// Whether the secondary could not go on with the blocks it got. It may be right: then peers can
    /// repair what is damaged here.
    pub(crate) fn is_complaint(&self) -> bool {
        let bad = CloseCode::BadBlock as u64;
        matches!(self, Self::Link(LinkError::Closed { code, .. }) if *code == bad)
    }
}

pub(crate) fn unexpected(message: &Message) -> ShipError {
    let name = match message {
        Message::Hello(_) => "Hello",
        Message::Welcome(_) => "Welcome",
        Message::Refuse(_) => "Refuse",
        Message::Heartbeat(_) => "Heartbeat",
        Message::CaughtUp(_) => "CaughtUp",
        Message::Status(_) => "Status",
        Message::End(_) => "End",
        Message::Fetch(_) => "Fetch",
        Message::File(_) => "File",
        Message::Route(_) => "Route",
        Message::Probe(_) => "Probe",
        Message::Common(_) => "Common",
        Message::FetchFrom(_) => "FetchFrom",
        Message::Report(_) => "Report",
        Message::Descendants(_) => "Descendants",
    };
    ShipError::Protocol(format!("an unexpected {name}"))
}
