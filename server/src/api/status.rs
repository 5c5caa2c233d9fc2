//! The body of `/api/v1/status`: one shape, written by a node and read by `headwater status`. Must
//! never hold what is not in the node at that moment.

use replica::{CertificateStatus, FollowPhase, Hop, SecondaryStatus};
use serde::{Deserialize, Serialize};
use wal::{BootstrapProgress, Damaged, ScrubStats, TaskEnd, WaitingCut};

use super::diverged::DivergedStatus;
use crate::report::accounting::Accounting;
use crate::report::memory::Memory;
use crate::report::view::View;

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
    /// On a primary that ships its log, and on a relay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secondaries: Option<Vec<SecondaryStatus>>,
    /// On a secondary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<UpstreamStatus>,
    /// Until when its certificates for replication are good; absent where it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<CertificateStatus>,
    /// Absent without a log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accounting: Option<Accounting>,
    /// What the node and its parts hold of its memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    /// Tasks that have ended although the node went on: bugs, each of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub task_ends: Vec<TaskEnd>,
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
    pub damaged: Vec<Damaged>,
    /// On a primary: tables whose old rows are not cut yet, because the clock has jumped or the
    /// retention is shorter than it was.
    #[serde(default)]
    pub waiting_cuts: Vec<WaitingCut>,
    /// Looking for damage, since the log was opened.
    #[serde(default)]
    pub scrub: ScrubStats,
}

impl LogStatus {
    /// What a log holds, and how the work on it stands.
    pub(crate) fn of(view: &View, compaction: &wal::CompactionStats, scrub: ScrubStats) -> Self {
        let (log, snapshot) = (view.log(), view.snapshot());
        let (segments, files) = (view.segments(), snapshot.file_infos());
        let damaged = log.damage().borrow().clone();
        Self {
            log_id: log.id().to_string(),
            epoch: snapshot.epoch().0,
            lsn: snapshot.end().lsn.0,
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
            damaged,
            waiting_cuts: log.waiting_cuts().borrow().clone(),
            scrub,
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
    /// Of the acknowledged: those that secondaries have on their disks too, as asked.
    #[serde(default)]
    pub acknowledged_replicated: u64,
    /// Of the acknowledged: those that asked for more secondaries than were connected.
    #[serde(default)]
    pub fell_back: u64,
    pub rows: u64,
    pub dead_letters: u64,
    /// Messages that neither their table nor the dead letters took.
    #[serde(default)]
    pub unkept: u64,
    /// The newest of the dead letters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest_dead_letter: Option<DeadLetterStatus>,
    /// Messages that are on disk here and wait for secondaries before they are acknowledged.
    #[serde(default)]
    pub awaiting_secondaries: u64,
    /// Since when the first of them has waited; 0: none does.
    #[serde(default)]
    pub awaiting_since_unix_ms: u64,
}

/// A message that could not be stored in its table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetterStatus {
    /// Its beginning.
    pub topic: String,
    pub client: String,
    pub reason: String,
    pub unix_ms: u64,
}

impl From<mqtt::DeadLetter> for DeadLetterStatus {
    fn from(letter: mqtt::DeadLetter) -> Self {
        Self {
            topic: letter.topic,
            client: letter.client,
            reason: letter.reason,
            unix_ms: letter.unix_ms,
        }
    }
}

impl MqttStatus {
    /// What `listener` has done so far.
    pub fn of(listener: &mqtt::Listener) -> Self {
        let stats = listener.stats();
        Self {
            address: listener.local_addr().to_string(),
            connections: stats.connections,
            received: stats.received,
            acknowledged: stats.acknowledged,
            acknowledged_replicated: stats.acknowledged_replicated,
            fell_back: stats.fell_back,
            rows: stats.rows,
            dead_letters: stats.dead_letters,
            unkept: stats.unkept,
            newest_dead_letter: listener.newest_dead_letter().map(Into::into),
            awaiting_secondaries: stats.awaiting_secondaries,
            awaiting_since_unix_ms: stats.awaiting_since_unix_ms,
        }
    }
}

/// Whom a secondary follows, as it sees that itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamStatus {
    /// The one in use, or tried last.
    pub address: String,
    /// All that are in the conf, in order.
    #[serde(default)]
    pub upstreams: Vec<String>,
    /// The upstream, whom it follows, and so on; empty without contact.
    #[serde(default)]
    pub route: Vec<Hop>,
    /// Whether the last of the route is the primary.
    #[serde(default)]
    pub rooted: bool,
    /// How far the snapshot under way is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootstrap: Option<BootstrapProgress>,
    /// Snapshots taken in since the node started.
    #[serde(default)]
    pub snapshots: u64,
    /// Times that the local log was found to have diverged since the node started.
    #[serde(default)]
    pub divergences: u64,
    /// What was put aside because it had diverged, ever.
    #[serde(default)]
    pub diverged: Vec<DivergedStatus>,
    pub state: FollowPhase,
    /// End of the primary's log, as last heard.
    pub lsn: u64,
    pub received_lsn: u64,
    pub flushed_lsn: u64,
    pub applied_lsn: u64,
    /// Null while that is not known: without a way to the primary, where nothing is known to be
    /// missing.
    pub lag_rows: Option<u64>,
    /// Grows while the primary is not heard; null: not known yet.
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
            upstreams: follow.upstreams,
            route: follow.route,
            rooted: follow.rooted,
            bootstrap: follow.bootstrap,
            snapshots: follow.snapshots,
            divergences: follow.divergences,
            diverged: follow.diverged.into_iter().map(Into::into).collect(),
            state: follow.state,
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
    use replica::{Descendant, SecondaryState};
    use wal::Lsn;

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
            damaged: vec![Damaged {
                name: "00000000000000000000.log".to_owned(),
                bytes: 0,
                reason: "a flipped bit".to_owned(),
            }],
            waiting_cuts: Vec::new(),
            scrub: ScrubStats::default(),
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
            secondaries: Some(vec![relay()]),
            upstream: None,
            certificate: Some(CertificateStatus::default()),
            accounting: Some(Accounting::default()),
            memory: Some(Memory::default()),
            task_ends: Vec::new(),
        };
        let json = serde_json::to_value(&status).unwrap();
        assert_eq!(json["lsn"], 12);
        assert_eq!(json["secondaries"][0]["descendants"][0]["via"], "r1");
        let told = r#"{"lsn":{"durable":0,"queryable":null}}"#;
        assert_eq!(json["accounting"].to_string(), told);
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
        let upstream: UpstreamStatus = serde_json::from_str(
            r#"{"address": "p:7441", "state": "streaming", "lsn": 9, "received_lsn": 9,
            "flushed_lsn": 9, "applied_lsn": 9, "lag_rows": 0, "lag_ms": 0, "reconnects": 0,
            "last_contact_unix_ms": 1}"#,
        )
        .unwrap();
        assert!(upstream.route.is_empty() && upstream.bootstrap.is_none());
    }

    #[test]
    fn a_state_is_a_word_and_one_of_another_version_is_understood_as_unknown() {
        let word = serde_json::to_string(&SecondaryState::CatchingUp).unwrap();
        assert_eq!(word, r#""catching_up""#);
        let state: SecondaryState = serde_json::from_str(r#""promoting""#).unwrap();
        assert_eq!(state, SecondaryState::Unknown);
        let word = serde_json::to_string(&FollowPhase::NeedsSnapshot).unwrap();
        assert_eq!(word, r#""needs_snapshot""#);
        let phase: FollowPhase = serde_json::from_str(r#""promoting""#).unwrap();
        assert_eq!(phase, FollowPhase::Unknown);
    }

    /// A relay with one secondary.
    fn relay() -> SecondaryStatus {
        SecondaryStatus {
            name: "relay".to_owned(),
            id: "r1".to_owned(),
            address: "10.0.0.2:9".parse().unwrap(),
            state: SecondaryState::Streaming,
            sent: Lsn(12),
            received: Lsn(12),
            flushed: Lsn(12),
            applied: Lsn(11),
            lag_rows: Some(1),
            lag_bytes: Some(90),
            lag_ms: Some(3),
            connected_at_unix_ms: 1,
            last_seen_unix_ms: 2,
            protocol: 3,
            serves: "0.0.0.0:7441".to_owned(),
            files_differ: false,
            descendants: vec![Descendant {
                id: "s1".to_owned(),
                name: "leaf".to_owned(),
                address: "10.1.0.2:9".to_owned(),
                state: SecondaryState::Streaming,
                applied: Lsn(10),
                via: "r1".to_owned(),
            }],
            reason: None,
        }
    }
}
