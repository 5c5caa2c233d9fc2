//! What all sessions of a node share. It owns the handles, and what was said of whom; it must
//! never decide anything about a secondary.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use wal::{Due, Quiet};

use crate::files::leases::Leases;
use crate::files::limit::Limits;
use crate::files::peers::Peers;
use crate::serve::ended::EndKind;
use crate::serve::memory::Memory;
use crate::serve::registry::Registry;
use crate::serve::source::Source;
use crate::wire::blocks::Packer;
use crate::wire::version::Versions;

/// What all shippers of a node share.
pub(crate) struct Shipping {
    pub(crate) source: Source,
    pub(crate) registry: Registry,
    /// Connected secondaries that can be asked for a file.
    pub(crate) peers: Peers,
    /// Files kept for secondaries that take a snapshot.
    pub(crate) leases: Leases,
    pub(crate) limits: Limits,
    /// Protocol versions of this node.
    pub(crate) versions: Versions,
    /// What connections may hold of it.
    pub(crate) memory: Memory,
    /// Most that one may have under way.
    pub(crate) send_window: u64,
    /// For secondaries that can undo it.
    pub(crate) packer: Arc<Packer>,
    pub(crate) heartbeat: Duration,
    /// Time for each step of a handshake.
    pub(crate) handshake_timeout: Duration,
    /// Time between two words of a secondary.
    pub(crate) contact_timeout: Duration,
    /// The right to look at segments that a peer complains of.
    pub(crate) doubts: Arc<Semaphore>,
    /// What was said of peers.
    pub(crate) quiet: Mutex<Quiet<Said>>,
    /// Cancelled when the node stops.
    pub(crate) shutdown: CancellationToken,
}

/// What is said of peers, and not with every connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// Somebody at this address got no session.
    TurnedAway(IpAddr, EndKind),
    /// The node of this id came.
    Connected(String),
    /// Its session ended.
    Ended(String, EndKind),
    /// Another node says that it is the one of this id.
    Twin(String),
}

impl Shipping {
    /// Whether this is worth a line now.
    pub(crate) fn due(&self, said: Said) -> Due {
        let mut quiet = self.quiet.lock().unwrap_or_else(PoisonError::into_inner);
        quiet.note(said, Instant::now())
    }
}
