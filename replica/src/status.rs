//! What each side tells of the other: the values behind `system.replication`, `/api/v1/status` and
//! the metrics. It owns their shape and the state names; it must never compute a position itself.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use wal::{BootstrapProgress, Diverged, Epoch, LogId, Lsn, Position};

use crate::wire::{NodeSummary, WireHop};

/// A node on the way to the primary.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecondaryStatus {
    /// Common name of its certificate.
    pub name: String,
    /// Identity of its data directory.
    pub id: String,
    /// Where it connected from last.
    pub address: SocketAddr,
    /// How it stands.
    pub state: SecondaryState,
    /// Protocol version of its connection; 0: never connected since this node started.
    #[serde(default)]
    pub protocol: u16,
    /// Where it serves other secondaries; empty when it does not.
    #[serde(default)]
    pub serves: String,
    /// Those who follow it, directly or not.
    #[serde(default)]
    pub descendants: Vec<Descendant>,
    /// At the same place in the log its Parquet files are not the same as here.
    #[serde(default)]
    pub files_differ: bool,
    /// End of what was handed to its connection.
    #[serde(rename = "sent_lsn")]
    pub sent: Lsn,
    /// End of what its log has accepted.
    #[serde(rename = "received_lsn")]
    pub received: Lsn,
    /// End of what is on its disk.
    #[serde(rename = "flushed_lsn")]
    pub flushed: Lsn,
    /// End of what its queries see.
    #[serde(rename = "applied_lsn")]
    pub applied: Lsn,
    /// Rows the primary has durable that its queries do not see; `None` where that is not known: it
    /// is not connected and nothing is known to be missing, it was turned away, or this node has no
    /// way to the primary.
    pub lag_rows: Option<u64>,
    /// The same in bytes of log, in proportion within one segment.
    pub lag_bytes: Option<u64>,
    /// Age of the newest moment of the primary that it has wholly applied, growing while nothing is
    /// heard; `None`: not known.
    pub lag_ms: Option<u64>,
    /// When the present or last connection began.
    #[serde(rename = "connected_unix_ms")]
    pub connected_at_unix_ms: u64,
    /// When it was last heard.
    pub last_seen_unix_ms: u64,
    /// Why it is disconnected or refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A secondary that follows a relay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descendant {
    /// Identity of its data directory.
    pub id: String,
    /// Common name of its certificate.
    pub name: String,
    /// Where it connected from last.
    pub address: String,
    /// As its relay sees it.
    pub state: SecondaryState,
    /// End of what its queries see.
    #[serde(rename = "applied_lsn")]
    pub applied: Lsn,
    /// Identity of the relay.
    pub via: String,
}

impl From<&NodeSummary> for Descendant {
    fn from(summary: &NodeSummary) -> Self {
        Self {
            id: summary.id.clone(),
            name: summary.name.clone(),
            address: summary.address.clone(),
            state: SecondaryState::from(summary.state.as_str()),
            applied: Lsn(summary.applied),
            via: summary.via.clone(),
        }
    }
}

/// State of a secondary as its upstream sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SecondaryState {
    /// A full copy is being built: it has not what lies before its blocks.
    Bootstrapping,
    /// Blocks flow that were durable before it came.
    CatchingUp,
    /// It gets blocks as they become durable.
    Streaming,
    /// Remembered.
    Disconnected,
    /// Turned away.
    Refused,
    /// What a node of another version calls something else.
    #[serde(other)]
    Unknown,
}

impl SecondaryState {
    /// Its name in JSON, SQL and on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bootstrapping => "bootstrapping",
            Self::CatchingUp => "catching_up",
            Self::Streaming => "streaming",
            Self::Disconnected => "disconnected",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
        }
    }

    /// Whether it is connected.
    #[must_use]
    pub fn is_connected(self) -> bool {
        matches!(
            self,
            Self::Bootstrapping | Self::CatchingUp | Self::Streaming
        )
    }

    /// Whether its positions are positions of the log: one that was turned away may hold another,
    /// and one that bootstraps has not what lies before them.
    #[must_use]
    pub fn follows(self) -> bool {
        matches!(
            self,
            Self::CatchingUp | Self::Streaming | Self::Disconnected
        )
    }
}

impl From<&str> for SecondaryState {
    fn from(name: &str) -> Self {
        [
            Self::Bootstrapping,
            Self::CatchingUp,
            Self::Streaming,
            Self::Disconnected,
            Self::Refused,
        ]
        .into_iter()
        .find(|state| state.as_str() == name)
        .unwrap_or(Self::Unknown)
    }
}

impl fmt::Display for SecondaryState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a secondary knows of itself and its primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowStatus {
    /// How it stands. While a snapshot is under way it is `NeedsSnapshot` as long as older data
    /// answers queries, else `Bootstrapping`.
    pub state: FollowPhase,
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
    /// Where the primary takes rows over HTTP, as last heard: the URL that it advertises, or the
    /// address it listens on; empty: nowhere, or not known.
    pub primary_http: String,
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
    /// Rows that the primary announced and queries here do not see; `None` while nothing is known to
    /// be missing and there is no way to the primary.
    pub lag_rows: Option<u64>,
    /// Whether the primary has ever been heard.
    pub is_met: bool,
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FollowPhase {
    /// No upstream has agreed yet.
    #[default]
    Connecting,
    /// A full copy is being built, and there is no older data to answer queries from.
    Bootstrapping,
    /// Blocks come that were durable before this node did.
    CatchingUp,
    /// Blocks come as they become durable.
    Streaming,
    /// The upstream answers and has no way to the primary itself.
    CutOff,
    /// The upstream, or this node, will not have the other.
    Refused,
    /// A full copy is being built while older data answers queries.
    NeedsSnapshot,
    /// The local log takes nothing more.
    Failed,
    /// What a node of another version calls something else.
    #[serde(other)]
    Unknown,
}

impl FollowPhase {
    /// Its name in JSON and SQL.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Bootstrapping => "bootstrapping",
            Self::CatchingUp => "catching_up",
            Self::Streaming => "streaming",
            Self::CutOff => "cut_off",
            Self::Refused => "refused",
            Self::NeedsSnapshot => "needs_snapshot",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }

    /// Whether blocks of the primary can come.
    #[must_use]
    pub fn is_connected(self) -> bool {
        matches!(
            self,
            Self::Bootstrapping | Self::CatchingUp | Self::Streaming
        )
    }
}

impl From<&str> for FollowPhase {
    fn from(name: &str) -> Self {
        [
            Self::Connecting,
            Self::Bootstrapping,
            Self::CatchingUp,
            Self::Streaming,
            Self::CutOff,
            Self::Refused,
            Self::NeedsSnapshot,
            Self::Failed,
        ]
        .into_iter()
        .find(|phase| phase.as_str() == name)
        .unwrap_or(Self::Unknown)
    }
}

impl fmt::Display for FollowPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_means_its_state_and_other_words_none() {
        for name in [
            "bootstrapping",
            "catching_up",
            "streaming",
            "disconnected",
            "refused",
        ] {
            assert_eq!(SecondaryState::from(name).to_string(), name);
        }
        for name in [
            "connecting",
            "bootstrapping",
            "catching_up",
            "streaming",
            "cut_off",
            "refused",
            "needs_snapshot",
            "failed",
        ] {
            assert_eq!(FollowPhase::from(name).to_string(), name);
        }
        assert_eq!(SecondaryState::from("promoting"), SecondaryState::Unknown);
        assert_eq!(FollowPhase::from(""), FollowPhase::Unknown);
        assert!(!SecondaryState::Unknown.follows() && !SecondaryState::Unknown.is_connected());
    }
}
