//! The read side of an open log, shared by everyone who reads: snapshots, positions, word of
//! failures. It must never write to the log.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;

use crate::damage::{DamageList, Damaged};
use crate::disk::{Disk, FileIdentity};
use crate::error::WalError;
use crate::ids::{Boundary, Chain, Epoch, LogId, Lsn, Position};
use crate::parquet::FileSet;
use crate::read::counters::{Counters, LogStats};
use crate::read::file_history::{FileHistory, FilesMark};
use crate::read::fingerprints::Fingerprints;
use crate::read::kept_files::KeptFiles;
use crate::read::maintenance::Maintenance;
use crate::read::published::Published;
use crate::read::replicas::Replicated;
use crate::read::sealed::Sealed;
use crate::read::segment_starts::SegmentStarts;
use crate::read::snapshot::Snapshot;
use crate::read::waiting_cuts::{WaitingCut, WaitingCuts};
use crate::room::Room;
use crate::stored::Home;

/// Read handle of a log: cheap to clone, never writes.
#[derive(Clone, Debug)]
pub struct Log {
    state: Arc<LogState>,
}

/// What opening a log leaves to begin with.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) snapshot: Snapshot,
    pub(crate) position: Position,
    pub(crate) damage: Arc<DamageList>,
    pub(crate) starts: SegmentStarts,
    pub(crate) torn_tails: u64,
}

/// All that the parts of an open log share.
#[derive(Debug)]
pub(crate) struct LogState {
    id: LogId,
    epoch: Epoch,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    /// What is left alone of its disk.
    pub(crate) room: Room,
    /// Where its files are read.
    pub(crate) home: Arc<Home>,
    /// What the directory was when the log was opened.
    pub(crate) dir_identity: Option<FileIdentity>,
    pub(crate) damage: Arc<DamageList>,
    pub(crate) published: Published,
    pub(crate) kept: KeptFiles,
    pub(crate) starts: SegmentStarts,
    pub(crate) fingerprints: Fingerprints,
    pub(crate) maintenance: Maintenance,
    pub(crate) waiting_cuts: WaitingCuts,
    pub(crate) counters: Counters,
}

impl Log {
    pub(crate) fn new(state: Arc<LogState>) -> Self {
        Self { state }
    }

    pub fn id(&self) -> LogId {
        self.state.id
    }

    /// Ends compaction and repairs for good, so that another log can take the place of this one on
    /// the disk; what is open can still be read. Blocks until nothing is written any more.
    pub fn dismiss(&self) {
        self.state.maintenance.dismiss();
        // Where the log is cut, these are cut or go.
        let snapshot = self.snapshot();
        if let Some(file) = &snapshot.tail.file {
            file.pin();
        }
        let newest = snapshot.sealed.iter().rev().take(PINNED);
        newest.for_each(|segment| segment.pin());
    }

    /// Gives up the room of files that are not in force and are kept for others: reads at earlier
    /// LSNs, nodes that compare theirs, nodes that are being brought in; and of those that running
    /// queries still read, if `also_read`: they fail then. Bytes that are given up, about.
    pub fn give_up_kept(&self, also_read: bool) -> u64 {
        let bytes = self.state.kept.give_up();
        if also_read {
            return bytes.saturating_add(self.state.home.give_up_kept());
        }
        bytes
    }

    /// Whether both are handles of the same open log.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.state, &other.state)
    }

    pub fn epoch(&self) -> Epoch {
        self.state.epoch
    }

    /// The view at the durable position.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.state.snapshot()
    }

    /// The durable position; changes after the snapshot that holds it is there to be taken.
    pub fn durable(&self) -> watch::Receiver<Position> {
        self.state.published.durable.subscribe()
    }

    /// Becomes the reason, once, when a write or fsync has failed.
    pub fn failed(&self) -> watch::Receiver<Option<String>> {
        self.state.published.failed.subscribe()
    }

    /// Waits until a write or fsync has failed; says why. Pending for ever where the log is closed
    /// in order: whoever closes it tells of that.
    pub async fn until_failed(&self) -> String {
        let mut failed = self.failed();
        let reason = failed
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|reason| reason.clone());
        match reason {
            Some(reason) => reason,
            None => std::future::pending().await,
        }
    }

    /// Why nothing is committed at the moment: the disk is too full. Heals by itself.
    pub fn stalled(&self) -> watch::Receiver<Option<String>> {
        self.state.published.stalled.subscribe()
    }

    /// What waits for room on the disk besides the log, such as compaction, and why. Heals by
    /// itself.
    pub fn waiting_for_room(&self) -> watch::Receiver<Option<String>> {
        self.state.room.waiting()
    }

    /// What is known to be damaged here and not repaired yet.
    pub fn damage(&self) -> watch::Receiver<Vec<Damaged>> {
        self.state.damage.watch()
    }

    /// Cuts by retention that wait, on a primary: they would remove rows out of turn.
    pub fn waiting_cuts(&self) -> watch::Receiver<Vec<WaitingCut>> {
        self.state.waiting_cuts.watch()
    }

    /// Says that the cut of a table is right, which waits: it is made at once. False: none waits.
    pub fn approve_cut(&self, table: &str) -> bool {
        self.state.waiting_cuts.approve(table)
    }

    /// Free bytes of the file system that holds the log; `None` where that cannot be told.
    pub fn disk_free(&self) -> Option<u64> {
        self.state.disk.free(&self.state.dir).ok().flatten()
    }

    pub(crate) fn state(&self) -> &Arc<LogState> {
        &self.state
    }

    /// The durable position.
    pub fn end(&self) -> Position {
        *self.state.published.durable.borrow()
    }

    /// Start of the oldest segment still held.
    pub fn oldest(&self) -> Boundary {
        self.snapshot().oldest()
    }

    /// The chain value of a log that ends at `lsn`; `None` when that is no block boundary or not
    /// known here. Below [`Log::oldest`] only those are known where a segment began: no cursor
    /// starts there.
    pub fn chain_at(&self, lsn: Lsn) -> Option<Chain> {
        // In this order: what is retired meanwhile is remembered before.
        let held = self.held_chain_at(lsn);
        held.or_else(|| self.state.starts.chain_at(lsn))
    }

    /// Whether nothing that is missing here begins, ends or lies at `lsn`.
    pub fn is_whole_at(&self, lsn: Lsn) -> bool {
        let snapshot = self.snapshot();
        let holds = |segment: &&Arc<Sealed>| segment.start().lsn <= lsn && lsn <= segment.end.lsn;
        let damaged = snapshot.sealed.iter().filter(holds);
        damaged.filter(|segment| segment.fault.is_some()).count() == 0
    }

    /// The same of blocks that can be read.
    pub(crate) fn held_chain_at(&self, lsn: Lsn) -> Option<Chain> {
        let snapshot = self.snapshot();
        if lsn == snapshot.end.lsn {
            return snapshot.end.chain;
        }
        if lsn >= snapshot.tail.start.lsn {
            let blocks = snapshot.tail.run(lsn, snapshot.tail_len, 0)?;
            let header = snapshot.tail.header(blocks.first()?).ok()?;
            return Some(header.prev);
        }
        let at = snapshot
            .sealed
            .partition_point(|segment| segment.end.lsn <= lsn);
        let segment = snapshot.sealed.get(at)?;
        let entry = &segment.entries[segment.block_at(lsn)?];
        segment.block_header(entry).ok().map(|header| header.prev)
    }

    /// Counters since the log was opened.
    pub fn stats(&self) -> LogStats {
        self.state.counters.stats(&self.state.damage)
    }

    /// What secondaries have made durable.
    pub fn replicated(&self) -> watch::Receiver<Replicated> {
        self.state.published.replicated.subscribe()
    }

    /// Says what secondaries have made durable. Wakes readers only when that is news.
    pub fn set_replicated(&self, replicated: Replicated) {
        self.state.published.replicated.send_if_modified(|held| {
            let news = *held != replicated;
            *held = replicated;
            news
        });
    }
}

impl LogState {
    pub(crate) fn new(home: &Arc<Home>, dir: PathBuf, opened: Opened) -> Arc<Self> {
        let disk = Arc::clone(home.disk());
        let snapshot = opened.snapshot;
        let mark = FilesMark::of(&snapshot.files, snapshot.log, snapshot.epoch);
        let history = FileHistory::new(mark, Arc::clone(&snapshot.files));
        Arc::new(Self {
            id: snapshot.log,
            epoch: snapshot.epoch,
            dir_identity: disk.identity(&dir).ok().flatten(),
            fingerprints: Fingerprints::load(disk.as_ref(), &dir, snapshot.log),
            room: Room::new(&disk, &dir),
            disk,
            dir,
            home: Arc::clone(home),
            damage: opened.damage,
            published: Published::new(snapshot, opened.position),
            kept: KeptFiles::new(history),
            starts: opened.starts,
            maintenance: Maintenance::default(),
            waiting_cuts: WaitingCuts::default(),
            counters: Counters::new(opened.torn_tails),
        })
    }

    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.published.snapshot()
    }

    /// Shows other Parquet files from now on.
    pub(crate) fn set_files(&self, files: Arc<FileSet>) {
        // Before they are shown: whoever sees them finds their mark.
        let mark = FilesMark::of(&files, self.id, self.epoch);
        self.kept
            .history()
            .push(mark, Arc::clone(&files), Instant::now());
        self.published.set_files(files);
    }

    /// Whether `bytes` more may be written to `path` beside the log; what is kept for others is
    /// given up for it.
    ///
    /// # Errors
    /// One that says that the disk is full.
    pub(crate) fn make_room(&self, path: &Path, bytes: u64) -> Result<(), WalError> {
        if self.room.check(path, bytes).is_ok() {
            return Ok(());
        }
        self.kept.give_up();
        if self.room.check(path, bytes).is_err() {
            self.home.give_up_kept();
        }
        self.room.check(path, bytes)
    }

    /// Whether the disk has too little room for the log, which says so; gives up what is kept for
    /// others then.
    pub(crate) fn low(&self, reason: Option<String>) {
        self.room.set_low(reason.is_some());
        if reason.is_some() {
            self.kept.give_up();
            self.home.give_up_kept();
        }
        self.stall(reason);
    }

    /// Says why nothing is committed at the moment, or that it is again. True when that is news.
    pub(crate) fn stall(&self, reason: Option<String>) -> bool {
        if reason.is_some() {
            // The room of files that are not in force is needed.
            self.kept.give_up();
        }
        self.published.stall(reason)
    }
}

/// Segments that are kept open when a log is about to be cut.
const PINNED: usize = 32;
