//! What each side tells of the other: the values behind `system.replication`, `/api/v1/status` and
//! the metrics. It owns their shape and the state names; it must never compute a position itself.

use std::net::SocketAddr;

use wal::{BootstrapProgress, Diverged, Epoch, LogId, Lsn, Position};

use crate::wire::{NodeSummary, WireHop};

/// A node on the way to the primary.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hop {
    /// Identity of its data directory.
    pub id: String,
    /// Its name.
    pub name: String,
}

impl From<WireHop> for Hop {
    fn from(hop: WireHop) -> Self {
        Self {
            id: hop.id,
            name: hop.name,
        }
    }
}

/// What is worth keeping of a secondary while this node does not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Identity of its data directory.
    pub id: String,
    /// Common name of its certificate.
    pub name: String,
    /// Where it connected from last.
    pub address: SocketAddr,
    /// End of what was on its disk, as last heard.
    pub position: Position,
    /// When it was first heard.
    pub first_seen_unix_ms: u64,
    /// When it was last heard.
    pub last_seen_unix_ms: u64,
}

/// What a primary knows of one secondary, connected or remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecondaryStatus {
    /// Common name of its certificate.
    pub name: String,
    /// Identity of its data directory.
    pub id: String,
    /// Where it connected from last.
    pub address: SocketAddr,
    /// `bootstrapping`, `catching_up`, `streaming`, `disconnected` or `refused`.
    pub state: &'static str,
    /// Protocol version of its connection; 0: never connected since this node started.
    pub protocol: u16,
    /// Where it serves other secondaries; empty when it does not.
    pub serves: String,
    /// Those who follow it, directly or not.
    pub descendants: Vec<NodeSummary>,
    /// At the same place in the log its Parquet files are not the same as here.
    pub files_differ: bool,
    /// End of what was handed to its connection.
    pub sent: Lsn,
    /// End of what its log has accepted.
    pub received: Lsn,
    /// End of what is on its disk.
    pub flushed: Lsn,
    /// End of what its queries see.
    pub applied: Lsn,
    /// Rows the primary has durable that its queries do not see.
    pub lag_rows: u64,
    /// The same in bytes of log, in proportion within one segment.
    pub lag_bytes: u64,
    /// Age of the newest moment of this primary that it has wholly applied; `None`: not known yet.
    pub lag_ms: Option<u64>,
    /// When the present or last connection began.
    pub connected_at_unix_ms: u64,
    /// When it was last heard.
    pub last_seen_unix_ms: u64,
    /// Why it is disconnected or refused.
    pub reason: Option<String>,
}

/// State of a secondary as its primary sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SecondaryState {
    Bootstrapping,
    CatchingUp,
    Streaming,
    Disconnected,
    Refused,
}

impl SecondaryState {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Bootstrapping => "bootstrapping",
            Self::CatchingUp => "catching_up",
            Self::Streaming => "streaming",
            Self::Disconnected => "disconnected",
            Self::Refused => "refused",
        }
    }
}

/// What a secondary knows of itself and its primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowStatus {
    /// `connecting`, `bootstrapping`, `catching_up`, `streaming`, `refused`, `needs_snapshot` or `failed`.
    /// While a snapshot is under way it is `needs_snapshot` as long as older data answers queries,
    /// else `bootstrapping`.
    pub state: &'static str,
    /// Why it is not streaming.
    pub reason: Option<String>,
    /// `host:port` of the upstream in use or tried last, as configured.
    pub upstream: String,
    /// All that are configured, in order.
    pub upstreams: Vec<String>,
    /// The upstream and whom it follows, up to the primary; empty without contact.
    pub route: Vec<Hop>,
    /// Whether that way ends at the primary.
    pub rooted: bool,
    /// How far the snapshot under way is.
    pub bootstrap: Option<BootstrapProgress>,
    /// Snapshots taken in since this node started.
    pub snapshots: u64,
    /// Times that the local log had diverged since this node started.
    pub divergences: u64,
    /// Diverged ends of the log that were put aside, ever.
    pub diverged: Vec<Diverged>,
    /// The log that is followed, once there is one.
    pub log_id: Option<LogId>,
    /// Epoch of the local log, once there is one.
    pub epoch: Option<Epoch>,
    /// End of the primary's log as last heard.
    pub primary_durable: Lsn,
    /// End of what the local log has accepted.
    pub received: Lsn,
    /// End of what is on the local disk.
    pub flushed: Lsn,
    /// End of what local queries see.
    pub applied: Lsn,
    /// Rows that the primary announced and queries here do not see; `None` before the first
    /// contact.
    pub lag_rows: Option<u64>,
    /// Age of the newest moment of the primary that is wholly applied; `None`: not known yet.
    pub lag_ms: Option<u64>,
    /// The most that `lag_ms` can be: the time since the primary was last heard counts in full.
    pub lag_bound_ms: Option<u64>,
    /// Attempts to connect after the first.
    pub reconnects: u64,
    /// When the primary was last heard; 0: never.
    pub last_contact_unix_ms: u64,
}

/// State of the follow task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum FollowPhase {
    #[default]
    Connecting,
    Bootstrapping,
    CatchingUp,
    Streaming,
    Refused,
    NeedsSnapshot,
    Failed,
}

impl FollowPhase {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Bootstrapping => "bootstrapping",
            Self::CatchingUp => "catching_up",
            Self::Streaming => "streaming",
            Self::Refused => "refused",
            Self::NeedsSnapshot => "needs_snapshot",
            Self::Failed => "failed",
        }
    }
}
