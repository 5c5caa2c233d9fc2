//! What queries and HTTP ask of the node they run on. Owns the trait only; must never hold state.

use std::sync::Arc;

use intake::Intake;

/// The node as the query side sees it. Every method is cheap and never blocks.
pub trait Node: Send + Sync + 'static {
    /// `"primary"` or `"secondary"`.
    fn role(&self) -> &'static str;
    /// The log to answer from; `None` on a secondary that has never reached its primary.
    fn log(&self) -> Option<wal::Log>;
    /// How far the answers are behind the primary: `Some(0)` on a primary, `None` while unknown.
    fn lag_ms(&self) -> Option<u64>;
    /// The most that the lag can be at this moment: the time since the primary was last heard counts
    /// in full.
    fn lag_bound_ms(&self) -> Option<u64> {
        self.lag_ms()
    }
    /// Where writes are taken, for the answer that refuses one on a secondary.
    fn primary_address(&self) -> Option<String>;
    /// Where rows are taken; `None` on a node that takes none.
    fn intake(&self) -> Option<Arc<Intake>> {
        None
    }
    /// Why the node cannot serve, or `None` when it can.
    fn not_ready(&self) -> Option<String>;
    /// Body of `/api/v1/status`.
    fn status(&self) -> serde_json::Value;
    /// Body of `/metrics`, in Prometheus text format.
    fn metrics(&self) -> String;
    /// Rows of `system.replication`.
    fn replication(&self) -> Vec<ReplicationRow>;
    /// Strikes a secondary, called by its name or its id, off the list of those seen here.
    fn forget(&self, name_or_id: &str) -> Forget;
}

/// What became of the wish to forget a secondary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forget {
    /// It is off the list.
    Done,
    /// It is connected: it would be on the list again at once.
    Connected,
    /// The list has no such name or id.
    Unknown,
    /// This node keeps no such list.
    NotHere,
}

/// One row of `system.replication`: this node's view of one of its peers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReplicationRow {
    /// Name of this node.
    pub node: String,
    /// Name of the peer.
    pub peer: String,
    /// Role of the peer.
    pub role: String,
    /// Address of the peer.
    pub address: String,
    /// State of the link, such as `streaming`.
    pub state: String,
    /// End of what has been sent to the peer.
    pub sent_lsn: Option<u64>,
    /// End of what the follower has received.
    pub received_lsn: Option<u64>,
    /// End of what is durable on the follower.
    pub flushed_lsn: Option<u64>,
    /// End of what queries on the follower see.
    pub applied_lsn: Option<u64>,
    /// Rows the follower is behind.
    pub lag_rows: Option<u64>,
    /// Bytes the follower is behind.
    pub lag_bytes: Option<u64>,
    /// Milliseconds the follower is behind.
    pub lag_ms: Option<u64>,
    /// Why the link is not streaming, where it is not.
    pub reason: Option<String>,
    /// Id of the peer.
    pub id: String,
    /// The node that the peer is connected to: this one, or a relay below it.
    pub via: String,
    /// Links between this node and the peer.
    pub hops: u64,
}
