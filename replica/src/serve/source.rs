//! What an upstream serves and whom it follows itself: a primary's own log, or what a relay has of
//! its upstream's. It owns that pairing and must never decide anything: it is looked at by every
//! connection.

use std::sync::Arc;

use tokio::sync::watch;
use wal::{Log, Lsn, clock};

use crate::status::Hop;
use crate::wire::refusal::RefuseReason;
use crate::wire::{Heartbeat, Route, WireHop};

/// Where a node stands on the way from the primary.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lineage {
    /// The node itself first, then whom it follows, and so on.
    pub hops: Vec<Hop>,
    /// Whether the last of them is the primary.
    pub rooted: bool,
    /// Why it is not, where that is known.
    pub(crate) cut: Option<String>,
    /// Where the primary takes rows over HTTP, as it says itself; empty: nowhere, or not known.
    pub(crate) primary_http: String,
    /// What a relay last heard of the primary; none on the primary itself.
    pub(crate) primary_clock: Option<PrimaryClock>,
}

/// The primary's durable end while its clock showed a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PrimaryClock {
    pub(crate) durable: Lsn,
    pub(crate) now_unix_ns: i64,
}

impl Lineage {
    /// Why a node with this id must not follow: it is on the way itself, or a copy of a node that
    /// is. Who asks to follow is no primary, so one with the primary's id is a copy.
    pub(crate) fn bars(&self, id: &str) -> Option<RefuseReason> {
        let at = self.hops.iter().position(|hop| hop.id == id)?;
        let is_primary = self.rooted && at + 1 == self.hops.len();
        let name = self.hops.get(at).map(|hop| hop.name.clone());
        Some(if at == 0 || is_primary {
            RefuseReason::Copy {
                name: name.unwrap_or_default(),
            }
        } else {
            RefuseReason::Loop
        })
    }

    /// Whether this is the primary itself.
    pub(crate) fn is_primary(&self) -> bool {
        self.rooted && self.hops.len() == 1
    }

    /// The primary's end and clock, as far as this node knows them; `end` is that of its own log.
    pub(crate) fn heartbeat(&self, log: &Log, end: Lsn) -> Heartbeat {
        let committed_at_ns = log.snapshot().committed_at();
        let (durable, now_unix_ns) = match self.primary_clock {
            Some(clock) => (clock.durable, clock.now_unix_ns),
            None if self.is_primary() => (end, clock::unix_nanos()),
            // A relay that has not heard of the primary yet knows no later time than this.
            None => (end, committed_at_ns),
        };
        Heartbeat {
            durable: durable.0,
            committed_at_ns,
            now_unix_ns,
        }
    }

    /// The primary's durable end, as far as it is known here while the own log ends at `end`; none
    /// without a way to the primary.
    pub(crate) fn primary_end(&self, end: Lsn) -> Option<Lsn> {
        let heard = self.primary_clock.map_or(end, |clock| clock.durable);
        self.rooted.then_some(heard.max(end))
    }

    pub(crate) fn route(&self) -> Route {
        let wire = |hop: &Hop| WireHop {
            id: hop.id.clone(),
            name: hop.name.clone(),
        };
        Route {
            hops: self.hops.iter().map(wire).collect(),
            rooted: self.rooted,
        }
    }
}

/// A log to serve, now or later. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Source {
    log: watch::Receiver<Option<Log>>,
    lineage: watch::Receiver<Lineage>,
    /// A primary's never change, but must not look closed.
    _senders: Option<Arc<Senders>>,
}

#[derive(Debug)]
struct Senders {
    _log: watch::Sender<Option<Log>>,
    _lineage: watch::Sender<Lineage>,
}

impl Source {
    /// The log of a primary; `http` is the URL at which that takes rows, or the address it listens
    /// on, or empty.
    #[must_use]
    pub fn primary(log: Log, own: Hop, http: String) -> Self {
        let (keep_log, log) = watch::channel(Some(log));
        let (keep_lineage, lineage) = watch::channel(Lineage {
            hops: vec![own],
            rooted: true,
            cut: None,
            primary_http: http,
            primary_clock: None,
        });
        Self {
            log,
            lineage,
            _senders: Some(Arc::new(Senders {
                _log: keep_log,
                _lineage: keep_lineage,
            })),
        }
    }

    /// What a relay follows.
    pub(crate) fn relay(
        log: watch::Receiver<Option<Log>>,
        lineage: watch::Receiver<Lineage>,
    ) -> Self {
        Self {
            log,
            lineage,
            _senders: None,
        }
    }

    /// The log, if there is one yet.
    pub(crate) fn log(&self) -> Option<Log> {
        self.log.borrow().clone()
    }

    pub(crate) fn lineage(&self) -> Lineage {
        self.lineage.borrow().clone()
    }

    /// Changes when another log is served.
    pub(crate) fn logs(&self) -> watch::Receiver<Option<Log>> {
        self.log.clone()
    }

    /// Changes when the way to the primary does, and with every word of the primary.
    pub(crate) fn lineages(&self) -> watch::Receiver<Lineage> {
        self.lineage.clone()
    }
}

/// Most nodes between a secondary and the primary, both ends counted.
pub(crate) const MAX_HOPS: usize = 16;
