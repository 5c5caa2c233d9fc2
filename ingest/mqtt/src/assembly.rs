//! A packet that is longer than what is read at once, put together in a buffer of its own that grows
//! with what has come, and not with what the packet says it will be. Must never hold a byte that it
//! has no memory for.

use ntex::util::{Buf, BytesMut};

use crate::memory::Memory;

/// The beginning of a packet.
#[derive(Debug)]
pub(crate) struct Assembly {
    bytes: BytesMut,
    /// Length of the whole packet.
    whole: usize,
    /// Bytes that there is memory for.
    room: usize,
}

/// How far a packet is after more of it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filled {
    Whole,
    Partly,
    /// There is more of it, and no memory for that.
    Starved,
}

impl Assembly {
    pub(crate) fn new(whole: usize) -> Self {
        Self {
            bytes: BytesMut::new(),
            whole,
            room: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Moves in what `src` has of the packet, as far as there is memory.
    pub(crate) fn fill(&mut self, src: &mut BytesMut, memory: &Memory) -> Filled {
        loop {
            let missing = self.whole.saturating_sub(self.bytes.len());
            if missing == 0 {
                return Filled::Whole;
            }
            if src.is_empty() {
                return Filled::Partly;
            }
            let room = self.room.saturating_sub(self.bytes.len());
            if room == 0 {
                if !self.grow(memory) {
                    return Filled::Starved;
                }
                continue;
            }
            let taken = missing.min(room).min(src.len());
            let begin = src.get(..taken).unwrap_or_default();
            self.bytes.extend_from_slice(begin);
            src.advance(taken);
        }
    }

    /// Doubles the buffer, up to the whole packet.
    fn grow(&mut self, memory: &Memory) -> bool {
        let room = (self.room * 2).max(FREE).min(self.whole);
        let grown = memory.grow(counted(room) - counted(self.room));
        if grown {
            self.bytes.reserve_exact(room - self.bytes.len());
            self.room = room;
        }
        grown
    }

    /// The whole packet, and what memory it has taken.
    pub(crate) fn take(self) -> (BytesMut, usize) {
        (self.bytes, counted(self.room))
    }
}

/// What a buffer of this size takes beyond what every connection has.
fn counted(room: usize) -> usize {
    room.saturating_sub(FREE)
}

/// The first buffer, which every connection has memory for.
const FREE: usize = 4 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use wal::Share;

    #[test]
    fn a_packet_grows_with_what_has_come_as_far_as_there_is_memory() {
        let share = Share::new("mqtt", 128 << 10);
        let memory = Memory::enter(&share).expect("there is room");
        let before = share.used();
        let mut assembly = Assembly::new(100_000);
        let sent: Vec<u8> = (0..100_000_u32).map(|at| at.to_le_bytes()[0]).collect();
        let (mut at, mut src) = (0, BytesMut::new());
        let other = loop {
            src.extend_from_slice(&sent[at..at + 1_000]);
            at += 1_000;
            match assembly.fill(&mut src, &memory) {
                Filled::Partly => assert!(share.used() - before <= 2 * at as u64),
                Filled::Starved => break Memory::enter(&share),
                Filled::Whole => panic!("there is no memory for all of it"),
            }
        };
        assert!(other.is_some() && !src.is_empty());
        assert_eq!(assembly.len() + src.len(), at);
        let wide = Memory::enter(&Share::unlimited("mqtt")).expect("there is room");
        src.extend_from_slice(&sent[at..]);
        src.extend_from_slice(b"next");
        assert_eq!(assembly.fill(&mut src, &wide), Filled::Whole);
        let (bytes, taken) = assembly.take();
        assert_eq!((&bytes[..], taken), (&sent[..], 100_000 - FREE));
        assert_eq!(&src[..], b"next");
    }
}
