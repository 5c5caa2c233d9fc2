//! A snapshot cut back to an earlier LSN: what a reader saw when the log ended there. Takes things
//! away, and must never read more than headers and control blocks.

use std::sync::Arc;
use std::time::Instant;

use crate::error::WalError;
use crate::format::block::BlockHeader;
use crate::format::catalog::Catalog;
use crate::ids::{Boundary, Lsn};
use crate::parquet::FileSet;
use crate::read::file_history::{AsOf, FilesMark};
use crate::read::frame::read_header;
use crate::read::log::Log;
use crate::read::snapshot::Snapshot;
use crate::read::tail::{Tail, TailBlock};

impl Log {
    /// The view at `lsn`: everything below it, and nothing else. The same rows on every node.
    ///
    /// # Errors
    /// `Ahead` when the log does not reach that far, `Gone` when that view can no longer be had,
    /// `Unread` when it cannot be had at the moment.
    pub fn snapshot_at(&self, lsn: Lsn) -> Result<Arc<Snapshot>, AsOf> {
        let now = self.snapshot();
        let at = now.end().lsn;
        if lsn > at {
            return Err(AsOf::Ahead { at });
        }
        if lsn == at {
            return Ok(now);
        }
        let Some(files) = self.files_at(&now, lsn) else {
            let oldest = self.oldest_as_of();
            return Err(AsOf::Gone { oldest });
        };
        let view = now.cut_back(lsn, files);
        view.map(Arc::new).map_err(|_| AsOf::Unread)
    }

    /// The oldest LSN of which [`Log::snapshot_at`] has a view.
    pub fn oldest_as_of(&self) -> Lsn {
        let now = self.snapshot();
        let oldest = now.oldest().lsn;
        let mut history = self.state().kept.history();
        history.expire(Instant::now());
        let ends = history.held().map(|(_, files)| files.compacted.lsn);
        ends.filter(|end| *end >= oldest)
            .min()
            .unwrap_or(now.compacted().lsn)
    }

    /// The Parquet files in force.
    pub fn files_mark(&self) -> FilesMark {
        self.state().kept.history().newest()
    }

    /// The digest of files that are in force or were lately; `None` when that is not known.
    pub fn files_digest(&self, compacted: Lsn, next: u64) -> Option<u64> {
        self.state().kept.history().digest(compacted, next)
    }

    /// The newest files that hold nothing from `lsn` on and behind which `snapshot` has the log.
    fn files_at(&self, snapshot: &Snapshot, lsn: Lsn) -> Option<Arc<FileSet>> {
        let oldest = snapshot.oldest().lsn;
        let usable = |files: &FileSet| (oldest..=lsn).contains(&files.compacted.lsn);
        if usable(&snapshot.files) {
            return Some(Arc::clone(&snapshot.files));
        }
        let mut history = self.state().kept.history();
        history.expire(Instant::now());
        history
            .held()
            .map(|(_, files)| files)
            .find(|files| usable(files))
            .map(Arc::clone)
    }
}

impl Snapshot {
    /// Start of the oldest segment held.
    pub(crate) fn oldest(&self) -> Boundary {
        let first = self.sealed.first();
        first.map_or(Boundary::of_segment(self.tail.start), |segment| {
            segment.start()
        })
    }

    /// This view cut back to `lsn`, over `files`, which end at or below it. What a damaged segment
    /// hides stays hidden: queries say so.
    ///
    /// # Errors
    /// When something could not be read that is not known to be damaged.
    pub(crate) fn cut_back(&self, lsn: Lsn, files: Arc<FileSet>) -> Result<Self, WalError> {
        let last = self.last_block_below(lsn)?;
        let end = self.boundary(lsn, last.as_ref(), &files);
        let before = |count: usize| self.sealed.get(..count).unwrap_or_default();
        let sealed = before(self.sealed.partition_point(|held| held.start().lsn < lsn));
        let ended = before(self.sealed.partition_point(|held| held.end.lsn <= lsn)).last();
        let committed_at = match (last, ended) {
            (Some(header), _) => header.committed_at,
            (None, Some(segment)) => segment.committed_at,
            (None, None) => files.clock,
        };
        let in_tail = lsn > self.tail.start.lsn;
        let (tail, tail_len) = if in_tail {
            let count = self.tail.below(lsn).min(self.tail_len);
            (Arc::clone(&self.tail), count)
        } else {
            let path = self.tail.path.clone();
            (Arc::new(Tail::new(path, end.go_on())), 0)
        };
        let end_of = |block: &TailBlock| block.entry.offset + u64::from(block.entry.len);
        let tail_bytes = tail_len
            .checked_sub(1)
            .and_then(|at| self.tail.get(at))
            .map_or(0, |block| end_of(&block));
        Ok(Self {
            log: self.log,
            epoch: self.epoch,
            end,
            committed_at,
            catalog: self.catalog_at(lsn, &files)?,
            sealed: Arc::new(sealed.to_vec()),
            files,
            tail,
            tail_len,
            tail_bytes,
        })
    }

    /// The last block that lies wholly below `lsn`, in the segment that holds what is just below.
    fn last_block_below(&self, lsn: Lsn) -> Result<Option<BlockHeader>, WalError> {
        if lsn > self.tail.start.lsn {
            let count = self.tail.below(lsn).min(self.tail_len);
            let mut nearest = (0..count).rev().take(2).filter_map(|at| self.tail.get(at));
            let block = nearest.find(|block| block.entry.end_lsn() <= lsn);
            return if_undamaged(block.map(|block| self.tail.header(&block)));
        }
        let at = self
            .sealed
            .partition_point(|segment| segment.start().lsn < lsn);
        let segment = at.checked_sub(1).and_then(|at| self.sealed.get(at));
        let header = segment.and_then(|segment| {
            let entries = &segment.entries;
            let count = entries.partition_point(|entry| entry.end_lsn() <= lsn);
            Some(segment.block_header(entries.get(count.checked_sub(1)?)?))
        });
        if_undamaged(header)
    }

    /// The position at `lsn`; without a chain where that is inside a block.
    fn boundary(&self, lsn: Lsn, last: Option<&BlockHeader>, files: &FileSet) -> Boundary {
        let of_segments = self
            .sealed
            .iter()
            .flat_map(|held| [held.start(), held.end])
            .filter_map(Boundary::position);
        let mut known = last
            .map(BlockHeader::end)
            .into_iter()
            .chain([self.tail.start, files.compacted])
            .chain(of_segments);
        // Behind a hole the chain may not be known.
        known
            .find(|position| position.lsn == lsn)
            .map_or(Boundary::unproven(lsn), Boundary::from)
    }

    /// Schemas and settings at `lsn`.
    fn catalog_at(&self, lsn: Lsn, files: &FileSet) -> Result<Arc<Catalog>, WalError> {
        if lsn >= self.tail.start.lsn {
            return self.tail_catalog(lsn, files);
        }
        let at = self
            .sealed
            .partition_point(|segment| segment.end.lsn <= lsn);
        let within = self.sealed.get(at).map(|segment| segment.catalog_at(lsn));
        if let Some(catalog) = within.transpose()?.flatten() {
            return Ok(Arc::new(catalog));
        }
        // The segment is damaged: the nearest that is known before it.
        let held = self.sealed.get(..at).unwrap_or_default().iter().rev();
        for segment in held.take_while(|segment| segment.end.lsn > files.compacted.lsn) {
            if let Some(catalog) = segment.catalog_at(segment.end.lsn)? {
                return Ok(Arc::new(catalog));
            }
        }
        Ok(Arc::clone(&files.catalog))
    }

    fn tail_catalog(&self, lsn: Lsn, files: &FileSet) -> Result<Arc<Catalog>, WalError> {
        let view = self.tail();
        let controls = view.blocks().filter(|block| block.entry.kind.controls());
        let controls: Vec<&TailBlock> = controls.collect();
        if controls.iter().all(|block| block.entry.first_lsn < lsn) {
            return Ok(Arc::clone(&self.catalog));
        }
        let before = match self.sealed.last() {
            None => Some(Catalog::clone(&files.catalog)),
            Some(segment) => match segment.catalog_at(segment.end.lsn)? {
                Some(catalog) => Some(catalog),
                None => self.tail_header()?,
            },
        };
        let Some(mut catalog) = before else {
            return Ok(Arc::clone(&self.catalog));
        };
        for block in controls {
            if block.entry.first_lsn >= lsn {
                break;
            }
            if let Some(control) = self.tail.control(block)? {
                // It was taken in once already.
                let _ = catalog.apply(&control);
            }
        }
        Ok(Arc::new(catalog))
    }

    /// What the active segment's header says: needed behind a damaged segment only.
    fn tail_header(&self) -> Result<Option<Catalog>, WalError> {
        let Some(content) = self.tail.content(self.tail_bytes) else {
            return Ok(None);
        };
        let read = |offset, len| content.read(offset, len);
        let header = read_header(&self.tail.path, content.len(), &read);
        let Some((header, _)) = if_undamaged(Some(header))? else {
            return Ok(None);
        };
        Ok(Catalog::of_head(&header.tables, &self.catalog).ok())
    }
}

/// What was found; none where it is damaged.
fn if_undamaged<T>(found: Option<Result<T, WalError>>) -> Result<Option<T>, WalError> {
    match found.transpose() {
        Err(error @ (WalError::Io { .. } | WalError::GivenUp { .. })) => Err(error),
        Err(_) => Ok(None),
        Ok(found) => Ok(found),
    }
}
