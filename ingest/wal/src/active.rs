//! The one writer of a log: owns the active segment, appends groups, seals, publishes.
//!
//! The order here is the durability protocol. A group: write, fsync, publish. A seal: footer,
//! fsync, next segment's header, fsync, directory fsync, publish. A crash between any two steps
//! leaves what recovery completes or cuts. After any error the writer must not be used again.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use crate::block::BlockKind;
use crate::catalog::Catalog;
use crate::disk::{Disk, DiskFile};
use crate::error::WalError;
use crate::group::Group;
use crate::ids::{Epoch, LogId, Position};
use crate::layout::segment_name;
use crate::log::LogState;
use crate::sealed::Sealed;
use crate::segment::{BlockEntry, SegmentFooter, SegmentHeader};
use crate::snapshot::{Snapshot, Tail, TailBlock};

/// The active segment's file.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) path: PathBuf,
    pub(crate) file: Box<dyn DiskFile>,
    /// Where the next block goes.
    pub(crate) offset: u64,
    pub(crate) entries: Vec<BlockEntry>,
    pub(crate) tail: Arc<Tail>,
}

/// Owns the write side of a log's directory.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    pub(crate) log: LogId,
    pub(crate) epoch: Epoch,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) sealed: Arc<Vec<Arc<Sealed>>>,
    pub(crate) active: Active,
    /// The durable end.
    pub(crate) tip: Position,
    pub(crate) committed_at: i64,
}

impl Active {
    /// Begins a segment whose name and header survive a crash once this returns.
    pub(crate) fn create(
        disk: &dyn Disk,
        dir: &Path,
        header: &SegmentHeader,
    ) -> Result<Self, WalError> {
        let path = dir.join(segment_name(header.start.lsn));
        let mut file = disk.create(&path).map_err(WalError::io("create", &path))?;
        let bytes = header.encode();
        file.write_at(0, &bytes)
            .map_err(WalError::io("write", &path))?;
        file.sync().map_err(WalError::io("fsync", &path))?;
        disk.sync_dir(dir)
            .map_err(WalError::io("fsync directory", dir))?;
        let tail = Arc::new(Tail::new(path.display().to_string(), header.start));
        Ok(Self {
            path,
            file,
            offset: bytes.len() as u64,
            entries: Vec::new(),
            tail,
        })
    }

    /// Writes the footer; durable once this returns.
    pub(crate) fn seal(&mut self, end: Position, committed_at: i64) -> Result<(), WalError> {
        let entries = std::mem::take(&mut self.entries);
        let footer = SegmentFooter {
            end,
            committed_at,
            entries,
        }
        .encode(self.offset);
        self.file
            .write_at(self.offset, &footer)
            .map_err(WalError::io("write", &self.path))?;
        self.file.sync().map_err(WalError::io("fsync", &self.path))
    }

    /// Writes groups one after the other; durable after the next sync.
    fn append(&mut self, groups: &[Group]) -> Result<(), WalError> {
        let mut offset = self.offset;
        for group in groups {
            let written = self.file.write_at(offset, &group.bytes);
            written.map_err(WalError::io("write", &self.path))?;
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
                bytes,
            }
        });
        let blocks: Vec<TailBlock> = blocks.collect();
        self.entries.extend(blocks.iter().map(|block| block.entry));
        self.tail.push(blocks.into_iter());
        self.offset += group.bytes.len() as u64;
    }
}

impl Writer {
    /// Writes groups that continue the tip, and returns once they are durable and published. Only
    /// the last may seal the segment.
    pub(crate) fn commit(&mut self, state: &LogState, groups: &[Group]) -> Result<(), WalError> {
        self.active.append(groups)?;
        let started = Instant::now();
        self.active
            .file
            .sync()
            .map_err(WalError::io("fsync", &self.active.path))?;
        state.count_sync(started.elapsed());
        for group in groups {
            self.take_in(state, group)?;
        }
        state.publish(self.snapshot());
        if groups.last().is_some_and(|last| last.seals) {
            self.rotate()?;
            state.publish(self.snapshot());
        }
        Ok(())
    }

    /// Makes a durable group part of what the next snapshot shows.
    fn take_in(&mut self, state: &LogState, group: &Group) -> Result<(), WalError> {
        self.active.adopt(group);
        self.tip = group.end;
        self.committed_at = group.committed_at;
        let data = |entry: &&BlockEntry| entry.kind == BlockKind::Data;
        let rows = group.entries.iter().filter(data);
        let rows = rows.map(|entry| u64::from(entry.rows)).sum();
        state.count_group(group.entries.len(), rows, group.bytes.len());
        self.learn(group)
    }

    fn learn(&mut self, group: &Group) -> Result<(), WalError> {
        if !group.schemas.is_empty() {
            let catalog = Arc::make_mut(&mut self.catalog);
            group
                .schemas
                .iter()
                .try_for_each(|schema| catalog.insert(Arc::clone(schema)))?;
        }
        Ok(())
    }

    /// Seals the active segment, whose last block is a seal, and begins the next.
    pub(crate) fn rotate(&mut self) -> Result<(), WalError> {
        self.active.seal(self.tip, self.committed_at)?;
        let sealed = Sealed::open(self.disk.as_ref(), &self.active.path, self.log)?;
        Arc::make_mut(&mut self.sealed).push(Arc::new(sealed));
        self.active = Active::create(self.disk.as_ref(), &self.dir, &self.header())?;
        Ok(())
    }

    /// The header of a segment that starts at the tip.
    pub(crate) fn header(&self) -> SegmentHeader {
        SegmentHeader {
            log: self.log,
            epoch: self.epoch,
            start: self.tip,
            schemas: self.catalog.tables().map(Arc::clone).collect(),
        }
    }

    /// The view at the tip.
    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot {
            log: self.log,
            epoch: self.epoch,
            position: self.tip,
            committed_at: self.committed_at,
            catalog: Arc::clone(&self.catalog),
            sealed: Arc::clone(&self.sealed),
            tail: Arc::clone(&self.active.tail),
            tail_len: self.active.entries.len(),
            tail_bytes: self.active.offset,
        }
    }
}
