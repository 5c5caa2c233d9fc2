//! A running secondary: follows an upstream's log and answers SQL from what it holds, whether the
//! upstream can be reached or not, and even when its own log takes nothing more; as a relay it
//! serves the same bytes to others. Must never write a byte to the log that the primary did not
//! send.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use tracing::{info, warn};

use crate::conf::{self, RoleName};
use crate::http::HttpServer;
use crate::node::answers::{SecondaryParts, VERSION};
use crate::node::background::{Compaction, DamageWatch, Scrub};
use crate::node::data_dir::DataDir;
use crate::node::error::{StartError, StopError};
use crate::node::kept::{Restarted, vital_end};
use crate::node::members::{self, Keeper};
use crate::node::memory::{self, Budget};
use crate::node::parts::{
    Own, blocking, http_config, listen_config, opening, report, report_storage, reserve_disk, step,
};
use crate::node::place_watch::PlaceWatch;
use crate::node::role;
use crate::node::schema_teller::SchemaTeller;
use crate::node::slot::Slot;
use crate::report::who::Who;

/// A secondary that follows.
pub struct Secondary {
    parts: Arc<SecondaryParts>,
    /// On a relay.
    relay: Option<replica::Listener>,
    members: Option<Keeper>,
    place_watch: PlaceWatch,
    _schema_teller: SchemaTeller,
    http: Option<HttpServer>,
    /// Notes that the directory is a secondary's.
    following: Restarted,
    data_dir: DataDir,
}

impl Secondary {
    /// Opens the local log if there is one, follows an upstream, works on whatever log is in force,
    /// answers HTTP. A relay listens before it has a log. Needs a tokio runtime. `identity` stands
    /// in for the files of `replication.certs`.
    ///
    /// # Errors
    /// When a part cannot start. An upstream that cannot be reached is no error.
    pub async fn start(
        node: &conf::Node,
        conf: &conf::Secondary,
        identity: Option<replica::Identity>,
    ) -> Result<Self, StartError> {
        // It has no MQTT workers, and its segments are as long as the primary says.
        let budget = memory::share_out(node, 0, Some(&conf.http), u64::MAX)?;
        let mut data_dir = DataDir::open(&node.data_dir, conf.storage.create)?;
        let identity = match identity {
            Some(identity) => identity,
            None => replica::Identity::load(&conf.following.certs)?,
        };
        role::claim(&mut data_dir, RoleName::Secondary)?;
        let tasks = wal::Tasks::default();
        let config = wal::FollowerConfig {
            reserve_disk: reserve_disk(data_dir.path(), &conf.storage),
            cache: wal::Cache::new(budget.shares.cache.clone()),
            schemas: budget.shares.schemas.clone(),
            tasks: tasks.clone(),
        };
        let (store, existing) = open_existing(&data_dir, config).await?;
        let held = existing.as_ref().map(wal::Follower::log);
        report_storage(&data_dir, held, budget.total);
        let who = Who {
            name: node.name.clone(),
            id: data_dir.node_id().to_owned(),
            started: Instant::now(),
        };
        let config = replica::FollowConfig {
            tasks: tasks.clone(),
            ..follow_config(&conf.following, &who, &budget)
        };
        let follow_task = replica::FollowTask::start(config, identity.clone(), store, existing);
        let parts = Arc::new(SecondaryParts {
            who,
            budget: budget.clone(),
            upstreams: conf.following.upstreams.clone(),
            log: follow_task.log(),
            damage: DamageWatch::new(0, &tasks),
            compaction: Compaction::new(conf.storage.compaction_rate, &tasks),
            scrub: Scrub::new(conf.storage.scrub_rate, &tasks),
            follow_task: Slot::empty(),
            registry: Slot::empty(),
            identity: identity.clone(),
            tasks: tasks.clone(),
        });
        parts.damage.follow(follow_task.log());
        parts.compaction.follow(follow_task.log());
        parts.scrub.follow(follow_task.log());
        let source = follow_task.source();
        parts.follow_task.put(follow_task);
        let following = keep_role_noted(&parts, data_dir.path());
        let place_watch = PlaceWatch::start(data_dir.place(), parts.log.clone(), &tasks);
        let mut secondary = Self {
            parts,
            relay: None,
            members: None,
            place_watch,
            _schema_teller: SchemaTeller::start(&budget.shares.schemas, &tasks),
            http: None,
            following,
            data_dir,
        };
        let opened = secondary.open_doors(conf, &identity, source, &budget);
        if let Err(error) = opened.await {
            // The reason to stop is the better error to report.
            let _ = secondary.stop().await;
            return Err(error);
        }
        secondary.announce();
        Ok(secondary)
    }

    /// Where SQL is asked.
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.http.as_ref().map(HttpServer::local_addr)
    }

    /// Where other secondaries connect, on a relay.
    pub fn replication_addr(&self) -> Option<SocketAddr> {
        self.relay.as_ref().map(replica::Listener::local_addr)
    }

    /// Its long-lived tasks, and which of them have ended.
    pub fn tasks(&self) -> &wal::Tasks {
        &self.parts.tasks
    }

    /// Looks at the files of its certificates at once.
    pub(crate) fn look_again(&self) {
        self.parts.identity.look_again();
    }

    /// Returns once the files of this node are gone, or a task that it cannot do without.
    pub async fn failed(&self) -> String {
        tokio::select! {
            reason = self.place_watch.gone() => reason,
            reason = vital_end(&self.parts.tasks) => reason,
        }
    }

    /// Ends the work on the log, puts what has been received on disk, tells those that follow this
    /// node, says goodbye, and ends.
    ///
    /// # Errors
    /// When the local log has failed, or could not be closed with everything on disk.
    pub async fn stop(self) -> Result<(), StopError> {
        self.parts.tasks.stop();
        step("compaction", self.parts.compaction.stop()).await;
        step("scrubbing", self.parts.scrub.stop()).await;
        step("the watch for damage", self.parts.damage.stop()).await;
        drop(self.following);
        let mut failed = None;
        if let Some(follow_task) = self.parts.follow_task.take() {
            failed = step("following", follow_task.stop()).await.flatten();
        }
        self.parts.registry.take();
        if let Some(relay) = self.relay {
            step("replication", relay.stop()).await;
        }
        if let Some(members) = self.members {
            step("the list of secondaries", members.stop()).await;
        }
        if let Some(http) = self.http {
            step("HTTP", http.stop()).await;
        }
        drop(self.place_watch);
        drop(self.data_dir);
        match failed {
            Some(reason) => Err(wal::WalError::Poisoned(reason).into()),
            None => Ok(()),
        }
    }

    async fn open_doors(
        &mut self,
        conf: &conf::Secondary,
        identity: &replica::Identity,
        source: replica::Source,
        budget: &Budget,
    ) -> Result<(), StartError> {
        if let Some(serving) = &conf.following.relay {
            self.serve(serving, identity, source).await?;
        }
        let asked = Arc::clone(&self.parts);
        let own = Own {
            name: &self.parts.who.name,
            advertised: None,
            data_dir: self.data_dir.path(),
            certs: Some(&conf.following.certs),
        };
        let config = http_config(&conf.http, budget, &self.parts.tasks, own);
        self.http = Some(HttpServer::start(&config, asked)?);
        Ok(())
    }

    /// Lets other secondaries follow what this one has.
    async fn serve(
        &mut self,
        serving: &conf::Serving,
        identity: &replica::Identity,
        source: replica::Source,
    ) -> Result<(), StartError> {
        let data_dir = self.data_dir.path().to_owned();
        let members = blocking(move || members::load(&data_dir)).await;
        let (budget, tasks) = (&self.parts.budget, &self.parts.tasks);
        let config = listen_config(serving, self.parts.who.hop(), members, budget, tasks);
        let relay = replica::Listener::bind(config, identity, source)?;
        let registry = relay.registry();
        self.parts
            .follow_task
            .with(|following| following.set_descendants(registry.summaries()));
        let keeper = Keeper::start(self.data_dir.path(), registry.clone(), &self.parts.tasks);
        self.members = Some(keeper);
        self.parts.registry.put(registry);
        self.relay = Some(relay);
        Ok(())
    }

    fn announce(&self) {
        let show =
            |addr: Option<SocketAddr>| addr.map_or("off".to_owned(), |addr| addr.to_string());
        info!(
            node = %self.parts.who.name,
            id = %self.parts.who.id,
            version = VERSION,
            upstream = %self.parts.upstreams.join(", "),
            replication = %show(self.replication_addr()),
            http = %show(self.http_addr()),
            "the secondary is up"
        );
    }
}

impl fmt::Debug for Secondary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secondary")
            .field("node", &self.parts.who)
            .finish_non_exhaustive()
    }
}

/// A task that notes what [`note_role`] does.
fn keep_role_noted(parts: &Arc<SecondaryParts>, data_dir: &Path) -> Restarted {
    let (noting, path) = (Arc::clone(parts), data_dir.to_owned());
    Restarted::start(&parts.tasks, "role-notes", move || {
        let followed = noting.follow_task.with(replica::FollowTask::followed);
        let path = path.clone();
        async move {
            if let Some(followed) = followed {
                note_role(followed, path).await;
            }
        }
    })
}

/// Once an upstream has agreed, the directory is a secondary's.
async fn note_role(followed: impl Future<Output = ()>, data_dir: PathBuf) {
    followed.await;
    if let Err(error) = blocking(move || role::follows(&data_dir)).await {
        warn!(%error, "that this node is a secondary cannot be noted");
    }
}

async fn open_existing(
    data_dir: &DataDir,
    config: wal::FollowerConfig,
) -> Result<(replica::Store, Option<wal::Follower>), wal::WalError> {
    let path = data_dir.path().to_owned();
    let store = replica::Store::new(wal::OsDisk::new(), path, config, report);
    opening(data_dir.path());
    blocking(move || {
        let existing = store.open_existing()?;
        Ok((store, existing))
    })
    .await
}

fn follow_config(following: &conf::Following, who: &Who, budget: &Budget) -> replica::FollowConfig {
    let relay = following.relay.as_ref();
    // A relay's own secondaries have the other half.
    let window = (budget.shares.replication.limit() / 2).clamp(LEAST_WINDOW, MOST_WINDOW);
    replica::FollowConfig {
        upstream_names: following.upstream_names.clone(),
        receive_window_bytes: u32::try_from(window).unwrap_or(u32::MAX),
        return_after: following.return_after,
        memory: budget.shares.replication.clone(),
        serves: relay.map_or_else(String::new, |serving| serving.listen.to_string()),
        ..replica::FollowConfig::new(following.upstreams.clone(), &who.name, &who.id)
    }
}

/// Bytes that an upstream may send ahead of what the log has taken.
const LEAST_WINDOW: u64 = 1 << 20;
const MOST_WINDOW: u64 = 16 << 20;
