//! Parquet files that are not in force and still needed: replaced ones that a peer may ask for,
//! those of manifests that were handed out, those of earlier views. Bounded each; it must never be
//! relied on for rows, and is gone with the process.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::parquet::{DataFile, FileSet};
use crate::read::file_history::FileHistory;

/// Files that are kept at hand.
#[derive(Debug)]
pub(crate) struct KeptFiles {
    /// A merge has replaced them a while ago: a peer may still need one for its own merge.
    replaced: Mutex<VecDeque<Arc<DataFile>>>,
    /// Sets that a bundle may still hold.
    bundled: Mutex<Vec<Weak<FileSet>>>,
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

    /// Keeps replaced files at hand, as long as they are few and small. They are deleted already;
    /// their mappings hold them.
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

    /// From now on a file of this set is found for as long as somebody has the set.
    pub(crate) fn keep_bundled(&self, set: &Arc<FileSet>) {
        let mut held = lock(&self.bundled);
        held.retain(|set| set.strong_count() > 0);
        if !held.iter().any(|known| known.as_ptr() == Arc::as_ptr(set)) {
            held.push(Arc::downgrade(set));
        }
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
            .find_map(|set| set.find(name).map(Arc::clone))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Replaced files that are kept at hand, and their bytes.
const REPLACED_FILES: usize = 64;
const REPLACED_BYTES: u64 = 256 << 20;
