//! Pieces of a byte stream, in order, as they came. It owns how little of the memory that is kept
//! for them is wasted: a piece may be one byte of a datagram that is kept whole for it. It must
//! never change a byte.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// What has come and is not taken yet.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    pieces: VecDeque<Bytes>,
    bytes: usize,
}

impl Pieces {
    /// Bytes in hand.
    pub(super) fn len(&self) -> usize {
        self.bytes
    }

    /// The next bytes. Where many pieces lie here, small ones are copied together.
    pub(super) fn push(&mut self, piece: Bytes) {
        self.bytes += piece.len();
        if self.pieces.len() >= LOOSE
            && piece.len() < SMALL
            && let Some(last) = self.pieces.pop_back()
        {
            if last.len() + piece.len() > JOINED {
                self.pieces.push_back(last);
            } else {
                self.pieces.push_back(joined(last, &piece));
                return;
            }
        }
        if !piece.is_empty() {
            self.pieces.push_back(piece);
        }
    }

    /// The piece at this place.
    pub(super) fn get(&self, at: usize) -> Option<&Bytes> {
        self.pieces.get(at)
    }

    /// Those from this place on.
    pub(super) fn from(&self, at: usize) -> impl Iterator<Item = &Bytes> {
        self.pieces.iter().skip(at)
    }

    /// What is first, at most this many bytes.
    pub(super) fn some(&mut self, most: usize) -> Option<Bytes> {
        let front = self.pieces.front_mut()?;
        let piece = front.split_to(front.len().min(most));
        if front.is_empty() {
            self.pieces.pop_front();
        }
        self.bytes -= piece.len();
        Some(piece)
    }

    /// The next `length` bytes, in one piece; fewer where there are no more. They are copied unless
    /// they have come in one.
    pub(super) fn take(&mut self, length: usize) -> Bytes {
        let first = self.some(length).unwrap_or_default();
        if first.len() == length || self.bytes == 0 {
            return first;
        }
        let mut taken = BytesMut::with_capacity(length);
        taken.extend_from_slice(&first);
        drop(first);
        while taken.len() < length {
            let Some(more) = self.some(length - taken.len()) else {
                break;
            };
            taken.extend_from_slice(&more);
        }
        taken.freeze()
    }
}

/// Two pieces as one, in the room of the first where it has some.
fn joined(last: Bytes, piece: &[u8]) -> Bytes {
    let mut whole = match last.try_into_mut() {
        Ok(last) if last.capacity() - last.len() >= piece.len() => last,
        Ok(last) => roomy(&last),
        Err(last) => roomy(&last),
    };
    whole.extend_from_slice(piece);
    whole.freeze()
}

fn roomy(bytes: &[u8]) -> BytesMut {
    let mut whole = BytesMut::with_capacity(JOINED);
    whole.extend_from_slice(bytes);
    whole
}

/// Pieces that lie here as they came: each keeps a datagram at most.
const LOOSE: usize = 64;

/// Pieces that are copied together beyond that: larger ones waste less than they hold.
const SMALL: usize = 4 << 10;

/// Most bytes that are copied together.
const JOINED: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_pushed_comes_out_however_it_was_cut() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..50 {
            let (mut pieces, mut pushed, mut taken) = (Pieces::default(), Vec::new(), Vec::new());
            for _ in 0..random.usize(1..400) {
                let mut piece = vec![0; random.usize(0..6_000)];
                random.fill(&mut piece);
                pushed.extend_from_slice(&piece);
                pieces.push(Bytes::from(piece));
                if random.u8(..) < 20 {
                    taken.extend_from_slice(&pieces.take(random.usize(0..20_000)));
                }
                assert_eq!(taken.len() + pieces.len(), pushed.len());
            }
            while let Some(piece) = pieces.some(random.usize(1..100_000)) {
                taken.extend_from_slice(&piece);
            }
            assert!(taken == pushed && pieces.len() == 0);
        }
    }

    #[test]
    fn a_byte_of_each_datagram_does_not_keep_the_datagrams() {
        // As datagrams come: each in memory of its own, of which the stream has one byte.
        let mut pieces = Pieces::default();
        for at in 0..200_000_usize {
            let datagram = Bytes::from(vec![u8::try_from(at % 251).expect("small"); 6_000]);
            pieces.push(datagram.slice(10..11));
        }
        assert_eq!(pieces.len(), 200_000);
        assert!(pieces.pieces.len() <= LOOSE + 200_000 / (JOINED - SMALL) + 2);
        let whole = pieces.take(200_000);
        let right = |(at, byte): (usize, &u8)| usize::from(*byte) == at % 251;
        assert!(whole.iter().enumerate().all(right));
    }
}
