//! Opens or creates a log's directory: loads sealed segments, recovers the active one, starts the
//! writer's thread. What was cut is reported in `Recovery`, never silent.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::write::writer::{Active, Writer};
use crate::format::block::BlockHeader;
use crate::format::body::BodyWriter;
use crate::format::catalog::Catalog;
use crate::clock::unix_nanos;
use crate::write::committer::Committer;
use crate::compact::remove_unnamed;
use crate::config::{Config, FollowerConfig};
use crate::damage::DamageBoard;
use crate::disk::Disk;
use crate::error::WalError;
use crate::parquet::manifest::{MANIFEST, MANIFEST_NEW, Manifest};
use crate::parquet::{FILES_DIR, FileSet};
use crate::write::follower::Follower;
use crate::write::group::GroupBuilder;
use crate::ids::{Epoch, LogId, Lsn, Position};
use crate::replace::staging::settle;
use crate::paths::{find_log, log_dir, segment_name, segments};
use crate::read::log::{LogState, Opened};
use crate::read::segment_starts::{PAST_NEW, Past};
use crate::open::recovery::{OnDamage, Recovery, Scanned, TornTail, holds_blocks, scan_active};
use crate::integrity::repair::FETCHED_NEW;
use crate::read::sealed::Sealed;
use crate::format::segment::{SegmentFooter, SegmentHeader};
use crate::read::snapshot::{Snapshot, Tail};

/// The epoch of a log that has seen no promotion.
const FIRST_EPOCH: Epoch = Epoch(1);

/// Opens the log in `data_dir` for a primary, or begins one. What is damaged is left as a hole and
/// reported; only what cannot be understood at all is refused.
///
/// # Errors
/// `NewerFormat` when a newer version has written the files, `Io` when they cannot be read or made.
pub fn open_primary(
    disk: Arc<dyn Disk>,
    data_dir: &Path,
    config: &Config,
) -> Result<(Committer, Recovery), WalError> {
    settle(&disk, data_dir)?;
    let id = find_log(disk.as_ref(), data_dir)?.unwrap_or_else(LogId::random);
    let (mut writer, state, recovery) = open(disk, data_dir, id, FIRST_EPOCH, Opens::PRIMARY)?;
    if writer.active.has_hole {
        close_damaged(&mut writer, &state)?;
    }
    Ok((Committer::start(writer, state, config)?, recovery))
}

/// Seals a segment with a hole at once: only whole segments can be fetched from a secondary.
fn close_damaged(writer: &mut Writer, state: &LogState) -> Result<(), WalError> {
    let mut body = BodyWriter::default();
    let mut group = GroupBuilder::new(&mut body, writer.tip, unix_nanos());
    group.seal();
    writer.commit(state, &[group.finish()])?;
    let sealed = writer.rotate()?;
    state.publish(writer.committed(Some(sealed)));
    Ok(())
}

/// Opens a secondary's copy of log `id`, or begins one.
///
/// # Errors
/// `WrongLog` when the directory holds another log, and as `open_primary`.
pub fn open_follower(
    disk: Arc<dyn Disk>,
    data_dir: &Path,
    id: LogId,
    epoch: Epoch,
    config: &FollowerConfig,
) -> Result<(Follower, Recovery), WalError> {
    // Or a new log would be begun in the place of one that is being put in force.
    settle(&disk, data_dir)?;
    if let Some(found) = find_log(disk.as_ref(), data_dir)?
        && found != id
    {
        return Err(WalError::foreign(data_dir, id, found));
    }
    let (writer, state, recovery) = open(disk, data_dir, id, epoch, Opens::SECONDARY)?;
    Ok((Follower::start(writer, state, config)?, recovery))
}

/// Opens a log that is being brought in: its Parquet files are still on their way.
pub(crate) fn open_staged(
    disk: Arc<dyn Disk>,
    incoming: &Path,
    id: LogId,
    epoch: Epoch,
    config: &FollowerConfig,
) -> Result<(Follower, Recovery), WalError> {
    let (writer, state, recovery) = open(disk, incoming, id, epoch, Opens::STAGED)?;
    Ok((Follower::start(writer, state, config)?, recovery))
}

/// How a log is opened.
#[derive(Clone, Copy, Debug)]
struct Opens {
    on_damage: OnDamage,
    /// Its files are not looked at, and none is deleted.
    files_come: bool,
}

impl Opens {
    const PRIMARY: Self = Self {
        on_damage: OnDamage::Keep,
        files_come: false,
    };
    const SECONDARY: Self = Self {
        on_damage: OnDamage::Cut,
        files_come: false,
    };
    const STAGED: Self = Self {
        on_damage: OnDamage::Cut,
        files_come: true,
    };
}

/// What has been loaded so far, oldest segment first.
struct Loading {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    id: LogId,
    epoch: Epoch,
    /// The Parquet files are not all here yet, and are not opened.
    files_come: bool,
    catalog: Catalog,
    files: FileSet,
    board: Arc<DamageBoard>,
    sealed: Vec<Arc<Sealed>>,
    tip: Position,
    committed_at: i64,
}

type Opening = (Writer, Arc<LogState>, Recovery);

fn open(
    disk: Arc<dyn Disk>,
    data_dir: &Path,
    id: LogId,
    epoch: Epoch,
    opens: Opens,
) -> Result<Opening, WalError> {
    let dir = log_dir(data_dir, id);
    let files_dir = dir.join(FILES_DIR);
    for dir in [&dir, &files_dir] {
        disk.create_dir(dir)
            .map_err(WalError::io("create directory", dir))?;
    }
    remove_drafts(disk.as_ref(), &dir)?;
    let firsts = segments(disk.as_ref(), &dir)?;
    let board = Arc::default();
    let manifest = load_manifest(disk.as_ref(), &dir, id, firsts.first().copied())?;
    let mut loading = Loading {
        files: FileSet::empty(id.genesis()),
        disk,
        dir,
        id,
        epoch,
        files_come: opens.files_come,
        catalog: Catalog::default(),
        board,
        sealed: Vec::new(),
        tip: id.genesis(),
        committed_at: 0,
    };
    if let Some(manifest) = manifest {
        loading.manifest(manifest);
    }
    let Some((last, earlier)) = firsts.split_last() else {
        // Either a new log, or one of which nothing but files is left.
        loading.catalog = Catalog::clone(&loading.files.catalog);
        loading.tip = loading.files.compacted;
        return loading.begin(None);
    };
    for (at, first) in earlier.iter().enumerate() {
        let next = firsts.get(at + 1).copied().unwrap_or(*last);
        loading.missing(*first);
        loading.sealed(*first, next)?;
    }
    loading.missing(*last);
    loading.last(*last, opens.on_damage)
}

/// Half-written files: what they were for is made again.
fn remove_drafts(disk: &dyn Disk, dir: &Path) -> Result<(), WalError> {
    for name in disk.list(dir).map_err(WalError::io("list", dir))? {
        if [MANIFEST_NEW, FETCHED_NEW, PAST_NEW].contains(&name.as_str()) {
            let path = dir.join(name);
            disk.remove(&path).map_err(WalError::io("remove", &path))?;
        }
    }
    Ok(())
}

/// The manifest; none when there is none, or when it is damaged and the log still has every row.
fn load_manifest(
    disk: &dyn Disk,
    dir: &Path,
    id: LogId,
    oldest: Option<Lsn>,
) -> Result<Option<Manifest>, WalError> {
    let path = dir.join(MANIFEST);
    let bytes = match disk.read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return missing_manifest(disk, dir, oldest);
        }
        Err(error) => return Err(WalError::io("read", &path)(error)),
    };
    match Manifest::decode(&path.display().to_string(), &bytes) {
        Ok(manifest) if manifest.log != id => Err(WalError::foreign(&path, id, manifest.log)),
        Ok(manifest) => Ok(Some(manifest)),
        Err(WalError::Corrupt { .. }) if oldest == Some(Lsn(0)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// No manifest: right for a log that was never compacted, or that can be compacted anew.
fn missing_manifest(
    disk: &dyn Disk,
    dir: &Path,
    oldest: Option<Lsn>,
) -> Result<Option<Manifest>, WalError> {
    let files = dir.join(FILES_DIR);
    let names = disk.list(&files).map_err(WalError::io("list", &files))?;
    if names.is_empty() || oldest == Some(Lsn(0)) {
        return Ok(None);
    }
    let path = dir.join(MANIFEST).display().to_string();
    let reason = "is missing, and the log no longer reaches back to the rows of the Parquet files";
    Err(WalError::corrupt(&path, 0, reason))
}

impl Loading {
    fn manifest(&mut self, manifest: Manifest) {
        self.epoch = manifest.epoch;
        self.committed_at = manifest.clock;
        self.files = FileSet::empty(manifest.compacted);
        self.files.clock = manifest.clock;
        self.files.next = manifest.next;
        self.files.catalog = manifest.catalog;
        if self.files_come {
            return;
        }
        let disk = self.disk.as_ref();
        self.files
            .open_files(disk, &self.dir, manifest.files, &self.board);
    }

    /// A sealed segment, or a hole where one cannot be read; `next` is where the one after begins.
    fn sealed(&mut self, first: Lsn, next: Lsn) -> Result<(), WalError> {
        let path = self.dir.join(segment_name(first));
        let opened =
            Sealed::open(self.disk.as_ref(), &path, self.id, &self.board).and_then(|segment| {
                self.check_start(&segment.path, &segment.header)
                    .map(|()| segment)
            });
        let segment = match opened {
            Ok(segment) => segment,
            Err(error @ (WalError::Corrupt { .. } | WalError::Io { .. })) => {
                self.hole(&path, first, next, error.to_string())
            }
            Err(error) => return Err(error),
        };
        // Of a hole nothing can be learnt; the next header has all that matters.
        if !segment.entries.is_empty() {
            self.adopt(&segment.header)?;
            // Those of a damaged one are in the next header.
            for control in segment.controls().unwrap_or_default() {
                self.catalog.apply(&control)?;
            }
            self.committed_at = segment.committed_at;
            self.epoch = segment.header.epoch;
        }
        self.tip = segment.end;
        self.sealed.push(Arc::new(segment));
        Ok(())
    }

    /// A hole for the segment that should be before the one at `first` and is not there.
    fn missing(&mut self, first: Lsn) {
        let expected = if self.sealed.is_empty() {
            self.files.compacted
        } else {
            self.tip
        };
        if first <= expected.lsn {
            return;
        }
        self.tip = expected;
        let path = self.dir.join(segment_name(expected.lsn));
        let hole = self.hole(&path, expected.lsn, first, "is missing".to_owned());
        self.tip = hole.end;
        self.sealed.push(Arc::new(hole));
    }

    fn hole(&self, path: &Path, first: Lsn, next: Lsn, reason: String) -> Sealed {
        let start = if self.tip.lsn == first {
            self.tip
        } else {
            unknown(first)
        };
        let after = self.dir.join(segment_name(next));
        let header = self.disk.map(&after).ok().and_then(|bytes| {
            let decoded = SegmentHeader::decode(&after.display().to_string(), &bytes);
            decoded.ok().map(|(header, _)| header.start)
        });
        let end = header
            .filter(|start| start.lsn == next)
            .unwrap_or(unknown(next));
        Sealed::hole(path, self.id, start, end, reason, &self.board)
    }

    fn adopt(&mut self, header: &SegmentHeader) -> Result<(), WalError> {
        self.catalog.adopt(&header.schemas, &header.settings)
    }

    /// A segment must begin where the one before it ended; the oldest held may begin anywhere.
    fn check_start(&self, file: &str, header: &SegmentHeader) -> Result<(), WalError> {
        if header.log != self.id {
            return Err(WalError::foreign(Path::new(file), self.id, header.log));
        }
        let known = match self.sealed.last() {
            None => header.start.lsn <= self.files.compacted.lsn,
            // Behind a hole the chain cannot be told, only the LSN.
            Some(before) if before.fault.is_some() => header.start.lsn == self.tip.lsn,
            Some(_) => header.start == self.tip,
        };
        if !known {
            let reason = format!("starts at {}, the log ends at {}", header.start, self.tip);
            return Err(WalError::corrupt(file, 0, reason));
        }
        Ok(())
    }

    /// The newest segment: sealed, active, or cut short while it was created.
    fn last(mut self, first: Lsn, on_damage: OnDamage) -> Result<Opening, WalError> {
        let path = self.dir.join(segment_name(first));
        let file = path.display().to_string();
        // Mapped, not read: the tail is served from it. Cutting what is torn leaves all blocks in it.
        let bytes = self.disk.map(&path).map_err(WalError::io("map", &path))?;
        if SegmentFooter::is_claimed(&bytes)
            && let Ok(footer) = SegmentFooter::decode(&file, &bytes)
        {
            self.sealed(first, footer.end.lsn)?;
            return self.begin(None);
        }
        let (header, header_len) = match SegmentHeader::decode(&file, &bytes) {
            Ok(decoded) => decoded,
            Err(error @ WalError::Corrupt { .. }) if !holds_blocks(&bytes) => {
                let reason = error.to_string();
                return self.recreate(&path, bytes.len() as u64, reason);
            }
            Err(error @ WalError::Corrupt { .. }) => {
                let mended = self.mend_header(&path, first, &bytes)?;
                mended.ok_or(error)?
            }
            Err(error) => return Err(error),
        };
        self.check_start(&file, &header)?;
        self.epoch = header.epoch;
        self.adopt(&header)?;
        let start = header.start;
        let scanned = scan_active(
            &file,
            &bytes,
            header_len,
            start,
            &mut self.catalog,
            on_damage,
        )?;
        self.resume(&path, start, scanned)
    }

    /// Writes the header of the newest segment again: it follows from the segments before it. None
    /// when the blocks behind it do not say that it is the right one.
    fn mend_header(
        &self,
        path: &Path,
        first: Lsn,
        bytes: &bytes::Bytes,
    ) -> Result<Option<(SegmentHeader, usize)>, WalError> {
        let whole = self
            .sealed
            .last()
            .is_none_or(|before| before.fault.is_none());
        if !whole || self.tip.lsn != first || (self.sealed.is_empty() && first != Lsn(0)) {
            return Ok(None);
        }
        let header = self.next_header();
        let encoded = header.encode();
        let behind = bytes.get(encoded.len()..).unwrap_or_default();
        if !BlockHeader::decode(behind).is_ok_and(|block| block.start() == self.tip) {
            return Ok(None);
        }
        let mut file = self.disk.open(path).map_err(WalError::io("open", path))?;
        file.write_at(0, &encoded)
            .map_err(WalError::io("write", path))?;
        file.sync().map_err(WalError::io("fsync", path))?;
        Ok(Some((header, encoded.len())))
    }

    fn next_header(&self) -> SegmentHeader {
        SegmentHeader {
            log: self.id,
            epoch: self.epoch,
            start: self.tip,
            schemas: self.catalog.tables().map(Arc::clone).collect(),
            settings: self.catalog.all_settings(),
        }
    }

    /// The crash came while the segment's file was being made: no block was ever in it.
    fn recreate(mut self, path: &Path, bytes: u64, reason: String) -> Result<Opening, WalError> {
        self.disk
            .remove(path)
            .map_err(WalError::io("remove", path))?;
        if self.sealed.is_empty() {
            self.catalog = Catalog::clone(&self.files.catalog);
            self.tip = self.files.compacted;
        }
        let file = path.display().to_string();
        self.begin((bytes > 0).then_some(TornTail {
            file,
            offset: 0,
            bytes,
            reason,
        }))
    }

    /// Begins a new active segment at the tip.
    fn begin(self, torn: Option<TornTail>) -> Result<Opening, WalError> {
        let header = self.next_header();
        let active = Active::create(self.disk.as_ref(), &self.dir, &header)?;
        self.finish(active, torn)
    }

    /// Goes on in the segment that was active, after cutting what is not a whole block.
    fn resume(
        mut self,
        path: &Path,
        start: Position,
        scanned: Scanned,
    ) -> Result<Opening, WalError> {
        let mut file = self.disk.open(path).map_err(WalError::io("open", path))?;
        if scanned.torn.is_some() || scanned.sealed {
            file.truncate(scanned.end)
                .map_err(WalError::io("truncate", path))?;
        }
        // What is about to be served as durable may never have been fsynced.
        file.sync().map_err(WalError::io("fsync", path))?;
        let first = scanned.blocks.first();
        let first = first.and_then(|block| BlockHeader::decode(&block.bytes).ok());
        let tail = Arc::new(Tail::new(path.display().to_string(), start));
        let entries = scanned.blocks.iter().map(|block| block.entry).collect();
        tail.push(scanned.blocks.into_iter());
        self.tip = scanned.tip;
        self.committed_at = scanned.committed_at.unwrap_or(self.committed_at);
        if scanned.hole {
            self.board.report(&segment_name(start.lsn), 0, HOLE);
        }
        let active = Active {
            path: path.to_owned(),
            file,
            offset: scanned.end,
            entries,
            tail,
            begun_at: first.map(|header| header.committed_at),
            has_hole: scanned.hole,
            spilled: 0,
        };
        let (mut writer, state, mut recovery) = self.finish(active, scanned.torn)?;
        if scanned.sealed {
            let sealed = writer.rotate()?;
            state.publish(writer.committed(Some(sealed)));
            recovery.segments += 1;
        }
        Ok((writer, state, recovery))
    }

    fn finish(mut self, active: Active, torn_tail: Option<TornTail>) -> Result<Opening, WalError> {
        self.check_files()?;
        // Only now is it sure that the manifest is the one of this log.
        if !self.files_come {
            remove_unnamed(self.disk.as_ref(), &self.dir, &self.files)?;
        }
        let recovery = Recovery {
            segments: self.sealed.len() + 1,
            position: self.tip,
            damaged: self.board.watch().borrow().len(),
            torn_tail,
        };
        let sealed = self.sealed.iter().map(|segment| segment.start());
        let starts: Vec<Position> = sealed.chain([active.tail.start]).collect();
        let opened = Opened {
            past: Past::load(self.disk.as_ref(), &self.dir, self.id, &starts),
            snapshot: Snapshot {
                log: self.id,
                epoch: self.epoch,
                position: self.tip,
                committed_at: self.committed_at,
                catalog: Arc::new(self.catalog.clone()),
                sealed: Arc::new(self.sealed),
                files: Arc::new(self.files),
                tail: Arc::clone(&active.tail),
                tail_len: active.entries.len(),
                tail_bytes: active.offset,
            },
            board: Arc::clone(&self.board),
            torn_tails: u64::from(recovery.torn_tail.is_some()),
        };
        let state = LogState::new(Arc::clone(&self.disk), self.dir.clone(), opened);
        let writer = Writer {
            disk: self.disk,
            dir: self.dir,
            log: self.id,
            epoch: self.epoch,
            catalog: Arc::new(self.catalog),
            board: self.board,
            active,
            tip: self.tip,
            committed_at: self.committed_at,
        };
        Ok((writer, state, recovery))
    }

    /// Files and log must meet: the files end where a segment does, and not behind the log's end.
    fn check_files(&mut self) -> Result<(), WalError> {
        let compacted = self.files.compacted;
        if compacted.lsn <= self.tip.lsn {
            return Ok(());
        }
        let reason = format!("reaches to {compacted}, the log ends at {}", self.tip);
        let path = self.dir.join(MANIFEST);
        Err(WalError::corrupt(&path.display().to_string(), 0, reason))
    }
}

/// A position of which only the LSN is known: no chain equals it.
fn unknown(lsn: Lsn) -> Position {
    Position { lsn, chain: 0 }
}

const HOLE: &str = "blocks in the middle of it cannot be read";
