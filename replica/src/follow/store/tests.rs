//! Bootstrapping, refreshing and diverging with real logs on a real disk, over a real connection.
//! They must never leave anything outside their own directory.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use wal::{Appender, Committer, Config, OsDisk, Row, Value};

use super::*;
use crate::files::fetch::{Giving, ask_manifest};
use crate::files::leases::Leases;
use crate::files::limit::Limits;
use crate::files::peers::Peers;
use crate::follow::bootstrap::Bootstrap;
use crate::follow::fill;
use crate::follow::state::FollowState;
use crate::status::Hop;
use crate::tests::loopback::{Pair, Shelf};
use crate::wire::common_point::{Search, find_common};

/// A primary with small segments.
struct Primary {
    _dir: TempDir,
    committer: Committer,
    appender: Appender,
    number: i64,
}

impl Primary {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("dir");
        let config = Config {
            segment_size: 4_000,
            upkeep_every: Duration::from_secs(3_600),
            ..Config::default()
        };
        let (committer, _) = wal::open_primary(OsDisk::new(), dir.path(), &config).expect("opens");
        Self {
            appender: committer.appender(Box::new(|_| ())),
            committer,
            _dir: dir,
            number: 0,
        }
    }

    fn log(&self) -> &Log {
        self.committer.log()
    }

    fn write(&mut self, rows: i64) {
        for _ in 0..rows {
            self.number += 1;
            let row = Row {
                time: self.number * 1_000_000_000,
                tags: &[("t", "a")],
                fields: &[(Cow::Borrowed("n"), Value::Int(self.number))],
            };
            let group = self.appender.append("one", &[row]).expect("fits");
            if self.number % 10 == 0 {
                self.appender.wait(group).expect("durable");
            }
        }
    }
}

fn store(dir: &TempDir) -> Store {
    let config = FollowerConfig::default();
    Store::new(OsDisk::new(), dir.path().to_owned(), config, |_, _, _| ())
}

/// Takes everything of `log` in, and waits until it is on the disk.
async fn follow(log: &Log, follower: &mut Follower) {
    let mut cursor = log.cursor(follower.tip()).expect("held");
    while let Some(chunk) = cursor.next(2_000).expect("reads") {
        let blocks: Bytes = chunk.parts.concat().into();
        follower.append(blocks).await.expect("continues");
    }
    let (mut durable, tip) = (follower.log().durable(), follower.tip());
    durable.wait_for(|at| *at == tip).await.expect("flushed");
}

/// A connection on which the far side gives this log's files.
struct Line {
    ours: Peers,
    pair: Pair,
}

impl Line {
    async fn to(log: &Log) -> Self {
        let (pair, ours) = (Pair::connect().await, Peers::new());
        let (link, near, log) = (pair.primary.clone(), pair.secondary.clone(), log.clone());
        let listed = ours.clone();
        tokio::spawn(async move {
            let (leases, none, theirs) = (Leases::new(), Shelf::lacking(&[]), Peers::new());
            let giving = Giving {
                files: &log,
                leases: Some((&leases, "me")),
                confirmed: None,
                limit: Limits::default().peer(),
            };
            let back = Giving::of(&none);
            tokio::join!(listed.attend(&near, &back), theirs.attend(&link, &giving),);
        });
        Self { ours, pair }
    }

    async fn manifest(&self, log: &Log) -> Bytes {
        let manifest = ask_manifest(&self.pair.secondary, log.id()).await;
        manifest.expect("a manifest")
    }

    /// Fills a staged log whose blocks are followed meanwhile.
    async fn fill(&self, staging: Staging, follower: &Follower) -> Staging {
        let staging = Arc::new(tokio::sync::Mutex::new(staging));
        let filled = fill::fill(
            Arc::clone(&staging),
            self.ours.clone(),
            follower.log().durable(),
            Arc::new(FollowState::new(None, Hop::default(), None)),
            CancellationToken::new(),
        );
        let filled = tokio::time::timeout(Duration::from_secs(30), filled).await;
        filled.expect("in time").expect("fills");
        Arc::into_inner(staging)
            .expect("nobody else has it")
            .into_inner()
    }
}

fn names(log: &Log) -> Vec<(String, u64)> {
    let mut files: Vec<(String, u64)> = log
        .snapshot()
        .file_infos()
        .into_iter()
        .map(|file| (file.name, file.hash))
        .collect();
    files.sort();
    files
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_a_log_joins_while_the_primary_goes_on() {
    let mut primary = Primary::new();
    primary.write(400);
    wal::compact_now(primary.log()).expect("compacts");

    let dir = tempfile::tempdir().expect("dir");
    let store = store(&dir);
    assert!(store.open_existing().expect("opens").is_none());
    assert!(store.staging().expect("reads").is_none());
    let line = Line::to(primary.log()).await;
    let manifest = line.manifest(primary.log()).await;
    drop(store.begin(&manifest, primary.log().id()).expect("begins"));

    // Another start of this node, and other files on the primary meanwhile.
    primary.write(400);
    wal::compact_now(primary.log()).expect("compacts");
    let staging = store.staging().expect("reads").expect("it was begun");
    let mut follower = store.open_staged(&staging).expect("opens");
    assert_eq!(follower.tip(), staging.compacted());
    follow(primary.log(), &mut follower).await;
    let staging = line.fill(staging, &follower).await;
    assert!(staging.is_complete());
    follower.stop().await.expect("stops");
    let kept = store.swap_in(staging, OldLog::Remove, None).expect("swaps");
    assert_eq!(kept, None);

    let follower = store.open_existing().expect("opens").expect("a log");
    let (mine, theirs) = (follower.log(), primary.log());
    assert_eq!(*mine.durable().borrow(), *theirs.durable().borrow());
    wal::compact_now(mine).expect("compacts");
    assert_eq!(names(mine), names(theirs));
    assert!(mine.damage().borrow().is_empty());
    follower.stop().await.expect("stops");
}

#[tokio::test]
async fn a_manifest_of_another_log_changes_nothing() {
    let (mut mine, other) = (Primary::new(), Primary::new());
    mine.write(100);
    wal::compact_now(mine.log()).expect("compacts");
    let dir = tempfile::tempdir().expect("dir");
    let store = store(&dir);
    let id = mine.log().id();
    drop(
        store
            .begin(mine.log().bundle().manifest(), id)
            .expect("begins"),
    );
    let refused = store.begin(other.log().bundle().manifest(), id);
    assert!(
        matches!(refused, Err(WalError::WrongLog { .. })),
        "{refused:?}"
    );
    let refused = store.begin(b"no manifest", id);
    assert!(
        matches!(refused, Err(WalError::Corrupt { .. })),
        "{refused:?}"
    );
    let staging = store.staging().expect("reads").expect("is still there");
    assert_eq!((staging.log(), staging.is_complete()), (id, false));
}

#[tokio::test]
async fn a_join_that_cannot_go_on_says_why_and_ends() {
    let mut primary = Primary::new();
    primary.write(100);
    wal::compact_now(primary.log()).expect("compacts");
    let dir = tempfile::tempdir().expect("dir");
    let store = store(&dir);
    let (line, tasks) = (Line::to(primary.log()).await, wal::Tasks::default());
    let state = Arc::new(FollowState::new(None, Hop::default(), None));
    let id = primary.log().id();
    let manifest = primary.log().bundle().manifest().clone();
    let staging = store.begin(&manifest, id).expect("begins");
    // Where a file is to be written something else is.
    let file = &staging.wanted()[0].name;
    let place = dir.path().join(format!("incoming/log-{id}/{file}.part"));
    std::fs::create_dir(&place).expect("makes");
    let bootstrapping = Bootstrap::start(staging, &store, &line.ours, &state, &tasks).await;
    let bootstrapping = bootstrapping.expect("starts");
    let mut broken = bootstrapping.completion().broken;
    let told = tokio::time::timeout(Duration::from_secs(30), broken.wait_for(Option::is_some));
    let reason = told.await.expect("in time").expect("lives").clone();
    assert!(reason.expect("a reason").contains(".part"), "which file");
    bootstrapping.close().await.expect("closes");
    // Whoever watches longer sees that it is over.
    assert!(broken.changed().await.is_err());
    std::fs::remove_dir(&place).expect("removes");

    let staging = store.staging().expect("reads").expect("is still there");
    let bootstrapping = Bootstrap::start(staging, &store, &line.ours, &state, &tasks).await;
    let bootstrapping = bootstrapping.expect("starts");
    let broken = bootstrapping.completion().broken;
    bootstrapping.close().await.expect("closes");
    assert_eq!(*broken.borrow(), None, "a node that stops is no failure");

    // However the task ends, who waits for it is told, and may begin anew.
    let staging = store.staging().expect("reads").expect("is still there");
    let bootstrapping = Bootstrap::start(staging, &store, &line.ours, &state, &tasks).await;
    let bootstrapping = bootstrapping.expect("starts");
    let mut broken = bootstrapping.completion().broken;
    tasks.fail("snapshot");
    let told = tokio::time::timeout(Duration::from_secs(30), broken.wait_for(Option::is_some));
    let reason = told.await.expect("in time").expect("lives").clone();
    assert!(reason.expect("a reason").contains("failed"), "it panicked");
    bootstrapping.close().await.expect("closes");
    assert!(tasks.ended().iter().any(|end| end.task == "snapshot"));
    let staging = store.staging().expect("reads").expect("is still there");
    let bootstrapping = Bootstrap::start(staging, &store, &line.ours, &state, &tasks).await;
    bootstrapping
        .expect("starts")
        .close()
        .await
        .expect("closes");
}

#[tokio::test]
async fn two_histories_part_where_the_search_says() {
    let mut primary = Primary::new();
    primary.write(50);
    let dirs = [0, 1].map(|_| tempfile::tempdir().expect("dir"));
    let store = store(&dirs[1]);
    let mut mine = store.open(primary.log().id(), Epoch(1)).expect("opens");
    follow(primary.log(), &mut mine).await;
    let common = mine.tip();
    primary.write(30);
    follow(primary.log(), &mut mine).await;

    // The primary is restored from a backup of its common part and goes on another way.
    let backup = wal::open_follower(
        OsDisk::new(),
        dirs[0].path(),
        primary.log().id(),
        Epoch(1),
        &FollowerConfig::default(),
    );
    let (mut backup, _) = backup.expect("opens");
    let mut cursor = primary.log().cursor(backup.tip()).expect("held");
    while backup.tip() != common {
        let chunk = cursor.next(0).expect("reads").expect("a block");
        let blocks: Bytes = chunk.parts.concat().into();
        backup.append(blocks).await.expect("continues");
    }
    backup.stop().await.expect("stops");
    let opened = wal::open_primary(OsDisk::new(), dirs[0].path(), &Config::default());
    let (committer, _) = opened.expect("opens");
    let mut restored = Primary {
        appender: committer.appender(Box::new(|_| ())),
        committer,
        _dir: tempfile::tempdir().expect("dir"),
        number: 1_000,
    };
    restored.write(40);

    let durable = *restored.log().durable().borrow();
    let mut search = Search::new(mine.log());
    while let Some(points) = search.probe() {
        let theirs = restored.log();
        search.answer(find_common(&points, durable, |lsn| theirs.chain_at(lsn)));
    }
    assert_eq!(search.common(), Some(common));

    let end = mine.tip();
    mine.stop().await.expect("stops");
    let diverged = store
        .save_diverged(primary.log().id(), common)
        .expect("puts it aside");
    assert_eq!((diverged.from, diverged.to), (common.into(), end.into()));
    assert_eq!(store.list_diverged().expect("reads").len(), 1);
    let mut mine = store.open_existing().expect("opens").expect("a log");
    assert_eq!(mine.tip(), common);
    follow(restored.log(), &mut mine).await;
    assert_eq!(mine.tip(), durable);
    mine.stop().await.expect("stops");
}
