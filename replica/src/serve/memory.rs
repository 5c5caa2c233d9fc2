//! What connections of secondaries may hold of the node's memory: each what the share has for it,
//! less with each that comes. It owns those numbers; it must never let them add up to more than the
//! share, nor know what is sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wal::{Held, Share};

use crate::part::{Part, PartHeld};

/// The memory of all connections. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Memory {
    share: Share,
    /// What peers tell of others: lists, certificates.
    told: Part,
    connected: Arc<AtomicU64>,
}

/// What one connection holds, until it is dropped.
pub(crate) struct ConnectionMemory {
    memory: Memory,
    held: Held,
}

/// What may be under way on a connection, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Windows {
    /// From here, not acknowledged yet.
    pub(crate) send: u64,
    /// From the peer, not read yet.
    pub(crate) receive: u32,
    /// Read for the peer, and not handed to the connection yet.
    pub(crate) load: u64,
}

impl Memory {
    pub(crate) fn new(share: Share) -> Self {
        Self {
            told: Part::of(&share, 8),
            share,
            connected: Arc::default(),
        }
    }

    /// The share, for what else is kept of peers.
    pub(crate) fn share(&self) -> &Share {
        &self.share
    }

    /// How many connections there may be, of so many at most: a quarter is for what is said on
    /// them, and for those who come.
    pub(crate) fn places(&self, most: usize) -> usize {
        let places = self.share.limit() / 4 * 3 / LEAST;
        usize::try_from(places).map_or(most, |places| places.clamp(1, most))
    }

    /// How many TLS handshakes there may be under way, of so many at most.
    pub(crate) fn handshakes(&self, most: usize) -> usize {
        let places = self.share.limit() / 8 / LEAST;
        usize::try_from(places).map_or(most, |places| places.clamp(LEAST_HANDSHAKES, most))
    }

    /// What a handshake takes: there are few of them.
    pub(crate) fn handshake(&self) -> Held {
        self.share.take_beyond(LEAST)
    }

    /// What a connection needs at least; none: there is no memory left for it.
    pub(crate) fn admit(&self) -> Option<ConnectionMemory> {
        let held = self.share.try_take(LEAST)?;
        self.connected.fetch_add(1, Ordering::Relaxed);
        Some(ConnectionMemory {
            memory: self.clone(),
            held,
        })
    }

    /// Room for what a peer tells; none: it is as if it had said nothing.
    pub(crate) fn told(&self, bytes: u64) -> Option<PartHeld> {
        self.told.try_take(bytes)
    }
}

impl ConnectionMemory {
    /// What the connection may have under way now, up to so much to the peer. All of them together
    /// have half of the share: the other half is for those who come.
    pub(crate) fn windows(&mut self, most: u64) -> Windows {
        let connected = self.memory.connected.load(Ordering::Relaxed).max(1);
        let fair = self.memory.share.limit() / 2 / connected;
        let beyond = fair.saturating_sub(LEAST);
        // Little of what comes is large: a file that is lent, at most.
        let receive = beyond / 8;
        let receive = receive.min(MOST_RECEIVE - LEAST_RECEIVE);
        let load = (beyond / 8).min(MOST_LOAD);
        let send = (beyond - receive - load).min(most.saturating_sub(LEAST_SEND));
        if !self.held.resize(LEAST + send + receive + load) {
            // Others have not given back yet what they have too much.
            let got = self.held.resize(LEAST);
            debug_assert!(got, "less is always there");
            return windows(0, 0, 0);
        }
        windows(send, receive, load)
    }
}

fn windows(send: u64, receive: u64, load: u64) -> Windows {
    let receive = u32::try_from(LEAST_RECEIVE + receive).unwrap_or(u32::MAX);
    Windows {
        send: LEAST_SEND + send,
        receive,
        load,
    }
}

impl Drop for ConnectionMemory {
    fn drop(&mut self) {
        self.memory.connected.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a connection takes that has nothing under way.
const BUFFERS: u64 = 24 << 10;
const LEAST_SEND: u64 = 16 << 10;
const LEAST_RECEIVE: u64 = 8 << 10;
const LEAST: u64 = BUFFERS + LEAST_SEND + LEAST_RECEIVE;

/// Most that a peer may have under way to here: messages, and what is fetched.
const MOST_RECEIVE: u64 = 5 << 18;

/// Most that is read for a peer ahead of what its connection takes: blocks, and what they are packed
/// into.
const MOST_LOAD: u64 = 1 << 20;

/// Handshakes under way at once, however little memory there is.
const LEAST_HANDSHAKES: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_few_have_all_they_want_and_a_thousand_what_there_is() {
        for limit in [4 * MIB, 16 * MIB, 64 * MIB, 1 << 40] {
            let share = Share::new("replication", limit);
            let memory = Memory::new(share.clone());
            let mut all: Vec<ConnectionMemory> = Vec::new();
            for _ in 0..1_000 {
                match memory.admit() {
                    Some(one) => all.push(one),
                    None => break,
                }
                // Each looks from time to time.
                let windows: u64 = all
                    .iter_mut()
                    .map(|one| {
                        let windows = one.windows(32 * MIB);
                        windows.send + u64::from(windows.receive) + windows.load + BUFFERS
                    })
                    .sum();
                assert!(windows <= share.used() && share.used() <= limit, "{limit}");
            }
            let expected = (limit / LEAST).min(1_000);
            assert_eq!(all.len() as u64, expected, "{limit}");
            let places = memory.places(1_024) as u64;
            assert!(places * LEAST <= limit / 4 * 3, "{limit}");
            assert!(places == 1_024 || limit < 64 * MIB, "{limit}");
            let handshakes = memory.handshakes(256) as u64;
            assert!(handshakes * LEAST <= limit / 8, "{limit}");
            all.truncate(1);
            let alone = all[0].windows(32 * MIB);
            assert!(
                alone.send >= (limit / 4).min(32 * MIB),
                "{alone:?} of {limit}"
            );
            assert!(alone.send <= 32 * MIB && u64::from(alone.receive) <= MOST_RECEIVE);
            all.clear();
            assert_eq!(share.used(), 0);
        }
    }
}
