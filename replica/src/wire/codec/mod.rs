//! Control messages and their bytes. It owns every byte of the control stream, and of a fetch but
//! for the file (`PROTOCOL.md` has the tables), and must never see a block. It is the only place
//! that knows the encoding library, which is no longer developed: bounded here, fuzzed and held by
//! golden bytes, it can be replaced.
//!
//! A frame is a length (u32, little-endian) and that many bytes of one message: a variant number
//! and its fields. Variant numbers are never reused and fields never reordered. Messages spoken
//! before a version is agreed (Hello, Refuse) may grow at their end: readers skip what they
//! don't know.

#[cfg(test)]
mod tests;

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use bytes::{Buf, BytesMut};

use crate::wire::message::Message;

/// Why bytes are no message, or a message has no bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// A frame announces no byte, or more than allowed.
    #[error("a control message of {length} bytes; 1 to {limit} are allowed", limit = MAX_MESSAGE_LEN)]
    Length {
        /// What the frame says.
        length: usize,
    },
    /// A frame announces more than any message has that may come on its stream.
    #[error("a message of {length} bytes where at most {limit} are allowed")]
    OutOfPlace {
        /// What the frame says.
        length: usize,
        /// The longest there.
        limit: usize,
    },
    /// The bytes are no message of this protocol.
    #[error("a control message cannot be read: {0}")]
    Malformed(String),
    /// A message has more bytes than its fields.
    #[error("a control message has {extra} bytes after its fields")]
    Trailing {
        /// How many.
        extra: usize,
    },
    /// A message is too long to be sent.
    #[error("a control message cannot be written: {0}")]
    Unwritable(String),
}

/// The frame of a message.
///
/// # Errors
/// When the message is longer than any may be.
pub fn encode(message: &Message) -> Result<Vec<u8>, CodecError> {
    let mut frame = vec![0; LENGTH_LEN];
    bincode::encode_into_std_write(message, &mut frame, CONFIG)
        .map_err(|error| CodecError::Unwritable(error.to_string()))?;
    let length = frame.len() - LENGTH_LEN;
    let announced = u32::try_from(length)
        .ok()
        .filter(|_| (1..=MAX_MESSAGE_LEN).contains(&length));
    match (announced, frame.first_chunk_mut::<LENGTH_LEN>()) {
        (Some(announced), Some(place)) => *place = announced.to_le_bytes(),
        _ => return Err(CodecError::Length { length }),
    }
    Ok(frame)
}

/// The message in these bytes, which follow a frame's length.
///
/// # Errors
/// When the bytes are no message, or more than one.
pub fn decode(bytes: &[u8]) -> Result<Message, CodecError> {
    if bytes.is_empty() || bytes.len() > MAX_MESSAGE_LEN {
        return Err(CodecError::Length {
            length: bytes.len(),
        });
    }
    let (message, used): (Message, usize) = bincode::decode_from_slice(bytes, CONFIG)
        .map_err(|error| CodecError::Malformed(error.to_string()))?;
    let extra = bytes.len() - used;
    let may_grow = matches!(message, Message::Hello(_) | Message::Refuse(_));
    if extra > 0 && !may_grow {
        return Err(CodecError::Trailing { extra });
    }
    Ok(message)
}

/// Finds messages in a stream of bytes; holds at most one frame and what was pushed last.
#[derive(Debug)]
pub struct FrameReader {
    buffer: BytesMut,
    longest: usize,
}

impl Default for FrameReader {
    fn default() -> Self {
        Self::new()
    }
}

impl FrameReader {
    /// A reader at the start of a frame.
    #[must_use]
    pub fn new() -> Self {
        Self::up_to(MAX_MESSAGE_LEN)
    }

    /// The same for messages of at most so many bytes, where no longer one has a place.
    #[must_use]
    pub fn up_to(longest: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            longest: longest.min(MAX_MESSAGE_LEN),
        }
    }

    /// Bytes to come until the message is whole whose length is here; 0: none is.
    #[must_use]
    pub fn missing(&self) -> usize {
        let Some(announced) = self.buffer.first_chunk::<LENGTH_LEN>() else {
            return 0;
        };
        let length = usize::try_from(u32::from_le_bytes(*announced)).unwrap_or(usize::MAX);
        length
            .saturating_add(LENGTH_LEN)
            .saturating_sub(self.buffer.len())
    }

    /// Takes the next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The bytes that were pushed and belong to no message taken so far: after the last message of
    /// a stream, what follows it.
    #[must_use]
    pub fn take_rest(&mut self) -> BytesMut {
        self.buffer.split()
    }

    /// The next whole message; `None` until it is there. After an error the stream is of no more
    /// use.
    ///
    /// # Errors
    /// When what comes is no message.
    pub fn next_message(&mut self) -> Result<Option<Message>, CodecError> {
        let Some(announced) = self.buffer.first_chunk::<LENGTH_LEN>() else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_le_bytes(*announced)).unwrap_or(usize::MAX);
        if length == 0 || length > MAX_MESSAGE_LEN {
            return Err(CodecError::Length { length });
        }
        if length > self.longest {
            let limit = self.longest;
            return Err(CodecError::OutOfPlace { length, limit });
        }
        if self.buffer.len() - LENGTH_LEN < length {
            return Ok(None);
        }
        self.buffer.advance(LENGTH_LEN);
        let message = decode(&self.buffer.split_to(length));
        if self.buffer.is_empty() {
            // What a long one took is not kept for the next.
            self.buffer = BytesMut::new();
        }
        message.map(Some)
    }
}

/// The protocol's name in the TLS handshake.
pub const ALPN: &[u8] = b"headwater/1";

/// Most bytes of one message, without its length.
pub const MAX_MESSAGE_LEN: usize = 64 * 1024;

/// Most bytes of a question for a file, or of the answer before the file: a name, or a reason.
pub const MAX_FETCH_LEN: usize = 4 * 1024;

/// Bytes of a frame before the message.
pub const LENGTH_LEN: usize = 4;
const CONFIG: Configuration<LittleEndian, Varint, Limit<MAX_MESSAGE_LEN>> =
    bincode::config::standard().with_limit::<MAX_MESSAGE_LEN>();
