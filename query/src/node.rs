//! What SQL asks of the node it runs on. Owns the trait only; must never hold state.

/// The node as a query sees it. Every method is cheap and never blocks.
pub trait Node: Send + Sync + 'static {
    /// The log to answer from; `None` on a secondary that has never reached its primary.
    fn log(&self) -> Option<wal::Log>;
    /// How far the answers are behind the primary: `Some(0)` on a primary, `None` while unknown.
    fn lag_ms(&self) -> Option<u64>;
    /// Rows of `system.replication`.
    fn replication(&self) -> Vec<ReplicationRow>;
    /// What the process has in memory, as its system sees it; `None` where that is not known, or
    /// where it is not this node's alone.
    fn resident_bytes(&self) -> Option<u64> {
        None
    }
    /// Gives back to the system what the process keeps free. Asked only where it has too much.
    fn give_back(&self) {}
}

/// One row of `system.replication`: this node's view of one of its peers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReplicationRow {
    /// This node.
    pub node: String,
    pub peer: String,
    /// Of the peer, like the address and the id.
    pub role: String,
    pub address: String,
    /// Of the link, such as `streaming`.
    pub state: String,
    /// End of what has been sent to the peer.
    pub sent_lsn: Option<u64>,
    /// End of what the follower has received.
    pub received_lsn: Option<u64>,
    /// End of what is durable on the follower.
    pub flushed_lsn: Option<u64>,
    /// End of what queries on the follower see.
    pub applied_lsn: Option<u64>,
    pub lag_rows: Option<u64>,
    pub lag_bytes: Option<u64>,
    pub lag_ms: Option<u64>,
    /// Why the link is not streaming, where it is not.
    pub reason: Option<String>,
    pub id: String,
    /// The node that the peer is connected to: this one, or a relay below it.
    pub via: String,
    /// Links between this node and the peer.
    pub hops: u64,
}
