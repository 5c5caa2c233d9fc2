//! The frames of a block stream: blocks as they are, or compressed where that
//! saves an eighth or more. It owns their bytes and the work that followers at the same place
//! share, and must never do I/O or look into a block.
//!
//! A frame is a kind (u8), its length and the length of what it holds (u32, little-endian), and
//! that many bytes: of kind 0 the blocks themselves, of kind 1 one zstd frame of whole blocks.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use wal::{Chunk, Held, Lsn, MAX_BLOCK_LEN, Position, Share};
use zstd::bulk::Compressor;

/// Whether blocks are compressed on their way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// They travel as they are.
    None,
    /// zstd, where it pays.
    #[default]
    Zstd,
}

/// Why a stream of frames is of no more use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BlockFrameError {
    /// A kind that this version does not know.
    #[error("a frame of kind {kind}; 0 and 1 are known")]
    Kind {
        /// What the frame says.
        kind: u8,
    },
    /// Lengths that no frame may have.
    #[error(
        "a frame of kind {kind} announces {length} bytes for {raw_length} of at most {limit}",
        limit = MAX_RAW_LEN
    )]
    Length {
        /// Kind of the frame.
        kind: u8,
        /// Bytes that follow its header.
        length: usize,
        /// Bytes of blocks in it.
        raw_length: usize,
    },
    /// What is compressed cannot be read.
    #[error("a compressed frame cannot be read: {0}")]
    Zstd(#[from] io::Error),
    /// A compressed frame holds fewer bytes than it announces.
    #[error("a compressed frame holds {found} bytes instead of {announced}")]
    Short {
        /// What its header says.
        announced: usize,
        /// What came out.
        found: usize,
    },
}

/// Makes frames; one for all followers of a log.
pub struct Packer {
    compression: Compression,
    /// The last chunks that were compressed, oldest first.
    done: Mutex<VecDeque<(Key, Slot)>>,
    /// Contexts at rest, each a megabyte or so.
    contexts: Mutex<Vec<Compressor<'static>>>,
    /// What is kept of all this.
    held: Mutex<Held>,
    most_bytes: usize,
    most_contexts: usize,
}

/// Same place, same chain: same bytes, of whichever log.
type Key = (Lsn, Position);

/// Filled by the first who needs it, while others wait; `None` where compressing does not pay.
type Slot = Arc<OnceLock<Option<Bytes>>>;

impl Packer {
    /// A packer that has made nothing yet.
    #[must_use]
    pub fn new(compression: Compression) -> Self {
        Self::within(compression, &Share::unlimited("replication"))
    }

    /// The same, which keeps no more than a part of this memory.
    #[must_use]
    pub fn within(compression: Compression, memory: &Share) -> Self {
        let part = usize::try_from(memory.limit() / 8).unwrap_or(usize::MAX);
        let most_contexts = (part / 2 / CONTEXT_BYTES).min(KEPT_CONTEXTS);
        Self {
            compression,
            done: Mutex::default(),
            contexts: Mutex::default(),
            held: Mutex::new(memory.take_beyond(0)),
            most_bytes: (part - most_contexts * CONTEXT_BYTES).min(KEPT_BYTES),
            most_contexts,
        }
    }

    /// The frames of a chunk that begins at `from`. The blocks are not copied where they travel as
    /// they are; compressing takes about a millisecond for each 256 KiB.
    #[must_use]
    pub fn frame(&self, from: Lsn, chunk: &Chunk) -> Vec<Bytes> {
        let pays = self.compression == Compression::Zstd && PAYS.contains(&chunk.bytes);
        let packed = if pays { self.packed(from, chunk) } else { None };
        match packed {
            Some(packed) => match header(ZSTD, packed.len(), chunk.bytes) {
                Some(header) => vec![header, packed],
                None => raw(&chunk.parts),
            },
            None => raw(&chunk.parts),
        }
    }

    /// Forgets what it has made: blocks that were damaged when they were packed may be whole now.
    pub fn forget(&self) {
        lock(&self.done).clear();
    }

    fn packed(&self, from: Lsn, chunk: &Chunk) -> Option<Bytes> {
        let slot = self.slot((from, chunk.end));
        if let Some(known) = slot.get() {
            return known.clone();
        }
        let packed = slot.get_or_init(|| self.compress(chunk)).clone();
        self.trim();
        packed
    }

    fn slot(&self, key: Key) -> Slot {
        let mut done = lock(&self.done);
        if let Some((_, slot)) = done.iter().rev().find(|(known, _)| *known == key) {
            return Arc::clone(slot);
        }
        if done.len() >= KEPT_FRAMES {
            done.pop_front();
        }
        let slot = Slot::default();
        done.push_back((key, Arc::clone(&slot)));
        slot
    }

    /// Lets the oldest go while too many bytes are kept.
    fn trim(&self) {
        let mut done = lock(&self.done);
        let size = |slot: &Slot| slot.get().and_then(Option::as_ref).map_or(0, Bytes::len);
        let mut kept: usize = done.iter().map(|(_, slot)| size(slot)).sum();
        while kept > self.most_bytes {
            let Some((_, slot)) = done.pop_front() else {
                break;
            };
            kept -= size(&slot).min(kept);
        }
        let bytes = kept + lock(&self.contexts).len() * CONTEXT_BYTES;
        lock(&self.held).resize_beyond(u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    /// The chunk, compressed; `None` when that saves too little, or fails.
    fn compress(&self, chunk: &Chunk) -> Option<Bytes> {
        let joined;
        let blocks: &[u8] = match chunk.parts.as_slice() {
            [one] => one,
            parts => {
                joined = parts.concat();
                &joined
            }
        };
        // What does not fit saves too little.
        let mut packed = Vec::with_capacity(blocks.len() - blocks.len() / SAVED_PART);
        let mut context = match lock(&self.contexts).pop() {
            Some(context) => context,
            None => Compressor::new(LEVEL).ok()?,
        };
        let fits = context.compress_to_buffer(blocks, &mut packed).is_ok();
        let mut contexts = lock(&self.contexts);
        if contexts.len() < self.most_contexts {
            contexts.push(context);
        }
        drop(contexts);
        packed.shrink_to_fit();
        fits.then(|| Bytes::from(packed))
    }
}

impl fmt::Debug for Packer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Packer")
            .field("compression", &self.compression)
            .field("kept", &lock(&self.done).len())
            .finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every section leaves it consistent.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The parts as they are, in frames of a length that is allowed: for who cannot undo compression.
/// Raw frames may end anywhere.
#[must_use]
pub fn raw(parts: &[Bytes]) -> Vec<Bytes> {
    let mut frames = Vec::with_capacity(parts.len() + 1);
    let mut run = Vec::new();
    let mut length = 0;
    for part in parts {
        let mut rest = part.clone();
        while !rest.is_empty() {
            if length == MAX_RAW_LEN {
                close(&mut frames, &mut run, &mut length);
            }
            let piece = rest.split_to(rest.len().min(MAX_RAW_LEN - length));
            length += piece.len();
            run.push(piece);
        }
    }
    close(&mut frames, &mut run, &mut length);
    frames
}

/// Puts a header before the pieces of a run.
fn close(frames: &mut Vec<Bytes>, run: &mut Vec<Bytes>, length: &mut usize) {
    if *length > 0 {
        frames.extend(header(RAW, *length, *length));
        frames.append(run);
        *length = 0;
    }
}

/// A header; `None` for lengths that no frame has.
fn header(kind: u8, length: usize, raw_length: usize) -> Option<Bytes> {
    let mut header = [kind; HEADER_LEN];
    header[1..5].copy_from_slice(&u32::try_from(length).ok()?.to_le_bytes());
    header[5..].copy_from_slice(&u32::try_from(raw_length).ok()?.to_le_bytes());
    Some(Bytes::copy_from_slice(&header))
}

/// Bytes of a frame before its content.
pub(super) const HEADER_LEN: usize = 9;

/// Kinds of frames.
pub(super) const RAW: u8 = 0;
pub(super) const ZSTD: u8 = 1;

/// Most bytes of blocks in one frame.
pub const MAX_RAW_LEN: usize = MAX_BLOCK_LEN + (1 << 20);

/// Chunks that are tried: shorter ones are not worth a frame of their own.
const PAYS: std::ops::RangeInclusive<usize> = 512..=MAX_RAW_LEN;

/// Compressing must save one part of this many.
const SAVED_PART: usize = 8;

/// The fastest of the usual levels: what is saved must not cost more than encrypting it.
const LEVEL: i32 = 1;

/// Compressed chunks that are kept, and their bytes.
const KEPT_FRAMES: usize = 64;
const KEPT_BYTES: usize = 16 << 20;

/// Contexts kept for the next chunk.
const KEPT_CONTEXTS: usize = 4;
const CONTEXT_BYTES: usize = 1 << 20;

#[cfg(test)]
mod tests;
