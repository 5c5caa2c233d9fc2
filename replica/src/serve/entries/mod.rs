//! The entries of the secondaries a node knows and the rules over them: one node has one
//! connection, and what is remembered is bounded. Pure: it must never lock, wait or read a clock.

mod entry;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use wal::{LogId, Lsn, NodeCopy, Position};

use crate::lag::Freshness;
use crate::status::{Member, SecondaryState, SecondaryStatus};
use crate::wire::NodeSummary;
use crate::wire::refusal::RefuseReason;

use entry::Twin;
pub(crate) use entry::{Entry, Live, Peer, Reach, Vouched};

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

/// A log that a secondary holds and that this node does not serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignLog {
    /// The secondary, by its certificate.
    pub secondary: String,
    pub log: LogId,
    /// How far it has that log.
    pub lsn: Lsn,
}

/// Whether a node may take the place of the one that is connected under its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Contest {
    /// Nobody is connected, or only in name: it says nothing any more.
    Free,
    /// That will show soon.
    Open,
    /// The other one is alive: two nodes are known by one id.
    Taken(RefuseReason),
}

/// The entries, by id.
#[derive(Debug)]
pub(crate) struct Entries {
    by_id: HashMap<String, Entry>,
    limit: usize,
    connections: u64,
    /// A secondary has followed this node's log.
    followed: bool,
}

impl Entries {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            by_id: HashMap::new(),
            limit: limit.max(1),
            connections: 0,
            followed: false,
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
            key: 0,
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

    /// Whether this node, which came at `arrived`, may take its place. One that comes back has left
    /// a connection that says nothing any more; a copy finds one that goes on talking.
    pub(crate) fn contest(&self, peer: &Peer, arrived: Instant, now: Instant) -> Contest {
        let known = self.by_id.get(&peer.id);
        let Some(known) = known.filter(|known| known.live.is_some()) else {
            return Contest::Free;
        };
        if let Some(reason) = self.other_name(peer) {
            return Contest::Taken(reason);
        }
        match known.heard {
            Some(heard) if heard > arrived + ON_ITS_WAY => Contest::Taken(known.in_use()),
            Some(heard) if now.saturating_duration_since(heard) < TALKS => Contest::Open,
            _ => Contest::Free,
        }
    }

    fn other_name(&self, peer: &Peer) -> Option<RefuseReason> {
        let known = self.by_id.get(&peer.id)?;
        let is_other = known.live.is_some() && known.peer.name != peer.name;
        is_other.then(|| known.in_use())
    }

    /// Another node than the one that is connected came under its id.
    pub(crate) fn twin(&mut self, peer: &Peer, now: Instant) {
        let known = self.by_id.get_mut(&peer.id);
        if let Some(known) = known.filter(|known| known.live.is_some()) {
            let times = known.twin.map_or(0, |twin| twin.times);
            known.twin = Some(Twin {
                address: peer.address,
                times: times.saturating_add(1),
                at: now,
            });
        }
    }

    /// This end of a block is one of the log in force, too.
    pub(crate) fn confirm(&mut self, id: &str, position: Position) {
        if let Some(entry) = self.by_id.get_mut(id) {
            entry.confirm(position);
        }
    }

    /// What was found to be common with each node does not count any more.
    pub(crate) fn unconfirm(&mut self) {
        for entry in self.by_id.values_mut() {
            entry.confirmed = None;
        }
    }

    /// The last end of a block that this node is known to have, as the log in force has it.
    pub(crate) fn confirmed(&self, id: &str) -> Option<Position> {
        self.by_id.get(id)?.confirmed
    }

    pub(crate) fn register(
        &mut self,
        peer: Peer,
        position: Position,
        bootstrapping: bool,
        now_ms: u64,
    ) -> Result<Live, RefuseReason> {
        let now = Instant::now();
        if let Some(reason) = self.other_name(&peer) {
            return Err(reason);
        }
        if !self.make_room(&peer) {
            return Err(RefuseReason::Full { limit: self.limit });
        }
        self.connections += 1;
        self.followed = true;
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
            vouched: Vec::new(),
            descendant_disks: Vec::new(),
            files_differ: false,
            reported: false,
            foreign: None,
            applied: entry.applied.min(position.lsn),
            freshness: Freshness::default(),
            beat: None,
            heard: Some(now),
            ..entry
        };
        self.by_id.insert(peer.id, entry);
        Ok(live)
    }

    /// Those that lately asked for another log, as long as nobody has followed this node's: the one
    /// that has most of it first.
    pub(crate) fn foreign(&self, now_ms: u64) -> Vec<ForeignLog> {
        let asks = |entry: &Entry| {
            let lately = now_ms.saturating_sub(entry.last_seen_unix_ms) < ASKS_MS;
            let (log, lsn) = entry.foreign.filter(|_| lately && !self.followed)?;
            Some(ForeignLog {
                secondary: entry.peer.name.clone(),
                log,
                lsn,
            })
        };
        let mut foreign: Vec<ForeignLog> = self.by_id.values().filter_map(asks).collect();
        foreign.sort_by(|a, b| (b.lsn, &a.secondary).cmp(&(a.lsn, &b.secondary)));
        foreign
    }

    /// `foreign` is the log it asked for, if that is not this node's.
    pub(crate) fn refused(
        &mut self,
        peer: Peer,
        position: Position,
        (reason, foreign): (String, Option<LogId>),
        now_ms: u64,
    ) {
        let connected = self
            .by_id
            .get(&peer.id)
            .is_some_and(|entry| entry.live.is_some());
        // A live connection of that id is not to be hidden by another node that claims to be it.
        if connected || !self.make_room(&peer) {
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
            foreign: foreign.map(|log| (log, position.lsn)),
            ..entry
        };
        self.by_id.insert(id, entry);
    }

    /// Somebody whose certificate says this name was turned away before it could say which node it
    /// is: that is told of those who are gone. Nobody new is remembered for it, and of a name that
    /// nobody vouches for nothing else is believed.
    pub(crate) fn turned_away(&mut self, name: &str, address: SocketAddr, reason: &str) -> bool {
        let named = |entry: &&mut Entry| entry.live.is_none() && entry.peer.name == name;
        let mut changed = false;
        for entry in self.by_id.values_mut().filter(named) {
            entry.state = SecondaryState::Refused;
            entry.reason = Some(format!("{reason} (it came from {})", address.ip()));
            changed = true;
        }
        changed
    }

    /// Certificates' names that are known of which nobody is connected.
    pub(crate) fn absent(&self) -> usize {
        let named = |is_live: bool| -> HashSet<&str> {
            let entries = self.by_id.values();
            let meant = entries.filter(|entry| entry.live.is_some() == is_live);
            meant.map(|entry| entry.peer.name.as_str()).collect()
        };
        let there = named(true);
        named(false).difference(&there).count()
    }

    /// How long this node, which is not connected, was not heard.
    pub(crate) fn away_ms(&self, id: &str, now_ms: u64) -> Option<u64> {
        let entry = self.by_id.get(id).filter(|entry| entry.live.is_none())?;
        Some(now_ms.saturating_sub(entry.last_seen_unix_ms))
    }

    /// What is on the disks of connected nodes, by their own word on this connection, and of those
    /// behind them, by their own signature: each certificate's key counts once. A node that bootstraps does not count: it may have to start over.
    pub(crate) fn copies(&self) -> Vec<NodeCopy> {
        let counts = |entry: &&Entry| {
            let bootstrapping = entry.state == SecondaryState::Bootstrapping;
            entry.live.is_some() && entry.reported && !bootstrapping
        };
        let own = |entry: &Entry| NodeCopy {
            node: entry.peer.key,
            flushed: entry.flushed.lsn,
        };
        let live = self.by_id.values().filter(counts);
        live.flat_map(|entry| {
            std::iter::once(own(entry)).chain(entry.descendant_disks.iter().copied())
        })
        .collect()
    }

    /// Whether this node is known or fits, once the one not connected for longest is forgotten: of
    /// those of the same name, where these have a quarter of all places. So nobody makes others
    /// forgotten by making up ids.
    fn make_room(&mut self, peer: &Peer) -> bool {
        let has_name = |entry: &Entry| entry.peer.name == peer.name;
        let of_name = self.by_id.values().filter(|entry| has_name(entry)).count();
        let has_many = of_name >= (self.limit / 4).max(1);
        if self.by_id.contains_key(&peer.id) || self.by_id.len() < self.limit {
            return true;
        }
        let gone = self
            .by_id
            .iter()
            .filter(|(_, entry)| entry.live.is_none() && (!has_many || has_name(entry)));
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

    /// What those who are connected and those behind them vouch for.
    pub(crate) fn vouched(&self) -> Vec<Vouched> {
        let live = self.by_id.values().filter(|entry| entry.live.is_some());
        live.flat_map(|entry| entry.vouched.iter().cloned())
            .collect()
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

/// A secondary that is turned away comes again within this.
const ASKS_MS: u64 = 600_000;

/// A secondary says something every second.
const TALKS: Duration = Duration::from_millis(1_500);

/// What a node has said before it was replaced may arrive for so long.
const ON_ITS_WAY: Duration = Duration::from_millis(300);
