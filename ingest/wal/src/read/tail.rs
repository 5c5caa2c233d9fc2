//! The blocks of the active segment, as readers meet them: the newest in memory, the others in its
//! file. Only the segment's writer appends; it must never change or take away a block that a
//! snapshot may see.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::disk::FileIdentity;
use crate::error::WalError;
use crate::format::block::{BLOCK_HEADER_LEN, BlockHeader};
use crate::format::control::Control;
use crate::format::segment::BlockEntry;
use crate::ids::{Lsn, Position};
use crate::paths::segment_name;
use crate::stored::{Content, Home, StoredFile};

/// One block of the active segment.
#[derive(Clone, Debug)]
pub(crate) struct TailBlock {
    pub(crate) entry: BlockEntry,
    /// None: they are read from the file.
    pub(crate) bytes: Option<Bytes>,
}

/// The active segment's blocks. Only its writer appends; snapshots look at a prefix.
#[derive(Debug)]
pub(crate) struct Tail {
    pub(crate) path: String,
    pub(crate) start: Position,
    /// The file, where it can be told from others.
    pub(crate) identity: Option<FileIdentity>,
    /// None: nothing is in it.
    pub(crate) file: Option<Arc<StoredFile>>,
    blocks: Mutex<TailBlocks>,
}

#[derive(Debug, Default)]
struct TailBlocks {
    frozen: Vec<Arc<Vec<TailBlock>>>,
    /// Frozen chunks of which nothing is in memory.
    spilled: usize,
    current: Vec<TailBlock>,
}

impl Tail {
    pub(crate) fn new(path: String, start: Position) -> Self {
        Self {
            path,
            start,
            identity: None,
            file: None,
            blocks: Mutex::default(),
        }
    }

    /// The tail of a segment whose file is there.
    pub(crate) fn of_file(home: &Arc<Home>, start: Position) -> Self {
        let name = segment_name(start.lsn);
        let path = home.path(&name);
        Self {
            identity: home.disk().identity(&path).ok().flatten(),
            file: Some(Arc::new(StoredFile::new(home, name))),
            ..Self::new(path.display().to_string(), start)
        }
    }

    /// The bytes of one block.
    pub(crate) fn block(&self, block: &TailBlock) -> Result<Bytes, WalError> {
        if let Some(bytes) = &block.bytes {
            return Ok(bytes.clone());
        }
        let (entry, file) = (&block.entry, self.stored()?);
        file.piece(entry.offset, entry.len as usize, |bytes| {
            let checked = entry.check(bytes).map(|_| ());
            checked.map_err(|reason| WalError::corrupt(&self.path, entry.offset, reason))
        })
    }

    /// The header of one block.
    pub(crate) fn header(&self, block: &TailBlock) -> Result<BlockHeader, WalError> {
        let bytes = match &block.bytes {
            Some(bytes) => bytes.clone(),
            None => self.stored()?.read(block.entry.offset, BLOCK_HEADER_LEN)?,
        };
        BlockHeader::decode(&bytes)
            .map_err(|error| WalError::corrupt(&self.path, block.entry.offset, error.to_string()))
    }

    /// What a block says about the log, if it says something.
    pub(crate) fn control(&self, block: &TailBlock) -> Result<Option<Control>, WalError> {
        let bytes = self.block(block)?;
        let (header, body) = BlockHeader::decode_block(&bytes)?;
        Control::of(&header, body)
    }

    /// The bytes of blocks that follow each other, in pieces; those of the file are read past the
    /// cache.
    pub(crate) fn bytes_of(&self, blocks: &[TailBlock]) -> Result<Vec<Bytes>, WalError> {
        let mut parts = Vec::new();
        for run in blocks.chunk_by(|a, b| a.bytes.is_some() == b.bytes.is_some()) {
            let (Some(first), Some(last)) = (run.first(), run.last()) else {
                continue;
            };
            if first.bytes.is_some() {
                parts.extend(run.iter().filter_map(|block| block.bytes.clone()));
                continue;
            }
            let from = first.entry.offset;
            let len = last.entry.offset - from + u64::from(last.entry.len);
            let len = usize::try_from(len).unwrap_or(usize::MAX);
            parts.push(self.stored()?.read(from, len)?);
        }
        Ok(parts)
    }

    /// The file as far as it is written.
    pub(crate) fn content(&self, len: u64) -> Option<Content> {
        let file = self.file.as_ref()?;
        Some(Content::File(Arc::clone(file), len))
    }

    fn stored(&self) -> Result<&Arc<StoredFile>, WalError> {
        let file = self.file.as_ref();
        file.ok_or_else(|| WalError::corrupt(&self.path, 0, "no block is in it"))
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

    /// Lets go of the memory of whole chunks: from now on they are read from the segment's file.
    /// What a snapshot has taken already stays as it is.
    pub(crate) fn spill(&self) {
        let mut tail = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        let from = tail.spilled;
        for chunk in tail.frozen.iter_mut().skip(from) {
            let spilled = |block: &TailBlock| TailBlock {
                entry: block.entry,
                bytes: None,
            };
            *chunk = Arc::new(chunk.iter().map(spilled).collect());
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
            bytes += block.entry.len as usize;
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
