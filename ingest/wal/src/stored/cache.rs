//! Pieces of files in memory, within a share of the node's memory: what is asked for again stays,
//! however much is read once beside it. Readers of one piece read it once. It must never hold a
//! piece that has not been checked, nor more than its share.
//!
//! A new piece is young. What is asked for soon after is one reader going through it, and says
//! nothing; a piece that is asked for after it had to leave comes back as an old one, and old ones
//! leave only after they were not asked for for a while. So a scan of any size passes through the
//! young quarter, and through all that is free.

use std::collections::hash_map::Entry as MapEntry;
use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::error::WalError;
use crate::share::{Held, Share};
use crate::stored::descriptors::Descriptors;

/// What is kept of files that are read: pieces in memory, and open files. Copies are the same one;
/// several logs may share it.
#[derive(Clone)]
pub struct Cache {
    inner: Arc<Inner>,
}

struct Inner {
    share: Share,
    parts: Vec<Mutex<Part>>,
    descriptors: Descriptors,
    hits: AtomicU64,
    misses: AtomicU64,
}

/// Names a piece: a file, by a number of its own, and a place in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Piece {
    pub(crate) file: u64,
    pub(crate) at: u64,
}

/// Pieces under one lock.
struct Part {
    limit: u64,
    slots: HashMap<Piece, Slot>,
    young: VecDeque<Piece>,
    young_bytes: u64,
    old: VecDeque<Piece>,
    /// Young ones that have left, with their sizes, oldest first.
    left: VecDeque<(Piece, u64)>,
    left_set: HashSet<Piece>,
    left_bytes: u64,
    held: Held,
    /// Bytes that have ever come in: the clock by which uses are told apart.
    taken: u64,
}

enum Slot {
    Reading(Arc<Reading>),
    Loaded(Loaded),
}

struct Loaded {
    bytes: Bytes,
    is_young: bool,
    uses: u8,
    used_at: u64,
}

/// A piece on its way in.
#[derive(Default)]
struct Reading {
    /// None: not done. Some(None): whoever read it has failed.
    done: Mutex<Option<Option<Bytes>>>,
    woken: Condvar,
}

enum Looked {
    Found(Bytes),
    Wait(Arc<Reading>),
    Read(Arc<Reading>),
}

impl Cache {
    /// One that keeps to `share`.
    pub fn new(share: Share) -> Self {
        let limit = share.limit();
        let count = (limit / PART_BYTES).clamp(1, MOST_PARTS);
        let part = |_| Mutex::new(Part::new(limit / count, share.take_beyond(0)));
        Self {
            inner: Arc::new(Inner {
                parts: (0..count).map(part).collect(),
                share,
                descriptors: Descriptors::new(),
                hits: AtomicU64::new(0),
                misses: AtomicU64::new(0),
            }),
        }
    }

    /// The share it keeps to, and what it holds of it.
    pub fn share(&self) -> &Share {
        &self.inner.share
    }

    /// How often a piece was there, and how often it had to be read.
    pub fn hits_and_misses(&self) -> (u64, u64) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (read(&self.inner.hits), read(&self.inner.misses))
    }

    pub(crate) fn descriptors(&self) -> &Descriptors {
        &self.inner.descriptors
    }

    fn part(&self, piece: Piece) -> &Mutex<Part> {
        // Neighbours in a file lie apart.
        let mixed = (piece.file ^ piece.at.rotate_left(32)).wrapping_mul(MIX) >> 32;
        let at = usize::try_from(mixed).unwrap_or(0) % self.inner.parts.len();
        &self.inner.parts[at]
    }

    /// The piece, read and checked by `read` if it is not here. Whoever asks for it meanwhile waits
    /// for that.
    ///
    /// # Errors
    /// Those of `read`.
    pub(crate) fn get(
        &self,
        piece: Piece,
        read: impl FnOnce() -> Result<Bytes, WalError>,
    ) -> Result<Bytes, WalError> {
        let part = self.part(piece);
        let looked = lock(part).look(piece);
        let reading = match looked {
            Looked::Found(bytes) => {
                self.inner.hits.fetch_add(1, Ordering::Relaxed);
                return Ok(bytes);
            }
            Looked::Wait(reading) => {
                // Whose reading has failed has an error of his own; so may this one.
                return match reading.wait() {
                    Some(bytes) => Ok(bytes),
                    None => read(),
                };
            }
            Looked::Read(reading) => reading,
        };
        self.inner.misses.fetch_add(1, Ordering::Relaxed);
        let mut ending = Ending {
            part,
            piece,
            reading: &reading,
            bytes: None,
        };
        let bytes = read()?;
        ending.bytes = Some(bytes.clone());
        Ok(bytes)
    }
}

impl Default for Cache {
    fn default() -> Self {
        Self::new(Share::new(SHARE_NAME, DEFAULT_BYTES))
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cache").field(&self.inner.share).finish()
    }
}

/// Puts what was read into its place, or takes the place away, however reading ended.
struct Ending<'a> {
    part: &'a Mutex<Part>,
    piece: Piece,
    reading: &'a Reading,
    bytes: Option<Bytes>,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let bytes = self.bytes.take();
        lock(self.part).end(self.piece, bytes.clone());
        *lock(&self.reading.done) = Some(bytes);
        self.reading.woken.notify_all();
    }
}

impl Reading {
    /// The bytes, once they are there; none when reading them has failed.
    fn wait(&self) -> Option<Bytes> {
        let mut done = lock(&self.done);
        loop {
            if let Some(done) = &*done {
                return done.clone();
            }
            done = self
                .woken
                .wait(done)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Part {
    fn new(limit: u64, held: Held) -> Self {
        Self {
            limit,
            slots: HashMap::new(),
            young: VecDeque::new(),
            young_bytes: 0,
            old: VecDeque::new(),
            left: VecDeque::new(),
            left_set: HashSet::new(),
            left_bytes: 0,
            held,
            taken: 0,
        }
    }

    fn look(&mut self, piece: Piece) -> Looked {
        let now = self.now();
        match self.slots.entry(piece) {
            MapEntry::Occupied(mut slot) => match slot.get_mut() {
                Slot::Reading(reading) => Looked::Wait(Arc::clone(reading)),
                Slot::Loaded(kept) => {
                    if !kept.is_young && kept.used_at != now {
                        kept.uses = MOST_USES.min(kept.uses + 1);
                        kept.used_at = now;
                    }
                    Looked::Found(kept.bytes.clone())
                }
            },
            MapEntry::Vacant(slot) => {
                let reading = Arc::new(Reading::default());
                slot.insert(Slot::Reading(Arc::clone(&reading)));
                Looked::Read(reading)
            }
        }
    }

    /// Rises with what comes in; uses between two ticks are one.
    fn now(&self) -> u64 {
        self.taken / (self.limit / TICKS).max(1)
    }

    fn end(&mut self, piece: Piece, bytes: Option<Bytes>) {
        self.slots.remove(&piece);
        let Some(bytes) = bytes else { return };
        let cost = cost(&bytes);
        // Of what is very large nothing else would be left.
        if cost > self.limit / LARGEST {
            return;
        }
        let is_young = !self.left_set.remove(&piece);
        self.make_room(cost);
        self.held.grow_beyond(cost);
        self.taken += cost;
        if is_young {
            self.young.push_back(piece);
            self.young_bytes += cost;
        } else {
            self.old.push_back(piece);
        }
        let kept = Loaded {
            bytes,
            is_young,
            uses: 0,
            used_at: self.now(),
        };
        self.slots.insert(piece, Slot::Loaded(kept));
    }

    fn make_room(&mut self, cost: u64) {
        while self.held.bytes() + cost > self.limit {
            let young = self.young_bytes > self.limit / YOUNG_SHARE || self.old.is_empty();
            let gone = if young {
                self.drop_young()
            } else {
                self.drop_old()
            };
            if !gone && self.young.is_empty() && self.old.is_empty() {
                return;
            }
        }
    }

    /// The oldest young piece leaves, and is remembered for a while.
    fn drop_young(&mut self) -> bool {
        let Some(piece) = self.young.pop_front() else {
            return false;
        };
        let Some(cost) = self.forget(piece) else {
            return false;
        };
        self.young_bytes -= cost;
        self.left.push_back((piece, cost));
        self.left_set.insert(piece);
        self.left_bytes += cost;
        while self.left_bytes > self.limit {
            let Some((piece, cost)) = self.left.pop_front() else {
                break;
            };
            self.left_set.remove(&piece);
            self.left_bytes -= cost;
        }
        true
    }

    /// The next old piece leaves, or, if it was asked for, has another turn.
    fn drop_old(&mut self) -> bool {
        let Some(piece) = self.old.pop_front() else {
            return false;
        };
        if let Some(Slot::Loaded(kept)) = self.slots.get_mut(&piece)
            && kept.uses > 0
        {
            kept.uses -= 1;
            self.old.push_back(piece);
            return false;
        }
        self.forget(piece).is_some()
    }

    /// Lets go of a piece; what it took.
    fn forget(&mut self, piece: Piece) -> Option<u64> {
        match self.slots.remove(&piece) {
            Some(Slot::Loaded(kept)) => {
                let cost = cost(&kept.bytes);
                self.held.shrink(cost);
                Some(cost)
            }
            _ => None,
        }
    }
}

/// Bytes that a piece takes, its place included.
fn cost(bytes: &Bytes) -> u64 {
    bytes.len() as u64 + PLACE_BYTES
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a node calls the share of its memory.
const SHARE_NAME: &str = "cache";
/// For tests, and for who works on a log without a node.
const DEFAULT_BYTES: u64 = 256 << 20;
/// Pieces under one lock, and how many locks there are at most.
const PART_BYTES: u64 = 64 << 20;
const MOST_PARTS: u64 = 16;
/// About what a piece takes besides its bytes: its name, its place in a queue, and padding.
const PLACE_BYTES: u64 = 256;
/// Of the whole, the most that one piece may take.
const LARGEST: u64 = 4;
/// Of the whole, what young pieces may take while there are old ones.
const YOUNG_SHARE: u64 = 4;
/// Uses of an old piece are told apart by how much came in between: this part of the whole.
const TICKS: u64 = 8;
/// Turns that an old piece can have more.
const MOST_USES: u8 = 3;
/// An odd number without a pattern.
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::error::Operation;

    fn piece(file: u64, at: u64) -> Piece {
        Piece { file, at }
    }

    /// Asks for a piece of 4,096 bytes; whether it had to be read.
    fn ask(cache: &Cache, piece: Piece) -> bool {
        let mut read = false;
        let bytes = cache.get(piece, || {
            read = true;
            Ok(Bytes::from(vec![1; 4_096]))
        });
        assert_eq!(bytes.expect("there").len(), 4_096);
        read
    }

    #[test]
    fn what_fits_is_read_once_and_nothing_passes_the_share() {
        let cache = Cache::new(Share::new("cache", 100 * (4_096 + PLACE_BYTES)));
        for round in 0..3 {
            for at in 0..100 {
                assert_eq!(ask(&cache, piece(1, at)), round == 0, "{round} {at}");
            }
        }
        assert_eq!(cache.hits_and_misses(), (200, 100));
        for at in 0..10_000 {
            ask(&cache, piece(2, at));
            assert!(cache.share().used() <= cache.share().limit());
        }
        drop(cache.clone());
        let share = cache.share().clone();
        assert!(share.used() > 0);
        drop(cache);
        assert_eq!(share.used(), 0, "all is given back");
    }

    #[test]
    fn what_is_asked_for_again_stays_while_much_is_read_once() {
        let cache = Cache::new(Share::new("cache", 100 * (4_096 + PLACE_BYTES)));
        let (mut scanned, mut missed) = (0, 0);
        for turn in 0..400 {
            for at in 0..30 {
                let read = ask(&cache, piece(1, at));
                missed += usize::from(read && turn > 50);
            }
            // Each scanned piece is asked for several times while it is young.
            for _ in 0..100 {
                scanned += 1;
                for _ in 0..4 {
                    ask(&cache, piece(2, scanned));
                }
            }
        }
        assert!(missed < 400 * 30 / 20, "{missed} of {} are read", 350 * 30);
    }

    #[test]
    fn readers_of_one_piece_read_it_once_and_a_failure_is_only_its_readers() {
        let cache = Cache::default();
        let reads = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let read = || {
                        reads.fetch_add(1, Ordering::Relaxed);
                        std::thread::yield_now();
                        Ok(Bytes::from_static(b"once"))
                    };
                    assert_eq!(&cache.get(piece(1, 1), read).expect("there")[..], b"once");
                });
            }
        });
        assert_eq!(reads.load(Ordering::Relaxed), 1);
        let failing = || {
            let gone = std::io::Error::other("gone");
            Err(WalError::io(Operation::Read, "here".as_ref())(gone))
        };
        assert!(cache.get(piece(1, 2), failing).is_err());
        assert!(ask(&cache, piece(1, 2)), "the next one reads it");
        let panicking = || -> Result<Bytes, WalError> { panic!("while reading") };
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            cache.get(piece(1, 3), panicking)
        }));
        assert!(panicked.is_err());
        assert!(ask(&cache, piece(1, 3)), "nobody waits for ever");
    }

    #[test]
    fn without_a_share_everything_is_read_every_time() {
        let cache = Cache::new(Share::new("cache", 0));
        assert!(ask(&cache, piece(1, 1)) && ask(&cache, piece(1, 1)));
    }
}
