//! The network between two nodes: the ordered streams of one connection, and what may happen to
//! their bytes. Must never know a message or a block.

use std::collections::VecDeque;

use bytes::Bytes;
use fastrand::Rng;

/// A stream in one direction: in order, cut anywhere.
#[derive(Default)]
pub(crate) struct Pipe {
    pieces: VecDeque<Bytes>,
}

impl Pipe {
    pub(crate) fn push(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.pieces.push_back(bytes);
        }
    }

    /// How many pieces are under way.
    pub(crate) fn len(&self) -> usize {
        self.pieces.len()
    }

    /// The next bytes to arrive: a whole piece, or the beginning of one.
    pub(crate) fn take(&mut self, random: &mut Rng) -> Option<Bytes> {
        let front = self.pieces.front_mut()?;
        if front.len() > 1 && random.bool() {
            return Some(front.split_to(random.usize(1..front.len())));
        }
        self.pieces.pop_front()
    }

    /// Turns one bit of what is under way; false when that is nothing.
    pub(crate) fn flip(&mut self, random: &mut Rng) -> bool {
        if self.pieces.is_empty() {
            return false;
        }
        let at = random.usize(..self.pieces.len());
        let mut bytes = self.pieces[at].to_vec();
        let byte = random.usize(..bytes.len());
        bytes[byte] ^= 1 << random.u8(..8);
        self.pieces[at] = bytes.into();
        true
    }

    /// Puts bytes of another connection between those that are under way.
    fn inject(&mut self, old: &[Bytes], random: &mut Rng) {
        let at = random.usize(..=self.pieces.len());
        for (nth, piece) in old.iter().enumerate() {
            self.pieces.insert(at + nth, piece.clone());
        }
    }
}

/// The streams of one connection, as they travel.
#[derive(Default)]
pub(crate) struct Streams {
    /// What the secondary says.
    pub(crate) up: Pipe,
    /// What the upstream says.
    pub(crate) control: Pipe,
    pub(crate) blocks: Pipe,
    /// One fetch at a time.
    pub(crate) files: Pipe,
    /// The last pieces of blocks that were sent.
    sent: VecDeque<Bytes>,
}

impl Streams {
    pub(crate) fn send_blocks(&mut self, piece: Bytes) {
        if self.sent.len() == KEPT {
            self.sent.pop_front();
        }
        self.sent.push_back(piece.clone());
        self.blocks.push(piece);
    }

    /// Plays some of what an older connection has sent into this one; false when there is nothing.
    pub(crate) fn replay(&mut self, old: &[Bytes], random: &mut Rng) -> bool {
        if old.is_empty() {
            return false;
        }
        let from = random.usize(..old.len());
        let to = random.usize(from..old.len()) + 1;
        self.blocks.inject(&old[from..to], random);
        true
    }

    /// What may be played again once this connection is gone.
    pub(crate) fn into_old(self) -> Vec<Bytes> {
        self.sent.into()
    }
}

/// Pieces of an old connection that are kept to be played again.
const KEPT: usize = 48;
