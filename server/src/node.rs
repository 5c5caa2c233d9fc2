//! What the HTTP surface asks of the node it runs on, answered for both roles from the parts that
//! know. Must never keep a number of its own.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use query::{Node, ReplicationRow};
use tokio::sync::watch;

use crate::metrics::{Exposition, seconds};
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

/// A part that comes after the node and goes before it. Locked only to look or to swap.
#[derive(Debug)]
pub(crate) struct Slot<T>(Mutex<Option<T>>);

impl<T> Slot<T> {
    pub(crate) fn empty() -> Self {
        Self(Mutex::new(None))
    }

    pub(crate) fn put(&self, part: T) {
        *self.lock() = Some(part);
    }

    pub(crate) fn take(&self) -> Option<T> {
        self.lock().take()
    }

    pub(crate) fn with<R>(&self, look: impl FnOnce(&T) -> R) -> Option<R> {
        self.lock().as_ref().map(look)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running primary, seen from HTTP.
pub(crate) struct PrimaryNode {
    pub(crate) who: Who,
    pub(crate) log: wal::Log,
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
        let closed = || "MQTT is not listening".to_owned();
        failed.or_else(|| self.mqtt.with(|_| ()).is_none().then(closed))
    }

    fn status(&self) -> serde_json::Value {
        let secondaries = self.secondaries();
        let status = Status {
            not_ready: self.not_ready(),
            log: Some(LogStatus::of(&self.log)),
            mqtt: self.mqtt.with(mqtt_status),
            secondaries: secondaries.map(|all| all.into_iter().map(Into::into).collect()),
            ..self.who.status(PRIMARY)
        };
        json(&status)
    }

    fn metrics(&self) -> String {
        let mut text = self.who.metrics(PRIMARY);
        log_metrics(&mut text, &self.log);
        if let Some(stats) = self.mqtt.with(mqtt::Listener::stats) {
            mqtt_metrics(&mut text, &stats);
        }
        secondary_metrics(&mut text, &self.secondaries().unwrap_or_default());
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
    /// it is empty on the primary too.
    fn not_ready(&self) -> Option<String> {
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
        let unmet = self.follow().is_none_or(|follow| follow.lag_rows.is_none());
        (empty && unmet).then(|| format!("no rows yet: {} has not been reached", self.upstream))
    }

    fn status(&self) -> serde_json::Value {
        let status = Status {
            not_ready: self.not_ready(),
            log: self.log().as_ref().map(LogStatus::of),
            upstream: self.follow().map(Into::into),
            ..self.who.status(SECONDARY)
        };
        json(&status)
    }

    fn metrics(&self) -> String {
        let mut text = self.who.metrics(SECONDARY);
        if let Some(log) = self.log() {
            log_metrics(&mut text, &log);
        }
        if let Some(follow) = self.follow() {
            follow_metrics(&mut text, &follow);
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

fn log_metrics(text: &mut Exposition, log: &wal::Log) {
    let (position, stats) = (log.snapshot().position(), log.stats());
    text.gauge(
        "headwater_log_durable_lsn",
        "Everything below is on disk here and can be queried.",
        position.lsn,
    );
    text.gauge(
        "headwater_log_oldest_lsn",
        "The oldest row still held.",
        log.oldest().lsn,
    );
    text.counter("headwater_log_groups_total", "Group commits.", stats.groups);
    text.counter(
        "headwater_log_blocks_total",
        "Blocks written.",
        stats.blocks,
    );
    text.counter("headwater_log_rows_total", "Rows written.", stats.rows);
    text.counter(
        "headwater_log_bytes_total",
        "Bytes of blocks written.",
        stats.bytes,
    );
    text.counter("headwater_log_syncs_total", "fdatasync calls.", stats.syncs);
    text.counter(
        "headwater_log_sync_seconds_total",
        "Time spent in fdatasync.",
        seconds(stats.sync_nanos),
    );
}

fn mqtt_metrics(text: &mut Exposition, stats: &mqtt::Stats) {
    text.gauge(
        "headwater_mqtt_connections",
        "Connections open now.",
        stats.connections,
    );
    text.counter(
        "headwater_mqtt_refused_connections_total",
        "Connections refused.",
        stats.refused_connections,
    );
    text.counter(
        "headwater_mqtt_messages_received_total",
        "PUBLISH packets.",
        stats.received,
    );
    text.counter(
        "headwater_mqtt_messages_acknowledged_total",
        "Acknowledgements sent, each after the fsync that covers its message.",
        stats.acknowledged,
    );
    text.counter(
        "headwater_mqtt_rows_total",
        "Rows taken from messages.",
        stats.rows,
    );
    text.counter(
        "headwater_mqtt_payload_bytes_total",
        "Bytes of payload.",
        stats.bytes,
    );
    text.counter(
        "headwater_mqtt_dead_letters_total",
        "Messages stored in system.dead_letters.",
        stats.dead_letters,
    );
}

fn secondary_metrics(text: &mut Exposition, secondaries: &[replica::SecondaryStatus]) {
    let label = "secondary";
    let all = |value: fn(&replica::SecondaryStatus) -> u64| {
        secondaries
            .iter()
            .map(move |secondary| (secondary.name.clone(), value(secondary)))
    };
    text.gauges(
        "headwater_replica_connected",
        "1 while the secondary is connected.",
        label,
        all(|secondary| u64::from(CONNECTED.contains(&secondary.state))),
    );
    text.gauges(
        "headwater_replica_applied_lsn",
        "Everything below can be queried on the secondary.",
        label,
        all(|secondary| secondary.applied.0),
    );
    text.gauges(
        "headwater_replica_lag_rows",
        "Rows that are durable here and cannot be queried on the secondary yet.",
        label,
        all(|secondary| secondary.lag_rows),
    );
    text.gauges(
        "headwater_replica_lag_bytes",
        "The same in bytes of log.",
        label,
        all(|secondary| secondary.lag_bytes),
    );
    let known = secondaries
        .iter()
        .filter_map(|secondary| Some((secondary.name.clone(), secondary.lag_ms?)));
    text.gauges(
        "headwater_replica_lag_ms",
        "Age of the newest moment that the secondary has wholly applied.",
        label,
        known,
    );
}

fn follow_metrics(text: &mut Exposition, follow: &replica::FollowStatus) {
    let connected = u64::from(CONNECTED.contains(&follow.state));
    text.gauge(
        "headwater_upstream_connected",
        "1 while the primary is connected.",
        connected,
    );
    text.gauge(
        "headwater_upstream_lsn",
        "End of the primary's log, as last heard.",
        follow.primary_durable,
    );
    text.counter(
        "headwater_upstream_reconnects_total",
        "Attempts to connect after the first.",
        follow.reconnects,
    );
    text.gauge(
        "headwater_applied_lsn",
        "Everything below can be queried here.",
        follow.applied,
    );
    if let Some(rows) = follow.lag_rows {
        let help = "Rows that the primary announced and that cannot be queried here yet.";
        text.gauge("headwater_lag_rows", help, rows);
    }
    if let Some(ms) = follow.lag_ms {
        let help = "Age of the newest moment of the primary that is wholly applied here.";
        text.gauge("headwater_lag_ms", help, ms);
    }
}

const PRIMARY: &str = "primary";
const SECONDARY: &str = "secondary";

/// States of a peer with a live connection.
const CONNECTED: [&str; 2] = ["catching_up", "streaming"];

const VERSION: &str = env!("CARGO_PKG_VERSION");
