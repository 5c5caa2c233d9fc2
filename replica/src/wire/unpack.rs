//! Takes the frames of a block stream apart. It owns how little of one is in memory at a time; it
//! must never give out a byte that a frame's header does not announce, nor look into a block.

use std::fmt;
use std::io;

use bytes::{Buf, Bytes};
use zstd::bulk::Decompressor;
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

use crate::wire::blocks::{BlockFrameError, HEADER_LEN, MAX_RAW_LEN, RAW, ZSTD};
use crate::wire::pieces::Pieces;

/// Takes frames apart; holds a short compressed frame and what is in it, or a part of a longer one,
/// and what was pushed last.
#[derive(Default)]
pub struct Unpacker {
    pieces: Pieces,
    place: Place,
    context: Option<Decompressor<'static>>,
    streaming: Option<Streaming>,
}

/// What long frames need.
struct Streaming {
    decoder: Decoder<'static>,
    out: Vec<u8>,
}

/// What the next bytes are.
#[derive(Clone, Copy, Debug, Default)]
enum Place {
    #[default]
    Header,
    /// Blocks as they are, this many bytes of them.
    Raw(usize),
    /// A short one, unpacked once it is here.
    Packed { length: usize, raw_length: usize },
    /// A long one, unpacked as it comes: what is left of it, and of what it holds.
    Long {
        left: usize,
        raw_left: usize,
        announced: usize,
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
        self.pieces.push(piece);
    }

    /// Bytes of memory that it holds.
    #[must_use]
    pub fn held(&self) -> usize {
        let streaming = self.streaming.as_ref().map_or(0, |_| STREAMING_BYTES);
        self.pieces.len() + streaming
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
                    let piece = self.pieces.some(left);
                    let taken = piece.as_ref().map_or(0, Bytes::len);
                    self.place = Place::Raw(left - taken);
                    return Ok(piece);
                }
                Place::Packed { length, .. } if self.pieces.len() < length => return Ok(None),
                Place::Packed { length, raw_length } => {
                    let packed = self.pieces.take(length);
                    self.place = Place::Header;
                    return self.unpack(&packed, raw_length).map(Some);
                }
                Place::Long { .. } => match self.stream()? {
                    Some(piece) if piece.is_empty() => {}
                    other => return Ok(other),
                },
            }
        }
    }

    fn header(&mut self) -> Result<Option<Place>, BlockFrameError> {
        if self.pieces.len() < HEADER_LEN {
            return Ok(None);
        }
        let mut bytes = self.pieces.take(HEADER_LEN);
        let kind = bytes.get_u8();
        let length = usize::try_from(bytes.get_u32_le()).unwrap_or(usize::MAX);
        let raw_length = usize::try_from(bytes.get_u32_le()).unwrap_or(usize::MAX);
        let possible = (1..=MAX_RAW_LEN).contains(&raw_length);
        match kind {
            RAW if possible && length == raw_length => Ok(Some(Place::Raw(length))),
            ZSTD if possible && (1..=raw_length).contains(&length) => {
                let place = if raw_length > SHORT {
                    self.begin()?;
                    Place::Long {
                        left: length,
                        raw_left: raw_length,
                        announced: raw_length,
                    }
                } else {
                    Place::Packed { length, raw_length }
                };
                Ok(Some(place))
            }
            RAW | ZSTD => Err(BlockFrameError::Length {
                kind,
                length,
                raw_length,
            }),
            kind => Err(BlockFrameError::Kind { kind }),
        }
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

    /// At the start of a long frame.
    fn begin(&mut self) -> Result<(), BlockFrameError> {
        let streaming = match &mut self.streaming {
            Some(streaming) => streaming,
            None => self.streaming.insert(Streaming::new()?),
        };
        streaming.decoder.reinit()?;
        Ok(())
    }

    /// The next part of a long frame; empty where it has ended, none until more has come.
    fn stream(&mut self) -> Result<Option<Bytes>, BlockFrameError> {
        let (
            Place::Long {
                left,
                raw_left,
                announced,
            },
            Some(streaming),
        ) = (self.place, &mut self.streaming)
        else {
            return Ok(Some(Bytes::new()));
        };
        let front = self.pieces.get(0).map_or(&[][..], |front| front);
        let front = front.get(..left.min(front.len())).unwrap_or_default();
        streaming.out.clear();
        let mut out = OutBuffer::around(&mut streaming.out);
        let mut input = InBuffer::around(front);
        let has_ended = streaming.decoder.run(&mut input, &mut out)? == 0;
        let (read, piece) = (input.pos(), Bytes::copy_from_slice(out.as_slice()));
        if read > 0 {
            drop(self.pieces.some(read));
        }
        let found = announced - raw_left + piece.len();
        let left = left - read;
        if found > announced || (has_ended && found < announced) {
            return Err(BlockFrameError::Short { announced, found });
        }
        if has_ended && left > 0 {
            let error = io::Error::new(io::ErrorKind::InvalidData, "bytes follow its end");
            return Err(BlockFrameError::Zstd(error));
        }
        if read == 0 && piece.is_empty() && !has_ended {
            return match left {
                0 => Err(BlockFrameError::Short { announced, found }),
                _ => Ok(None),
            };
        }
        self.place = if has_ended {
            Place::Header
        } else {
            Place::Long {
                left,
                raw_left: announced - found,
                announced,
            }
        };
        Ok(Some(piece))
    }
}

impl Streaming {
    fn new() -> io::Result<Self> {
        let mut decoder = Decoder::new()?;
        decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG))?;
        Ok(Self {
            decoder,
            out: Vec::with_capacity(OUT_BYTES),
        })
    }
}

impl fmt::Debug for Unpacker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unpacker")
            .field("buffered", &self.pieces.len())
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

/// Frames of so many bytes of blocks are unpacked in one go: all but those of one long block.
const SHORT: usize = 1 << 20;

/// The window that a long frame may ask for, as a power of two: twice what the level needs that
/// frames are made with.
const WINDOW_LOG: u32 = 20;

/// What is unpacked of a long frame at a time.
const OUT_BYTES: usize = 64 << 10;

/// What unpacking long frames takes: their window, and buffers.
const STREAMING_BYTES: usize = (1 << WINDOW_LOG) + 4 * OUT_BYTES;
