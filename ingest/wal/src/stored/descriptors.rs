//! Files that are open for reading: a bounded number, those used last. What the process or the
//! machine runs out of for a moment is waited for, a little while. It must never keep a descriptor
//! beyond its bound.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};

use crate::disk::{ReadFile, is_exhausted};

/// Open files by the numbers of their own.
pub(crate) struct Descriptors {
    most: usize,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    files: HashMap<u64, (Arc<dyn ReadFile>, u64)>,
    uses: u64,
}

impl Descriptors {
    pub(crate) fn new() -> Self {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let most = (limit / SHARE).clamp(LEAST, MOST);
        Self {
            most: usize::try_from(most).unwrap_or(0),
            open: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The open file of this number, opened if it is not.
    pub(crate) fn get(
        &self,
        file: u64,
        open: impl Fn() -> io::Result<Arc<dyn ReadFile>>,
    ) -> io::Result<Arc<dyn ReadFile>> {
        if let Some(found) = self.lock().used(file) {
            return Ok(found);
        }
        let opened = self.persist(open)?;
        let mut held = self.lock();
        while held.files.len() >= self.most && held.close_one() {}
        held.uses += 1;
        let uses = held.uses;
        held.files.insert(file, (Arc::clone(&opened), uses));
        Ok(opened)
    }

    /// Closes the file of this number, if it is open.
    pub(crate) fn close(&self, file: u64) {
        self.lock().files.remove(&file);
    }

    /// Tries again for a while what finds that something has run out. What is open here and not in
    /// use is given up first.
    pub(crate) fn persist<T>(&self, attempt: impl Fn() -> io::Result<T>) -> io::Result<T> {
        let mut wait = FIRST_WAIT;
        loop {
            match attempt() {
                Err(error) if is_exhausted(&error) && wait <= LAST_WAIT => {
                    self.lock().files.clear();
                    thread::sleep(wait);
                    wait *= 2;
                }
                done => return done,
            }
        }
    }
}

impl Open {
    fn used(&mut self, file: u64) -> Option<Arc<dyn ReadFile>> {
        self.uses += 1;
        let (found, used) = self.files.get_mut(&file)?;
        *used = self.uses;
        Some(Arc::clone(found))
    }

    /// Closes the one that was not used for longest.
    fn close_one(&mut self) -> bool {
        let oldest = self.files.iter().min_by_key(|(_, (_, used))| *used);
        let Some(file) = oldest.map(|(file, _)| *file) else {
            return false;
        };
        self.files.remove(&file).is_some()
    }
}

impl fmt::Debug for Descriptors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Descriptors")
            .field("most", &self.most)
            .field("open", &self.lock().files.len())
            .finish_non_exhaustive()
    }
}

/// Of the descriptors that the process may have, what these may take, within bounds.
const SHARE: u64 = 16;
const LEAST: u64 = 8;
const MOST: u64 = 128;
/// How long is waited between two attempts, at first and at last: a quarter of a second in all.
const FIRST_WAIT: Duration = Duration::from_millis(1);
const LAST_WAIT: Duration = Duration::from_millis(128);
