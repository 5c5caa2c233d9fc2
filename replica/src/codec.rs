//! Control messages and their bytes. It owns every byte of the control stream, and of a fetch but
//! for the file (`PROTOCOL.md` has the tables), and must never see a block. It is the only place
//! that knows the encoding library, which is no longer developed: bounded here, fuzzed and held by
//! golden bytes, it can be replaced.
//!
//! A frame is a length (u32, little-endian) and that many bytes of one message: a variant number
//! and its fields. Variant numbers are never reused and fields never reordered. Messages spoken
//! before a version is agreed ([`Hello`], [`Refuse`]) may grow at their end: readers skip what they
//! don't know.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use bincode::{Decode, Encode};
use bytes::{Buf, BytesMut};
use wal::{Epoch, LogId, Lsn, Position};

/// The protocol's name in the TLS handshake.
pub const ALPN: &[u8] = b"headwater/1";

/// Oldest and newest protocol version this build speaks.
pub const PROTOCOL_MIN: u16 = 1;
/// See [`PROTOCOL_MIN`].
pub const PROTOCOL_MAX: u16 = 2;

/// First protocol version whose peers know [`Message::Fetch`] and [`Message::File`].
pub const FETCH_SINCE: u16 = 2;

/// Most bytes of one message, without its length.
pub const MAX_MESSAGE_LEN: usize = 64 * 1024;

/// Bytes of a frame before the message.
pub const LENGTH_LEN: usize = 4;

const CONFIG: Configuration<LittleEndian, Varint, Limit<MAX_MESSAGE_LEN>> =
    bincode::config::standard().with_limit::<MAX_MESSAGE_LEN>();

/// Everything that is ever said: on the control stream, and the last two on a stream for each file.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Message {
    /// Secondary: first message.
    Hello(Hello),
    /// Primary: blocks follow from the agreed position.
    Welcome(Welcome),
    /// Primary: no.
    Refuse(Refuse),
    /// Primary: where its log and clock stand.
    Heartbeat(Heartbeat),
    /// Primary: everything that was durable has been sent; live blocks follow.
    CaughtUp(CaughtUp),
    /// Secondary: how far it is.
    Status(Status),
    /// Primary: it stops.
    End(End),
    /// Either: first message of a stream of its own.
    Fetch(Fetch),
    /// The answer to it; the file's bytes follow.
    File(File),
}

/// What a secondary is and has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Hello {
    /// Oldest protocol version it speaks.
    pub protocol_min: u16,
    /// Newest protocol version it speaks.
    pub protocol_max: u16,
    /// Log format it writes.
    pub format_version: u8,
    /// Log it holds; none before it ever reached its primary.
    pub log: Option<[u8; 16]>,
    /// Epoch of that log.
    pub epoch: u64,
    /// End of that log.
    pub lsn: u64,
    /// Chain value at that end.
    pub chain: u64,
    /// Name it gives itself; its certificate says who it is.
    pub node: String,
    /// Identity of its data directory.
    pub node_id: String,
}

impl Hello {
    /// The log it holds.
    #[must_use]
    pub fn log(&self) -> Option<LogId> {
        self.log.map(LogId)
    }

    /// Epoch of that log.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        Epoch(self.epoch)
    }

    /// End of that log.
    #[must_use]
    pub fn position(&self) -> Position {
        Position {
            lsn: Lsn(self.lsn),
            chain: self.chain,
        }
    }
}

/// What was agreed.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Welcome {
    /// Protocol version of this connection.
    pub protocol: u16,
    /// The primary's log.
    pub log: [u8; 16],
    /// Its epoch.
    pub epoch: u64,
    /// What follows.
    pub plan: WirePlan,
    /// Its durable end.
    pub durable: u64,
    /// The primary's clock, nanoseconds since 1970.
    pub now_unix_ns: i64,
}

/// How a secondary gets up to date. Number 1 is kept for a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum WirePlan {
    /// Blocks from this position on.
    Stream {
        /// First LSN to come.
        lsn: u64,
        /// Chain value there.
        chain: u64,
    },
}

/// Why not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Refuse {
    /// See [`crate::handshake::RefuseReason::code`].
    pub code: u16,
    /// A sentence for people.
    pub message: String,
    /// `key=value` pairs for machines.
    pub detail: String,
}

/// Where the primary stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Heartbeat {
    /// Durable end of its log.
    pub durable: u64,
    /// When the last block below that was committed, by its clock; 0 in an empty log.
    pub committed_at_ns: i64,
    /// Its clock now, nanoseconds since 1970.
    pub now_unix_ns: i64,
}

/// The catch-up is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct CaughtUp {
    /// End of what has been sent.
    pub at: u64,
}

/// How far a secondary is: `received >= flushed >= applied`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Status {
    /// End of what its log has accepted.
    pub received: u64,
    /// End of what is on its disk.
    pub flushed: u64,
    /// End of what its queries see.
    pub applied: u64,
    /// Chain value at `flushed`.
    pub chain: u64,
}

/// The primary stops.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct End {
    /// A sentence for people.
    pub reason: String,
}

/// A node asks for a file of which its own copy is damaged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Fetch {
    /// The log the file belongs to.
    pub log: [u8; 16],
    /// Its name, relative to the log's directory.
    pub name: String,
}

/// What became of a [`Fetch`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct File {
    /// Whether the peer holds it intact.
    pub found: bool,
    /// Bytes of it that follow this message; 0 when not found.
    pub bytes: u64,
    /// When not found: a sentence for people.
    pub reason: String,
}

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
pub fn encode(message: &Message) -> Result<Vec<u8>, CodecError> {
    let mut frame = vec![0; LENGTH_LEN];
    bincode::encode_into_std_write(message, &mut frame, CONFIG)
        .map_err(|error| CodecError::Unwritable(error.to_string()))?;
    let length = frame.len() - LENGTH_LEN;
    let announced = u32::try_from(length).ok();
    match announced.filter(|_| length <= MAX_MESSAGE_LEN) {
        Some(announced) => frame[..LENGTH_LEN].copy_from_slice(&announced.to_le_bytes()),
        None => return Err(CodecError::Length { length }),
    }
    Ok(frame)
}

/// The message in these bytes, which follow a frame's length.
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
#[derive(Debug, Default)]
pub struct FrameReader {
    buffer: BytesMut,
}

impl FrameReader {
    /// A reader at the start of a frame.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
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
    pub fn next_message(&mut self) -> Result<Option<Message>, CodecError> {
        let Some(announced) = self.buffer.first_chunk::<LENGTH_LEN>() else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_le_bytes(*announced)).unwrap_or(usize::MAX);
        if length == 0 || length > MAX_MESSAGE_LEN {
            return Err(CodecError::Length { length });
        }
        if self.buffer.len() - LENGTH_LEN < length {
            return Ok(None);
        }
        self.buffer.advance(LENGTH_LEN);
        let message = self.buffer.split_to(length);
        decode(&message).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: [u8; 16] = [
        0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xab, 0xac, 0xad, 0xae,
        0xaf,
    ];
    const CHAIN: u64 = 0x0123_4567_89ab_cdef;
    const NOW: i64 = 1_700_000_000_123_456_789;

    /// Every message and its frame, byte for byte, made by another program.
    fn golden() -> Vec<(Message, &'static str)> {
        [first_words(), later_words(), words_since_2()].concat()
    }

    fn first_words() -> Vec<(Message, &'static str)> {
        vec![
            (
                Message::Hello(Hello {
                    protocol_min: 1,
                    protocol_max: 1,
                    format_version: 1,
                    log: Some(LOG),
                    epoch: 3,
                    lsn: 70_000,
                    chain: CHAIN,
                    node: "secondary-1".to_owned(),
                    node_id: "n-42".to_owned(),
                }),
                "350000000001010101a0a1a2a3a4a5a6a7a8a9aaabacadaeaf03fc70110100fdefcdab89674523010b7365636f6e646172792d31046e2d3432",
            ),
            (
                Message::Hello(Hello {
                    protocol_min: 1,
                    protocol_max: 1,
                    format_version: 1,
                    node: "s".to_owned(),
                    ..Hello::default()
                }),
                "0b0000000001010100000000017300",
            ),
            (
                Message::Welcome(Welcome {
                    protocol: 1,
                    log: LOG,
                    epoch: 3,
                    plan: WirePlan::Stream {
                        lsn: 70_000,
                        chain: CHAIN,
                    },
                    durable: 5_000_000_000,
                    now_unix_ns: NOW,
                }),
                "340000000101a0a1a2a3a4a5a6a7a8a9aaabacadaeaf0300fc70110100fdefcdab8967452301fd00f2052a01000000fd2a9a0b7bfc392f2f",
            ),
        ]
    }

    fn later_words() -> Vec<(Message, &'static str)> {
        vec![
            (
                Message::Refuse(Refuse {
                    code: 9,
                    message: "too old".to_owned(),
                    detail: "oldest=250".to_owned(),
                }),
                "15000000020907746f6f206f6c640a6f6c646573743d323530",
            ),
            (
                Message::Heartbeat(Heartbeat {
                    durable: 251,
                    committed_at_ns: NOW - 1,
                    now_unix_ns: NOW,
                }),
                "1600000003fbfb00fd289a0b7bfc392f2ffd2a9a0b7bfc392f2f",
            ),
            (
                Message::CaughtUp(CaughtUp { at: 65_535 }),
                "0400000004fbffff",
            ),
            (
                Message::Status(Status {
                    received: 300,
                    flushed: 250,
                    applied: 249,
                    chain: CHAIN,
                }),
                "0f00000005fb2c01faf9fdefcdab8967452301",
            ),
            (
                Message::End(End {
                    reason: "bye".to_owned(),
                }),
                "050000000603627965",
            ),
        ]
    }

    fn words_since_2() -> Vec<(Message, &'static str)> {
        vec![
            (
                Message::Fetch(Fetch {
                    log: LOG,
                    name: "00000000000000000042.log".to_owned(),
                }),
                "2a00000007a0a1a2a3a4a5a6a7a8a9aaabacadaeaf1830303030303030303030303030303030303034322e6c6f67",
            ),
            (
                Message::File(File {
                    found: true,
                    bytes: 70_000,
                    reason: String::new(),
                }),
                "080000000801fc7011010000",
            ),
            (
                Message::File(File {
                    found: false,
                    bytes: 0,
                    reason: "not it".to_owned(),
                }),
                "0a000000080000066e6f74206974",
            ),
        ]
    }

    fn bytes_of(hex: &str) -> Vec<u8> {
        let digits = |i: usize| u8::from_str_radix(&hex[i..i + 2], 16).expect("hex");
        (0..hex.len()).step_by(2).map(digits).collect()
    }

    /// Reads everything in `bytes` until the end or the first error.
    fn read(bytes: &[u8]) -> (Vec<Message>, Option<CodecError>) {
        let mut reader = FrameReader::new();
        reader.push(bytes);
        let mut messages = Vec::new();
        loop {
            match reader.next_message() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => return (messages, None),
                Err(error) => return (messages, Some(error)),
            }
        }
    }

    #[test]
    fn golden_bytes_both_ways() {
        for (message, hex) in golden() {
            let frame = bytes_of(hex);
            assert_eq!(encode(&message).as_ref(), Ok(&frame), "{message:?}");
            assert_eq!(read(&frame), (vec![message], None));
        }
    }

    #[test]
    fn messages_come_out_of_any_chunking() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let stream: Vec<u8> = golden().iter().flat_map(|(_, hex)| bytes_of(hex)).collect();
        let expected: Vec<Message> = golden().into_iter().map(|(message, _)| message).collect();
        for _ in 0..300 {
            let (mut reader, mut got, mut at) = (FrameReader::new(), Vec::new(), 0);
            while at < stream.len() {
                let end = (at + random.usize(1..40)).min(stream.len());
                reader.push(&stream[at..end]);
                at = end;
                while let Some(message) = reader.next_message().expect("good frames") {
                    got.push(message);
                }
            }
            assert_eq!(got, expected);
        }
    }

    #[test]
    fn every_truncation_and_every_changed_byte_is_a_message_or_an_error() {
        for (message, hex) in golden() {
            let frame = bytes_of(hex);
            for end in 0..frame.len() {
                assert_eq!(
                    read(&frame[..end]),
                    (Vec::new(), None),
                    "{message:?} cut at {end}"
                );
                if end > LENGTH_LEN {
                    let cut = decode(&frame[LENGTH_LEN..end]);
                    assert!(cut.is_err(), "{message:?} cut at {end}: {cut:?}");
                }
            }
            for at in 0..frame.len() {
                for value in 0..=u8::MAX {
                    let mut damaged = frame.clone();
                    damaged[at] = value;
                    let (messages, _) = read(&damaged);
                    assert!(messages.len() <= 1);
                    let _ = decode(&damaged[LENGTH_LEN..]);
                }
            }
        }
    }

    #[test]
    fn random_bytes_never_panic() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..20_000 {
            let mut bytes = vec![0; random.usize(0..80)];
            random.fill(&mut bytes);
            if let Some(first) = bytes.first_mut() {
                *first %= 10;
            }
            if let Ok(message) = decode(&bytes) {
                assert!(encode(&message).is_ok(), "{message:?}");
            }
        }
    }

    #[test]
    fn what_follows_the_last_message_is_handed_over() {
        let frame = bytes_of(golden()[0].1);
        let mut reader = FrameReader::new();
        reader.push(&frame);
        reader.push(b"a file");
        assert!(matches!(reader.next_message(), Ok(Some(_))));
        assert_eq!(reader.take_rest().as_ref(), b"a file");
        assert!(reader.take_rest().is_empty());
    }

    #[test]
    fn a_length_is_refused_before_its_bytes_are_awaited() {
        for length in [
            0,
            u32::try_from(MAX_MESSAGE_LEN).expect("small") + 1,
            u32::MAX,
        ] {
            let (messages, error) = read(&length.to_le_bytes());
            assert!(messages.is_empty());
            assert!(matches!(error, Some(CodecError::Length { .. })), "{length}");
        }
    }

    #[test]
    fn a_huge_string_is_refused_without_its_memory() {
        // End { reason } that announces 2^40 bytes of text.
        let bytes = bytes_of("06fd0000000000010000");
        assert!(matches!(decode(&bytes), Err(CodecError::Malformed(_))));
        let long = Message::End(End {
            reason: "x".repeat(MAX_MESSAGE_LEN),
        });
        assert!(matches!(encode(&long), Err(CodecError::Length { .. })));
    }

    #[test]
    fn only_what_is_said_before_a_version_is_agreed_may_grow() {
        for (message, hex) in golden() {
            let mut bytes = bytes_of(hex).split_off(LENGTH_LEN);
            bytes.extend([7, 7]);
            let may_grow = matches!(message, Message::Hello(_) | Message::Refuse(_));
            let expected = if may_grow {
                Ok(message)
            } else {
                Err(CodecError::Trailing { extra: 2 })
            };
            assert_eq!(decode(&bytes), expected);
        }
    }
}
