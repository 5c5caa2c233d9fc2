//! The room that a log leaves on its disk: everything that is written beside the log itself asks
//! here first, and what is short of room says so. It must never write, and never decide what is
//! given up for it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::watch;

use crate::disk::Disk;
use crate::error::{Operation, WalError};

/// How much of a disk is left alone, and who finds too little beside it.
#[derive(Debug)]
pub(crate) struct Room {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// Bytes that nothing but the log may take.
    reserve: AtomicU64,
    /// Bytes that the next merge takes before it gives any back.
    merge: AtomicU64,
    /// The log itself finds too little.
    low: AtomicBool,
    /// What waits for room besides the log, and why.
    waiting: watch::Sender<Option<String>>,
}

impl Room {
    pub(crate) fn new(disk: &Arc<dyn Disk>, dir: &Path) -> Self {
        Self {
            disk: Arc::clone(disk),
            dir: dir.to_owned(),
            reserve: AtomicU64::new(0),
            merge: AtomicU64::new(0),
            low: AtomicBool::new(false),
            waiting: watch::Sender::new(None),
        }
    }

    /// So much is left alone from now on.
    pub(crate) fn keep(&self, reserve: u64) {
        self.reserve.store(reserve, Ordering::Relaxed);
    }

    pub(crate) fn reserve(&self) -> u64 {
        self.reserve.load(Ordering::Relaxed)
    }

    /// Free bytes now; none where that cannot be told.
    pub(crate) fn free(&self) -> Option<u64> {
        self.disk.free(&self.dir).ok().flatten()
    }

    /// Whether `bytes` more may be written to `path`.
    ///
    /// # Errors
    /// One that says that the disk is full, where that would leave less than is to be left alone.
    pub(crate) fn check(&self, path: &Path, bytes: u64) -> Result<(), WalError> {
        let refused = self.refuse(bytes);
        refused.map_err(WalError::io(Operation::Write, path))
    }

    /// The same for who writes and speaks of no path.
    pub(crate) fn refuse(&self, bytes: u64) -> io::Result<()> {
        let reserve = self.reserve();
        if reserve == 0 {
            return Ok(());
        }
        refuse(self.free(), reserve, bytes)
    }

    /// What the next merge takes, 0: none is due.
    pub(crate) fn merges(&self, bytes: u64) {
        self.merge.store(bytes, Ordering::Relaxed);
    }

    /// What the log leaves free besides the reserve, so that compaction can go on, which makes
    /// room: the next segment's files, and a merge as far as the reserve is no smaller.
    pub(crate) fn beside(&self, segment: u64) -> u64 {
        let merge = self.merge.load(Ordering::Relaxed);
        segment.max(merge.min(self.reserve()))
    }

    pub(crate) fn set_low(&self, low: bool) {
        self.low.store(low, Ordering::Relaxed);
    }

    /// Whether what can be given up is to be given up.
    pub(crate) fn is_short(&self) -> bool {
        self.low.load(Ordering::Relaxed) || self.waiting.borrow().is_some()
    }

    /// Says what waits for room besides the log, or that nothing does any more.
    pub(crate) fn wait(&self, reason: Option<String>) {
        self.waiting.send_if_modified(|waiting| {
            // Free space changes all the time; only the fact is news.
            let news = waiting.is_some() != reason.is_some();
            *waiting = reason;
            news
        });
    }

    pub(crate) fn waiting(&self) -> watch::Receiver<Option<String>> {
        self.waiting.subscribe()
    }
}

/// An error that says that the disk is full, where `bytes` more would leave less than `reserve`.
pub(crate) fn refuse(free: Option<u64>, reserve: u64, bytes: u64) -> io::Result<()> {
    let Some(free) = free.filter(|free| *free < reserve.saturating_add(bytes)) else {
        return Ok(());
    };
    Err(io::Error::new(
        io::ErrorKind::StorageFull,
        format!(
            "{} KiB more are needed, {} MiB are free and log.reserve_disk keeps {} MiB of them: \
             make room there, or keep less",
            bytes.div_ceil(1 << 10),
            free >> 20,
            reserve >> 20
        ),
    ))
}

/// What the files of a table take at most besides its rows.
pub(crate) const FILE_OVERHEAD: u64 = 8 << 10;
/// What a file takes of the manifest, about.
pub(crate) const FILE_IN_MANIFEST: u64 = 200;
