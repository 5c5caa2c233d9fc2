//! The entries of the secondaries a node knows and the rules over them: one node has one
//! connection, and what is remembered is bounded. Pure: it must never lock, wait or read a clock.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::time::Instant;

use tokio_util::sync::CancellationToken;
use wal::{Chain, Lsn, NodeCopy, Position};

use crate::lag::Freshness;
use crate::status::{Descendant, Member, SecondaryState, SecondaryStatus};
use crate::wire::refusal::RefuseReason;
use crate::wire::{Heartbeat, NodeSummary, Report};

/// Who connected, from where, and what it said of itself.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// Common name of the certificate.
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) address: SocketAddr,
    pub(crate) protocol: u16,
    pub(crate) serves: String,
}

/// How far the log reaches that secondaries are measured against.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reach {
    pub(crate) lsn: Lsn,
    /// Whether that is where the primary's ends now, as far as can be known.
    pub(crate) is_primary: bool,
}

/// What became of the wish to forget a secondary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forgotten {
    /// It is.
    Done,
    /// It is connected, so it would be back at once.
    Connected,
    /// No secondary has that name or id.
    Unknown,
}

/// A connection, told from every other.
#[derive(Clone, Debug)]
pub(crate) struct Live {
    number: u64,
    pub(crate) superseded: CancellationToken,
}

/// One secondary.
#[derive(Debug)]
pub(crate) struct Entry {
    peer: Peer,
    pub(crate) state: SecondaryState,
    pub(crate) sent: Lsn,
    received: Lsn,
    flushed: Position,
    applied: Lsn,
    pub(crate) freshness: Freshness,
    /// What was last said to it of the primary.
    beat: Option<Heartbeat>,
    first_seen_unix_ms: u64,
    connected_at_unix_ms: u64,
    last_seen_unix_ms: u64,
    /// When `last_seen_unix_ms` was last worth keeping.
    noted_unix_ms: u64,
    pub(crate) reason: Option<String>,
    pub(crate) live: Option<Live>,
    /// Who follows it, and what is on their disks.
    pub(crate) descendants: Vec<NodeSummary>,
    descendant_disks: Vec<NodeCopy>,
    pub(crate) files_differ: bool,
    /// Whether this connection has said what is on its disk.
    reported: bool,
}

/// What a report has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Moved {
    /// More is on disk somewhere.
    pub(crate) flushed: bool,
    /// What is kept over a restart has become old.
    pub(crate) noteworthy: bool,
}

impl Entry {
    fn new(peer: Peer, position: Position, now_ms: u64) -> Self {
        Self {
            peer,
            state: SecondaryState::Refused,
            sent: position.lsn,
            received: position.lsn,
            flushed: position,
            applied: Lsn(0),
            freshness: Freshness::default(),
            beat: None,
            first_seen_unix_ms: now_ms,
            connected_at_unix_ms: now_ms,
            last_seen_unix_ms: now_ms,
            noted_unix_ms: now_ms,
            reason: None,
            live: None,
            descendants: Vec::new(),
            descendant_disks: Vec::new(),
            files_differ: false,
            reported: false,
        }
    }

    fn is_of(&self, live: &Live) -> bool {
        self.live
            .as_ref()
            .is_some_and(|own| own.number == live.number)
    }

    pub(crate) fn report(&mut self, report: &Report, caught_up: bool, now_ms: u64) -> Moved {
        // The session has refused any other.
        assert!(report.received >= report.flushed && report.flushed >= report.applied);
        let flushed = Position {
            lsn: Lsn(report.flushed),
            chain: Chain(report.chain),
        };
        // Nobody below has more of this log than the node itself.
        let disks = report.descendants.iter().map(|disk| NodeCopy {
            node: disk.node,
            flushed: Lsn(disk.flushed).min(flushed.lsn),
        });
        let disks: Vec<NodeCopy> = disks.collect();
        let moved = Moved {
            flushed: !self.reported || self.flushed != flushed || self.descendant_disks != disks,
            noteworthy: now_ms.saturating_sub(self.noted_unix_ms) >= NOTE_EVERY_MS,
        };
        self.received = Lsn(report.received);
        (self.flushed, self.descendant_disks) = (flushed, disks);
        self.reported = true;
        self.applied = Lsn(report.applied);
        self.freshness.apply(self.applied, 0);
        self.last_seen_unix_ms = now_ms;
        if moved.noteworthy {
            self.noted_unix_ms = now_ms;
        }
        if caught_up && self.state == SecondaryState::CatchingUp {
            self.state = SecondaryState::Streaming;
        }
        moved
    }

    /// A heartbeat went out. What only repeats is no word of the primary: a relay says again what
    /// it last heard.
    pub(crate) fn beat(&mut self, beat: &Heartbeat, at: Instant) {
        if self.beat != Some(*beat) {
            self.beat = Some(*beat);
            self.freshness.beat(Lsn(beat.durable), beat.now_unix_ns, at);
        }
    }

    /// Rows that are missing there: none is not known of a node that is not connected, and of one
    /// that was turned away nothing is.
    fn lag_rows(&self, end: Reach) -> Option<u64> {
        let behind = end.lsn.0.saturating_sub(self.applied.0);
        let is_known = self.live.is_some() && end.is_primary;
        let is_turned_away = self.state == SecondaryState::Refused;
        ((is_known || behind > 0) && !is_turned_away).then_some(behind)
    }

    fn view(&self, end: Reach, at: Instant) -> SecondaryStatus {
        let is_turned_away = self.state == SecondaryState::Refused;
        let lag_ms = self.freshness.lag_ms(self.applied, at);
        SecondaryStatus {
            name: self.peer.name.clone(),
            id: self.peer.id.clone(),
            address: self.peer.address,
            state: self.state,
            protocol: self.peer.protocol,
            serves: self.peer.serves.clone(),
            descendants: self.descendants.iter().map(Descendant::from).collect(),
            files_differ: self.files_differ,
            sent: self.sent,
            received: self.received,
            flushed: self.flushed.lsn,
            applied: self.applied,
            lag_rows: self.lag_rows(end),
            lag_bytes: None,
            lag_ms: lag_ms.filter(|_| !is_turned_away),
            connected_at_unix_ms: self.connected_at_unix_ms,
            last_seen_unix_ms: self.last_seen_unix_ms,
            reason: self.reason.clone(),
        }
    }

    fn summary(&self, via: &str) -> NodeSummary {
        NodeSummary {
            id: self.peer.id.clone(),
            name: self.peer.name.clone(),
            address: self.peer.address.to_string(),
            state: self.state.as_str().to_owned(),
            applied: self.applied.0,
            via: via.to_owned(),
        }
    }
}

/// The entries, by id.
#[derive(Debug)]
pub(crate) struct Entries {
    by_id: HashMap<String, Entry>,
    limit: usize,
    connections: u64,
}

impl Entries {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            by_id: HashMap::new(),
            limit: limit.max(1),
            connections: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// The entry of a connection, as long as no newer one has taken it over.
    pub(crate) fn live_mut(&mut self, id: &str, live: &Live) -> Option<&mut Entry> {
        self.by_id.get_mut(id).filter(|entry| entry.is_of(live))
    }

    /// Remembers a secondary of an earlier run, if there is room.
    pub(crate) fn restore(&mut self, member: Member) {
        if self.by_id.len() >= self.limit {
            return;
        }
        let peer = Peer {
            name: member.name,
            id: member.id.clone(),
            address: member.address,
            protocol: 0,
            serves: String::new(),
        };
        let entry = Entry {
            state: SecondaryState::Disconnected,
            applied: member.position.lsn,
            first_seen_unix_ms: member.first_seen_unix_ms,
            connected_at_unix_ms: 0,
            ..Entry::new(peer, member.position, member.last_seen_unix_ms)
        };
        self.by_id.insert(member.id, entry);
    }

    pub(crate) fn members(&self) -> Vec<Member> {
        let member = |entry: &Entry| Member {
            id: entry.peer.id.clone(),
            name: entry.peer.name.clone(),
            address: entry.peer.address,
            position: entry.flushed,
            first_seen_unix_ms: entry.first_seen_unix_ms,
            last_seen_unix_ms: entry.last_seen_unix_ms,
        };
        let mut members: Vec<Member> = self.by_id.values().map(member).collect();
        members.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
        members
    }

    /// Forgets one by its id, or else all disconnected ones of that name.
    pub(crate) fn forget(&mut self, name_or_id: &str) -> Forgotten {
        let means = |entry: &Entry| entry.peer.id == name_or_id || entry.peer.name == name_or_id;
        let all = self.by_id.values().filter(|entry| means(entry)).count();
        self.by_id
            .retain(|_, entry| entry.live.is_some() || !means(entry));
        let left = self.by_id.values().filter(|entry| means(entry)).count();
        match (all, left) {
            (0, _) => Forgotten::Unknown,
            (all, left) if left < all => Forgotten::Done,
            _ => Forgotten::Connected,
        }
    }

    pub(crate) fn register(
        &mut self,
        peer: Peer,
        position: Position,
        bootstrapping: bool,
        now_ms: u64,
    ) -> Result<Live, RefuseReason> {
        let other = self.by_id.get(&peer.id).filter(|known| {
            // A copy with its certificate shows by where it is, as long as the other one talks.
            let elsewhere = known.peer.address.ip() != peer.address.ip()
                && now_ms.saturating_sub(known.last_seen_unix_ms) < TALKS_MS;
            known.live.is_some() && (known.peer.name != peer.name || elsewhere)
        });
        if let Some(other) = other {
            let (id, name) = (peer.id, other.peer.name.clone());
            return Err(RefuseReason::CloneId { id, name });
        }
        if !self.make_room(&peer.id) {
            return Err(RefuseReason::Full { limit: self.limit });
        }
        self.connections += 1;
        let live = Live {
            number: self.connections,
            superseded: CancellationToken::new(),
        };
        let entry = match self.by_id.remove(&peer.id) {
            Some(mut entry) => {
                if let Some(older) = entry.live.take() {
                    older.superseded.cancel();
                }
                entry.peer = peer.clone();
                entry
            }
            None => Entry::new(peer.clone(), position, now_ms),
        };
        let state = if bootstrapping {
            SecondaryState::Bootstrapping
        } else {
            SecondaryState::CatchingUp
        };
        let entry = Entry {
            state,
            sent: position.lsn,
            received: position.lsn,
            connected_at_unix_ms: now_ms,
            last_seen_unix_ms: now_ms,
            reason: None,
            live: Some(live.clone()),
            descendants: Vec::new(),
            descendant_disks: Vec::new(),
            files_differ: false,
            reported: false,
            applied: entry.applied.min(position.lsn),
            freshness: Freshness::default(),
            beat: None,
            ..entry
        };
        self.by_id.insert(peer.id, entry);
        Ok(live)
    }

    pub(crate) fn refused(&mut self, peer: Peer, position: Position, reason: String, now_ms: u64) {
        let connected = self
            .by_id
            .get(&peer.id)
            .is_some_and(|entry| entry.live.is_some());
        // A live connection of that id is not to be hidden by another node that claims to be it.
        if connected || !self.make_room(&peer.id) {
            return;
        }
        let known = self.by_id.remove(&peer.id);
        let entry = known.unwrap_or_else(|| Entry::new(peer.clone(), position, now_ms));
        let id = peer.id.clone();
        let entry = Entry {
            peer,
            state: SecondaryState::Refused,
            last_seen_unix_ms: now_ms,
            reason: Some(reason),
            ..entry
        };
        self.by_id.insert(id, entry);
    }

    /// What is on the disks of connected nodes and of those behind them, by their own word on this
    /// connection. A node that bootstraps does not count: it may have to start over.
    pub(crate) fn copies(&self) -> Vec<NodeCopy> {
        let counts = |entry: &&Entry| {
            let bootstrapping = entry.state == SecondaryState::Bootstrapping;
            entry.live.is_some() && entry.reported && !bootstrapping
        };
        let own = |entry: &Entry| NodeCopy {
            node: fnv(&entry.peer.id),
            flushed: entry.flushed.lsn,
        };
        let live = self.by_id.values().filter(counts);
        live.flat_map(|entry| {
            std::iter::once(own(entry)).chain(entry.descendant_disks.iter().copied())
        })
        .collect()
    }

    /// Whether `id` is known or fits, once the one not connected for longest is forgotten.
    fn make_room(&mut self, id: &str) -> bool {
        if self.by_id.contains_key(id) || self.by_id.len() < self.limit {
            return true;
        }
        let gone = self.by_id.iter().filter(|(_, entry)| entry.live.is_none());
        let oldest = gone.min_by_key(|(_, entry)| entry.last_seen_unix_ms);
        match oldest.map(|(id, _)| id.clone()) {
            Some(oldest) => self.by_id.remove(&oldest).is_some(),
            None => false,
        }
    }

    /// Every status but for its bytes. Who is gone from here and connected behind somebody else is
    /// listed there.
    pub(crate) fn statuses(&self, end: Reach, at: Instant) -> Vec<SecondaryStatus> {
        let live = self.by_id.values().filter(|entry| entry.live.is_some());
        let below: HashSet<&str> = live
            .flat_map(|entry| &entry.descendants)
            .map(|summary| summary.id.as_str())
            .collect();
        let is_shown =
            |entry: &&Entry| entry.live.is_some() || !below.contains(entry.peer.id.as_str());
        let shown = self.by_id.values().filter(is_shown);
        shown.map(|entry| entry.view(end, at)).collect()
    }

    /// Connected ones and those behind them.
    pub(crate) fn summaries(&self, via: &str) -> Vec<NodeSummary> {
        let live = self.by_id.values().filter(|entry| entry.live.is_some());
        let mut summaries: Vec<NodeSummary> = live
            .flat_map(|entry| {
                std::iter::once(entry.summary(via)).chain(entry.descendants.iter().cloned())
            })
            .collect();
        summaries.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
        summaries
    }
}

/// FNV-1a, 64 bits: tells nodes apart by eight bytes, alike on every node.
fn fnv(id: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    id.bytes().fold(0xcbf2_9ce4_8422_2325, step)
}

/// How often the last word of a connected secondary is worth keeping for the next start.
const NOTE_EVERY_MS: u64 = 60_000;

/// A secondary says something every second.
const TALKS_MS: u64 = 1_500;
