//! What this node signs for those above its upstream, and what it hands on of those behind it: the
//! primary counts a node by its own word alone. It owns when something is signed; it must never
//! sign what is not on the disk, nor for anybody else.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use wal::{LogId, Position};

use crate::certs::identity::Identity;
use crate::serve::entries::Vouched;
use crate::serve::source::Lineage;
use crate::wire::statement::{MAX_CERTIFICATES, MAX_STATEMENTS, fnv, to_sign};
use crate::wire::{Message, NodeCertificate, Statement, Statements};

/// Of one connection to an upstream.
pub(crate) struct Vouching<'a> {
    identity: &'a Identity,
    /// Certificates that the upstream was shown.
    shown: HashSet<u64>,
    own: Option<Signed>,
    said: Vec<Statement>,
    said_at: Option<Instant>,
    /// Something has to be said that came too soon.
    waits: bool,
}

/// What this node has signed last.
struct Signed {
    statement: Statement,
    of: (LogId, Position),
    at: Instant,
    certificate: Vec<u8>,
}

impl<'a> Vouching<'a> {
    pub(crate) fn new(identity: &'a Identity) -> Self {
        Self {
            identity,
            shown: HashSet::new(),
            own: None,
            said: Vec::new(),
            said_at: None,
            waits: false,
        }
    }

    /// What to say now: certificates that the upstream has not seen, then the statements. `own` is
    /// what is on this node's disk, unless it bootstraps.
    pub(crate) fn due(
        &mut self,
        log: LogId,
        own: Option<Position>,
        below: &[Vouched],
        lineage: &Lineage,
        now: Instant,
    ) -> Vec<Message> {
        let too_soon = |at: Instant| now.saturating_duration_since(at) < GAP;
        if self.said_at.is_some_and(too_soon) {
            self.waits = true;
            return Vec::new();
        }
        self.waits = false;
        // The primary hears the node itself.
        let is_below_a_relay = match lineage.hops.len() {
            // The way is not known yet.
            0 | 1 => false,
            2 => !lineage.rooted,
            _ => true,
        };
        if let Some(own) = own.filter(|_| is_below_a_relay) {
            self.sign(log, own, lineage, now);
        } else {
            self.own = None;
        }
        let own = self.own.as_ref().map(|own| {
            let certificate = own.certificate.as_slice();
            (own.statement.clone(), certificate)
        });
        let mut furthest: Vec<&Vouched> = below.iter().collect();
        furthest.sort_by_key(|vouched| std::cmp::Reverse(vouched.statement.flushed));
        let below = furthest.into_iter().map(|vouched| {
            let certificate = vouched.member.der();
            (vouched.statement.clone(), certificate)
        });
        let all: Vec<(Statement, &[u8])> = own.into_iter().chain(below).collect();
        let mut messages = Vec::new();
        let mut nodes: Vec<Statement> = Vec::new();
        for (statement, certificate) in all {
            let is_told = nodes.iter().any(|told| told.node == statement.node);
            if is_told || nodes.len() >= MAX_STATEMENTS {
                continue;
            }
            if !self.shown.contains(&statement.node) {
                if self.shown.len() >= MAX_CERTIFICATES {
                    continue;
                }
                self.shown.insert(statement.node);
                let der = certificate.to_vec();
                messages.push(Message::NodeCertificate(NodeCertificate { der }));
            }
            nodes.push(statement);
        }
        if nodes != self.said {
            self.said.clone_from(&nodes);
            self.said_at = Some(now);
            messages.push(Message::Statements(Statements { nodes }));
        }
        messages
    }

    /// How long to wait for what could not be said yet; none: there is nothing.
    pub(crate) fn pause(&self, now: Instant) -> Option<Duration> {
        let at = self.said_at.filter(|_| self.waits)?;
        Some((at + GAP).saturating_duration_since(now))
    }

    /// Signs what is on the disk, if that is news or the last signature grows old.
    fn sign(&mut self, log: LogId, own: Position, lineage: &Lineage, now: Instant) {
        let is_good = |signed: &Signed| {
            signed.of == (log, own) && now.saturating_duration_since(signed.at) < SIGNED_AGAIN
        };
        if self.own.as_ref().is_some_and(is_good) {
            return;
        }
        let heard_ns = lineage.primary_clock.map_or(0, |clock| clock.now_unix_ns);
        let signed = self.identity.sign(&to_sign(log, own, heard_ns));
        let certificate = self.identity.certificate_der();
        self.own = signed
            .zip(certificate)
            .map(|((scheme, signature), certificate)| {
                let statement = Statement {
                    node: fnv(&certificate),
                    flushed: own.lsn.0,
                    chain: own.chain.0,
                    heard_ns,
                    scheme,
                    signature,
                };
                Signed {
                    statement,
                    of: (log, own),
                    at: now,
                    certificate,
                }
            });
    }
}

/// Shortest time between two messages: each costs whoever reads it a signature to check.
const GAP: Duration = Duration::from_millis(20);

/// Time after which the same is signed again: a node that is gone must not count for long.
const SIGNED_AGAIN: Duration = Duration::from_secs(5);
