//! The read side of an open log, shared by everyone who reads: snapshots, cursors, positions.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::watch;

use crate::format::block::{BLOCK_HEADER_LEN, BlockHeader};
use crate::format::catalog::Catalog;
use crate::read::cursor::Cursor;
use crate::damage::{DamageBoard, Damaged};
use crate::disk::Disk;
use crate::error::WalError;
use crate::parquet::{DataFile, FileSet};
use crate::read::file_history::{FilesMark, History};
use crate::ids::{Epoch, LogId, Lsn, Position};
use crate::read::segment_starts::Past;
use crate::read::replicas::Replicated;
use crate::read::sealed::Sealed;
use crate::read::snapshot::{Snapshot, Tail};

/// Read handle of a log: cheap to clone, never writes.
#[derive(Clone, Debug)]
pub struct Log {
    state: Arc<LogState>,
}

/// What the one writer publishes.
#[derive(Debug)]
pub(crate) struct LogState {
    id: LogId,
    epoch: Epoch,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    pub(crate) board: Arc<DamageBoard>,
    /// Changed by the writer, by compaction and by repair, each replacing only its own part.
    snapshot: Mutex<Arc<Snapshot>>,
    /// Held while files are exchanged, so that compaction and repair do not cross.
    pub(crate) exchange: Mutex<()>,
    /// The manifest on disk may be the next one or the last: no file is touched before a restart.
    pub(crate) files_in_doubt: AtomicBool,
    /// Another log takes the place of this one on the disk: nothing is written any more.
    pub(crate) dismissed: AtomicBool,
    /// Held for as long as a compactor lives.
    pub(crate) compacting: Mutex<()>,
    /// Files that a merge has replaced a while ago: a peer may still need one for its own merge.
    replaced: Mutex<VecDeque<Arc<DataFile>>>,
    /// Sets that a bundle may still hold.
    held: Mutex<Vec<Weak<FileSet>>>,
    /// Locked after `snapshot` where both are.
    pub(crate) history: Mutex<History>,
    pub(crate) past: Past,
    pub(crate) replicated: watch::Sender<Replicated>,
    durable: watch::Sender<Position>,
    failed: watch::Sender<Option<String>>,
    stalled: watch::Sender<Option<String>>,
    counters: Counters,
}

/// Replaced files that are kept at hand, and their bytes.
const REPLACED_FILES: usize = 64;
const REPLACED_BYTES: u64 = 256 << 20;

/// What opening a log leaves to begin with.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) snapshot: Snapshot,
    pub(crate) board: Arc<DamageBoard>,
    pub(crate) past: Past,
    pub(crate) torn_tails: u64,
}

/// What the writer shows after a commit.
#[derive(Debug)]
pub(crate) struct Committed {
    pub(crate) position: Position,
    pub(crate) committed_at: i64,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) tail: Arc<Tail>,
    pub(crate) tail_len: usize,
    pub(crate) tail_bytes: u64,
    /// A segment that has just been sealed.
    pub(crate) sealed: Option<Arc<Sealed>>,
}

#[derive(Debug, Default)]
struct Counters {
    groups: AtomicU64,
    blocks: AtomicU64,
    rows: AtomicU64,
    bytes: AtomicU64,
    syncs: AtomicU64,
    sync_nanos: AtomicU64,
    torn_tails: AtomicU64,
    cuts: AtomicU64,
    retired: AtomicU64,
}

/// What the log has written since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogStats {
    /// Group commits.
    pub groups: u64,
    pub blocks: u64,
    pub rows: u64,
    /// Block bytes, headers and padding included.
    pub bytes: u64,
    /// `fdatasync` calls that covered a group.
    pub syncs: u64,
    /// Time spent in them, nanoseconds.
    pub sync_nanos: u64,
    /// Unfinished writes that were cut when the log was opened.
    pub torn_tails: u64,
    /// Segments and Parquet files found damaged.
    pub damaged_segments: u64,
    pub damaged_files: u64,
    /// Damaged files that were replaced by whole ones.
    pub repaired: u64,
    /// Retention cuts written.
    pub cuts: u64,
    /// Segments deleted because their rows are in files.
    pub retired_segments: u64,
}

impl LogState {
    pub(crate) fn new(disk: Arc<dyn Disk>, dir: PathBuf, opened: Opened) -> Arc<Self> {
        let Opened {
            snapshot,
            board,
            past,
            torn_tails,
        } = opened;
        let counters = Counters::default();
        counters.torn_tails.store(torn_tails, Ordering::Relaxed);
        let mark = FilesMark::of(&snapshot.files, snapshot.log, snapshot.epoch);
        let history = History::new(mark, Arc::clone(&snapshot.files));
        Arc::new(Self {
            id: snapshot.log,
            epoch: snapshot.epoch,
            disk,
            dir,
            board,
            exchange: Mutex::new(()),
            files_in_doubt: AtomicBool::new(false),
            dismissed: AtomicBool::new(false),
            compacting: Mutex::default(),
            replaced: Mutex::default(),
            held: Mutex::default(),
            history: Mutex::new(history),
            past,
            replicated: watch::Sender::new(Replicated::default()),
            durable: watch::Sender::new(snapshot.position),
            failed: watch::Sender::new(None),
            stalled: watch::Sender::new(None),
            snapshot: Mutex::new(Arc::new(snapshot)),
            counters,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Arc<Snapshot>> {
        self.snapshot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.lock())
    }

    /// Shows other Parquet files from now on.
    pub(crate) fn set_files(&self, files: Arc<FileSet>) {
        // Before they are shown: whoever sees them finds their mark.
        self.note_files(&files);
        let mut held = self.lock();
        let snapshot = Snapshot {
            files,
            ..Snapshot::clone(&held)
        };
        *held = Arc::new(snapshot);
    }

    /// Keeps replaced files at hand, as long as they are few and small. They are deleted already;
    /// their mappings hold them.
    pub(crate) fn remember(&self, files: Vec<Arc<DataFile>>) {
        let mut held = self.replaced.lock().unwrap_or_else(PoisonError::into_inner);
        held.extend(files);
        let mut bytes: u64 = held.iter().map(|file| file.meta.bytes).sum();
        while held.len() > REPLACED_FILES || bytes > REPLACED_BYTES {
            let Some(oldest) = held.pop_front() else {
                return;
            };
            bytes -= oldest.meta.bytes;
        }
    }

    /// A file that has been replaced lately.
    pub(crate) fn remembered(&self, name: &str) -> Option<Arc<DataFile>> {
        let held = self.replaced.lock().unwrap_or_else(PoisonError::into_inner);
        held.iter().find(|file| file.meta.name() == name).cloned()
    }

    /// From now on a file of this set is found for as long as somebody has the set.
    pub(crate) fn hold(&self, set: &Arc<FileSet>) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|set| set.strong_count() > 0);
        if !held.iter().any(|known| known.as_ptr() == Arc::as_ptr(set)) {
            held.push(Arc::downgrade(set));
        }
    }

    /// A file of a set that is held.
    pub(crate) fn held(&self, name: &str) -> Option<Arc<DataFile>> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sets = held.iter().filter_map(Weak::upgrade);
        sets.find_map(|set| set.find(name).map(Arc::clone))
    }

    /// Shows other sealed segments from now on: what `change` makes of them.
    pub(crate) fn change_sealed<T>(&self, change: impl FnOnce(&mut Vec<Arc<Sealed>>) -> T) -> T {
        let mut held = self.lock();
        let mut snapshot = Snapshot::clone(&held);
        let result = change(Arc::make_mut(&mut snapshot.sealed));
        *held = Arc::new(snapshot);
        result
    }

    /// Whether this is the segment that readers see: it has not been repaired or retired meanwhile.
    pub(crate) fn shows(&self, segment: &Arc<Sealed>) -> bool {
        let snapshot = self.snapshot();
        let mut sealed = snapshot.sealed.iter();
        sealed.any(|held| Arc::ptr_eq(held, segment))
    }

    /// Says why nothing is committed at the moment, or that it is again. True when that is news.
    pub(crate) fn stall(&self, reason: Option<String>) -> bool {
        if reason.is_some() {
            self.clear_history();
        }
        self.stalled.send_if_modified(|stalled| {
            // Free space changes all the time; only the fact is news.
            let news = stalled.is_some() != reason.is_some();
            *stalled = reason;
            news
        })
    }

    pub(crate) fn is_stalled(&self) -> bool {
        self.stalled.borrow().is_some()
    }

    pub(crate) fn count_cut(&self) {
        self.counters.cuts.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_retired(&self, segments: usize) {
        let counter = &self.counters.retired;
        counter.fetch_add(segments as u64, Ordering::Relaxed);
    }

    /// Publishes what is now durable: the snapshot first, then its position.
    pub(crate) fn publish(&self, committed: Committed) {
        let position = committed.position;
        let mut held = self.lock();
        let mut sealed = Arc::clone(&held.sealed);
        if let Some(segment) = committed.sealed {
            Arc::make_mut(&mut sealed).push(segment);
        }
        *held = Arc::new(Snapshot {
            log: self.id,
            epoch: self.epoch,
            position,
            committed_at: committed.committed_at,
            catalog: committed.catalog,
            sealed,
            files: Arc::clone(&held.files),
            tail: committed.tail,
            tail_len: committed.tail_len,
            tail_bytes: committed.tail_bytes,
        });
        drop(held);
        self.durable.send_if_modified(|durable| {
            let moved = *durable != position;
            *durable = position;
            moved
        });
    }

    pub(crate) fn fail(&self, reason: &str) {
        self.failed.send_replace(Some(reason.to_owned()));
    }

    pub(crate) fn count_group(&self, blocks: usize, rows: u64, bytes: usize) {
        let counters = &self.counters;
        counters.groups.fetch_add(1, Ordering::Relaxed);
        counters.blocks.fetch_add(blocks as u64, Ordering::Relaxed);
        counters.rows.fetch_add(rows, Ordering::Relaxed);
        counters.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn count_sync(&self, took: Duration) {
        self.counters.syncs.fetch_add(1, Ordering::Relaxed);
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.counters.sync_nanos.fetch_add(nanos, Ordering::Relaxed);
    }
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
        self.state.dismissed.store(true, Ordering::Release);
        let compacting = self.state.compacting.lock();
        drop(compacting.unwrap_or_else(PoisonError::into_inner));
        let exchange = self.state.exchange.lock();
        drop(exchange.unwrap_or_else(PoisonError::into_inner));
    }

    /// Whether both are handles of the same open log.
    pub fn is(&self, other: &Self) -> bool {
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
        self.state.durable.subscribe()
    }

    /// Becomes the reason, once, when a write or fsync has failed.
    pub fn failed(&self) -> watch::Receiver<Option<String>> {
        self.state.failed.subscribe()
    }

    /// Why nothing is committed at the moment: the disk is too full. Heals by itself.
    pub fn stalled(&self) -> watch::Receiver<Option<String>> {
        self.state.stalled.subscribe()
    }

    /// What is known to be damaged here and not repaired yet.
    pub fn damage(&self) -> watch::Receiver<Vec<Damaged>> {
        self.state.board.watch()
    }

    /// Free bytes of the file system that holds the log; `None` where that cannot be told.
    pub fn disk_free(&self) -> Option<u64> {
        self.state.disk.free(&self.state.dir).ok().flatten()
    }

    pub(crate) fn state(&self) -> &Arc<LogState> {
        &self.state
    }

    /// Start of the oldest segment still held.
    pub fn oldest(&self) -> Position {
        let snapshot = self.snapshot();
        snapshot
            .sealed
            .first()
            .map_or(snapshot.tail.start, |segment| segment.start())
    }

    /// The chain value of a log that ends at `lsn`; `None` when that is no block boundary or not
    /// known here. Below [`Log::oldest`] only those are known where a segment began: no cursor
    /// starts there.
    pub fn chain_at(&self, lsn: Lsn) -> Option<u64> {
        // In this order: what is retired meanwhile is remembered before.
        let held = self.held_chain_at(lsn);
        held.or_else(|| self.state.past.chain_at(lsn))
    }

    /// Whether nothing that is missing here begins, ends or lies at `lsn`.
    pub fn is_whole_at(&self, lsn: Lsn) -> bool {
        let snapshot = self.snapshot();
        let holds = |segment: &&Arc<Sealed>| segment.start().lsn <= lsn && lsn <= segment.end.lsn;
        let damaged = snapshot.sealed.iter().filter(holds);
        damaged.filter(|segment| segment.fault.is_some()).count() == 0
    }

    /// The same of blocks that can be read.
    fn held_chain_at(&self, lsn: Lsn) -> Option<u64> {
        let snapshot = self.snapshot();
        if lsn == snapshot.position.lsn {
            return Some(snapshot.position.chain);
        }
        if lsn >= snapshot.tail.start.lsn {
            let blocks = snapshot.tail.run(lsn, snapshot.tail_len, 0)?;
            let header = BlockHeader::decode(&blocks.first()?.bytes).ok()?;
            return Some(header.prev);
        }
        let at = snapshot
            .sealed
            .partition_point(|segment| segment.end.lsn <= lsn);
        let segment = snapshot.sealed.get(at)?;
        let bytes = segment.block(&segment.entries[segment.block_at(lsn)?]);
        BlockHeader::decode(bytes.get(..BLOCK_HEADER_LEN)?)
            .ok()
            .map(|header| header.prev)
    }

    /// A reader of blocks from `from` on.
    ///
    /// # Errors
    /// `NotHeld` when the log has no block boundary with that chain value there.
    pub fn cursor(&self, from: Position) -> Result<Cursor, WalError> {
        if self.held_chain_at(from.lsn) != Some(from.chain) {
            return Err(WalError::NotHeld(from));
        }
        Ok(Cursor::new(self.clone(), from))
    }

    /// Counters since the log was opened.
    pub fn stats(&self) -> LogStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.state.counters;
        let (damaged_segments, damaged_files, repaired) = self.state.board.counts();
        LogStats {
            groups: read(&counters.groups),
            blocks: read(&counters.blocks),
            rows: read(&counters.rows),
            bytes: read(&counters.bytes),
            syncs: read(&counters.syncs),
            sync_nanos: read(&counters.sync_nanos),
            torn_tails: read(&counters.torn_tails),
            damaged_segments,
            damaged_files,
            repaired,
            cuts: read(&counters.cuts),
            retired_segments: read(&counters.retired),
        }
    }
}
