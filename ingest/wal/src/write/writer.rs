//! The one writer of a log: owns the active segment, appends groups, seals, publishes. It must
//! never be used after an error.
//!
//! The order here is the durability protocol. A group: write, fsync, publish. A seal: footer,
//! fsync, next segment's header, fsync, directory fsync, publish. A crash between any two steps
//! leaves what recovery completes or cuts. After any error the writer must not be used again.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use crate::damage::DamageList;
use crate::disk::DiskFile;
use crate::error::{Operation, WalError};
use crate::format::block::{BlockHeader, BlockKind, seed_of};
use crate::format::catalog::Catalog;
use crate::format::segment::{BlockEntry, SegmentFooter, SegmentHeader};
use crate::ids::{Epoch, LogId, Position};
use crate::paths::segment_name;
use crate::read::log::LogState;
use crate::read::published::Committed;
use crate::read::sealed::Sealed;
use crate::read::tail::{Tail, TailBlock};
use crate::stored::Home;
use crate::write::group::Group;

/// The active segment's file.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) path: PathBuf,
    pub(crate) file: Box<dyn DiskFile>,
    /// Where the next block goes.
    pub(crate) offset: u64,
    pub(crate) entries: Vec<BlockEntry>,
    pub(crate) tail: Arc<Tail>,
    /// The primary's clock at its first block; none yet, or not known.
    pub(crate) begun_at: Option<i64>,
    /// Blocks in its middle cannot be read.
    pub(crate) has_hole: bool,
    /// What its blocks are marked with; 0 until that is known.
    pub(crate) seed: u64,
    /// Up to here the tail may be read from the file.
    pub(crate) spilled: u64,
    /// Without its schemas and settings.
    pub(crate) header: SegmentHeader,
}

/// Owns the write side of a log's directory.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) dir: PathBuf,
    pub(crate) home: Arc<Home>,
    pub(crate) log: LogId,
    pub(crate) epoch: Epoch,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) damage: Arc<DamageList>,
    pub(crate) active: Active,
    /// The durable end.
    pub(crate) tip: Position,
    pub(crate) committed_at: i64,
}

impl Active {
    /// Begins a segment whose name and header survive a crash once this returns.
    pub(crate) fn create(
        home: &Arc<Home>,
        dir: &Path,
        header: SegmentHeader,
    ) -> Result<Self, WalError> {
        let disk = home.disk().as_ref();
        let path = dir.join(segment_name(header.start.lsn));
        let names = disk.names_of(dir)?;
        // An attempt that found no room may have left one; no block is in it yet.
        let mut file = disk.create_anew(&path)?;
        let bytes = header.encode();
        file.write_at(0, &bytes)
            .map_err(WalError::io(Operation::Write, &path))?;
        file.sync().map_err(WalError::io(Operation::Fsync, &path))?;
        names.sync()?;
        let tail = Arc::new(Tail::of_file(home, header.start));
        Ok(Self {
            path,
            file,
            offset: bytes.len() as u64,
            entries: Vec::new(),
            tail,
            begun_at: None,
            has_hole: false,
            seed: 0,
            spilled: 0,
            header: header.bare(),
        })
    }

    /// Writes the footer; durable once this returns. It, and how long the file is then.
    fn seal(&mut self, end: Position, committed_at: i64) -> Result<(SegmentFooter, u64), WalError> {
        let footer = SegmentFooter {
            end,
            committed_at,
            entries: self.entries.clone(),
        };
        let bytes = footer.encode(self.offset);
        self.file
            .write_at(self.offset, &bytes)
            .map_err(WalError::io(Operation::Write, &self.path))?;
        self.file
            .sync()
            .map_err(WalError::io(Operation::Fsync, &self.path))?;
        Ok((footer, self.offset + bytes.len() as u64))
    }

    /// Writes groups one after the other; durable after the next sync.
    fn append(&mut self, groups: &[Group]) -> Result<(), WalError> {
        let mut offset = self.offset;
        for group in groups {
            self.file
                .write_at(offset, &group.bytes)
                .map_err(WalError::io(Operation::Write, &self.path))?;
            offset += group.bytes.len() as u64;
        }
        Ok(())
    }

    /// Makes the group's blocks part of the tail; they are durable by now.
    fn adopt(&mut self, group: &Group) {
        let base = self.offset;
        let blocks = group.entries.iter().map(|entry| {
            let from = usize::try_from(entry.offset).unwrap_or(usize::MAX);
            let bytes = group.bytes.slice(from..from + entry.len as usize);
            TailBlock {
                entry: BlockEntry {
                    offset: base + entry.offset,
                    ..*entry
                },
                bytes: Some(bytes),
            }
        });
        let blocks: Vec<TailBlock> = blocks.collect();
        let secrets = blocks
            .iter()
            .filter(|block| block.entry.kind == BlockKind::Secret);
        for bytes in secrets.filter_map(|block| block.bytes.as_ref()) {
            if let Ok((_, body)) = BlockHeader::decode_block(bytes) {
                self.seed = seed_of(body);
            }
        }
        self.entries.extend(blocks.iter().map(|block| block.entry));
        self.tail.push(blocks.into_iter());
        self.offset += group.bytes.len() as u64;
    }

    /// Lets the tail be read from the file once much of it is in memory.
    fn spill(&mut self) {
        if self.offset - self.spilled < SPILL_BYTES {
            return;
        }
        self.tail.spill();
        self.spilled = self.offset;
    }

    /// Blocks written since the segment was begun.
    pub(crate) fn blocks(&self) -> usize {
        self.entries.len()
    }
}

impl Writer {
    /// Writes groups that continue the tip, and returns once they are durable and published. Only
    /// the last may seal the segment. An error that [`WalError::may_pass`] leaves everything as it
    /// was: the same call may be made again.
    pub(crate) fn commit(&mut self, state: &LogState, groups: &[Group]) -> Result<(), WalError> {
        let end = groups
            .iter()
            .fold(self.tip.lsn, |at, group| group.follows(at));
        self.active.append(groups)?;
        let started = Instant::now();
        self.active
            .file
            .sync()
            .map_err(WalError::io(Operation::Fsync, &self.active.path))?;
        state.counters.count_sync(started.elapsed());
        for group in groups {
            self.take_in(state, group)?;
        }
        assert_eq!(self.tip.lsn, end, "what is published is what was written");
        self.active.spill();
        state.published.publish(self.committed(None));
        Ok(())
    }

    /// Makes a durable group part of what the next snapshot shows.
    fn take_in(&mut self, state: &LogState, group: &Group) -> Result<(), WalError> {
        self.active.adopt(group);
        self.active.begun_at.get_or_insert(group.committed_at);
        self.tip = group.end;
        self.committed_at = group.committed_at;
        let data = |entry: &&BlockEntry| entry.kind == BlockKind::Data;
        let rows = group.entries.iter().filter(data);
        let rows = rows.map(|entry| u64::from(entry.rows)).sum();
        state
            .counters
            .count_group(group.entries.len(), rows, group.bytes.len());
        self.apply_controls(group)
    }

    fn apply_controls(&mut self, group: &Group) -> Result<(), WalError> {
        if group.controls.is_empty() {
            return Ok(());
        }
        let catalog = Arc::make_mut(&mut self.catalog);
        let mut controls = group.controls.iter();
        controls.try_for_each(|control| catalog.apply(control))
    }

    /// Seals the active segment, whose last block is a seal, and begins the next. An error that
    /// [`WalError::may_pass`] leaves everything as it was.
    pub(crate) fn rotate(&mut self) -> Result<Arc<Sealed>, WalError> {
        let (footer, len) = self.active.seal(self.tip, self.committed_at)?;
        let next = Active::create(&self.home, &self.dir, self.header())?;
        let full = std::mem::replace(&mut self.active, next);
        let file = full.tail.file.as_ref().ok_or(WalError::Closed)?;
        let frame = (full.header, footer);
        let catalog = Arc::clone(&self.catalog);
        self.catalog = Arc::new(catalog.at_segment_start());
        let sealed = Sealed::written(file, len, frame, catalog, &self.damage);
        Ok(Arc::new(sealed))
    }

    /// The header of a segment that starts at the tip.
    fn header(&self) -> SegmentHeader {
        SegmentHeader {
            log: self.log,
            epoch: self.epoch,
            start: self.tip,
            tables: self.catalog.head(),
        }
    }

    /// What is to be shown at the tip.
    pub(crate) fn committed(&self, sealed: Option<Arc<Sealed>>) -> Committed {
        Committed {
            position: self.tip,
            committed_at: self.committed_at,
            catalog: Arc::clone(&self.catalog),
            tail: Arc::clone(&self.active.tail),
            tail_len: self.active.entries.len(),
            tail_bytes: self.active.offset,
            sealed,
        }
    }
}

/// Bytes of the tail that are kept in memory before they are read from the file instead.
const SPILL_BYTES: u64 = 8 << 20;
