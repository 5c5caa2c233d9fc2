//! Bytes to packets for one connection: bounds by `frame`, content by ntex-mqtt's codecs, both
//! protocol versions brought to one `Packet`. Must never give ntex-mqtt bytes that `frame` has not
//! checked.

use std::cell::{Cell, OnceCell, RefCell};
use std::num::NonZeroU16;
use std::time::Instant;

use ntex::codec::{Decoder, Encoder};
use ntex::util::{BytePages, ByteString, Bytes, BytesMut};
use ntex_mqtt::error::{DecodeError, EncodeError};
use ntex_mqtt::{QoS, v3, v5};

use crate::ack::{Asked, asked};
use crate::assembly::{Assembly, Filled};
use crate::first_packet::{self, Unwelcome};
use crate::frame::{FrameError, Version, announced, frame_len};
use crate::memory::Memory;
use crate::partial::Partial;

/// What a client sent, as far as a database cares.
#[derive(Debug)]
pub(crate) enum Packet {
    ConnectV3(Box<v3::codec::Connect>),
    ConnectV5(Box<v5::codec::Connect>),
    Publish(Publish),
    /// The client has PUBREC and gives the packet id back.
    Release(NonZeroU16),
    Subscribe {
        id: NonZeroU16,
        filters: usize,
    },
    Unsubscribe {
        id: NonZeroU16,
        filters: usize,
    },
    Ping,
    /// The client leaves; whether its will is to be stored all the same.
    Disconnect {
        with_will: bool,
    },
    /// Something only a server sends, or AUTH.
    Unexpected,
}

/// A message.
#[derive(Debug)]
pub(crate) struct Publish {
    pub(crate) topic: ByteString,
    pub(crate) alias: Option<NonZeroU16>,
    pub(crate) qos: QoS,
    pub(crate) id: Option<NonZeroU16>,
    pub(crate) ack: Asked,
    pub(crate) payload: Bytes,
}

/// Why a connection's bytes cannot be read any further.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("malformed packet: {0:?}")]
    Decode(DecodeError),
    #[error(transparent)]
    First(#[from] Unwelcome),
    #[error("there is no memory for the packet: send smaller ones, or later")]
    NoMemory,
}

/// The decoder of one connection.
#[derive(Debug)]
pub(crate) struct Codec {
    inner: OnceCell<Inner>,
    limit: Cell<u32>,
    memory: Memory,
    /// A packet that is put together beside the read buffer.
    assembly: RefCell<Option<Assembly>>,
    /// Memory of the packet that was handed out last.
    handed_out: Cell<usize>,
    /// What is in the buffer is not whole.
    partial: Cell<Option<Partial>>,
    /// Since when there is no memory for what has come.
    starved: Cell<Option<Instant>>,
    /// How much is read at once; longer packets are put together elsewhere.
    read_size: Cell<usize>,
    /// Whether a read was as long as it may be.
    was_full: Cell<bool>,
    /// Nothing has come for long.
    wants_rest: Cell<bool>,
}

#[derive(Debug)]
enum Inner {
    V3(v3::codec::Codec),
    V5(v5::codec::Codec),
}

impl Codec {
    /// The first packets are read in small pieces.
    pub(crate) fn new(memory: Memory) -> Self {
        Self {
            inner: OnceCell::new(),
            limit: Cell::new(MAX_CONNECT),
            memory,
            assembly: RefCell::default(),
            handed_out: Cell::new(0),
            partial: Cell::new(None),
            starved: Cell::new(None),
            read_size: Cell::new(SMALL_READ),
            was_full: Cell::new(false),
            wants_rest: Cell::new(false),
        }
    }

    /// The limit on packets after CONNECT.
    pub(crate) fn set_limit(&self, limit: u32) {
        self.limit.set(limit);
    }

    /// What the connection holds.
    pub(crate) fn memory(&self) -> &Memory {
        &self.memory
    }

    /// How far a packet is that the connection owes the rest of; none while it is not let send.
    pub(crate) fn partial(&self) -> Option<Partial> {
        self.partial.get().filter(|_| self.starved.get().is_none())
    }

    /// Since when there is no memory for what has come.
    pub(crate) fn starved_since(&self) -> Option<Instant> {
        self.starved.get()
    }

    /// How much is read at once.
    pub(crate) fn read_size(&self) -> usize {
        self.read_size.get()
    }

    pub(crate) fn set_read_size(&self, size: usize) {
        self.read_size.set(size);
    }

    /// Whether a read was as long as it may be, since this was asked.
    pub(crate) fn take_was_full(&self) -> bool {
        self.was_full.replace(false)
    }

    /// Nothing has come for long: a connection that is read in large pieces should not be. Whether
    /// that is news.
    pub(crate) fn ask_for_rest(&self) -> bool {
        let is_large = self.read_size.get() > SMALL_READ;
        is_large && !self.wants_rest.replace(true)
    }

    /// Whether that was asked since it was last looked at.
    pub(crate) fn wants_rest(&self) -> bool {
        self.wants_rest.replace(false)
    }

    pub(crate) fn version(&self) -> Version {
        match self.inner.get() {
            Some(Inner::V5(_)) => Version::V5,
            _ => Version::V3,
        }
    }

    fn inner(&self, src: &[u8]) -> Result<Option<&Inner>, ReadError> {
        if let Some(inner) = self.inner.get() {
            return Ok(Some(inner));
        }
        let Some(version) = first_packet::version(src)? else {
            return Ok(None);
        };
        Ok(Some(self.inner.get_or_init(|| match version {
            Version::V3 => Inner::V3(v3::codec::Codec::new()),
            Version::V5 => Inner::V5(v5::codec::Codec::new()),
        })))
    }

    /// Reads the packet that `src` begins with, if it is whole there.
    fn read(&self, inner: &Inner, src: &mut BytesMut) -> Result<Option<Packet>, ReadError> {
        if frame_len(src, self.limit.get(), self.version())?.is_none() {
            return Ok(None);
        }
        self.partial.set(None);
        match inner {
            Inner::V3(codec) => from_v3(codec.decode(src).map_err(ReadError::Decode)?),
            Inner::V5(codec) => from_v5(codec.decode(src).map_err(ReadError::Decode)?),
        }
    }

    /// Puts a long packet together; the whole one, once it is there.
    fn assemble(&self, src: &mut BytesMut) -> Option<BytesMut> {
        let mut assembly = self.assembly.borrow_mut();
        let begun = assembly.as_mut()?;
        let filled = begun.fill(src, &self.memory);
        let starved = filled == Filled::Starved;
        if starved != self.starved.get().is_some() {
            let now = Instant::now();
            self.starved.set(starved.then_some(now));
            self.partial.set(self.partial.get().map(|mut partial| {
                partial.excuse(now);
                partial
            }));
        }
        if filled != Filled::Whole {
            self.note(begun.len());
            return None;
        }
        let (bytes, memory) = assembly.take()?.take();
        self.handed_out.set(memory);
        Some(bytes)
    }

    /// So much of a packet is there that is not whole.
    fn note(&self, have: usize) {
        let now = Instant::now();
        let partial = match self.partial.get() {
            Some(mut partial) => {
                partial.advance(have, now);
                partial
            }
            None => Partial::new(have, now),
        };
        self.partial.set(Some(partial));
    }
}

impl Decoder for Codec {
    type Item = Packet;
    type Error = ReadError;

    fn decode(&self, src: &mut BytesMut) -> Result<Option<Packet>, ReadError> {
        // Whoever asks for the next packet is done with the last.
        self.memory.shrink(self.handed_out.take());
        if src.len() >= self.read_size.get() {
            self.was_full.set(true);
        }
        if self.assembly.borrow().is_none() {
            let Some(inner) = self.inner(src)? else {
                if !src.is_empty() {
                    self.note(src.len());
                }
                return Ok(None);
            };
            let packet = self.read(inner, src)?;
            if packet.is_some() || src.is_empty() {
                return Ok(packet);
            }
            match announced(src, self.limit.get())? {
                Some((_, whole)) if whole > self.read_size.get() / 2 => {
                    self.assembly.replace(Some(Assembly::new(whole)));
                }
                _ => {
                    self.note(src.len());
                    return Ok(None);
                }
            }
        }
        match (self.assemble(src), self.inner.get()) {
            (Some(mut whole), Some(inner)) => self.read(inner, &mut whole),
            // The system may hand over much at once: it cannot stay where it is.
            (None, _) if self.starved.get().is_some() && src.len() > MAX_BACKLOG => {
                Err(ReadError::NoMemory)
            }
            _ => Ok(None),
        }
    }
}

/// Outgoing packets other than acknowledgements of messages.
#[derive(Debug)]
pub(crate) enum Outgoing {
    V3(v3::codec::Packet),
    V5(v5::codec::Packet),
}

impl Encoder for Codec {
    type Item = Outgoing;
    type Error = EncodeError;

    fn encodev(&self, item: Outgoing, dst: &mut BytePages) -> Result<(), EncodeError> {
        match (self.inner.get(), item) {
            (Some(Inner::V3(codec)), Outgoing::V3(packet)) => codec.encodev(packet.into(), dst),
            (Some(Inner::V5(codec)), Outgoing::V5(packet)) => {
                codec.encodev(v5::codec::Encoded::Packet(packet), dst)
            }
            _ => Err(EncodeError::UnsupportedVersion),
        }
    }
}

fn from_v3(decoded: Option<v3::codec::Decoded>) -> Result<Option<Packet>, ReadError> {
    use v3::codec::{Decoded, Packet as V3};
    let packet = match decoded {
        Some(Decoded::Publish(publish, payload, _)) => Packet::Publish(Publish {
            topic: publish.topic,
            alias: None,
            qos: publish.qos,
            id: publish.packet_id,
            ack: Asked::Nothing,
            payload,
        }),
        Some(Decoded::Packet(packet, _)) => match packet {
            V3::Connect(connect) => Packet::ConnectV3(connect),
            V3::PublishRelease { packet_id } => Packet::Release(packet_id),
            V3::Subscribe {
                packet_id,
                topic_filters,
            } => Packet::Subscribe {
                id: packet_id,
                filters: topic_filters.len(),
            },
            V3::Unsubscribe {
                packet_id,
                topic_filters,
            } => Packet::Unsubscribe {
                id: packet_id,
                filters: topic_filters.len(),
            },
            V3::PingRequest => Packet::Ping,
            V3::Disconnect => Packet::Disconnect { with_will: false },
            _ => Packet::Unexpected,
        },
        // A whole packet was there: the codec wants bytes beyond it.
        None | Some(Decoded::PayloadChunk(..)) => {
            return Err(ReadError::Decode(DecodeError::MalformedPacket));
        }
    };
    Ok(Some(packet))
}

fn from_v5(decoded: Option<v5::codec::Decoded>) -> Result<Option<Packet>, ReadError> {
    use v5::codec::{Decoded, DisconnectReasonCode, Packet as V5};
    let packet = match decoded {
        Some(Decoded::Publish(publish, payload, _)) => Packet::Publish(Publish {
            topic: publish.topic,
            alias: publish.properties.topic_alias,
            qos: publish.qos,
            id: publish.packet_id,
            ack: asked(
                (publish.properties.user_properties.iter())
                    .map(|(name, value)| (name.as_ref(), value.as_ref())),
            ),
            payload,
        }),
        Some(Decoded::Packet(packet, _)) => match packet {
            V5::Connect(connect) => Packet::ConnectV5(connect),
            V5::PublishRelease(release) => Packet::Release(release.packet_id),
            V5::Subscribe(subscribe) => Packet::Subscribe {
                id: subscribe.packet_id,
                filters: subscribe.topic_filters.len(),
            },
            V5::Unsubscribe(unsubscribe) => Packet::Unsubscribe {
                id: unsubscribe.packet_id,
                filters: unsubscribe.topic_filters.len(),
            },
            V5::PingRequest => Packet::Ping,
            V5::Disconnect(disconnect) => Packet::Disconnect {
                with_will: disconnect.reason_code != DisconnectReasonCode::NormalDisconnection,
            },
            _ => Packet::Unexpected,
        },
        None | Some(Decoded::PayloadChunk(..)) => {
            return Err(ReadError::Decode(DecodeError::MalformedPacket));
        }
    };
    Ok(Some(packet))
}

/// Longest CONNECT: no client needs more before it is known.
pub(crate) const MAX_CONNECT: u32 = 64 << 10;

/// Most that may wait in the read buffer of a connection that there is no memory for.
const MAX_BACKLOG: usize = 4 << 10;

/// What a connection is read in that sends little.
pub(crate) const SMALL_READ: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    const CONNECT: &[u8] = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01a";

    fn memory() -> Memory {
        Memory::enter(&wal::Share::unlimited("mqtt")).expect("there is room")
    }

    #[test]
    fn a_publish_shorter_than_its_own_header_is_an_error_not_a_wrap() {
        let codec = Codec::new(memory());
        let mut src = BytesMut::copy_from_slice(CONNECT);
        assert!(matches!(
            codec.decode(&mut src),
            Ok(Some(Packet::ConnectV3(_)))
        ));
        let mut src =
            BytesMut::copy_from_slice(b"\x30\x02\x00\x20aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
        assert!(matches!(
            codec.decode(&mut src),
            Err(ReadError::Frame(FrameError::Publish))
        ));
    }

    #[test]
    fn random_bytes_never_panic_and_never_ask_for_more_than_the_limit() {
        let seed = fastrand::u64(..);
        println!("seed={seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let v5 = b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x01a";
        for round in 0..20_000 {
            let codec = Codec::new(memory());
            codec.set_limit(4096);
            let first = if round % 2 == 0 { CONNECT } else { &v5[..] };
            let mut src = BytesMut::copy_from_slice(first);
            for _ in 0..random.usize(1..60) {
                src.extend_from_slice(&[random.u8(..)]);
            }
            if random.bool() {
                let at = random.usize(..src.len());
                src[at] = random.u8(..);
            }
            while let Ok(Some(_)) = codec.decode(&mut src) {}
            assert!(src.len() <= 128);
        }
    }
}
