//! One connection to the upstream once the handshake is done, seen from the secondary: blocks in,
//! reports out, heartbeats read and fetches served. It owns nothing beyond that connection and must
//! never put into the log a byte that the log itself did not check.

use std::mem;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use wal::{Follower, Log, Lsn, Position};

use crate::config::FollowConfig;
use crate::error::{LinkError, clip};
use crate::files::fetch::Giving;
use crate::files::peers::Peers;
use crate::follow::error::FollowError;
use crate::follow::handshake::{Agreed, Agreement};
use crate::follow::state::FollowState;
use crate::quic::{BlockReceiver, ControlReceiver, ControlSender, Link};
use crate::serve::registry::Summaries;
use crate::serve::source::MAX_HOPS;
use crate::wire::assembler::Assembler;
use crate::wire::blocks::Unpacker;
use crate::wire::message::MAX_SUMMARIES;
use crate::wire::{Descendants, Disk, MAX_MESSAGE_LEN, Message, Report, Route, Status, V3_SINCE};

/// What following over one connection needs beside it.
pub(crate) struct Following<'a> {
    pub(crate) state: &'a FollowState,
    pub(crate) config: &'a FollowConfig,
    pub(crate) peers: &'a Peers,
    /// The log that peers get files of.
    pub(crate) served: Log,
    /// When a log that is being brought in is whole; none: the log in force is followed.
    pub(crate) completion: Option<Completion>,
    /// Who follows this node.
    pub(crate) summaries: watch::Receiver<Option<Summaries>>,
    pub(crate) shutdown: &'a CancellationToken,
}

/// When a log that is being brought in can take the place of the one in force.
#[derive(Clone, Debug)]
pub(crate) struct Completion {
    /// Every file is here.
    pub(crate) filled: watch::Receiver<bool>,
    /// Why they will never be, if they will not.
    pub(crate) broken: watch::Receiver<Option<String>>,
}

impl Completion {
    /// Waits until the files are here and the log has caught up; for ever where none is awaited.
    async fn reached(
        awaited: Option<&Self>,
        log: &Log,
        mut caught_up: watch::Receiver<Option<Lsn>>,
    ) -> FollowError {
        let Some(Self { filled, broken }) = awaited else {
            return std::future::pending().await;
        };
        let mut broken = broken.clone();
        let broken = async {
            // The guard must not outlive this expression.
            let reason = broken.wait_for(Option::is_some).await.ok();
            let reason = reason.and_then(|reason| reason.clone());
            match reason {
                Some(reason) => reason,
                None => std::future::pending().await,
            }
        };
        let (mut filled, mut durable) = (filled.clone(), log.durable());
        let whole = async {
            let caught = caught_up.wait_for(Option::is_some).await;
            let at = caught.ok().and_then(|at| *at).unwrap_or(Lsn(0));
            let there = durable.wait_for(|durable| durable.lsn >= at);
            there.await.is_ok() && filled.wait_for(|filled| *filled).await.is_ok()
        };
        tokio::select! {
            whole = whole => if whole {
                return FollowError::BootstrapComplete;
            },
            reason = broken => return FollowError::Unfilled(reason),
        }
        // The log or the fill has ended: both are reported elsewhere.
        std::future::pending().await
    }
}

/// Follows the upstream until something ends the connection. An append that has begun is always
/// finished first: the log must not lose what it has accepted.
pub(crate) async fn stream(
    link: &Link,
    agreement: Agreement,
    follower: &mut Follower,
    following: Following<'_>,
    better: impl Future<Output = ()>,
) -> FollowError {
    let log = follower.log().clone();
    let tip = follower.tip();
    if let Some(error) = apart(agreement.plan, tip) {
        return error;
    }
    let Following {
        state,
        config,
        peers,
        served,
        completion,
        summaries,
        shutdown,
    } = following;
    let (protocol, bootstrapping) = (agreement.protocol, completion.is_some());
    state.received(tip.lsn);
    state.welcomed(bootstrapping);
    if protocol < V3_SINCE {
        // It names nobody it follows: what it says is taken for the primary's word.
        state.routed(Route::older(link.peer()));
    }
    state.beat(agreement.durable, agreement.now_unix_ns, Instant::now());

    let cut = CancellationToken::new();
    let framed = protocol >= V3_SINCE;
    let receiving = async {
        let error = receive(link, follower, state, framed, &cut).await;
        cut.cancel();
        error
    };
    let listener = Listener {
        log: &log,
        state,
        config,
        bootstrapping,
        caught_up: watch::Sender::new(None),
    };
    let reporter = Reporter {
        log: &log,
        state,
        config,
        bootstrapping,
        newer: framed,
        summaries,
    };
    let giving = Giving::of(&served);
    let caught_up = listener.caught_up.subscribe();
    let complete = Completion::reached(completion.as_ref(), &log, caught_up);
    let attending = async {
        let error = tokio::select! {
            error = listener.listen(agreement.receiver) => error,
            error = reporter.report(agreement.sender) => error,
            reason = failure(&log) => FollowError::LocalLog(reason),
            error = peers.attend(link, protocol, &giving) => error.into(),
            error = link.closed() => error.into(),
            error = complete => error,
            () = better => FollowError::Better,
            () = shutdown.cancelled() => FollowError::Stopping,
            () = cut.cancelled() => FollowError::Cut,
        };
        cut.cancel();
        error
    };
    let (received, attended) = tokio::join!(receiving, attending);
    match (received, attended) {
        (FollowError::Cut, error) => error,
        // Both saw the end; the control stream knows more about why.
        (FollowError::Link(_), error) if !matches!(error, FollowError::Cut) => error,
        (error, _) => error,
    }
}

/// Blocks must begin where the local log ends.
fn apart(plan: Agreed, tip: Position) -> Option<FollowError> {
    match plan {
        Agreed::Stream(from) if from == tip => None,
        Agreed::Stream(wanted) => Some(FollowError::Moved { wanted, found: tip }),
        Agreed::Snapshot(_) | Agreed::Compare => {
            Some(FollowError::Protocol("no blocks were agreed on".to_owned()))
        }
    }
}

/// Takes blocks into the log until reported to stop.
async fn receive(
    link: &Link,
    follower: &mut Follower,
    state: &FollowState,
    framed: bool,
    cut: &CancellationToken,
) -> FollowError {
    let blocks = tokio::select! {
        blocks = link.accept_blocks() => blocks,
        () = cut.cancelled() => return FollowError::Cut,
    };
    let mut blocks = match blocks {
        Ok(blocks) => blocks,
        Err(error) => return error.into(),
    };
    let mut unpacker = Unpacker::new(framed);
    let mut assembler = Assembler::new();
    loop {
        let taken = tokio::select! {
            taken = take(&mut blocks, &mut unpacker) => taken,
            () = cut.cancelled() => return FollowError::Cut,
        };
        match taken {
            Ok(()) => {}
            Err(FollowError::Link(LinkError::Finished)) => {
                // The reason is on its way on the control stream.
                let reported = timeout(LAST_WORDS, cut.cancelled()).await;
                return reported.map_or(LinkError::Finished.into(), |()| FollowError::Cut);
            }
            Err(error) => return error,
        }
        if let Err(error) = append(follower, &mut unpacker, &mut assembler, state).await {
            return error;
        }
    }
}

/// Moves what has arrived into the unpacker. May be cancelled.
async fn take(blocks: &mut BlockReceiver, unpacker: &mut Unpacker) -> Result<(), FollowError> {
    let Some(pieces) = blocks.receive().await? else {
        return Err(LinkError::Finished.into());
    };
    for piece in pieces {
        unpacker.push(mem::take(piece));
    }
    Ok(())
}

/// Appends every whole block in hand. Little is unpacked at a time: packed bytes may become many.
async fn append(
    follower: &mut Follower,
    unpacker: &mut Unpacker,
    assembler: &mut Assembler,
    state: &FollowState,
) -> Result<(), FollowError> {
    while let Some(piece) = unpacker.next()? {
        assembler.push(piece);
        while assembler.buffered() < RUN_BYTES
            && let Some(more) = unpacker.next()?
        {
            assembler.push(more);
        }
        while let Some(run) = assembler.next_run(RUN_BYTES)? {
            let tip = follower.append(run).await;
            state.received(tip.map_err(FollowError::of_append)?.lsn);
        }
    }
    Ok(())
}

/// Reads what the upstream says.
struct Listener<'a> {
    log: &'a Log,
    state: &'a FollowState,
    config: &'a FollowConfig,
    bootstrapping: bool,
    caught_up: watch::Sender<Option<Lsn>>,
}

impl Listener<'_> {
    async fn listen(&self, mut receiver: ControlReceiver) -> FollowError {
        let contact_timeout = self.config.contact_timeout;
        loop {
            let message = match timeout(contact_timeout, receiver.receive()).await {
                Ok(Ok(Some(message))) => message,
                Ok(Ok(None)) => return LinkError::Finished.into(),
                Ok(Err(error)) => return error.into(),
                Err(_) => return FollowError::Silent(contact_timeout),
            };
            match message {
                Message::Heartbeat(beat) => {
                    self.state
                        .beat(Lsn(beat.durable), beat.now_unix_ns, Instant::now());
                }
                Message::CaughtUp(caught_up) => {
                    let at = Lsn(caught_up.at);
                    self.caught_up.send_replace(Some(at));
                    if !self.bootstrapping {
                        self.state.caught_up(at, self.log.snapshot().position().lsn);
                    }
                }
                Message::Route(route) => match ring(&route, &self.config.node_id) {
                    Some(error) => return error,
                    None => self.state.routed(route),
                },
                Message::End(end) => return FollowError::Ended(clip(&end.reason)),
                _ => return FollowError::Protocol("an unexpected message".to_owned()),
            }
        }
    }
}

/// Whether following somebody with this route would make a ring, or a chain that is too long.
pub(crate) fn ring(route: &Route, own: &str) -> Option<FollowError> {
    let names = || {
        let names: Vec<String> = route.hops.iter().map(|hop| clip(&hop.name)).collect();
        names.join(", which follows ")
    };
    if route.hops.iter().any(|hop| hop.id == own) {
        let reason = format!("the upstream is {}: this node itself", names());
        return Some(FollowError::Ring(reason));
    }
    (route.hops.len() >= MAX_HOPS).then(|| {
        let reason = format!(
            "{} nodes up to the primary, at most {MAX_HOPS} may be",
            route.hops.len()
        );
        FollowError::Ring(reason)
    })
}

/// Tells the upstream how far this node is, and who follows it.
struct Reporter<'a> {
    log: &'a Log,
    state: &'a FollowState,
    config: &'a FollowConfig,
    bootstrapping: bool,
    newer: bool,
    summaries: watch::Receiver<Option<Summaries>>,
}

impl Reporter<'_> {
    /// When more is on disk, a little later to say it once for many groups, and from time to time
    /// anyway.
    async fn report(&self, mut sender: ControlSender) -> FollowError {
        let (mut durable, mut replicated) = (self.log.durable(), self.log.replicated());
        let (mut reported, mut reported_at) = (Descendants::default(), None);
        loop {
            let flushed = *durable.borrow_and_update();
            replicated.borrow_and_update();
            if let Err(error) = sender.send(&self.lineage(flushed)).await {
                return error.into();
            }
            if self.newer && reported_at.is_none_or(|at: Instant| at.elapsed() >= DESCENDANTS_EVERY)
            {
                reported_at = Some(Instant::now());
                let descendants = self.descendants();
                if descendants != reported {
                    reported.clone_from(&descendants);
                    if let Err(error) = sender.send(&Message::Descendants(descendants)).await {
                        return error.into();
                    }
                }
            }
            sleep(STATUS_GAP).await;
            tokio::select! {
                changed = durable.changed() => if changed.is_err() {
                    return FollowError::LocalLog("it is closed".to_owned());
                },
                changed = replicated.changed() => if changed.is_err() {
                    return FollowError::LocalLog("it is closed".to_owned());
                },
                () = sleep(STATUS_EVERY) => {}
            }
        }
    }

    fn lineage(&self, flushed: Position) -> Message {
        let snapshot = self.log.snapshot();
        // The snapshot is published first, so it may be a group further.
        let applied = snapshot.position().lsn.min(flushed.lsn);
        if !self.bootstrapping {
            self.state.applied(applied, snapshot.committed_at());
        }
        drop(snapshot);
        let status = Status {
            received: self.state.received_lsn().max(flushed.lsn).0,
            flushed: flushed.lsn.0,
            applied: applied.0,
            chain: flushed.chain,
        };
        if !self.newer {
            return Message::Status(status);
        }
        let mut report = Report {
            status,
            below: self
                .log
                .replicated()
                .borrow()
                .top()
                .map(Disk::from)
                .collect(),
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

/// Waits until the log is poisoned; says why.
pub(crate) async fn failure(log: &Log) -> String {
    let mut failed = log.failed();
    let reason = match failed.wait_for(Option::is_some).await {
        Ok(reason) => (*reason).clone(),
        Err(_) => None,
    };
    match reason {
        Some(reason) => reason,
        // The log was closed in order: that is reported elsewhere.
        None => std::future::pending().await,
    }
}

/// Most bytes appended in one step, unless one block is longer.
const RUN_BYTES: usize = 1 << 20;

/// Time for the primary's reason to arrive after its last block.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Shortest time between statuses.
const STATUS_GAP: Duration = Duration::from_millis(2);

/// Longest time between statuses.
const STATUS_EVERY: Duration = Duration::from_secs(1);

/// Shortest time between two lists of those who follow this node.
const DESCENDANTS_EVERY: Duration = Duration::from_secs(1);

/// Bytes of each of the five texts of a node in a list: all together less than a message may have.
const SUMMARY_TEXT: usize = 60;
const _: () = assert!(MAX_SUMMARIES * (5 * (SUMMARY_TEXT + 1) + 9) < MAX_MESSAGE_LEN);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ended_a_connection_shows_as_a_state() {
        let refuse = |code| {
            FollowError::Refused(Refuse {
                code,
                ..Refuse::default()
            })
        };
        assert_eq!(refuse(NEEDS_SNAPSHOT).phase(), FollowPhase::NeedsSnapshot);
        assert_eq!(refuse(4).phase(), FollowPhase::Refused);
        let certificate = LinkError::PeerCertificate("unknown issuer".to_owned());
        assert_eq!(FollowError::from(certificate).phase(), FollowPhase::Refused);
        let gone = FollowError::from(LinkError::TimedOut);
        assert_eq!(gone.phase(), FollowPhase::Connecting);
        let failed = FollowError::LocalLog("disk".to_owned());
        assert_eq!(failed.phase(), FollowPhase::Failed);
    }

    #[test]
    fn rings_and_endless_chains_are_seen() {
        let route = |count: usize| Route {
            hops: (0..count)
                .map(|at| crate::wire::WireHop {
                    id: format!("i{at}"),
                    name: format!("n{at}"),
                })
                .collect(),
            rooted: true,
        };
        assert!(ring(&route(3), "own").is_none());
        let error = ring(&route(3), "i2").expect("a ring").to_string();
        assert!(error.contains("n1, which follows n2"), "{error}");
        assert!(ring(&route(MAX_HOPS - 1), "own").is_none());
        assert!(ring(&route(MAX_HOPS), "own").is_some());
    }
}
