//! One secondary as its upstream knows it: what it has said of itself, and what is told of it. Pure:
//! it must never lock, wait, or know of any other secondary but one that claims to be it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use wal::{Chain, LogId, Lsn, NodeCopy, Position};

use crate::certs::member::Member;
use crate::lag::Freshness;
use crate::status::{Descendant, SecondaryState, SecondaryStatus};
use crate::wire::refusal::RefuseReason;
use crate::wire::{Heartbeat, NodeSummary, Report, Statement};

/// Who connected, from where, and what it said of itself.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// Common name of the certificate.
    pub(crate) name: String,
    /// Tells its certificate's key from others.
    pub(crate) key: u64,
    pub(crate) id: String,
    pub(crate) address: SocketAddr,
    pub(crate) protocol: u16,
    pub(crate) serves: String,
}

/// What a node vouches for, and which one.
#[derive(Clone, Debug)]
pub(crate) struct Vouched {
    pub(crate) member: Arc<Member>,
    pub(crate) statement: Statement,
}

impl Vouched {
    /// Whether it was said lately, by the primary's clock: a node that is gone vouches for nothing.
    pub(crate) fn is_fresh(&self, primary_ns: Option<i64>) -> bool {
        let heard = self.statement.heard_ns;
        primary_ns.is_none_or(|now| {
            (now.saturating_sub(FRESH_NS)..=now.saturating_add(AHEAD_NS)).contains(&heard)
        })
    }
}

/// How far the log reaches that secondaries are measured against.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reach {
    pub(crate) lsn: Lsn,
    /// Whether that is where the primary's ends now, as far as can be known.
    pub(crate) is_primary: bool,
}

/// Another node that says that it is this one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Twin {
    pub(super) address: SocketAddr,
    pub(super) times: u64,
    pub(super) at: Instant,
}

/// A connection, told from every other.
#[derive(Clone, Debug)]
pub(crate) struct Live {
    pub(super) number: u64,
    pub(crate) superseded: CancellationToken,
}

/// One secondary.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(super) peer: Peer,
    pub(crate) state: SecondaryState,
    pub(crate) sent: Lsn,
    pub(super) received: Lsn,
    pub(super) flushed: Position,
    pub(super) applied: Lsn,
    pub(crate) freshness: Freshness,
    /// What was last said to it of the primary.
    pub(super) beat: Option<Heartbeat>,
    /// When this connection last said something.
    pub(super) heard: Option<Instant>,
    pub(super) twin: Option<Twin>,
    /// The last end of a block on its disk that was found to be one of the log in force, too.
    pub(super) confirmed: Option<Position>,
    pub(super) first_seen_unix_ms: u64,
    pub(super) connected_at_unix_ms: u64,
    pub(super) last_seen_unix_ms: u64,
    /// When `last_seen_unix_ms` was last worth keeping.
    pub(super) noted_unix_ms: u64,
    pub(crate) reason: Option<String>,
    pub(crate) live: Option<Live>,
    /// Who follows it, and what is on their disks.
    pub(crate) descendants: Vec<NodeSummary>,
    pub(crate) vouched: Vec<Vouched>,
    pub(super) descendant_disks: Vec<NodeCopy>,
    pub(crate) files_differ: bool,
    /// Whether this connection has said what is on its disk.
    pub(super) reported: bool,
    /// The log it asked for instead of this node's, when it last came.
    pub(super) foreign: Option<(LogId, Lsn)>,
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
    pub(super) fn new(peer: Peer, position: Position, now_ms: u64) -> Self {
        Self {
            peer,
            state: SecondaryState::Refused,
            sent: position.lsn,
            received: position.lsn,
            flushed: position,
            applied: Lsn(0),
            freshness: Freshness::default(),
            beat: None,
            heard: None,
            twin: None,
            confirmed: None,
            first_seen_unix_ms: now_ms,
            connected_at_unix_ms: now_ms,
            last_seen_unix_ms: now_ms,
            noted_unix_ms: now_ms,
            reason: None,
            live: None,
            descendants: Vec::new(),
            vouched: Vec::new(),
            descendant_disks: Vec::new(),
            files_differ: false,
            reported: false,
            foreign: None,
        }
    }

    pub(super) fn in_use(&self) -> RefuseReason {
        RefuseReason::CloneId {
            id: self.peer.id.clone(),
            name: self.peer.name.clone(),
            address: self.peer.address,
        }
    }

    /// The log in force has a block that ends here, with this chain value.
    pub(crate) fn confirm(&mut self, position: Position) {
        self.confirmed = Some(position);
    }

    pub(super) fn is_of(&self, live: &Live) -> bool {
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
        let moved = Moved {
            flushed: !self.reported || self.flushed != flushed,
            noteworthy: now_ms.saturating_sub(self.noted_unix_ms) >= NOTE_EVERY_MS,
        };
        self.received = Lsn(report.received);
        self.flushed = flushed;
        self.reported = true;
        self.applied = Lsn(report.applied);
        self.freshness.apply(self.applied, 0);
        self.last_seen_unix_ms = now_ms;
        self.heard = Some(Instant::now());
        if moved.noteworthy {
            self.noted_unix_ms = now_ms;
        }
        if caught_up && self.state == SecondaryState::CatchingUp {
            self.state = SecondaryState::Streaming;
        }
        moved
    }

    /// What those behind it vouch for now, while the primary's clock shows this; whether that is
    /// something else than before. Nobody below has more of this log than the node itself.
    pub(crate) fn count_vouched(&mut self, primary_ns: Option<i64>) -> bool {
        let fresh = self.vouched.iter();
        let fresh = fresh.filter(|vouched| vouched.is_fresh(primary_ns));
        let disks = fresh.map(|vouched| NodeCopy {
            node: vouched.member.key(),
            flushed: vouched.statement.lsn().min(self.flushed.lsn),
        });
        let disks: Vec<NodeCopy> = disks.collect();
        let changed = self.descendant_disks != disks;
        self.descendant_disks = disks;
        changed
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
    pub(super) fn lag_rows(&self, end: Reach) -> Option<u64> {
        let behind = end.lsn.0.saturating_sub(self.applied.0);
        let is_known = self.live.is_some() && end.is_primary;
        let is_turned_away = self.state == SecondaryState::Refused;
        ((is_known || behind > 0) && !is_turned_away).then_some(behind)
    }

    pub(super) fn view(&self, end: Reach, at: Instant) -> SecondaryStatus {
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
            reason: self.twin_at(at).or_else(|| self.reason.clone()),
        }
    }

    pub(super) fn twin_at(&self, at: Instant) -> Option<String> {
        let lately = |twin: &Twin| at.saturating_duration_since(twin.at) < TWIN_TOLD;
        let twin = self.twin.filter(lately)?;
        Some(format!(
            "another node with this identity came from {}, {} times: one data directory was copied \
             from the other",
            twin.address, twin.times
        ))
    }

    pub(super) fn summary(&self, via: &str) -> NodeSummary {
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

/// How old a statement may be, by the primary's clock, and how far ahead of it.
const FRESH_NS: i64 = 30_000_000_000;
const AHEAD_NS: i64 = 5_000_000_000;

/// How often the last word of a connected secondary is worth keeping for the next start.
pub(super) const NOTE_EVERY_MS: u64 = 60_000;

/// How long it is told that another node came under the same id.
pub(super) const TWIN_TOLD: Duration = Duration::from_secs(600);
