//! What goes wrong on a connection with a secondary. It owns the sentences that people read about
//! it and must never decide what follows from one.

use std::mem::{self, Discriminant};
use std::time::Duration;

use tokio::task::JoinError;
use wal::WalError;

use crate::error::{CloseCode, LinkError, LinkKind};
use crate::wire::{Message, Refuse};

/// What ended a connection with a secondary, or kept it from coming about.
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
    #[error("all places for secondaries are taken: {0} has none")]
    NoPlace(String),
    #[error(
        "there is no memory left for another secondary: {0} gets no connection until there is, or \
         node.memory_limit is raised here"
    )]
    NoMemory(String),
    #[error(
        "the secondary took nothing for {0:?} of blocks that are long for the memory there is here: raise \
         node.memory_limit here, or see why it takes none"
    )]
    Stalled(Duration),
    #[error("the log cannot be read: {0}")]
    Log(#[from] WalError),
    #[error("the log is closed")]
    LogClosed,
    #[error("a task failed: {0}")]
    Task(#[from] JoinError),
}

/// What tells one way in which a connection ends from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ShipKind {
    error: Discriminant<ShipError>,
    link: Option<LinkKind>,
    code: u16,
}

impl ShipError {
    /// Tells one kind from another, whatever the words.
    pub(crate) fn kind(&self) -> ShipKind {
        let (link, code) = match self {
            Self::Link(error) => (Some(error.kind()), 0),
            Self::Refused(refuse) => (None, refuse.code),
            _ => (None, 0),
        };
        ShipKind {
            error: mem::discriminant(self),
            link,
            code,
        }
    }

    /// Whether the secondary could not go on with the blocks it got. It may be right: then peers
    /// can repair what is damaged here.
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
        Message::Retired5(never) => match *never {},
        Message::End(_) => "End",
        Message::Fetch(_) => "Fetch",
        Message::File(_) => "File",
        Message::Route(_) => "Route",
        Message::Probe(_) => "Probe",
        Message::Common(_) => "Common",
        Message::FetchFrom(_) => "FetchFrom",
        Message::Report(_) => "Report",
        Message::Descendants(_) => "Descendants",
        Message::CutOff(_) => "CutOff",
        Message::PrimaryHttp(_) => "PrimaryHttp",
        Message::NodeCertificate(_) => "NodeCertificate",
        Message::Statements(_) => "Statements",
    };
    ShipError::Protocol(format!("an unexpected {name}"))
}
