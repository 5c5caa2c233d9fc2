//! A running primary: which parts it has, in which order they start, and in which they stop so that
//! everything acknowledged is on disk. Must never know how a part works.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use intake::Intake;
use tokio::sync::watch;
use tracing::info;

use crate::conf::{self, RoleName};
use crate::http::HttpServer;
use crate::node::answers::{PrimaryParts, VERSION};
use crate::node::background::{Compaction, DamageWatch, Scrub};
use crate::node::cut_teller::CutTeller;
use crate::node::data_dir::DataDir;
use crate::node::descriptors::Descriptors;
use crate::node::error::{StartError, StopError};
use crate::node::healing::Opening;
use crate::node::kept::vital_end;
use crate::node::members::{self, Keeper};
use crate::node::memory::{self, Budget};
use crate::node::parts::{
    Own, blocking, cores, http_config, listen_config, opening, report, report_storage,
    reserve_disk, segment_size, step, warn_of_new,
};
use crate::node::place_watch::PlaceWatch;
use crate::node::role;
use crate::node::schema_teller::SchemaTeller;
use crate::node::slot::Slot;
use crate::report::who::Who;

/// A primary that takes messages.
pub struct Primary {
    parts: Arc<PrimaryParts>,
    committer: wal::Committer,
    replication: Option<replica::Listener>,
    members: Option<Keeper>,
    _cut_teller: CutTeller,
    _schema_teller: SchemaTeller,
    place_watch: PlaceWatch,
    http: Option<HttpServer>,
    mqtt_addr: SocketAddr,
    data_dir: DataDir,
}

impl Primary {
    /// Opens the log, then the doors: HTTP and replication first, MQTT last, so that nothing comes
    /// in before the rest stands. Compaction and scrubbing run as soon as the log is open. Needs a
    /// tokio runtime. `identity` stands in for the files of `replication.certs`.
    ///
    /// # Errors
    /// When a part cannot start; those that had started are stopped again.
    pub async fn start(
        node: &conf::Node,
        conf: &conf::Primary,
        identity: Option<replica::Identity>,
    ) -> Result<Self, StartError> {
        let http = conf.http.as_ref();
        let appenders = workers(&conf.mqtt) + usize::from(http.is_some());
        let budget = memory::share_out(node, appenders, http, conf.log.segment_size)?;
        let mut data_dir = DataDir::open(&node.data_dir, conf.storage.create)?;
        role::claim(&mut data_dir, RoleName::Primary)?;
        let begun = opening(data_dir.path());
        let reserve = reserve_disk(data_dir.path(), &conf.storage);
        let tasks = wal::Tasks::default();
        let config = wal::Config {
            tasks: tasks.clone(),
            ..log_config(conf, &budget, reserve)
        };
        let who = Who {
            name: node.name.clone(),
            id: data_dir.node_id().to_owned(),
            started: Instant::now(),
        };
        let opening = Opening {
            who: &who,
            data_dir: data_dir.path(),
            conf,
            budget: &budget,
            log: config,
            identity: identity.as_ref(),
        };
        let (committer, recovery) = opening.open().await?;
        report(committer.log(), &recovery, begun);
        warn_of_new(&data_dir, committer.log());
        report_storage(&data_dir, Some(committer.log()), budget.total);
        let (_, log_in_force) = watch::channel(Some(committer.log().clone()));
        let parts = Arc::new(PrimaryParts {
            who,
            budget: budget.clone(),
            appenders: committer.appenders(),
            log: committer.log().clone(),
            is_new: data_dir.is_new(),
            intake: Arc::new(Intake::new(
                &committer.appenders(),
                committer.log().clone(),
                conf.ingest.reading,
            )),
            damage: DamageWatch::new(0, &tasks),
            compaction: Compaction::new(conf.storage.compaction_rate, &tasks),
            scrub: Scrub::new(conf.storage.scrub_rate, &tasks),
            mqtt: Slot::empty(),
            registry: Slot::empty(),
            identity: Slot::empty(),
            tasks: tasks.clone(),
        });
        let mut primary = Self {
            _cut_teller: CutTeller::start(committer.log(), &tasks),
            _schema_teller: SchemaTeller::start(&budget.shares.schemas, &tasks),
            place_watch: PlaceWatch::start(data_dir.place(), log_in_force, &tasks),
            parts,
            committer,
            replication: None,
            members: None,
            http: None,
            mqtt_addr: conf.mqtt.listen,
            data_dir,
        };
        if let Err(error) = primary.open_doors(conf, identity, &budget).await {
            // The reason to stop is the better error to report.
            let _ = primary.stop().await;
            return Err(error);
        }
        primary.announce();
        Ok(primary)
    }

    /// Where devices publish.
    pub fn mqtt_addr(&self) -> SocketAddr {
        self.mqtt_addr
    }

    /// Where SQL is asked, if anywhere.
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.http.as_ref().map(HttpServer::local_addr)
    }

    /// Where secondaries connect, if anywhere.
    pub fn replication_addr(&self) -> Option<SocketAddr> {
        self.replication.as_ref().map(replica::Listener::local_addr)
    }

    /// The log's read side.
    pub fn log(&self) -> &wal::Log {
        self.committer.log()
    }

    /// Its long-lived tasks, and which of them have ended.
    pub fn tasks(&self) -> &wal::Tasks {
        &self.parts.tasks
    }

    /// Looks at the files of its certificates at once; false where it has none.
    pub(crate) fn look_again(&self) -> bool {
        let identity = &self.parts.identity;
        identity.with(replica::Identity::look_again).is_some()
    }

    /// Returns the reason once the log has failed, or a task that the node cannot do without.
    pub async fn failed(&self) -> String {
        tokio::select! {
            reason = self.committer.log().until_failed() => reason,
            reason = vital_end(&self.parts.tasks) => reason,
        }
    }

    /// Takes no more messages, ends the work on the log, commits and acknowledges what has come in,
    /// tells the secondaries, and ends. Returns where the log ends.
    ///
    /// # Errors
    /// When the log failed; everything acknowledged is on disk even then.
    pub async fn stop(self) -> Result<wal::Position, StopError> {
        self.parts.tasks.stop();
        if let Some(mut mqtt) = self.parts.mqtt.take() {
            step("MQTT", blocking(move || mqtt.stop())).await;
        }
        step("compaction", self.parts.compaction.stop()).await;
        step("scrubbing", self.parts.scrub.stop()).await;
        step("the watch for damage", self.parts.damage.stop()).await;
        let committer = self.committer;
        let end = blocking(move || committer.stop()).await;
        if let Ok(position) = &end {
            info!(%position, "the log is closed");
        }
        self.parts.registry.take();
        if let Some(listener) = self.replication {
            step("replication", listener.stop()).await;
        }
        if let Some(members) = self.members {
            step("the list of secondaries", members.stop()).await;
        }
        if let Some(http) = self.http {
            step("HTTP", http.stop()).await;
        }
        drop(self.place_watch);
        drop(self.data_dir);
        Ok(end?)
    }

    async fn open_doors(
        &mut self,
        conf: &conf::Primary,
        identity: Option<replica::Identity>,
        budget: &Budget,
    ) -> Result<(), StartError> {
        self.parts.damage.start(self.parts.log.clone()).await?;
        self.parts.compaction.start(self.parts.log.clone()).await?;
        self.parts.scrub.start(self.parts.log.clone()).await?;
        if let Some(http) = &conf.http {
            let parts = Arc::clone(&self.parts);
            let own = Own {
                name: &self.parts.who.name,
                advertised: conf.advertise_http.as_deref(),
                data_dir: self.data_dir.path(),
                certs: conf.replication.as_ref().map(|ship| ship.certs.as_path()),
            };
            let config = http_config(http, budget, &self.parts.tasks, own);
            self.http = Some(HttpServer::start(&config, parts)?);
        }
        // After HTTP: secondaries are told where it listens.
        if let Some(shipping) = &conf.replication {
            let listens = self.http_addr().map(|address| address.to_string());
            let told = conf.advertise_http.clone().or(listens);
            self.ship(shipping, identity, told.unwrap_or_default())
                .await?;
        }
        let (mut config, appenders) = (mqtt_config(conf), self.committer.appenders());
        config.tasks = self.parts.tasks.clone();
        config.max_connections = Descriptors::raise().for_devices(config.max_connections);
        config.memory = budget.shares.mqtt.clone();
        let log = self.committer.log().clone();
        let listener = blocking(move || mqtt::Listener::start(config, appenders, log)).await?;
        self.mqtt_addr = listener.local_addr();
        self.parts.mqtt.put(listener);
        Ok(())
    }

    /// Lets secondaries in, and tells them where rows are taken over HTTP.
    async fn ship(
        &mut self,
        shipping: &conf::Shipping,
        identity: Option<replica::Identity>,
        http: String,
    ) -> Result<(), StartError> {
        let identity = match identity {
            Some(identity) => identity,
            None => replica::Identity::load(&shipping.certs)?,
        };
        let data_dir = self.data_dir.path().to_owned();
        let members = blocking(move || members::load(&data_dir)).await;
        members::warn_of_lost(&members, self.log().end().lsn);
        let own = self.parts.who.hop();
        let (budget, tasks) = (&self.parts.budget, &self.parts.tasks);
        let config = listen_config(&shipping.serving, own.clone(), members, budget, tasks);
        self.parts.identity.put(identity.clone());
        let source = replica::Source::primary(self.committer.log().clone(), own, http);
        let listener = replica::Listener::bind(config, &identity, source)?;
        let keeper = Keeper::start(self.data_dir.path(), listener.registry(), &self.parts.tasks);
        self.members = Some(keeper);
        self.parts.registry.put(listener.registry());
        self.replication = Some(listener);
        Ok(())
    }

    fn announce(&self) {
        let show =
            |addr: Option<SocketAddr>| addr.map_or("off".to_owned(), |addr| addr.to_string());
        info!(
            node = %self.parts.who.name,
            id = %self.parts.who.id,
            version = VERSION,
            mqtt = %self.mqtt_addr,
            replication = %show(self.replication_addr()),
            http = %show(self.http_addr()),
            "the primary is up"
        );
    }
}

impl fmt::Debug for Primary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Primary")
            .field("node", &self.parts.who)
            .finish_non_exhaustive()
    }
}

fn log_config(conf: &conf::Primary, budget: &Budget, reserve_disk: u64) -> wal::Config {
    wal::Config {
        segment_size: segment_size(conf.log.segment_size),
        max_group_delay: conf.log.max_group_delay,
        pending_bytes: budget.ingest_pending_per_appender,
        keep_segments: conf.log.keep_segments,
        reserve_disk,
        cache: wal::Cache::new(budget.shares.cache.clone()),
        schemas: budget.shares.schemas.clone(),
        limits: conf.limits,
        tables: conf.tables.clone(),
        times: conf.ingest.times,
        dead_letter_retention: conf.dead_letters.retention,
        dead_letter_bytes: Some(conf.dead_letters.max_size).filter(|bytes| *bytes > 0),
        ..wal::Config::default()
    }
}

fn workers(conf: &conf::Mqtt) -> usize {
    match conf.workers {
        0 => cores(),
        workers => workers,
    }
}

/// The MQTT front as the conf wants it.
pub(crate) fn mqtt_config(conf: &conf::Primary) -> mqtt::Config {
    let mqtt = &conf.mqtt;
    mqtt::Config {
        listen: mqtt.listen,
        max_packet: mqtt.max_packet,
        max_inflight: mqtt.max_inflight,
        max_connections: mqtt.max_connections,
        workers: workers(mqtt),
        // The only way there is until a conf can name users.
        allow_anonymous: true,
        ack: mqtt.ack,
        routes: conf.routes.clone(),
        too_few: conf.too_few,
        reading: conf.ingest.reading,
        dead_letter_rate: conf.dead_letters.max_rate_per_client,
        ..mqtt::Config::default()
    }
}
