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
    /// Everything below is in Parquet files.
    #[serde(default)]
    pub compacted_lsn: u64,
    /// Parquet files, their bytes and rows.
    #[serde(default)]
    pub files: u64,
    #[serde(default)]
    pub file_bytes: u64,
    #[serde(default)]
    pub file_rows: u64,
    /// Bytes of sealed segments that are not in files yet.
    #[serde(default)]
    pub backlog_bytes: u64,
    /// Why the last step of compaction failed; null once one has succeeded.
    #[serde(default)]
    pub compaction_error: Option<String>,
    /// Null: not known.
    #[serde(default)]
    pub disk_free_bytes: Option<u64>,
    /// Why nothing is committed for now; null when all is well.
    #[serde(default)]
    pub stalled: Option<String>,
    /// Known to be damaged and not repaired yet.
    #[serde(default)]
    pub damaged: Vec<DamagedStatus>,
}

/// A damaged segment or Parquet file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamagedStatus {
    /// Relative to the log's directory.
    pub name: String,
    pub reason: String,
}

impl LogStatus {
    /// What `log` holds now, and how its compaction stands.
    pub fn of(log: &wal::Log, compaction: &wal::CompactionStats) -> Self {
        let snapshot = log.snapshot();
        let (segments, files) = (snapshot.segments(), snapshot.file_infos());
        let damaged = log.damage().borrow().clone();
        let damaged = damaged.into_iter().map(|damaged| DamagedStatus {
            name: damaged.name,
            reason: damaged.reason,
        });
        Self {
            log_id: log.id().to_string(),
            epoch: snapshot.epoch().0,
            lsn: snapshot.position().lsn.0,
            oldest_lsn: log.oldest().lsn.0,
            committed_unix_ms: u64::try_from(snapshot.committed_at() / 1_000_000).unwrap_or(0),
            segments: segments.len() as u64,
            segment_bytes: segments.iter().map(|segment| segment.bytes).sum(),
            compacted_lsn: snapshot.compacted().lsn.0,
            files: files.len() as u64,
            file_bytes: files.iter().map(|file| file.bytes).sum(),
            file_rows: files.iter().map(|file| file.rows).sum(),
            backlog_bytes: compaction.backlog_bytes,
            compaction_error: compaction.last_error.clone(),
            disk_free_bytes: log.disk_free(),
            stalled: log.stalled().borrow().clone(),
            damaged: damaged.collect(),
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
            compacted_lsn: 7,
            files: 2,
            file_bytes: 50,
            file_rows: 6,
            backlog_bytes: 3,
            compaction_error: None,
            disk_free_bytes: Some(1 << 40),
            stalled: Some("the disk is too full".to_owned()),
            damaged: vec![DamagedStatus {
                name: "00000000000000000000.log".to_owned(),
                reason: "a flipped bit".to_owned(),
            }],
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
        assert_eq!(json["compaction_error"], serde_json::Value::Null);
        assert_eq!(json["damaged"][0]["reason"], "a flipped bit");
        assert_eq!(serde_json::from_value::<Status>(json).unwrap(), status);

        let blank = Status {
            log: None,
            ..status
        };
        let json = serde_json::to_value(&blank).unwrap();
        assert!(json.get("lsn").is_none());
        assert_eq!(serde_json::from_value::<Status>(json).unwrap(), blank);
    }

    #[test]
    fn an_older_node_is_understood() {
        let json = r#"{"node": "a", "node_id": "", "role": "primary", "version": "0.1.0",
            "uptime_s": 3, "log_id": "00", "epoch": 1, "lsn": 20, "oldest_lsn": 0,
            "committed_unix_ms": 0, "segments": 1, "segment_bytes": 1536}"#;
        let log = serde_json::from_str::<Status>(json).unwrap().log.unwrap();
        assert_eq!((log.lsn, log.files, log.stalled), (20, 0, None));
        assert!(log.damaged.is_empty());
    }
}
