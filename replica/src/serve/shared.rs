//! What all sessions of a node share. It owns nothing but the handles and must never know one
//! secondary from another.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::files::leases::Leases;
use crate::files::limit::Limits;
use crate::files::peers::Peers;
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
    /// For secondaries that can undo it.
    pub(crate) packer: Arc<Packer>,
    pub(crate) heartbeat: Duration,
    /// Time for each step of a handshake.
    pub(crate) handshake_timeout: Duration,
    /// Time between two words of a secondary.
    pub(crate) contact_timeout: Duration,
    /// The right to look at segments that a peer complains of.
    pub(crate) doubts: Arc<Semaphore>,
    /// Cancelled when the node stops.
    pub(crate) shutdown: CancellationToken,
}
