//! What a user of the crate may set. It owns the defaults and must never read a file or the
//! environment: `server` does that.

use std::net::SocketAddr;
use std::time::Duration;

/// How a primary listens for secondaries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenConfig {
    /// UDP address.
    pub listen: SocketAddr,
    /// Name of this node, for logs.
    pub node: String,
    /// Bytes sent to one secondary and not yet acknowledged by its QUIC stack: what a stalled
    /// secondary can hold of the primary.
    pub send_window_bytes: u64,
    /// Secondaries served at once; more are turned away before the TLS handshake.
    pub max_secondaries: usize,
    /// Time between heartbeats while nothing is committed.
    pub heartbeat: Duration,
}

impl ListenConfig {
    /// The defaults, for this address and node name.
    #[must_use]
    pub fn new(listen: SocketAddr, node: impl Into<String>) -> Self {
        Self {
            listen,
            node: node.into(),
            send_window_bytes: 32 << 20,
            max_secondaries: 1024,
            heartbeat: Duration::from_millis(200),
        }
    }
}

/// Whom a secondary follows, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowConfig {
    /// `host:port` of the primary; resolved at every attempt.
    pub upstream: String,
    /// Name of this node, for the primary's log.
    pub node: String,
    /// Identity of this node's data directory: a newer connection under the same id ends the older.
    pub node_id: String,
    /// Bytes the primary may send ahead of what the log has taken.
    pub receive_window_bytes: u32,
    /// Time for one address to answer.
    pub connect_timeout: Duration,
    /// A connection without a heartbeat for this long is given up.
    pub contact_timeout: Duration,
    /// Shortest pause between two attempts.
    pub backoff_min: Duration,
    /// Longest pause between two attempts; used at once after a refusal.
    pub backoff_max: Duration,
}

impl FollowConfig {
    /// The defaults, for this primary and node.
    #[must_use]
    pub fn new(
        upstream: impl Into<String>,
        node: impl Into<String>,
        node_id: impl Into<String>,
    ) -> Self {
        Self {
            upstream: upstream.into(),
            node: node.into(),
            node_id: node_id.into(),
            receive_window_bytes: 16 << 20,
            connect_timeout: Duration::from_secs(3),
            contact_timeout: Duration::from_secs(3),
            backoff_min: Duration::from_millis(200),
            backoff_max: Duration::from_secs(10),
        }
    }
}
