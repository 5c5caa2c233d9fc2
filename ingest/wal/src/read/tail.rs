//! The blocks of the active segment, as readers meet them. Only the segment's writer appends; it
//! must never change or take away a block that a snapshot may see.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::disk::{Disk, FileIdentity};
use crate::format::block::BlockHeader;
use crate::format::control::Control;
use crate::format::segment::BlockEntry;
use crate::ids::{Lsn, Position};

/// One block of the active segment.
#[derive(Clone, Debug)]
pub(crate) struct TailBlock {
    pub(crate) entry: BlockEntry,
    pub(crate) bytes: Bytes,
}

/// The active segment's blocks. Only its writer appends; snapshots look at a prefix.
#[derive(Debug)]
pub(crate) struct Tail {
    pub(crate) path: String,
    pub(crate) start: Position,
    /// The file, where it can be told from others.
    pub(crate) file: Option<FileIdentity>,
    blocks: Mutex<TailBlocks>,
}

#[derive(Debug, Default)]
struct TailBlocks {
    frozen: Vec<Arc<Vec<TailBlock>>>,
    /// Frozen chunks that are read from a mapping.
    spilled: usize,
    current: Vec<TailBlock>,
}

impl TailBlock {
    /// What it says about the log, if it is whole and says something.
    pub(crate) fn control(&self) -> Option<Control> {
        let (header, body) = BlockHeader::decode_block(&self.bytes).ok()?;
        Control::of(&header, body).ok()?
    }

    fn mapped(&self, mapping: &Bytes) -> Self {
        let from = usize::try_from(self.entry.offset).unwrap_or(usize::MAX);
        let to = from.saturating_add(self.entry.len as usize);
        let inside = to <= mapping.len();
        Self {
            entry: self.entry,
            bytes: if inside {
                mapping.slice(from..to)
            } else {
                self.bytes.clone()
            },
        }
    }
}

impl Tail {
    pub(crate) fn new(path: String, start: Position) -> Self {
        Self {
            path,
            start,
            file: None,
            blocks: Mutex::default(),
        }
    }

    /// The tail of a segment whose file is there.
    pub(crate) fn of_file(disk: &dyn Disk, path: &Path, start: Position) -> Self {
        Self {
            file: disk.identity(path).ok().flatten(),
            ..Self::new(path.display().to_string(), start)
        }
    }

    pub(crate) fn push(&self, blocks: impl Iterator<Item = TailBlock>) {
        let mut tail = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        for block in blocks {
            if tail.current.len() == CHUNK {
                let full = std::mem::replace(&mut tail.current, Vec::with_capacity(CHUNK));
                tail.frozen.push(Arc::new(full));
            }
            tail.current.push(block);
        }
    }

    /// Lets go of the memory of whole chunks: from now on they are read from `mapping`, the
    /// segment's file so far. What a snapshot has taken already stays as it is.
    pub(crate) fn spill(&self, mapping: &Bytes) {
        let mut tail = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        let from = tail.spilled;
        for chunk in tail.frozen.iter_mut().skip(from) {
            let blocks = chunk.iter().map(|block| block.mapped(mapping)).collect();
            *chunk = Arc::new(blocks);
        }
        tail.spilled = tail.frozen.len();
    }

    /// Of the first `count` blocks: those from the one that starts at `lsn` on, about `max_bytes`
    /// of them but at least one.
    pub(crate) fn run(&self, lsn: Lsn, count: usize, max_bytes: usize) -> Option<Vec<TailBlock>> {
        let tail = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        let first = tail.block_at(lsn).filter(|at| *at < count)?;
        let mut found: Vec<TailBlock> = Vec::new();
        let mut bytes = 0;
        for block in (first..count).map_while(|at| tail.get(at)) {
            bytes += block.bytes.len();
            if !found.is_empty() && bytes > max_bytes {
                break;
            }
            found.push(block.clone());
        }
        Some(found)
    }

    /// How many blocks start below `lsn`.
    pub(crate) fn below(&self, lsn: Lsn) -> usize {
        let tail = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        tail.below(lsn)
    }

    /// One block.
    pub(crate) fn get(&self, at: usize) -> Option<TailBlock> {
        let tail = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        tail.get(at).cloned()
    }

    /// The first `count` blocks, in chunks.
    pub(crate) fn prefix(&self, count: usize) -> TailView {
        let tail = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        let frozen: Vec<_> = tail
            .frozen
            .iter()
            .take(count.div_ceil(CHUNK))
            .map(Arc::clone)
            .collect();
        let rest = count.saturating_sub(frozen.len() * CHUNK);
        let current = tail.current.iter().take(rest).cloned().collect();
        TailView {
            frozen,
            current,
            count,
        }
    }
}

impl TailBlocks {
    fn get(&self, at: usize) -> Option<&TailBlock> {
        match self.frozen.get(at / CHUNK) {
            Some(chunk) => chunk.get(at % CHUNK),
            None => self.current.get(at - self.frozen.len() * CHUNK),
        }
    }

    /// How many blocks start below `lsn`.
    fn below(&self, lsn: Lsn) -> usize {
        let starts = |block: &TailBlock| block.entry.first_lsn < lsn;
        let whole = |chunk: &Arc<Vec<TailBlock>>| chunk.last().is_some_and(starts);
        let chunk = self.frozen.partition_point(whole);
        let blocks = self
            .frozen
            .get(chunk)
            .map_or(&self.current, |chunk| chunk.as_ref());
        chunk * CHUNK + blocks.partition_point(starts)
    }

    /// Index of the block that starts at `lsn`.
    fn block_at(&self, lsn: Lsn) -> Option<usize> {
        let before = |chunk: &Arc<Vec<TailBlock>>| {
            chunk.last().is_some_and(|last| last.entry.first_lsn < lsn)
        };
        let chunk = self.frozen.partition_point(before);
        let blocks = self
            .frozen
            .get(chunk)
            .map_or(&self.current, |chunk| chunk.as_ref());
        let at = blocks
            .binary_search_by_key(&lsn, |block| block.entry.first_lsn)
            .ok()?;
        Some(chunk * CHUNK + at)
    }
}

/// A prefix of a tail.
pub(crate) struct TailView {
    frozen: Vec<Arc<Vec<TailBlock>>>,
    current: Vec<TailBlock>,
    count: usize,
}

impl TailView {
    pub(crate) fn blocks(&self) -> impl Iterator<Item = &TailBlock> {
        let frozen = self.frozen.iter().flat_map(|chunk| chunk.iter());
        frozen.chain(&self.current).take(self.count)
    }
}

/// Blocks per frozen chunk of a tail: bounds what a reader copies under the lock.
const CHUNK: usize = 512;
