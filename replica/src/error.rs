//! What can go wrong, typed. It owns the error enums that more than one module returns and the
//! codes a connection is closed with; it must never name the QUIC library, so that callers need not
//! either.

use std::io;
use std::mem::{self, Discriminant};
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::fault::CertFault;
use crate::wire::CodecError;

/// Why log shipping cannot be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplicaError {
    /// The UDP address is taken, or not this machine's.
    #[error("cannot listen on {address} (UDP): {source}")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A certificate or key file cannot be read.
    #[error("cannot read {}: {source}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A certificate or key file holds something else.
    #[error("{}: {reason}", .path.display())]
    Certificate {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The TLS library refuses this node's certificate or key.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
    /// Called outside a tokio runtime.
    #[error("log shipping must be started inside a tokio runtime")]
    NoRuntime,
}

/// Why a connection or one of its streams is of no more use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LinkError {
    #[error(
        "the certificate of {} is not accepted here: {fault}; {}",
        .name.as_deref().unwrap_or("the peer"),
        .fault.advice()
    )]
    PeerCertificate {
        /// What it calls itself.
        name: Option<String>,
        fault: CertFault,
    },
    #[error(
        "{} does not accept the certificate of this node: {fault}; {}",
        .peer.as_deref().unwrap_or("the peer"),
        .fault.advice()
    )]
    OwnCertificate {
        /// Common name of its own.
        peer: Option<String>,
        fault: CertFault,
    },
    #[error("the peer closed the connection: {reason}")]
    Closed { code: u64, reason: String },
    #[error("the peer has not been heard of for too long")]
    TimedOut,
    #[error("this node closed the connection")]
    ClosedHere,
    #[error("the peer ended the stream")]
    Finished,
    #[error("the connection is lost: {0}")]
    Lost(String),
    #[error(transparent)]
    Codec(#[from] CodecError),
}

impl LinkError {
    /// Whether one side's certificate was the reason: nothing helps but another one, so there is no
    /// use in asking again soon.
    pub(crate) fn is_about_certificate(&self) -> bool {
        matches!(
            self,
            Self::PeerCertificate { .. } | Self::OwnCertificate { .. }
        )
    }

    /// Tells one kind from another, whatever the words.
    pub(crate) fn kind(&self) -> LinkKind {
        let (fault, code) = match self {
            Self::PeerCertificate { fault, .. } | Self::OwnCertificate { fault, .. } => {
                (Some(mem::discriminant(fault)), 0)
            }
            Self::Closed { code, .. } => (None, *code),
            _ => (None, 0),
        };
        LinkKind {
            error: mem::discriminant(self),
            fault,
            code,
        }
    }
}

/// What tells one way in which a connection ends from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LinkKind {
    error: Discriminant<LinkError>,
    fault: Option<Discriminant<CertFault>>,
    code: u64,
}

/// Application error codes of CONNECTION_CLOSE; `PROTOCOL.md` lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum CloseCode {
    /// Orderly end.
    Done = 0,
    /// The peer broke the protocol.
    Protocol = 1,
    /// The handshake was refused; the reason travelled as a message.
    Refused = 2,
    /// A newer connection of the same node took over.
    Superseded = 3,
    /// A block did not continue the local log.
    BadBlock = 4,
    /// This side failed.
    Internal = 5,
    /// Nothing was heard for too long.
    Silent = 6,
    /// The certificate of the side that is told so is revoked.
    Revoked = 7,
}

/// Text of a peer, made fit for logs and statuses: no control characters, bounded.
pub(crate) fn clip(text: &str) -> String {
    const LIMIT: usize = 512;
    let clean = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    clean.take(LIMIT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clips_what_a_peer_says() {
        assert_eq!(clip("a\nb\u{7}c"), "a b c");
        assert_eq!(clip(&"ä".repeat(2000)).chars().count(), 512);
    }
}
