//! What the HTTP surface asks of the node it runs on, answered for both roles from the parts that
//! know. Must never keep a number of its own.

mod series;

use std::time::Instant;

use query::{Node, ReplicationRow};
use tokio::sync::watch;

use crate::compaction::Compaction;
use crate::metrics::Exposition;
use crate::slot::Slot;
use crate::status::{LogStatus, MqttStatus, Status};

/// Who a node is.
#[derive(Clone, Debug)]
pub(crate) struct Who {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) started: Instant,
}

impl Who {
    fn status(&self, role: &str) -> Status {
        Status {
            node: self.name.clone(),
            node_id: self.id.clone(),
            role: role.to_owned(),
            version: VERSION.to_owned(),
            uptime_s: self.started.elapsed().as_secs(),
            not_ready: None,
            log: None,
            mqtt: None,
            secondaries: None,
            upstream: None,
        }
    }

    fn metrics(&self, role: &str) -> Exposition {
        let mut text = Exposition::default();
        let labels = [
            ("version", VERSION),
            ("node", self.name.as_str()),
            ("role", role),
        ];
        text.info("headwater_node_info", "This node.", &labels);
        let uptime = self.started.elapsed().as_secs();
        text.gauge(
            "headwater_uptime_seconds",
            "Time since this node started.",
            uptime,
        );
        text
    }
}

/// A running primary, seen from HTTP.
pub(crate) struct PrimaryNode {
    pub(crate) who: Who,
    pub(crate) log: wal::Log,
    pub(crate) compaction: Compaction,
    pub(crate) mqtt: Slot<mqtt::Listener>,
    pub(crate) registry: Slot<replica::Registry>,
}

impl PrimaryNode {
    fn secondaries(&self) -> Option<Vec<replica::SecondaryStatus>> {
        self.registry.with(replica::Registry::secondaries)
    }
}

impl Node for PrimaryNode {
    fn role(&self) -> &'static str {
        PRIMARY
    }

    fn log(&self) -> Option<wal::Log> {
        Some(self.log.clone())
    }

    fn lag_ms(&self) -> Option<u64> {
        Some(0)
    }

    fn primary_address(&self) -> Option<String> {
        None
    }

    fn not_ready(&self) -> Option<String> {
        let failed = self.log.failed().borrow().clone();
        let stalled = self.log.stalled().borrow().clone();
        let closed = || "MQTT is not listening".to_owned();
        failed
            .or(stalled)
            .or_else(|| self.mqtt.with(|_| ()).is_none().then(closed))
    }

    fn status(&self) -> serde_json::Value {
        let secondaries = self.secondaries();
        let status = Status {
            not_ready: self.not_ready(),
            log: Some(LogStatus::of(&self.log, &self.compaction.stats())),
            mqtt: self.mqtt.with(mqtt_status),
            secondaries: secondaries.map(|all| all.into_iter().map(Into::into).collect()),
            ..self.who.status(PRIMARY)
        };
        json(&status)
    }

    fn metrics(&self) -> String {
        let mut text = self.who.metrics(PRIMARY);
        series::log(&mut text, &self.log);
        series::compaction(&mut text, &self.compaction.stats());
        if let Some(stats) = self.mqtt.with(mqtt::Listener::stats) {
            series::mqtt(&mut text, &stats);
        }
        series::secondaries(&mut text, &self.secondaries().unwrap_or_default());
        text.finish()
    }

    fn replication(&self) -> Vec<ReplicationRow> {
        let row = |secondary: replica::SecondaryStatus| ReplicationRow {
            node: self.who.name.clone(),
            peer: secondary.name,
            role: SECONDARY.to_owned(),
            address: secondary.address.to_string(),
            state: secondary.state.to_owned(),
            sent_lsn: Some(secondary.sent.0),
            received_lsn: Some(secondary.received.0),
            flushed_lsn: Some(secondary.flushed.0),
            applied_lsn: Some(secondary.applied.0),
            lag_rows: Some(secondary.lag_rows),
            lag_bytes: Some(secondary.lag_bytes),
            lag_ms: secondary.lag_ms,
            reason: secondary.reason,
        };
        self.secondaries()
            .unwrap_or_default()
            .into_iter()
            .map(row)
            .collect()
    }
}

/// A running secondary, seen from HTTP.
pub(crate) struct SecondaryNode {
    pub(crate) who: Who,
    /// The primary's `host:port`.
    pub(crate) upstream: String,
    pub(crate) downstream: Slot<replica::Downstream>,
    pub(crate) log: watch::Receiver<Option<wal::Log>>,
    pub(crate) compaction: Compaction,
}

impl SecondaryNode {
    fn follow(&self) -> Option<replica::FollowStatus> {
        self.downstream.with(replica::Downstream::status)
    }
}

impl Node for SecondaryNode {
    fn role(&self) -> &'static str {
        SECONDARY
    }

    fn log(&self) -> Option<wal::Log> {
        self.log.borrow().clone()
    }

    fn lag_ms(&self) -> Option<u64> {
        self.follow()?.lag_ms
    }

    fn primary_address(&self) -> Option<String> {
        Some(self.upstream.clone())
    }

    /// An empty log alone does not make a node ready: before the first contact nobody knows whether
    /// it is empty on the primary too. A log that takes nothing more still answers, but balancers
    /// had better ask another node. A full disk only makes it lag, which they can ask about.
    fn not_ready(&self) -> Option<String> {
        let follow = self.follow();
        if let Some(follow) = follow.as_ref().filter(|follow| follow.state == FAILED) {
            let unsaid = || "the local log has failed".to_owned();
            return Some(follow.reason.clone().unwrap_or_else(unsaid));
        }
        let Some(log) = self.log() else {
            return Some(format!(
                "no log yet: {} has not been reached",
                self.upstream
            ));
        };
        if let Some(reason) = log.failed().borrow().clone() {
            return Some(reason);
        }
        let empty = log.snapshot().position().lsn == wal::Lsn(0);
        let unmet = follow.is_none_or(|follow| follow.lag_rows.is_none());
        (empty && unmet).then(|| format!("no rows yet: {} has not been reached", self.upstream))
    }

    fn status(&self) -> serde_json::Value {
        let status = Status {
            not_ready: self.not_ready(),
            log: self
                .log()
                .map(|log| LogStatus::of(&log, &self.compaction.stats())),
            upstream: self.follow().map(Into::into),
            ..self.who.status(SECONDARY)
        };
        json(&status)
    }

    fn metrics(&self) -> String {
        let mut text = self.who.metrics(SECONDARY);
        if let Some(log) = self.log() {
            series::log(&mut text, &log);
            series::compaction(&mut text, &self.compaction.stats());
        }
        if let Some(follow) = self.follow() {
            series::follow(&mut text, &follow);
        }
        text.finish()
    }

    fn replication(&self) -> Vec<ReplicationRow> {
        let row = |follow: replica::FollowStatus| ReplicationRow {
            node: self.who.name.clone(),
            peer: follow.upstream.clone(),
            role: PRIMARY.to_owned(),
            address: follow.upstream,
            state: follow.state.to_owned(),
            sent_lsn: Some(follow.primary_durable.0),
            received_lsn: Some(follow.received.0),
            flushed_lsn: Some(follow.flushed.0),
            applied_lsn: Some(follow.applied.0),
            lag_rows: follow.lag_rows,
            lag_bytes: None,
            lag_ms: follow.lag_ms,
            reason: follow.reason,
        };
        self.follow().into_iter().map(row).collect()
    }
}

/// A status that cannot be written as JSON would be a slip in this crate: shown, not hidden.
fn json(status: &Status) -> serde_json::Value {
    serde_json::to_value(status)
        .unwrap_or_else(|error| serde_json::json!({ "error": error.to_string() }))
}

fn mqtt_status(listener: &mqtt::Listener) -> MqttStatus {
    let stats = listener.stats();
    MqttStatus {
        address: listener.local_addr().to_string(),
        connections: stats.connections,
        received: stats.received,
        acknowledged: stats.acknowledged,
        rows: stats.rows,
        dead_letters: stats.dead_letters,
    }
}

const PRIMARY: &str = "primary";
const SECONDARY: &str = "secondary";

/// State of a secondary whose own log takes nothing more.
const FAILED: &str = "failed";

const VERSION: &str = env!("CARGO_PKG_VERSION");
