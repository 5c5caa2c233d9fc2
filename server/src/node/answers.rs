//! What the HTTP surface asks of the node it runs on, answered for both roles from the parts that
//! know. Must never keep a number of its own.

use std::sync::Arc;

use intake::Intake;
use query::{Node, QueryStats, ReplicationRow};
use replica::FollowPhase;
use tokio::sync::watch;

use crate::api::status::{LogStatus, MqttStatus, Status};
use crate::http::HttpNode;
use crate::node::background::{Compaction, DamageWatch, Scrub};
use crate::node::kept::down;
use crate::node::memory::Budget;
use crate::node::primary_url::primary_url;
use crate::node::process;
use crate::node::slot::Slot;
use crate::report::accounting::{Accounting, AtRisk, Copies, MessageCounts, RowCounts, Stages};
use crate::report::memory::Memory;
use crate::report::metrics::Exposition;
use crate::report::view::View;
use crate::report::who::{PRIMARY, SECONDARY, Who};
use crate::report::{replication_rows, series};

impl Who {
    pub(crate) fn status(&self, role: &str) -> Status {
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
            certificate: None,
            accounting: None,
            memory: None,
            task_ends: Vec::new(),
        }
    }

    pub(crate) fn metrics(&self, role: &str) -> Exposition {
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

/// The parts of a running primary that HTTP asks.
pub(crate) struct PrimaryParts {
    pub(crate) who: Who,
    pub(crate) budget: Budget,
    pub(crate) appenders: wal::Appenders,
    pub(crate) log: wal::Log,
    /// It was begun by this process.
    pub(crate) is_new: bool,
    pub(crate) intake: Arc<Intake>,
    pub(crate) damage: DamageWatch,
    pub(crate) compaction: Compaction,
    pub(crate) scrub: Scrub,
    pub(crate) mqtt: Slot<mqtt::Listener>,
    pub(crate) registry: Slot<replica::Registry>,
    /// Where it ships its log.
    pub(crate) identity: Slot<replica::Identity>,
    pub(crate) tasks: wal::Tasks,
}

impl PrimaryParts {
    fn secondaries(&self) -> Option<Vec<replica::SecondaryStatus>> {
        self.registry.with(replica::Registry::secondaries)
    }

    fn memory(&self, queries: &QueryStats) -> Memory {
        memory(&self.budget, queries, self.appenders.pending_bytes())
    }

    fn copies(&self) -> Copies {
        // A look of its own: nothing else may wait while it is held.
        let connected = self.log.replicated().borrow().by(1);
        let secondaries = self.secondaries();
        let members = self.registry.with(replica::Registry::members);
        Copies {
            connected,
            secondaries,
            members: members.unwrap_or_default(),
        }
    }

    /// Why this may be the wrong log: secondaries hold more of another, and none has followed it.
    fn foreign(&self) -> Option<String> {
        let foreign = self.registry.with(replica::Registry::foreign_logs)?;
        let first = foreign.first()?;
        let end = self.log.end().lsn;
        (self.is_new || first.lsn > end).then(|| {
            format!(
                "secondary {} holds log {} up to LSN {}, this primary has log {} up to {end}: is \
                 its data directory the right one, and its volume mounted? If it is, bring the \
                 secondary's directory out of the way, or: headwater forget {}",
                first.secondary,
                first.log,
                first.lsn,
                self.log.id(),
                first.secondary
            )
        })
    }

    fn accounting(&self, view: &View, copies: &Copies) -> Accounting {
        // Before the others: what is on disk was taken.
        let durable = self.log.stats().rows;
        let stats = self.mqtt.with(mqtt::Listener::stats);
        let messages = stats.map(|stats| MessageCounts {
            received: stats.received,
            acknowledged: stats.acknowledged,
            qos0: stats.qos0,
            duplicates: stats.duplicates,
            refused: stats.refused_messages,
            waiting: stats.waiting,
            dropped: stats.dropped,
            dead_lettered: stats.dead_letters,
        });
        let writes = self.intake.stats();
        Accounting {
            messages,
            writes: Some(writes.into()),
            rows: Some(RowCounts {
                taken: stats.map(|stats| stats.rows + writes.rows),
                dead_lettered: stats.map(|stats| stats.dead_letters),
                durable,
            }),
            lsn: Stages::of(view, copies.secondaries.as_deref()),
            at_risk: Some(AtRisk::of(view, copies, wal::clock::unix_nanos())),
        }
    }
}

impl Node for PrimaryParts {
    fn log(&self) -> Option<wal::Log> {
        Some(self.log.clone())
    }

    fn lag_ms(&self) -> Option<u64> {
        Some(0)
    }

    fn replication(&self) -> Vec<ReplicationRow> {
        let durable = self.log.durable().borrow().lsn.0;
        replication_rows::followers(
            &self.who,
            Some(durable),
            self.secondaries().unwrap_or_default(),
        )
    }

    fn resident_bytes(&self) -> Option<u64> {
        process::of_node()
    }

    fn give_back(&self) {
        process::give_back();
    }
}

impl HttpNode for PrimaryParts {
    fn role(&self) -> &'static str {
        PRIMARY
    }

    fn primary_address(&self) -> Option<String> {
        None
    }

    fn intake(&self) -> Option<Arc<Intake>> {
        Some(Arc::clone(&self.intake))
    }

    fn not_ready(&self) -> Option<String> {
        let failed = self.log.failed().borrow().clone();
        let stalled = self.log.stalled().borrow().clone();
        let closed = || "MQTT is not listening".to_owned();
        failed
            .or(stalled)
            .or_else(|| down(&self.tasks))
            .or_else(|| self.foreign())
            .or_else(|| self.mqtt.with(|_| ()).is_none().then(closed))
    }

    fn status(&self, queries: &QueryStats) -> serde_json::Value {
        let copies = self.copies();
        let view = View::of(self.log.clone());
        let (compaction, scrub) = (self.compaction.stats(), self.scrub.stats());
        let accounting = self.accounting(&view, &copies);
        let secondaries = copies.secondaries;
        let status = Status {
            not_ready: self.not_ready(),
            log: Some(LogStatus::of(&view, &compaction, scrub)),
            mqtt: self.mqtt.with(MqttStatus::of),
            certificate: self.identity.with(replica::Identity::certificate),
            accounting: Some(accounting),
            secondaries,
            memory: Some(self.memory(queries)),
            task_ends: self.tasks.ended(),
            ..self.who.status(PRIMARY)
        };
        json(&status)
    }

    fn metrics(&self, queries: &QueryStats) -> String {
        let mut text = self.who.metrics(PRIMARY);
        let copies = self.copies();
        let view = View::of(self.log.clone());
        series::log(&mut text, &view);
        series::compaction(&mut text, &self.compaction.stats());
        series::scrub(&mut text, &self.scrub.stats());
        if let Some(stats) = self.mqtt.with(mqtt::Listener::stats) {
            series::mqtt(&mut text, &stats);
        }
        series::intake(&mut text, &self.intake.stats());
        series::accounting(&mut text, &self.accounting(&view, &copies));
        let foreign = self.registry.with(replica::Registry::foreign_logs);
        text.gauge(
            "headwater_replication_foreign_logs",
            "Secondaries that ask for another log, while none has followed this one.",
            foreign.map_or(0, |foreign| foreign.len()),
        );
        series::secondaries(&mut text, &copies.secondaries.unwrap_or_default());
        if let Some(certificate) = self.identity.with(replica::Identity::certificate) {
            series::certificate(&mut text, &certificate, wal::clock::unix_nanos());
        }
        series::queries(&mut text, queries);
        series::memory(&mut text, &self.memory(queries));
        series::tasks(&mut text, &self.tasks);
        text.finish()
    }

    fn approve_cut(&self, table: &str) -> Option<bool> {
        Some(self.log.approve_cut(table))
    }

    fn forget(&self, name_or_id: &str) -> Option<replica::Forgotten> {
        self.registry.with(|registry| registry.forget(name_or_id))
    }
}

/// The parts of a running secondary that HTTP asks.
pub(crate) struct SecondaryParts {
    pub(crate) who: Who,
    pub(crate) budget: Budget,
    /// `host:port` of each upstream, as it is in the conf.
    pub(crate) upstreams: Vec<String>,
    pub(crate) follow_task: Slot<replica::FollowTask>,
    /// The log in force: another one once a snapshot has been taken in.
    pub(crate) log: watch::Receiver<Option<wal::Log>>,
    pub(crate) damage: DamageWatch,
    pub(crate) compaction: Compaction,
    pub(crate) scrub: Scrub,
    /// On a relay.
    pub(crate) registry: Slot<replica::Registry>,
    pub(crate) identity: replica::Identity,
    pub(crate) tasks: wal::Tasks,
}

impl SecondaryParts {
    fn follow(&self) -> Option<replica::FollowStatus> {
        self.follow_task.with(replica::FollowTask::status)
    }

    fn secondaries(&self) -> Option<Vec<replica::SecondaryStatus>> {
        self.registry.with(replica::Registry::secondaries)
    }

    fn memory(&self, queries: &QueryStats) -> Memory {
        memory(&self.budget, queries, 0)
    }

    /// Why it has nothing to answer from.
    fn nothing(&self, what: &str, follow: Option<&replica::FollowStatus>) -> String {
        match follow {
            Some(follow) if follow.state == FollowPhase::Bootstrapping => {
                let from = &follow.upstream;
                let held_up = follow.reason.as_ref();
                let held_up = held_up.map_or_else(String::new, |reason| format!("; {reason}"));
                format!("no {what} yet: a snapshot is on its way from {from}{held_up}")
            }
            Some(follow) => match &follow.reason {
                Some(reason) => format!(
                    "no {what} yet: {}, asking {}: {reason}",
                    follow.state, follow.upstream
                ),
                None => format!("no {what} yet: {} has not been reached", follow.upstream),
            },
            None => format!(
                "no {what} yet: {} has not been reached",
                self.upstreams.join(", ")
            ),
        }
    }
}

impl Node for SecondaryParts {
    fn log(&self) -> Option<wal::Log> {
        self.log.borrow().clone()
    }

    fn lag_ms(&self) -> Option<u64> {
        self.follow()?.lag_ms
    }

    fn replication(&self) -> Vec<ReplicationRow> {
        let follow = self.follow();
        // Whether it is what the primary's log ends at now shows in the lag.
        let primary = follow
            .as_ref()
            .filter(|follow| follow.lag_rows.is_some())
            .map(|follow| follow.primary_durable.0);
        let mut rows: Vec<ReplicationRow> = follow
            .map(|follow| replication_rows::upstream(&self.who, follow))
            .into_iter()
            .collect();
        let secondaries = self.secondaries().unwrap_or_default();
        rows.extend(replication_rows::followers(&self.who, primary, secondaries));
        rows
    }

    fn resident_bytes(&self) -> Option<u64> {
        process::of_node()
    }

    fn give_back(&self) {
        process::give_back();
    }
}

impl HttpNode for SecondaryParts {
    fn role(&self) -> &'static str {
        SECONDARY
    }

    fn lag_bound_ms(&self) -> Option<u64> {
        self.follow()?.lag_bound_ms
    }

    fn straying(&self) -> Option<(String, Option<String>)> {
        let follow = self.follow()?;
        let follows = matches!(
            follow.state,
            FollowPhase::CatchingUp | FollowPhase::Streaming
        );
        // Whoever follows and has no room says so.
        let is_held_up = !follows || follow.reason.is_some();
        is_held_up.then(|| (follow.state.to_string(), follow.reason))
    }

    fn primary_address(&self) -> Option<String> {
        let follow = self.follow()?;
        let is_primary = follow.rooted && follow.route.len() == 1;
        primary_url(&follow.primary_http, &follow.upstream, is_primary)
    }

    /// An empty log alone does not make a node ready: before the first contact nobody knows whether
    /// it is empty on the primary too. A log that takes nothing more still answers, but balancers
    /// had better ask another node. A full disk only makes it lag, which they can ask about.
    fn not_ready(&self) -> Option<String> {
        if let Some(reason) = down(&self.tasks) {
            return Some(reason);
        }
        let follow = self.follow();
        if let Some(follow) = follow
            .as_ref()
            .filter(|follow| follow.state == FollowPhase::Failed)
        {
            let unsaid = || "the local log has failed".to_owned();
            return Some(follow.reason.clone().unwrap_or_else(unsaid));
        }
        let Some(log) = self.log() else {
            return Some(self.nothing("log", follow.as_ref()));
        };
        if let Some(reason) = log.failed().borrow().clone() {
            return Some(reason);
        }
        let empty = log.snapshot().end().lsn == wal::Lsn(0);
        let unmet = follow.as_ref().is_none_or(|follow| !follow.is_met);
        (empty && unmet).then(|| self.nothing("rows", follow.as_ref()))
    }

    fn status(&self, queries: &QueryStats) -> serde_json::Value {
        let secondaries = self.secondaries();
        let view = self.log().map(View::of);
        let view = view.as_ref();
        let (compaction, scrub) = (self.compaction.stats(), self.scrub.stats());
        let status = Status {
            not_ready: self.not_ready(),
            log: view.map(|view| LogStatus::of(view, &compaction, scrub)),
            upstream: self.follow().map(Into::into),
            certificate: Some(self.identity.certificate()),
            accounting: view.map(|view| followed(view, secondaries.as_deref())),
            secondaries,
            memory: Some(self.memory(queries)),
            task_ends: self.tasks.ended(),
            ..self.who.status(SECONDARY)
        };
        json(&status)
    }

    fn metrics(&self, queries: &QueryStats) -> String {
        let mut text = self.who.metrics(SECONDARY);
        let secondaries = self.secondaries();
        if let Some(view) = self.log().map(View::of) {
            series::log(&mut text, &view);
            series::compaction(&mut text, &self.compaction.stats());
            series::scrub(&mut text, &self.scrub.stats());
            series::accounting(&mut text, &followed(&view, secondaries.as_deref()));
        }
        if let Some(follow) = self.follow() {
            series::follow(&mut text, &follow);
        }
        series::secondaries(&mut text, &secondaries.unwrap_or_default());
        let now_ns = wal::clock::unix_nanos();
        series::certificate(&mut text, &self.identity.certificate(), now_ns);
        series::queries(&mut text, queries);
        series::memory(&mut text, &self.memory(queries));
        series::tasks(&mut text, &self.tasks);
        text.finish()
    }

    fn forget(&self, name_or_id: &str) -> Option<replica::Forgotten> {
        self.registry.with(|registry| registry.forget(name_or_id))
    }
}

/// What is held of the budget, together with what parts count by themselves.
fn memory(budget: &Budget, queries: &QueryStats, ingest: usize) -> Memory {
    let counted = [
        ("ingest", Some(ingest as u64)),
        ("queries", Some(queries.memory_bytes)),
        ("tail", None),
        ("compaction", None),
        ("writes", None),
    ];
    Memory::of(budget.total, budget.shares.all(), &counted)
}

/// What a secondary knows of where rows are.
fn followed(view: &View, secondaries: Option<&[replica::SecondaryStatus]>) -> Accounting {
    Accounting {
        lsn: Stages::of(view, secondaries),
        ..Accounting::default()
    }
}

/// A status that cannot be written as JSON would be a slip in this crate: shown, not hidden.
pub(crate) fn json(status: &Status) -> serde_json::Value {
    serde_json::to_value(status)
        .unwrap_or_else(|error| serde_json::json!({ "error": error.to_string() }))
}

pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
