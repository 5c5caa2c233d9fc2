//! What a log has on the disk, oldest first: manifest, Parquet files, sealed segments, with a hole
//! for what cannot be read. It must never leave out a damaged segment without saying so.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::damage::DamageList;
use crate::disk::Disk;
use crate::error::WalError;
use crate::format::catalog::Catalog;
use crate::format::segment::SegmentHeader;
use crate::ids::{Boundary, Epoch, LogId, Lsn};
use crate::open::manifest::{load_manifest, remove_drafts};
use crate::open::recovery::{OnDamage, Recovery};
use crate::parquet::manifest::Manifest;
use crate::parquet::{FILES_DIR, FileSet};
use crate::paths::{log_dir, segment_name, segments};
use crate::read::frame::header_in;
use crate::read::log::LogState;
use crate::read::sealed::Sealed;
use crate::stored::{Cache, Home};
use crate::write::writer::Writer;

/// How a log is opened.
#[derive(Clone, Copy, Debug)]
pub(super) struct OpenMode {
    on_damage: OnDamage,
    /// Its files are not looked at, and none is deleted.
    files_pending: bool,
}

impl OpenMode {
    pub(super) const PRIMARY: Self = Self {
        on_damage: OnDamage::Keep,
        files_pending: false,
    };
    pub(super) const SECONDARY: Self = Self {
        on_damage: OnDamage::Cut,
        files_pending: false,
    };
    pub(super) const STAGED: Self = Self {
        on_damage: OnDamage::Cut,
        files_pending: true,
    };
}

/// What has been loaded so far, oldest segment first.
pub(super) struct Loading {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: PathBuf,
    pub(super) home: Arc<Home>,
    pub(super) id: LogId,
    pub(super) epoch: Epoch,
    /// The Parquet files are not all here yet, and are not opened.
    pub(super) files_pending: bool,
    pub(super) catalog: Catalog,
    pub(super) files: FileSet,
    pub(super) damage: Arc<DamageList>,
    pub(super) sealed: Vec<Arc<Sealed>>,
    pub(super) tip: Boundary,
    pub(super) committed_at: i64,
    pub(super) mended: usize,
    pub(super) newest_gone: Option<String>,
}

pub(super) type Opening = (Writer, Arc<LogState>, Recovery);

/// Loads all that is on the disk of a log and puts its end in order.
pub(super) fn open(
    disk: Arc<dyn Disk>,
    data_dir: &Path,
    (id, epoch): (LogId, Epoch),
    mode: OpenMode,
    cache: &Cache,
) -> Result<Opening, WalError> {
    let dir = log_dir(data_dir, id);
    let files_dir = dir.join(FILES_DIR);
    for dir in [&dir, &files_dir] {
        disk.make_dir(dir)?;
    }
    remove_drafts(disk.as_ref(), &dir)?;
    let firsts = segments(disk.as_ref(), &dir)?;
    let damage = Arc::default();
    let manifest = load_manifest(disk.as_ref(), &dir, id, firsts.first().copied())?;
    let mut loading = Loading {
        files: FileSet::empty(id.genesis()),
        home: Home::new(&disk, &dir, cache),
        disk,
        dir,
        id,
        epoch,
        files_pending: mode.files_pending,
        catalog: Catalog::default(),
        damage,
        sealed: Vec::new(),
        tip: id.genesis().into(),
        committed_at: 0,
        mended: 0,
        newest_gone: None,
    };
    if let Some(manifest) = manifest {
        loading.manifest(manifest);
    }
    let Some((last, earlier)) = firsts.split_last() else {
        // Either a new log, or one of which nothing but files is left.
        loading.catalog = Catalog::clone(&loading.files.catalog);
        loading.tip = loading.files.compacted.into();
        if loading.tip.lsn > Lsn(0) {
            loading.newest_gone = Some("there is no segment, only Parquet files".to_owned());
        }
        return loading.begin(None);
    };
    for (at, first) in earlier.iter().enumerate() {
        let next = firsts.get(at + 1).copied().unwrap_or(*last);
        loading.missing(*first);
        loading.sealed(*first, Boundary::unproven(next))?;
    }
    loading.missing(*last);
    loading.last(*last, mode.on_damage)
}

impl Loading {
    fn manifest(&mut self, manifest: Manifest) {
        self.epoch = manifest.epoch;
        self.committed_at = manifest.clock;
        self.files = FileSet::empty(manifest.compacted);
        self.files.clock = manifest.clock;
        self.files.next = manifest.next;
        self.files.catalog = manifest.catalog;
        // To be shared by the segments that have the same.
        self.catalog = Catalog::clone(&self.files.catalog);
        if self.files_pending {
            return;
        }
        self.files
            .open_files(&self.home, manifest.files, &self.damage);
    }

    /// A sealed segment, or a hole where one cannot be read; `next` is where the one after begins.
    pub(super) fn sealed(&mut self, first: Lsn, next: Boundary) -> Result<(), WalError> {
        let path = self.dir.join(segment_name(first));
        let known = &self.catalog;
        let opened = Sealed::open(&self.home, first, self.id, &self.damage, known);
        let opened = opened.and_then(|segment| {
            if let Some(header) = &segment.header {
                self.check_start(&segment.path, header)?;
            }
            Ok(segment)
        });
        let segment = match opened {
            Ok(segment) => segment,
            Err(error) if error.may_pass() => return Err(error),
            Err(error @ (WalError::Corrupt { .. } | WalError::Io { .. })) => {
                self.unsound(&path, first, next, &error)?
            }
            Err(error) => return Err(error),
        };
        // Of a hole nothing can be learnt; the next header has all that matters.
        if let Some(header) = segment
            .header
            .as_ref()
            .filter(|_| !segment.entries.is_empty())
        {
            // Where control blocks are damaged, what they say is in the next header.
            self.catalog = Catalog::clone(&segment.catalog);
            self.committed_at = segment.committed_at;
            self.epoch = header.epoch;
        }
        self.tip = segment.end;
        self.sealed.push(Arc::new(segment));
        Ok(())
    }

    /// A hole for the segment that should be before the one at `first` and is not there.
    fn missing(&mut self, first: Lsn) {
        let expected = if self.sealed.is_empty() {
            self.files.compacted.into()
        } else {
            self.tip
        };
        if first <= expected.lsn {
            return;
        }
        self.tip = expected;
        let path = self.dir.join(segment_name(expected.lsn));
        let after = Boundary::unproven(first);
        let hole = self.hole(&path, expected.lsn, after, "is missing".to_owned());
        self.tip = hole.end;
        self.sealed.push(Arc::new(hole));
    }

    pub(super) fn hole(&self, path: &Path, first: Lsn, next: Boundary, reason: String) -> Sealed {
        let start = if self.tip.lsn == first {
            self.tip
        } else {
            Boundary::unproven(first)
        };
        let end = self.end_before(next);
        Sealed::hole(path, start, end, reason, &self.damage)
    }

    /// Where a segment ends behind which the next one begins there.
    pub(super) fn end_before(&self, next: Boundary) -> Boundary {
        match next.chain {
            Some(_) => next,
            None => self.start_of(next.lsn),
        }
    }

    /// Where the segment at `first` says that it starts.
    fn start_of(&self, first: Lsn) -> Boundary {
        let path = self.dir.join(segment_name(first));
        let header = header_in(self.disk.as_ref(), &path);
        let start = header.ok().flatten().map(|header| header.start);
        start
            .filter(|start| start.lsn == first)
            .map_or(Boundary::unproven(first), Boundary::of_segment)
    }

    pub(super) fn adopt(&mut self, header: &SegmentHeader) -> Result<(), WalError> {
        self.catalog = Catalog::of_head(&header.tables, &self.catalog)?;
        Ok(())
    }

    /// A segment must begin where the one before it ended; the oldest held may begin anywhere.
    pub(super) fn check_start(&self, file: &str, header: &SegmentHeader) -> Result<(), WalError> {
        if header.log != self.id {
            return Err(WalError::foreign(Path::new(file), self.id, header.log));
        }
        let known = match self.sealed.last() {
            None => header.start.lsn <= self.files.compacted.lsn,
            // Behind a hole the chain cannot be told, only the LSN.
            Some(before) if before.fault.is_some() => header.start.lsn == self.tip.lsn,
            Some(_) => match Boundary::of_segment(header.start).position() {
                Some(start) => self.tip == start.into(),
                None => self.tip.lsn == header.start.lsn,
            },
        };
        if !known {
            let reason = format!("starts at {}, the log ends at {}", header.start, self.tip);
            return Err(WalError::corrupt(file, 0, reason));
        }
        Ok(())
    }
}
