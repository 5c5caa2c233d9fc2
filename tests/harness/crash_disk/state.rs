//! What is on such a disk: files with what of them is synced, names that are, and what a crash
//! makes of the rest. Must never change what was synced.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub(super) files: BTreeMap<PathBuf, FileState>,
    /// Synced names that were removed since the last directory sync.
    pub(super) removed: BTreeMap<PathBuf, FileState>,
    /// Directories removed since the last sync of the one around them.
    pub(super) removed_dirs: Vec<PathBuf>,
    /// Renames since the last sync of their directory, oldest first.
    pub(super) renamed: Vec<Rename>,
    pub(super) operations: u64,
    pub(super) stop_at: Option<u64>,
    pub(super) fail_sync_at: Option<u64>,
    pub(super) fail_write_at: Option<u64>,
    pub(super) syncs: u64,
    pub(super) writes: u64,
    /// Bytes that all files together may have.
    pub(super) capacity: Option<u64>,
    pub(super) stopped: bool,
    /// The number of the next new file.
    pub(super) next: u64,
    /// Of files without a name that somebody may have open still: what is in them.
    pub(super) nameless: BTreeMap<u64, Vec<u8>>,
    /// Which run of the machine this is.
    pub(super) run: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Rename {
    pub(super) from: PathBuf,
    pub(super) to: PathBuf,
    pub(super) moved: Moved,
}

#[derive(Clone, Debug)]
pub(super) enum Moved {
    File {
        /// Whether the old name would have survived a crash.
        from_synced: bool,
        replaced: Option<FileState>,
    },
    Dir,
}

/// What lies under `from`, moved to `to`; `None` when the path is not under it.
fn moved(path: &Path, from: &Path, to: &Path) -> Option<PathBuf> {
    let rest = path.strip_prefix(from).ok()?;
    Some(to.join(rest))
}

fn move_keys(files: &mut BTreeMap<PathBuf, FileState>, from: &Path, to: &Path) {
    let inside = |path: &&PathBuf| path.starts_with(from);
    let inside: Vec<PathBuf> = files.keys().filter(inside).cloned().collect();
    for path in inside {
        if let (Some(file), Some(new)) = (files.remove(&path), moved(&path, from, to)) {
            files.insert(new, file);
        }
    }
}

impl State {
    pub(super) fn holds_dir(&self, dir: &Path) -> bool {
        let mut paths = self.files.keys();
        paths.any(|path| path.starts_with(dir) && path != dir)
    }

    /// Gives a directory another name, in all that is known of what lies in it.
    pub(super) fn move_dir(&mut self, from: &Path, to: &Path) {
        move_keys(&mut self.files, from, to);
        move_keys(&mut self.removed, from, to);
        for dir in &mut self.removed_dirs {
            if let Some(new) = moved(dir, from, to) {
                *dir = new;
            }
        }
        for rename in &mut self.renamed {
            for path in [&mut rename.from, &mut rename.to] {
                if let Some(new) = moved(path, from, to) {
                    *path = new;
                }
            }
        }
    }

    /// Takes back a rename that the crash has undone.
    pub(super) fn undo(&mut self, rename: Rename) {
        let Moved::File {
            from_synced,
            replaced,
        } = rename.moved
        else {
            return self.move_dir(&rename.to, &rename.from);
        };
        if let Some(mut moved) = self.files.remove(&rename.to) {
            moved.name_synced = from_synced;
            self.files.insert(rename.from, moved);
        }
        if let Some(replaced) = replaced {
            self.files.insert(rename.to, replaced);
        }
    }

    /// A file loses its name: who has it open goes on reading.
    pub(super) fn lose(&mut self, file: &FileState) {
        self.nameless.insert(file.number, file.current.clone());
    }

    /// What is in the file of this number.
    pub(super) fn content(&self, path: &Path, number: u64) -> Option<&Vec<u8>> {
        let here = self.files.get(path).filter(|file| file.number == number);
        let elsewhere = || self.files.values().find(|file| file.number == number);
        let named = here.or_else(elsewhere).map(|file| &file.current);
        named.or_else(|| self.nameless.get(&number))
    }

    pub(super) fn used(&self) -> u64 {
        let files = self.files.values();
        files.map(|file| file.current.len() as u64).sum()
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct FileState {
    /// What it is, whatever its name.
    pub(super) number: u64,
    pub(super) name_synced: bool,
    pub(super) synced: Vec<u8>,
    pub(super) current: Vec<u8>,
    pub(super) unsynced: Vec<Change>,
}

#[derive(Clone, Debug)]
pub(super) enum Change {
    Write(usize, Vec<u8>),
    Truncate(usize),
}

impl Change {
    pub(super) fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Self::Write(at, bytes) => {
                let end = at + bytes.len();
                if to.len() < end {
                    to.resize(end, 0);
                }
                to[*at..end].copy_from_slice(bytes);
            }
            Self::Truncate(len) => to.resize(*len, 0),
        }
    }
}

pub(super) fn survive(file: &FileState, random: &mut fastrand::Rng) -> FileState {
    let mut content = file.synced.clone();
    for change in &file.unsynced {
        match change {
            Change::Truncate(_) if random.bool() => {}
            Change::Truncate(_) => change.apply(&mut content),
            Change::Write(at, bytes) => match random.u8(..3) {
                0 => {}
                1 => change.apply(&mut content),
                _ => {
                    for (sector, piece) in bytes.chunks(SECTOR).enumerate() {
                        if random.bool() {
                            Change::Write(at + sector * SECTOR, piece.to_vec()).apply(&mut content);
                        }
                    }
                }
            },
        }
    }
    FileState {
        number: file.number,
        name_synced: true,
        synced: content.clone(),
        current: content,
        unsynced: vec![],
    }
}

/// What one unsynced write may lose is decided in pieces of this size.
const SECTOR: usize = 64;
