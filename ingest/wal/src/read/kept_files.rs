//! Parquet files that are not in force and still needed: replaced ones that a peer may ask for,
//! those of manifests that were handed out, those of earlier views. Bounded each; it must never be
//! relied on for rows, and is gone with the process.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::parquet::{DataFile, FileSet};
use crate::read::file_history::FileHistory;

/// A set that somebody has a bundle of; none once its room was needed.
#[derive(Debug)]
pub(crate) struct BundledSet(Mutex<Option<Arc<FileSet>>>);

/// Files that are kept at hand.
#[derive(Debug)]
pub(crate) struct KeptFiles {
    /// A merge has replaced them a while ago: a peer may still need one for its own merge.
    replaced: Mutex<VecDeque<Arc<DataFile>>>,
    /// Sets that a bundle may still hold.
    bundled: Mutex<Vec<Weak<BundledSet>>>,
    history: Mutex<FileHistory>,
}

impl KeptFiles {
    pub(crate) fn new(history: FileHistory) -> Self {
        Self {
            replaced: Mutex::default(),
            bundled: Mutex::default(),
            history: Mutex::new(history),
        }
    }

    /// The sets of files that were in force lately.
    pub(crate) fn history(&self) -> MutexGuard<'_, FileHistory> {
        lock(&self.history)
    }

    /// Keeps replaced files at hand, as long as they are few and small. They have no name in the
    /// log any more, and go from the disk with their last reader.
    pub(crate) fn keep_replaced(&self, files: Vec<Arc<DataFile>>) {
        let mut held = lock(&self.replaced);
        held.extend(files);
        let mut bytes: u64 = held.iter().map(|file| file.meta.bytes).sum();
        while held.len() > REPLACED_FILES || bytes > REPLACED_BYTES {
            let Some(oldest) = held.pop_front() else {
                return;
            };
            bytes -= oldest.meta.bytes;
        }
    }

    /// From now on a file of this set is found for as long as somebody has what this returns, or
    /// until the room is needed.
    pub(crate) fn keep_bundled(&self, set: &Arc<FileSet>) -> Arc<BundledSet> {
        let mut held = lock(&self.bundled);
        held.retain(|set| set.strong_count() > 0);
        let known = held.iter().filter_map(Weak::upgrade).find(|known| {
            let known = lock(&known.0);
            known.as_ref().is_some_and(|known| Arc::ptr_eq(known, set))
        });
        known.unwrap_or_else(|| {
            let new = Arc::new(BundledSet(Mutex::new(Some(Arc::clone(set)))));
            held.push(Arc::downgrade(&new));
            new
        })
    }

    /// Lets go of every file that is not in force; bytes of those that nobody else has.
    pub(crate) fn give_up(&self) -> u64 {
        let mut gone: Vec<Arc<DataFile>> = lock(&self.replaced).drain(..).collect();
        let bundled = lock(&self.bundled);
        let sets = bundled.iter().filter_map(Weak::upgrade);
        let mut sets: Vec<Arc<FileSet>> = sets.filter_map(|set| lock(&set.0).take()).collect();
        drop(bundled);
        sets.extend(self.history().clear());
        for set in sets.drain(..) {
            gone.extend(set.all().map(Arc::clone));
        }
        gone.sort_by_key(Arc::as_ptr);
        gone.dedup_by_key(|file| Arc::as_ptr(file));
        let unread = gone.iter().filter(|file| Arc::strong_count(file) == 1);
        unread.map(|file| file.meta.bytes).sum()
    }

    /// A file that has been replaced lately.
    pub(crate) fn replaced(&self, name: &str) -> Option<Arc<DataFile>> {
        lock(&self.replaced)
            .iter()
            .find(|file| file.meta.name() == name)
            .cloned()
    }

    /// A file of a set that somebody has a bundle of.
    pub(crate) fn bundled(&self, name: &str) -> Option<Arc<DataFile>> {
        lock(&self.bundled)
            .iter()
            .filter_map(Weak::upgrade)
            .find_map(|set| lock(&set.0).as_ref()?.find(name).map(Arc::clone))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Replaced files that are kept at hand, and their bytes.
const REPLACED_FILES: usize = 64;
const REPLACED_BYTES: u64 = 256 << 20;
