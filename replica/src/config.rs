//! What a user of the crate may set. It owns the defaults and must never read a file or the
//! environment: `server` does that.

use std::net::SocketAddr;
use std::time::Duration;

use wal::{Share, Tasks};

use crate::status::{Hop, Member};
use crate::wire::blocks::Compression;
use crate::wire::version::Versions;

/// How a primary listens for secondaries.
#[derive(Clone, Debug)]
pub struct ListenConfig {
    /// UDP address.
    pub listen: SocketAddr,
    /// This node.
    pub own: Hop,
    /// Bytes sent to one secondary and not yet acknowledged by its QUIC stack: what a stalled
    /// secondary can hold of the primary.
    pub send_window_bytes: u64,
    /// Secondaries served at once; more are turned away before the TLS handshake.
    pub max_secondaries: usize,
    /// Time for a new connection to say Hello, and for each further step until blocks flow.
    pub handshake_timeout: Duration,
    /// A secondary that says nothing for this long is given up; it reports every second.
    pub contact_timeout: Duration,
    /// Time between heartbeats while nothing is committed.
    pub heartbeat: Duration,
    /// Bytes per second to all secondaries together; 0: no limit. Live blocks always go, and what
    /// they take is missing for those that catch up.
    pub max_rate: u64,
    /// Bytes per second to one secondary; 0: no limit.
    pub max_rate_per_secondary: u64,
    /// Protocol versions to speak; others than this build's only in tests of nodes of different
    /// builds.
    pub versions: Versions,
    /// How blocks travel to secondaries that understand it.
    pub compression: Compression,
    /// Secondaries seen before this node started.
    pub members: Vec<Member>,
    /// What connections of secondaries may hold of the node's memory.
    pub memory: Share,
    /// The node's: what runs here is among them.
    pub tasks: Tasks,
}

impl ListenConfig {
    /// The defaults, for this address and node.
    #[must_use]
    pub fn new(listen: SocketAddr, own: Hop) -> Self {
        Self {
            listen,
            own,
            send_window_bytes: 32 << 20,
            max_secondaries: 1024,
            handshake_timeout: HELLO_TIMEOUT,
            contact_timeout: SILENCE,
            heartbeat: Duration::from_millis(200),
            max_rate: 0,
            max_rate_per_secondary: 0,
            versions: Versions::OWN,
            compression: Compression::None,
            members: Vec::new(),
            memory: Share::unlimited("replication"),
            tasks: Tasks::default(),
        }
    }
}

/// Whom a secondary follows, and how.
#[derive(Clone, Debug)]
pub struct FollowConfig {
    /// `host:port` of each upstream, the best first; resolved at every attempt.
    pub upstreams: Vec<String>,
    /// Common names, one of which the certificate of an upstream must have; none: any.
    pub upstream_names: Vec<String>,
    /// Name of this node, for the upstream's log.
    pub node: String,
    /// Identity of this node's data directory: a newer connection under the same id ends the older.
    pub node_id: String,
    /// Protocol versions to speak; others than this build's only in tests of nodes of different
    /// builds.
    pub versions: Versions,
    /// Bytes the primary may send ahead of what the log has taken.
    pub receive_window_bytes: u32,
    /// Time for one address to answer.
    pub connect_timeout: Duration,
    /// Time for an upstream to hear Hello, to answer it, and for each further step until blocks
    /// flow.
    pub handshake_timeout: Duration,
    /// A connection without a heartbeat for this long is given up.
    pub contact_timeout: Duration,
    /// Shortest pause between two attempts.
    pub backoff_min: Duration,
    /// Longest pause between two attempts; used at once after a refusal.
    pub backoff_max: Duration,
    /// Where this node serves other secondaries; empty when it does not.
    pub serves: String,
    /// How long an upstream that is not the first is followed before the ones before it are tried
    /// again; doubles, up to 10 minutes, while they do not answer.
    pub return_after: Duration,
    /// What may be held of what upstreams send.
    pub memory: Share,
    /// The node's: what runs here is among them.
    pub tasks: Tasks,
}

impl FollowConfig {
    /// The defaults, for these upstreams and this node.
    #[must_use]
    pub fn new(
        upstreams: Vec<String>,
        node: impl Into<String>,
        node_id: impl Into<String>,
    ) -> Self {
        Self {
            upstreams,
            upstream_names: Vec::new(),
            node: node.into(),
            node_id: node_id.into(),
            versions: Versions::OWN,
            receive_window_bytes: 16 << 20,
            connect_timeout: Duration::from_secs(3),
            handshake_timeout: HANDSHAKE_TIMEOUT,
            contact_timeout: Duration::from_secs(3),
            backoff_min: Duration::from_millis(200),
            backoff_max: Duration::from_secs(10),
            serves: String::new(),
            return_after: Duration::from_secs(30),
            memory: Share::unlimited("replication"),
            tasks: Tasks::default(),
        }
    }
}

/// Time for a new connection to say Hello, to take the answer, and to ask on.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// Time for the upstream to answer: it may have to read its disk.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Time between two words of a secondary, which says something every second: one whose program
/// hangs must not count as a copy, nor hold the connection's window for ever.
const SILENCE: Duration = Duration::from_secs(5);
