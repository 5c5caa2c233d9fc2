//! The body of `/api/v1/status`: one shape, written by a node and read by `headwater status`. Must
//! never hold what is not in the node at that moment.

use serde::{Deserialize, Serialize};

/// What a node tells of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The node's name.
    pub node: String,
    /// 32 hexadecimal digits of its data directory.
    pub node_id: String,
    /// `primary` or `secondary`.
    pub role: String,
    pub version: String,
    pub uptime_s: u64,
    /// Why the node cannot serve yet; absent when it can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_ready: Option<String>,
    /// Absent on a secondary that has never reached its primary.
    #[serde(flatten)]
    pub log: Option<LogStatus>,
    /// On a primary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mqtt: Option<MqttStatus>,
    /// On a primary that ships its log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secondaries: Option<Vec<SecondaryStatus>>,
    /// On a secondary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<UpstreamStatus>,
}

/// The log a node holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogStatus {
    pub log_id: String,
    pub epoch: u64,
    /// Everything below is on disk here and can be queried here.
    pub lsn: u64,
    /// The oldest row still held.
    pub oldest_lsn: u64,
    /// The primary's clock when the newest row was committed; 0: the log is empty.
    pub committed_unix_ms: u64,
    pub segments: u64,
    pub segment_bytes: u64,
}

impl LogStatus {
    /// What `log` holds now.
    pub fn of(log: &wal::Log) -> Self {
        let snapshot = log.snapshot();
        let segments = snapshot.segments();
        Self {
            log_id: log.id().to_string(),
            epoch: snapshot.epoch().0,
            lsn: snapshot.position().lsn.0,
            oldest_lsn: log.oldest().lsn.0,
            committed_unix_ms: u64::try_from(snapshot.committed_at() / 1_000_000).unwrap_or(0),
            segments: segments.len() as u64,
            segment_bytes: segments.iter().map(|segment| segment.bytes).sum(),
        }
    }
}

/// What came in since the node started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MqttStatus {
    pub address: String,
    pub connections: u64,
    pub received: u64,
    pub acknowledged: u64,
    pub rows: u64,
    pub dead_letters: u64,
}

/// One secondary, as its primary sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecondaryStatus {
    pub name: String,
    pub id: String,
    pub address: String,
    pub state: String,
    pub sent_lsn: u64,
    pub received_lsn: u64,
    pub flushed_lsn: u64,
    pub applied_lsn: u64,
    pub lag_rows: u64,
    pub lag_bytes: u64,
    /// Null: not known yet.
    pub lag_ms: Option<u64>,
    pub connected_unix_ms: u64,
    pub last_seen_unix_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl From<replica::SecondaryStatus> for SecondaryStatus {
    fn from(secondary: replica::SecondaryStatus) -> Self {
        Self {
            name: secondary.name,
            id: secondary.id,
            address: secondary.address.to_string(),
            state: secondary.state.to_owned(),
            sent_lsn: secondary.sent.0,
            received_lsn: secondary.received.0,
            flushed_lsn: secondary.flushed.0,
            applied_lsn: secondary.applied.0,
            lag_rows: secondary.lag_rows,
            lag_bytes: secondary.lag_bytes,
            lag_ms: secondary.lag_ms,
            connected_unix_ms: secondary.connected_at_unix_ms,
            last_seen_unix_ms: secondary.last_seen_unix_ms,
            reason: secondary.reason,
        }
    }
}

/// A primary, as a secondary of it sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamStatus {
    pub address: String,
    pub state: String,
    /// End of the primary's log, as last heard.
    pub lsn: u64,
    pub received_lsn: u64,
    pub flushed_lsn: u64,
    pub applied_lsn: u64,
    /// Null before the first contact.
    pub lag_rows: Option<u64>,
    /// Null: not known yet.
    pub lag_ms: Option<u64>,
    pub reconnects: u64,
    /// 0: never.
    pub last_contact_unix_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl From<replica::FollowStatus> for UpstreamStatus {
    fn from(follow: replica::FollowStatus) -> Self {
        Self {
            address: follow.upstream,
            state: follow.state.to_owned(),
            lsn: follow.primary_durable.0,
            received_lsn: follow.received.0,
            flushed_lsn: follow.flushed.0,
            applied_lsn: follow.applied.0,
            lag_rows: follow.lag_rows,
            lag_ms: follow.lag_ms,
            reconnects: follow.reconnects,
            last_contact_unix_ms: follow.last_contact_unix_ms,
            reason: follow.reason,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_node_writes_the_command_reads() {
        let log = LogStatus {
            log_id: "00".repeat(16),
            epoch: 1,
            lsn: 12,
            oldest_lsn: 0,
            committed_unix_ms: 5,
            segments: 1,
            segment_bytes: 99,
        };
        let status = Status {
            node: "a".to_owned(),
            node_id: "11".repeat(16),
            role: "primary".to_owned(),
            version: "0.1.0".to_owned(),
            uptime_s: 3,
            not_ready: None,
            log: Some(log),
            mqtt: None,
            secondaries: Some(Vec::new()),
            upstream: None,
        };
        let json = serde_json::to_value(&status).unwrap();
        assert_eq!(json["lsn"], 12);
        assert_eq!(json["secondaries"], serde_json::json!([]));
        assert!(json.get("upstream").is_none());
        assert_eq!(serde_json::from_value::<Status>(json).unwrap(), status);

        let blank = Status {
            log: None,
            ..status
        };
        let json = serde_json::to_value(&blank).unwrap();
        assert!(json.get("lsn").is_none());
        assert_eq!(serde_json::from_value::<Status>(json).unwrap(), blank);
    }
}
