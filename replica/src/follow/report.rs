//! What a secondary tells its upstream while it follows: how far it is, what it holds in files, and
//! who follows it in turn. It owns when that is said and how long a list may be; it must never say
//! that something is on the disk before it is.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::sleep;
use wal::{Log, Position};

use crate::certs::identity::Identity;
use crate::config::FollowConfig;
use crate::follow::error::FollowError;
use crate::follow::state::FollowState;
use crate::follow::vouching::Vouching;
use crate::quic::ControlSender;
use crate::serve::registry::Summaries;
use crate::wire::message::MAX_SUMMARIES;
use crate::wire::version::VOUCHES;
use crate::wire::{Descendants, Disk, MAX_MESSAGE_LEN, Message, Report};

/// Tells the upstream how far this node is, and who follows it.
pub(crate) struct Reporter<'a> {
    pub(crate) log: &'a Log,
    pub(crate) state: &'a FollowState,
    pub(crate) config: &'a FollowConfig,
    pub(crate) bootstrapping: bool,
    pub(crate) protocol: u16,
    /// Who this node is to the upstream.
    pub(crate) identity: &'a Identity,
    pub(crate) summaries: watch::Receiver<Option<Summaries>>,
}

impl Reporter<'_> {
    /// When more is on disk, a little later to say it once for many groups, and from time to time
    /// anyway.
    pub(crate) async fn run(&self, mut sender: ControlSender) -> Result<Infallible, FollowError> {
        let (mut durable, mut replicated) = (self.log.durable(), self.log.replicated());
        let (mut reported, mut reported_at) = (Descendants::default(), None);
        let mut vouching = Vouching::new(self.identity);
        loop {
            let flushed = *durable.borrow_and_update();
            replicated.borrow_and_update();
            sender.send(&self.report(flushed)).await?;
            if reported_at.is_none_or(|at: Instant| at.elapsed() >= DESCENDANTS_EVERY) {
                reported_at = Some(Instant::now());
                let descendants = self.descendants();
                if descendants != reported {
                    reported.clone_from(&descendants);
                    sender.send(&Message::Descendants(descendants)).await?;
                }
            }
            let mut pause = REPORT_EVERY;
            if self.protocol >= VOUCHES {
                let own = (!self.bootstrapping).then_some(flushed);
                let below = self.summaries.borrow().clone();
                let below = below.map_or_else(Vec::new, |below| below.vouched());
                let lineage = self.state.lineage().borrow().clone();
                let now = Instant::now();
                for message in vouching.due(self.log.id(), own, &below, &lineage, now) {
                    sender.send(&message).await?;
                }
                pause = vouching.pause(now).unwrap_or(pause);
            }
            sleep(REPORT_GAP).await;
            tokio::select! {
                changed = durable.changed() => if changed.is_err() {
                    return Err(closed());
                },
                changed = replicated.changed() => if changed.is_err() {
                    return Err(closed());
                },
                () = sleep(pause) => {}
            }
        }
    }

    fn report(&self, flushed: Position) -> Message {
        let snapshot = self.log.snapshot();
        // The snapshot is published first, so it may be a group further.
        let applied = snapshot.end().lsn.min(flushed.lsn);
        if !self.bootstrapping {
            self.state.applied(applied, snapshot.committed_at());
        }
        drop(snapshot);
        let received = self.state.received_lsn().max(flushed.lsn);
        assert!(received >= flushed.lsn && flushed.lsn >= applied);
        let mut report = Report {
            received: received.0,
            flushed: flushed.lsn.0,
            applied: applied.0,
            chain: flushed.chain.0,
            // Nobody believes it from this version on.
            descendants: if self.protocol < VOUCHES {
                self.log
                    .replicated()
                    .borrow()
                    .top()
                    .map(Disk::from)
                    .collect()
            } else {
                Vec::new()
            },
            ..Report::default()
        };
        // The files of a log that is being brought in are not all here yet.
        if !self.bootstrapping {
            let mark = self.log.files_mark();
            report.compacted = mark.compacted.0;
            report.next = mark.next;
            report.digest = mark.digest;
        }
        Message::Report(report)
    }

    fn descendants(&self) -> Descendants {
        let summaries = self.summaries.borrow().clone();
        let mut nodes =
            summaries.map_or_else(Vec::new, |summaries| summaries.list(&self.config.node_id));
        let more = nodes.len().saturating_sub(MAX_SUMMARIES);
        nodes.truncate(MAX_SUMMARIES);
        // One message must hold them all, whatever those below call themselves.
        for node in &mut nodes {
            let texts = [
                &mut node.id,
                &mut node.name,
                &mut node.address,
                &mut node.state,
                &mut node.via,
            ];
            for text in texts {
                *text = text
                    .chars()
                    .filter(char::is_ascii)
                    .take(SUMMARY_TEXT)
                    .collect();
            }
        }
        Descendants {
            nodes,
            more: u32::try_from(more).unwrap_or(u32::MAX),
        }
    }
}

fn closed() -> FollowError {
    FollowError::LocalLog("it is closed".to_owned())
}

/// Shortest time between reports.
const REPORT_GAP: Duration = Duration::from_millis(2);

/// Longest time between reports.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// Shortest time between two lists of those who follow this node.
const DESCENDANTS_EVERY: Duration = Duration::from_secs(1);

/// Bytes of each of the five texts of a node in a list: all together less than a message may have.
const SUMMARY_TEXT: usize = 60;
const _: () = assert!(MAX_SUMMARIES * (5 * (SUMMARY_TEXT + 1) + 9) < MAX_MESSAGE_LEN);
