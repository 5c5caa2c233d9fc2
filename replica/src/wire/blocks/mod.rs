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

use bytes::{Buf, Bytes};
use wal::{Chunk, Lsn, MAX_BLOCK_LEN, Position};
use zstd::bulk::{Compressor, Decompressor};

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
}

/// Same place, same chain: same bytes, of whichever log.
type Key = (Lsn, Position);

/// Filled by the first who needs it, while others wait; `None` where compressing does not pay.
type Slot = Arc<OnceLock<Option<Bytes>>>;

impl Packer {
    /// A packer that has made nothing yet.
    #[must_use]
    pub fn new(compression: Compression) -> Self {
        Self {
            compression,
            done: Mutex::default(),
            contexts: Mutex::default(),
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
        while kept > KEPT_BYTES {
            let Some((_, slot)) = done.pop_front() else {
                return;
            };
            kept -= size(&slot).min(kept);
        }
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
        if contexts.len() < KEPT_CONTEXTS {
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

/// Takes frames apart; holds at most one compressed frame, what is in it and what was pushed last.
#[derive(Default)]
pub struct Unpacker {
    pieces: VecDeque<Bytes>,
    buffered: usize,
    place: Place,
    context: Option<Decompressor<'static>>,
}

/// What the next bytes are.
#[derive(Clone, Copy, Debug, Default)]
enum Place {
    #[default]
    Header,
    /// Blocks as they are, this many bytes of them.
    Raw(usize),
    Packed {
        length: usize,
        raw_length: usize,
    },
}

impl Unpacker {
    /// An unpacker at the start of a frame.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes of the stream.
    pub fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.buffered += piece.len();
            self.pieces.push_back(piece);
        }
    }

    /// The next bytes of blocks, in order, cut anywhere; `None` until there are more. After an
    /// error the stream is of no more use.
    ///
    /// # Errors
    /// When what comes is no frame, or not what its header announces.
    #[expect(
        clippy::should_implement_trait,
        reason = "more may come after None, which an iterator does not say"
    )]
    pub fn next(&mut self) -> Result<Option<Bytes>, BlockFrameError> {
        loop {
            match self.place {
                Place::Header => match self.header()? {
                    Some(place) => self.place = place,
                    None => return Ok(None),
                },
                Place::Raw(0) => self.place = Place::Header,
                Place::Raw(left) => {
                    let piece = self.some(left);
                    let taken = piece.as_ref().map_or(0, Bytes::len);
                    self.place = Place::Raw(left - taken);
                    return Ok(piece);
                }
                Place::Packed { length, .. } if self.buffered < length => return Ok(None),
                Place::Packed { length, raw_length } => {
                    let packed = self.take(length);
                    self.place = Place::Header;
                    return self.unpack(&packed, raw_length).map(Some);
                }
            }
        }
    }

    fn header(&mut self) -> Result<Option<Place>, BlockFrameError> {
        if self.buffered < HEADER_LEN {
            return Ok(None);
        }
        let mut bytes = self.take(HEADER_LEN);
        let kind = bytes.get_u8();
        let length = usize::try_from(bytes.get_u32_le()).unwrap_or(usize::MAX);
        let raw_length = usize::try_from(bytes.get_u32_le()).unwrap_or(usize::MAX);
        let possible = (1..=MAX_RAW_LEN).contains(&raw_length);
        match kind {
            RAW if possible && length == raw_length => Ok(Some(Place::Raw(length))),
            ZSTD if possible && (1..=raw_length).contains(&length) => {
                Ok(Some(Place::Packed { length, raw_length }))
            }
            RAW | ZSTD => Err(BlockFrameError::Length {
                kind,
                length,
                raw_length,
            }),
            kind => Err(BlockFrameError::Kind { kind }),
        }
    }

    /// What is first in hand, at most this many bytes.
    fn some(&mut self, most: usize) -> Option<Bytes> {
        let front = self.pieces.front_mut()?;
        let piece = front.split_to(front.len().min(most));
        if front.is_empty() {
            self.pieces.pop_front();
        }
        self.buffered -= piece.len();
        Some(piece)
    }

    /// The next `length` bytes, which are here, in one piece.
    fn take(&mut self, length: usize) -> Bytes {
        let mut taken = self.some(length).unwrap_or_default();
        if taken.len() < length {
            let mut joined = Vec::with_capacity(length);
            joined.extend_from_slice(&taken);
            while joined.len() < length {
                let Some(more) = self.some(length - joined.len()) else {
                    break;
                };
                joined.extend_from_slice(&more);
            }
            taken = Bytes::from(joined);
        }
        taken
    }

    fn unpack(&mut self, packed: &[u8], announced: usize) -> Result<Bytes, BlockFrameError> {
        let context = match &mut self.context {
            Some(context) => context,
            None => self.context.insert(Decompressor::new()?),
        };
        let mut blocks = Vec::with_capacity(announced);
        let found = context.decompress_to_buffer(packed, &mut blocks)?;
        if found == announced {
            Ok(Bytes::from(blocks))
        } else {
            Err(BlockFrameError::Short { announced, found })
        }
    }
}

impl fmt::Debug for Unpacker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unpacker")
            .field("buffered", &self.buffered)
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

/// Bytes of a frame before its content.
const HEADER_LEN: usize = 9;

/// Kinds of frames.
const RAW: u8 = 0;
const ZSTD: u8 = 1;

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

#[cfg(test)]
mod tests;
