//! Whole nodes without MQTT, SQL or a conf: a primary's log with its listener, and secondaries that
//! follow it over real QUIC in one process. It owns how such nodes are made and waited for, and
//! must never be compiled into a node; what they promise is in the files beside it.

mod bootstrap;
mod crowds;
mod diverge;
mod faked;
mod forged;
mod hoards;
mod hostile;
mod identity;
mod lenders;
pub(crate) mod loopback;
mod lying;
mod members;
mod relay;
mod roles;
mod skew;
mod vouching;

use std::borrow::Cow;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};
use wal::{
    Appender, Committer, Config, FollowerConfig, Log, Lsn, OsDisk, Position, Row, Value,
    compact_now, open_primary,
};

use crate::certs::{Authority, CertRole};
use crate::status::{FollowPhase, SecondaryState};
use crate::{
    Compression, FollowConfig, FollowStatus, FollowTask, Hop, Identity, ListenConfig, Listener,
    Registry, Source, Store,
};

/// A cluster's certificates and directories.
pub(crate) struct Cluster {
    dir: TempDir,
    authority: Authority,
}

impl Cluster {
    pub(crate) fn new() -> Self {
        Self {
            dir: tempfile::tempdir().expect("a directory"),
            authority: Authority::new().expect("a CA"),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// One with which anything may be done.
    pub(crate) fn identity(&self, name: &str) -> Identity {
        self.identity_for(name, CertRole::Primary)
    }

    pub(crate) fn identity_for(&self, name: &str, role: CertRole) -> Identity {
        let issued = self.authority.issue(name, role, &[]);
        issued.expect("a certificate")
    }

    /// One of an earlier version.
    pub(crate) fn identity_without_role(&self, name: &str) -> Identity {
        let issued = self.authority.issue_without_role(name);
        issued.expect("a certificate")
    }

    /// A primary over `name`'s directory, at this address or any.
    pub(crate) async fn primary(&self, name: &str, at: Option<SocketAddr>) -> Primary {
        let config = ListenConfig::new(at.unwrap_or(any()), hop(name));
        self.primary_with(name, config).await
    }

    /// The same with these settings.
    pub(crate) async fn primary_with(&self, name: &str, config: ListenConfig) -> Primary {
        let path = self.path(name);
        std::fs::create_dir_all(&path).expect("a directory");
        let opened = spawn_blocking(move || open_primary(OsDisk::new(), &path, &tiny()));
        let (committer, _) = opened.await.expect("runs").expect("opens");
        let http = format!("http://{name}.example:7440");
        let source = Source::primary(committer.log().clone(), hop(name), http);
        let config = ListenConfig {
            compression: Compression::Zstd,
            ..config
        };
        let listener = self.bind(name, &config, &source).await;
        Primary {
            appender: Some(committer.appender(Box::new(|_| ()))),
            committer,
            listener,
        }
    }

    pub(crate) fn store(&self, name: &str) -> Store {
        let path = self.path(name);
        std::fs::create_dir_all(&path).expect("a directory");
        Store::new(OsDisk::new(), path, FollowerConfig::default(), |_, _, _| ())
    }

    /// Binds, again and again while another test has the port for a moment.
    async fn bind(&self, name: &str, config: &ListenConfig, source: &Source) -> Listener {
        for _ in 0..500 {
            match Listener::bind(config.clone(), &self.identity(name), source.clone()) {
                Ok(listener) => return listener,
                Err(_) => sleep(Duration::from_millis(10)).await,
            }
        }
        panic!("{} is taken", config.listen)
    }

    /// A secondary of these upstreams; a relay where it is given an address to listen on.
    pub(crate) async fn secondary(&self, name: &str, upstreams: &[SocketAddr]) -> Secondary {
        self.start(name, name, upstreams, None).await
    }

    pub(crate) async fn relay(
        &self,
        name: &str,
        upstreams: &[SocketAddr],
        listen: SocketAddr,
    ) -> Secondary {
        self.start(name, name, upstreams, Some(listen)).await
    }

    pub(crate) async fn start(
        &self,
        name: &str,
        id: &str,
        upstreams: &[SocketAddr],
        listen: Option<SocketAddr>,
    ) -> Secondary {
        let names = upstreams.iter().map(ToString::to_string).collect();
        let config = FollowConfig {
            backoff_min: Duration::from_millis(20),
            backoff_max: Duration::from_millis(200),
            return_after: Duration::from_millis(100),
            ..FollowConfig::new(names, name, id)
        };
        let following = self.follow(name, config).await;
        let listener = if let Some(listen) = listen {
            let config = ListenConfig::new(listen, hop(id));
            let source = following.source();
            let listener = self.bind(name, &config, &source).await;
            following.set_descendants(listener.registry().summaries());
            Some(listener)
        } else {
            None
        };
        Secondary {
            following,
            listener,
        }
    }

    /// Follows from `name`'s directory with these settings.
    pub(crate) async fn follow(&self, name: &str, config: FollowConfig) -> FollowTask {
        let identity = self.identity(name);
        self.follow_as(name, identity, config).await
    }

    /// The same with this certificate.
    pub(crate) async fn follow_as(
        &self,
        name: &str,
        identity: Identity,
        config: FollowConfig,
    ) -> FollowTask {
        let store = self.store(name);
        let opening = store.clone();
        let existing = spawn_blocking(move || opening.open_existing()).await;
        let existing = existing.expect("runs").expect("opens");
        FollowTask::start(config, identity, store, existing)
    }
}

/// Segments of a few rows, and nothing kept that is in files.
fn tiny() -> Config {
    Config {
        segment_size: 2048,
        keep_segments: 0,
        upkeep_every: Duration::from_millis(10),
        ..Config::default()
    }
}

pub(crate) fn hop(name: &str) -> Hop {
    Hop {
        id: name.to_owned(),
        name: name.to_owned(),
    }
}

pub(crate) fn any() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

pub(crate) struct Primary {
    appender: Option<Appender>,
    committer: Committer,
    listener: Listener,
}

impl Primary {
    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.local_addr()
    }

    pub(crate) fn log(&self) -> Log {
        self.committer.log().clone()
    }

    pub(crate) fn registry(&self) -> Registry {
        self.listener.registry()
    }

    /// Rows with these numbers, on disk; where the log ends after them.
    pub(crate) async fn write(&mut self, numbers: std::ops::Range<i64>) -> Position {
        let mut appender = self.appender.take().expect("an appender");
        let written = spawn_blocking(move || {
            for number in numbers {
                let row = Row {
                    time: number,
                    tags: &[("topic", "plant/a")],
                    fields: &[(Cow::Borrowed("n"), Value::Int(number))],
                };
                let group = appender.append("plant", &[row]).expect("fits");
                appender.wait(group).expect("durable");
            }
            appender
        });
        self.appender = Some(written.await.expect("writes"));
        *self.log().durable().borrow()
    }

    /// Compacts, and lets go of every segment that is in files.
    pub(crate) async fn retire(&mut self) {
        let log = self.log();
        loop {
            compact(&log).await;
            if log.oldest().lsn > Lsn(0) {
                return;
            }
            // The order to retire is a block of its own, which the committer writes by the clock.
            let mut durable = log.durable();
            durable.borrow_and_update();
            let _ = timeout(Duration::from_millis(50), durable.changed()).await;
        }
    }

    pub(crate) async fn stop(self) {
        drop(self.appender);
        let committer = self.committer;
        spawn_blocking(move || committer.stop())
            .await
            .expect("runs")
            .expect("stops");
        self.listener.stop().await;
    }
}

pub(crate) async fn compact(log: &Log) {
    let log = log.clone();
    let done = spawn_blocking(move || compact_now(&log)).await;
    done.expect("runs").expect("compacts");
}

pub(crate) struct Secondary {
    pub(crate) following: FollowTask,
    pub(crate) listener: Option<Listener>,
}

impl Secondary {
    pub(crate) fn status(&self) -> Box<FollowStatus> {
        Box::new(self.following.status())
    }

    pub(crate) fn log(&self) -> Log {
        self.following.log().borrow().clone().expect("a log")
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.as_ref().expect("a relay").local_addr()
    }

    /// Waits until queries here see everything below `position`.
    pub(crate) async fn reaches(&self, position: Position) {
        eventually("the secondary gets there", || {
            let log = self.following.log().borrow().clone();
            let at = log.map(|log| log.end());
            if at.is_some_and(|at| at.lsn >= position.lsn) {
                Ok(())
            } else {
                Err((at, self.status()))
            }
        })
        .await;
        // What is compacted may be gone from the log.
        let chain = self.log().chain_at(position.lsn);
        assert!(chain.is_none_or(|chain| chain == position.chain));
    }

    pub(crate) async fn stop(self) {
        self.following.stop().await;
        if let Some(listener) = self.listener {
            listener.stop().await;
        }
    }
}

/// All numbers in a log, ascending.
pub(crate) fn numbers(log: &Log) -> Vec<i64> {
    use arrow::array::AsArray;
    use arrow::datatypes::Int64Type;
    let snapshot = log.snapshot();
    let schema = snapshot.catalog().table("plant").expect("the table");
    assert!(
        snapshot.damaged(schema.id).is_none(),
        "{:?}",
        snapshot.damaged(schema.id)
    );
    let n = schema.column("n").expect("n");
    let mut all: Vec<i64> = Vec::new();
    let wanted = wal::Wanted::default();
    for file in snapshot.files(schema.id) {
        let groups = file.row_groups(schema, &wanted).expect("groups");
        for batch in file
            .read(schema, &[n], &groups, &wanted, 1000)
            .expect("opens")
        {
            let batch = batch.expect("reads");
            all.extend_from_slice(batch.column(0).as_primitive::<Int64Type>().values());
        }
    }
    for block in snapshot.blocks(schema.id) {
        let batch = block.read(schema, &[n]).expect("reads");
        all.extend_from_slice(batch.column(0).as_primitive::<Int64Type>().values());
    }
    all.sort_unstable();
    all
}

/// Waits until `look` is content; what it last saw is in the panic.
pub(crate) async fn eventually<T: std::fmt::Debug>(what: &str, look: impl Fn() -> Result<(), T>) {
    let seen = async {
        while look().is_err() {
            sleep(Duration::from_millis(2)).await;
        }
    };
    if timeout(Duration::from_secs(30), seen).await.is_err() {
        panic!("{what}: {:?}", look());
    }
}

/// Everything in a directory, for a backup.
pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("lists") {
        let entry = entry.expect("an entry");
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            std::fs::copy(&from, &to).expect("copies");
        }
    }
}
