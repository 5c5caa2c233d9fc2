//! The Parquet files of a staged log: `parquet/<name>.part` while a file is on its way, its name
//! once it is whole, checked and durable. Owns that directory; knows nothing of the log. It must
//! never give a file its name before all of it is checked and durable.

use std::collections::{HashMap, HashSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::bytes::checksum;
use crate::disk::{Disk, DiskFile};
use crate::error::{Operation, WalError};
use crate::parquet::{CHUNK_LEN, FILES_DIR, FileMeta};
use crate::room;

/// A file that is not whole yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Relative to the log's directory, as [`Log::export`](crate::Log::export) takes it.
    pub name: String,
    /// The length it will have.
    pub bytes: u64,
    /// What is here of it: whole chunks.
    pub held: u64,
}

/// How far the files of a staged log have come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootstrapProgress {
    pub files: u64,
    pub files_held: u64,
    pub bytes: u64,
    pub bytes_held: u64,
}

/// How far what is found on the disk is believed.
#[derive(Debug)]
pub(super) enum Trust {
    /// A file under its final name was whole and durable when it got it.
    Names,
    /// So were those that were brought in for a manifest with these files. Of one that is another
    /// now every byte is compared.
    Checked(Vec<FileMeta>),
    /// It may have been brought in for another manifest: every byte is compared.
    Nothing,
}

/// The files that the manifest names.
#[derive(Debug)]
pub(super) struct Parts {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// By ordinal.
    files: Vec<Part>,
    /// Bytes that are left alone on the disk.
    reserve: u64,
    /// The one that was written to last.
    open: Option<(String, Box<dyn DiskFile>)>,
}

#[derive(Debug)]
struct Part {
    meta: FileMeta,
    held: u64,
    whole: bool,
}

impl Parts {
    /// These files, before anybody has looked what is here of them.
    pub(super) fn unseen(disk: &Arc<dyn Disk>, dir: &Path, metas: &[FileMeta]) -> Self {
        let part = |meta: &FileMeta| Part {
            meta: meta.clone(),
            held: 0,
            whole: false,
        };
        let mut files: Vec<Part> = metas.iter().map(part).collect();
        files.sort_by_key(|part| part.meta.ordinal);
        Self {
            disk: Arc::clone(disk),
            dir: dir.to_owned(),
            files,
            reserve: 0,
            open: None,
        }
    }

    pub(super) fn keep_free(&mut self, reserve: u64) {
        self.reserve = reserve;
    }

    pub(super) fn reserve(&self) -> u64 {
        self.reserve
    }

    /// Looks what is here of the files; what belongs to none of them goes, for good once this
    /// returns.
    pub(super) fn survey(&mut self, trust: &Trust) -> Result<(), WalError> {
        self.open = None;
        self.remove_others()?;
        let known: HashMap<u64, &FileMeta> = match trust {
            Trust::Checked(metas) => metas.iter().map(|meta| (meta.ordinal, meta)).collect(),
            Trust::Names | Trust::Nothing => HashMap::new(),
        };
        for at in 0..self.files.len() {
            let meta = &self.files[at].meta;
            let was_checked = known.get(&meta.ordinal).is_some_and(|known| *known == meta);
            let part = self.look(meta, matches!(trust, Trust::Names) || was_checked)?;
            self.files[at] = part;
        }
        self.sync()
    }

    /// Makes removals last. A manifest that comes after them trusts names: another file of the same
    /// name and length must not come back by a crash.
    fn sync(&self) -> Result<(), WalError> {
        let dir = self.dir.join(FILES_DIR);
        self.disk.sync_names(&dir)
    }

    /// Removes what is here under the name of one of these files and is another file, for good.
    pub(super) fn forget_others(&mut self, metas: &[FileMeta]) -> Result<(), WalError> {
        let by_name: HashMap<String, &FileMeta> =
            metas.iter().map(|meta| (meta.name(), meta)).collect();
        for at in 0..self.files.len() {
            let part = &self.files[at];
            let name = part.meta.name();
            let other = by_name.get(&name).is_some_and(|meta| **meta != part.meta);
            if other && part.whole {
                self.remove(&self.dir.join(name))?;
                let part = &mut self.files[at];
                (part.held, part.whole) = (0, false);
            }
        }
        self.sync()
    }

    fn remove_others(&self) -> Result<(), WalError> {
        let dir = self.dir.join(FILES_DIR);
        let named: HashSet<String> = self.files.iter().map(|part| part.meta.name()).collect();
        let names = self.disk.list_names(&dir)?;
        for name in names {
            let of = name.strip_suffix(PART).unwrap_or(&name);
            if !named.contains(&format!("{FILES_DIR}/{of}")) {
                self.remove(&dir.join(name))?;
            }
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> Result<(), WalError> {
        self.disk.remove_file(path)
    }

    /// What is here of one file. Under its final name it may have been checked before.
    fn look(&self, meta: &FileMeta, was_checked: bool) -> Result<Part, WalError> {
        let name = meta.name();
        let path = self.dir.join(&name);
        if let Some(len) = self.disk.size_if_there(&path)? {
            let is_right = || -> Result<bool, WalError> {
                Ok(was_checked || right_bytes(self.disk.as_ref(), &path, meta)? == meta.bytes)
            };
            if len == meta.bytes && is_right()? {
                let draft = self.dir.join(part_name(&name));
                self.disk.remove_if_there(&draft)?;
                return Ok(Part {
                    meta: meta.clone(),
                    held: meta.bytes,
                    whole: true,
                });
            }
            self.remove(&path)?;
        }
        let held = self.cut_back(meta)?;
        let whole = held == meta.bytes;
        if whole {
            let mut file = self.open_part(&name)?;
            self.finish(&name, file.as_mut())?;
        }
        Ok(Part {
            meta: meta.clone(),
            held,
            whole,
        })
    }

    /// Cuts a partly written file back to whole chunks that are right; how long it is then.
    fn cut_back(&self, meta: &FileMeta) -> Result<u64, WalError> {
        let name = meta.name();
        let path = self.dir.join(part_name(&name));
        let Some(len) = self.disk.size_if_there(&path)? else {
            return Ok(0);
        };
        let held = right_bytes(self.disk.as_ref(), &path, meta)?;
        if held < len {
            let mut file = self.open_part(&name)?;
            file.truncate(held)
                .map_err(WalError::io(Operation::Truncate, &path))?;
        }
        Ok(held)
    }

    fn open_part(&self, name: &str) -> Result<Box<dyn DiskFile>, WalError> {
        let path = self.dir.join(part_name(name));
        match self.disk.create(&path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => self.disk.open(&path),
            created => created,
        }
        .map_err(WalError::io(Operation::Create, &path))
    }

    /// Makes a whole file durable and gives it its name.
    fn finish(&self, name: &str, file: &mut dyn DiskFile) -> Result<(), WalError> {
        let (draft, path) = (self.dir.join(part_name(name)), self.dir.join(name));
        file.sync()
            .map_err(WalError::io(Operation::Fsync, &draft))?;
        self.disk.rename_to(&draft, &path)?;
        self.sync()
    }

    pub(super) fn write(&mut self, name: &str, at: u64, bytes: &[u8]) -> Result<(), WalError> {
        let corrupt = |offset, reason: String| WalError::corrupt(name, offset, reason);
        let ordinal = FileMeta::named(name).map_or(u64::MAX, |(_, ordinal)| ordinal);
        let place = |part: &Part| part.meta.ordinal;
        let found = self.files.binary_search_by_key(&ordinal, place).ok();
        let found = found.filter(|at| self.files[*at].meta.name() == name);
        let index = found.ok_or_else(|| corrupt(0, "is no file of this log".to_owned()))?;
        let part = &self.files[index];
        if part.whole || at != part.held {
            return Err(corrupt(at, format!("is held up to {}", part.held)));
        }
        if !fits(&part.meta, at, bytes) {
            return Err(corrupt(at, NOT_THESE.to_owned()));
        }
        if self.reserve > 0 {
            let free = self.disk.free(&self.dir).ok().flatten();
            let refused = room::refuse(free, self.reserve, bytes.len() as u64);
            refused.map_err(WalError::io(Operation::Write, &self.dir.join(name)))?;
        }
        let mut file = match self.open.take() {
            Some((open, file)) if open == name => file,
            _ => self.open_part(name)?,
        };
        let path = self.dir.join(part_name(name));
        file.write_at(at, bytes)
            .map_err(WalError::io(Operation::Write, &path))?;
        let end = at + bytes.len() as u64;
        if end < part.meta.bytes {
            self.files[index].held = end;
            self.open = Some((name.to_owned(), file));
            return Ok(());
        }
        let finished = self.finish(name, file.as_mut());
        let part = &mut self.files[index];
        part.whole = finished.is_ok();
        // After a failed fsync nobody knows what is on the disk: all of it is written again.
        part.held = if part.whole { end } else { 0 };
        finished
    }

    /// Lets go of the file that is being written.
    pub(super) fn close(&mut self) {
        self.open = None;
    }

    pub(super) fn wanted(&self) -> Vec<Missing> {
        let missing = self.files.iter().filter(|part| !part.whole);
        missing
            .map(|part| Missing {
                name: part.meta.name(),
                bytes: part.meta.bytes,
                held: part.held,
            })
            .collect()
    }

    pub(super) fn is_complete(&self) -> bool {
        self.files.iter().all(|part| part.whole)
    }

    pub(super) fn progress(&self) -> BootstrapProgress {
        let whole = self.files.iter().filter(|part| part.whole);
        BootstrapProgress {
            files: self.files.len() as u64,
            files_held: whole.count() as u64,
            bytes: self.files.iter().map(|part| part.meta.bytes).sum(),
            bytes_held: self.files.iter().map(|part| part.held).sum(),
        }
    }
}

fn part_name(name: &str) -> String {
    format!("{name}{PART}")
}

/// How many bytes from the start on are whole chunks of this file. Reads them.
fn right_bytes(disk: &dyn Disk, path: &Path, meta: &FileMeta) -> Result<u64, WalError> {
    let (mut held, mut hashes) = (0, meta.chunks.iter());
    disk.read_pieces(path, CHUNK_LEN, &mut |chunk| {
        let end = meta.bytes.min(held + CHUNK_LEN as u64);
        let chunk = usize::try_from(end - held)
            .ok()
            .and_then(|len| chunk.get(..len));
        let right = chunk.zip(hashes.next());
        let right = right.is_some_and(|(chunk, hash)| checksum(chunk) == *hash);
        if right {
            held = end;
        }
        right
    })?;
    Ok(held)
}

/// Whether these are whole chunks of the file from `at` on.
fn fits(meta: &FileMeta, at: u64, bytes: &[u8]) -> bool {
    let chunk = CHUNK_LEN as u64;
    let end = at.saturating_add(bytes.len() as u64);
    let whole = end == meta.bytes || end.is_multiple_of(chunk);
    if !whole || !at.is_multiple_of(chunk) || end > meta.bytes {
        return false;
    }
    let Ok(first) = usize::try_from(at / chunk) else {
        return false;
    };
    let hashes = bytes.chunks(CHUNK_LEN).map(checksum);
    let known = meta.chunks.iter().skip(first).copied();
    hashes.zip(known).all(|(found, known)| found == known)
}

const NOT_THESE: &str = "the bytes are not those that belong there";

const PART: &str = ".part";
