//! A disk in memory that stops at a chosen operation and then shows what a real one might have
//! kept: synced bytes always, unsynced ones whole, torn or not at all. Must never lose what was
//! synced.

mod state;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use wal::{Disk, DiskFile, ReadFile};

use state::{Change, FileState, Moved, Rename, State, survive};

/// A disk in memory.
#[derive(Clone, Debug, Default)]
pub struct CrashDisk {
    state: Arc<Mutex<State>>,
}

impl CrashDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// Operation `number` and all later ones fail; what that one had begun is unsynced.
    pub fn stop_at(&self, number: u64) {
        self.lock().stop_at = Some(number);
    }

    /// Only the fsync with this number fails.
    pub fn fail_sync_at(&self, number: u64) {
        self.lock().fail_sync_at = Some(number);
    }

    /// Only the write with this number fails, with an I/O error.
    pub fn fail_write_at(&self, number: u64) {
        self.lock().fail_write_at = Some(number);
    }

    /// Files may take this many bytes together; a write beyond finds no room. `None`: no limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.lock().capacity = bytes;
    }

    /// Bytes of all files.
    pub fn used(&self) -> u64 {
        self.lock().used()
    }

    /// Writes so far.
    pub fn writes(&self) -> u64 {
        self.lock().writes
    }

    /// Fsyncs of files so far.
    pub fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    /// Operations that change something, so far.
    pub fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// What is on the disk when the machine starts again.
    pub fn after_crash(&self, random: &mut fastrand::Rng) -> Self {
        let mut state = self.lock().clone();
        while let Some(rename) = state.renamed.pop() {
            if !random.bool() {
                state.undo(rename);
            }
        }
        let mut files = BTreeMap::new();
        for (path, file) in &state.files {
            if file.name_synced || random.bool() {
                files.insert(path.clone(), survive(file, random));
            }
        }
        for (path, file) in &state.removed {
            if random.bool() {
                files
                    .entry(path.clone())
                    .or_insert_with(|| survive(file, random));
            }
        }
        let state = State {
            files,
            next: state.next,
            run: random.u64(..),
            ..State::default()
        };
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// An independent copy.
    pub fn copy(&self) -> Self {
        let mut state = self.lock().clone();
        (state.operations, state.stop_at, state.stopped) = (0, None, false);
        state.run = state.run.wrapping_add(1);
        state.fail_sync_at = None;
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// Paths and contents, sorted by path.
    pub fn contents(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let state = self.lock();
        let mut all: Vec<_> = state
            .files
            .iter()
            .map(|(path, file)| (path.clone(), file.current.clone()))
            .collect();
        all.sort();
        all
    }

    /// Changes one file behind the log's back.
    pub fn damage(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.lock();
        let file = state.files.get_mut(path).expect("the file is there");
        change(&mut file.current);
        file.synced = file.current.clone();
        file.unsynced.clear();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn step<T>(&self, act: impl FnOnce(&mut State, bool) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.lock();
        if state.stopped {
            return Err(io::Error::other("the disk has stopped"));
        }
        let last = state.stop_at == Some(state.operations);
        state.operations += 1;
        let result = act(&mut state, last);
        if last {
            state.stopped = true;
            return Err(io::Error::other("the disk stopped here"));
        }
        result
    }
}

fn missing() -> io::Error {
    io::Error::from(io::ErrorKind::NotFound)
}

impl Disk for CrashDisk {
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.lock();
        let mut names: Vec<String> = Vec::new();
        for path in state.files.keys() {
            if let Ok(rest) = path.strip_prefix(dir)
                && let Some(first) = rest.components().next()
            {
                names.push(first.as_os_str().to_string_lossy().into_owned());
            }
        }
        names.sort();
        names.dedup();
        Ok(names)
    }

    fn create_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.step(|state, last| {
            if state.files.contains_key(path) {
                return Err(io::Error::from(io::ErrorKind::AlreadyExists));
            }
            if !last {
                state.next += 1;
                let new = FileState {
                    number: state.next,
                    ..FileState::default()
                };
                state.files.insert(path.to_owned(), new);
            }
            Ok(())
        })?;
        Ok(Box::new(CrashFile {
            disk: self.clone(),
            path: path.to_owned(),
        }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.lock()
            .files
            .contains_key(path)
            .then_some(())
            .ok_or_else(missing)?;
        Ok(Box::new(CrashFile {
            disk: self.clone(),
            path: path.to_owned(),
        }))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.step(|state, _| {
            let file = state.files.remove(path).ok_or_else(missing)?;
            state.lose(&file);
            if file.name_synced {
                state.removed.insert(path.to_owned(), file);
            }
            Ok(())
        })
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.step(|state, _| {
            let inside = |path: &&PathBuf| path.starts_with(dir);
            let gone: Vec<PathBuf> = state.files.keys().filter(inside).cloned().collect();
            for path in gone {
                if let Some(file) = state.files.remove(&path) {
                    state.lose(&file);
                    if file.name_synced {
                        state.removed.insert(path, file);
                    }
                }
            }
            state.removed_dirs.push(dir.to_owned());
            Ok(())
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step(|state, last| {
            if !state.files.contains_key(from) && state.holds_dir(from) {
                if state.holds_dir(to) {
                    return Err(io::Error::from(io::ErrorKind::DirectoryNotEmpty));
                }
                if !last {
                    state.move_dir(from, to);
                    state.renamed.push(Rename {
                        from: from.to_owned(),
                        to: to.to_owned(),
                        moved: Moved::Dir,
                    });
                }
                return Ok(());
            }
            if last {
                return Ok(());
            }
            let mut moved = state.files.remove(from).ok_or_else(missing)?;
            let from_synced = std::mem::replace(&mut moved.name_synced, true);
            let replaced = state.files.insert(to.to_owned(), moved);
            if let Some(replaced) = &replaced {
                state.lose(replaced);
            }
            state.renamed.push(Rename {
                from: from.to_owned(),
                to: to.to_owned(),
                moved: Moved::File {
                    from_synced,
                    replaced,
                },
            });
            Ok(())
        })
    }

    fn free(&self, _path: &Path) -> io::Result<Option<u64>> {
        let state = self.lock();
        Ok(state
            .capacity
            .map(|capacity| capacity.saturating_sub(state.used())))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.step(|state, last| {
            if !last {
                let inside = |path: &PathBuf| path.parent() == Some(dir);
                state.renamed.retain(|rename| !inside(&rename.to));
                let (durable, open): (Vec<PathBuf>, Vec<PathBuf>) =
                    state.removed_dirs.drain(..).partition(inside);
                state.removed_dirs = open;
                let gone = |path: &PathBuf| durable.iter().any(|dir| path.starts_with(dir));
                state.removed.retain(|path, _| !inside(path) && !gone(path));
                for (_, file) in state.files.iter_mut().filter(|(path, _)| inside(path)) {
                    file.name_synced = true;
                }
            }
            Ok(())
        })
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn ReadFile>> {
        let number = self.lock().files.get(path).map(|file| file.number);
        Ok(Arc::new(CrashReadFile {
            disk: self.clone(),
            path: path.to_owned(),
            number: number.ok_or_else(missing)?,
        }))
    }

    fn run(&self) -> u64 {
        self.lock().run
    }

    fn read(&self, path: &Path) -> io::Result<Bytes> {
        let state = self.lock();
        let file = state.files.get(path).ok_or_else(missing)?;
        Ok(Bytes::from(file.current.clone()))
    }
}

/// A file open for reading: the one it was, whatever became of its name.
#[derive(Debug)]
struct CrashReadFile {
    disk: CrashDisk,
    path: PathBuf,
    number: u64,
}

impl ReadFile for CrashReadFile {
    fn read_at(&self, offset: u64, len: usize, into: &mut Vec<u8>) -> io::Result<usize> {
        let state = self.disk.lock();
        let content = state.content(&self.path, self.number).ok_or_else(missing)?;
        let from = usize::try_from(offset).expect("small").min(content.len());
        let to = from.saturating_add(len).min(content.len());
        into.extend_from_slice(&content[from..to]);
        Ok(to - from)
    }

    fn size(&self) -> io::Result<u64> {
        let state = self.disk.lock();
        let content = state.content(&self.path, self.number).ok_or_else(missing)?;
        Ok(content.len() as u64)
    }
}

#[derive(Debug)]
struct CrashFile {
    disk: CrashDisk,
    path: PathBuf,
}

impl CrashFile {
    fn change(&self, change: Change) -> io::Result<()> {
        self.disk.step(|state, _| {
            let file = state.files.get_mut(&self.path).ok_or_else(missing)?;
            change.apply(&mut file.current);
            file.unsynced.push(change);
            Ok(())
        })
    }
}

impl DiskFile for CrashFile {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.disk.lock();
        let number = state.writes;
        state.writes += 1;
        if state.fail_write_at == Some(number) {
            return Err(io::Error::other("this write fails"));
        }
        let end = offset + bytes.len() as u64;
        let held = state
            .files
            .get(&self.path)
            .map_or(0, |file| file.current.len() as u64);
        let grown = state.used() + end.saturating_sub(held);
        if let Some(capacity) = state.capacity.filter(|capacity| grown > *capacity) {
            // A short write, as file systems do it: what fits is there.
            let fits = bytes
                .len()
                .saturating_sub(usize::try_from(grown - capacity).expect("small"));
            drop(state);
            self.change(Change::Write(
                usize::try_from(offset).expect("small"),
                bytes[..fits].to_vec(),
            ))?;
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        drop(state);
        self.change(Change::Write(
            usize::try_from(offset).expect("small"),
            bytes.to_vec(),
        ))
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.change(Change::Truncate(usize::try_from(len).expect("small")))
    }

    fn sync(&mut self) -> io::Result<()> {
        self.disk.step(|state, last| {
            state.syncs += 1;
            let fails = state.fail_sync_at == Some(state.syncs - 1);
            let file = state.files.get_mut(&self.path).ok_or_else(missing)?;
            if fails {
                // As operating systems do it: what was not written counts as written from now on,
                // is read until the machine stops, and is not on the disk then.
                file.unsynced.clear();
                return Err(io::Error::other("this fsync fails"));
            }
            if !last {
                for change in std::mem::take(&mut file.unsynced) {
                    change.apply(&mut file.synced);
                }
            }
            Ok(())
        })
    }
}
