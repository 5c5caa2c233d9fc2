//! One connection to the upstream once the handshake is done, seen from the secondary: blocks in,
//! reports out, heartbeats read and fetches served. It owns nothing beyond that connection and must
//! never put into the log a byte that the log itself did not check.

use std::convert::Infallible;
use std::mem;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use wal::{Follower, Log, Lsn, Position};

use crate::certs::role::Duty;
use crate::config::FollowConfig;
use crate::error::{LinkError, clip};
use crate::files::fetch::Giving;
use crate::files::peers::Peers;
use crate::follow::bootstrap::Completion;
use crate::follow::ended::Ended;
use crate::follow::error::FollowError;
use crate::follow::handshake::Agreement;
use crate::follow::inflow::Inflow;
use crate::follow::report::Reporter;
use crate::follow::state::FollowState;
use crate::quic::{BlockReceiver, ControlReceiver, Link};
use crate::serve::registry::Summaries;
use crate::serve::source::MAX_HOPS;
use crate::wire::{Message, Point, Route, WirePlan};

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

/// Follows the upstream until something ends the connection. An append that has begun is always
/// finished first: the log must not lose what it has accepted.
pub(crate) async fn stream(
    link: &Link,
    agreement: Agreement,
    follower: &mut Follower,
    following: Following<'_>,
    better: impl Future<Output = ()>,
) -> Result<Ended, FollowError> {
    let log = follower.log().clone();
    let tip = follower.tip();
    begins_at(agreement.plan, tip)?;
    let Following {
        state,
        config,
        peers,
        served,
        completion,
        summaries,
        shutdown,
    } = following;
    let bootstrapping = completion.is_some();
    state.received(tip.lsn);
    state.welcomed(bootstrapping);
    state.beat(agreement.durable, agreement.now_unix_ns, Instant::now());

    let cut = CancellationToken::new();
    // Each of the two ends the other, which then has nothing to say of why.
    let receiving = async {
        let failed = receive(link, follower, state, &cut).await;
        cut.cancel();
        failed
    };
    let reader = ControlReader {
        link,
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
        protocol: agreement.protocol,
        identity: link.identity(),
        summaries,
    };
    let giving = Giving::of(&served);
    let complete = Completion::reached(completion.as_ref(), &log, reader.caught_up.subscribe());
    let attending = async {
        let ended = tokio::select! {
            Err(error) = reader.run(agreement.receiver) => Some(Err(error)),
            Err(error) = reporter.run(agreement.sender) => Some(Err(error)),
            reason = log.until_failed() => Some(Err(FollowError::LocalLog(reason))),
            error = peers.attend(link, &giving) => Some(Err(error.into())),
            error = link.closed() => Some(Err(error.into())),
            ended = complete => Some(ended),
            () = better => Some(Ok(Ended::BetterUpstream)),
            () = shutdown.cancelled() => Some(Ok(Ended::Stopping)),
            () = cut.cancelled() => None,
        };
        cut.cancel();
        ended
    };
    match tokio::join!(receiving, attending) {
        // Both saw the end; the control stream knows more about why.
        (None | Some(FollowError::Link(_)), Some(ended)) => ended,
        (Some(error), _) => Err(error),
        (None, None) => Err(LinkError::ClosedHere.into()),
    }
}

/// Blocks must begin where the local log ends.
fn begins_at(plan: WirePlan, tip: Position) -> Result<(), FollowError> {
    let WirePlan::Stream { lsn, chain } = plan else {
        return Err(FollowError::Protocol("no blocks were agreed on".to_owned()));
    };
    let wanted = Position::from(Point { lsn, chain });
    if wanted == tip {
        Ok(())
    } else {
        Err(FollowError::Moved { wanted, found: tip })
    }
}

/// Takes blocks into the log until that fails, and says why; nothing when it is cut off.
async fn receive(
    link: &Link,
    follower: &mut Follower,
    state: &FollowState,
    cut: &CancellationToken,
) -> Option<FollowError> {
    let blocks = tokio::select! {
        blocks = link.accept_blocks() => blocks,
        () = cut.cancelled() => return None,
    };
    let mut blocks = match blocks {
        Ok(blocks) => blocks,
        Err(error) => return Some(error.into()),
    };
    let mut inflow = Inflow::new(link.memory());
    loop {
        let taken = tokio::select! {
            taken = take(&mut blocks, &mut inflow) => taken,
            () = cut.cancelled() => return None,
        };
        match taken {
            Ok(()) => {}
            Err(LinkError::Finished) => {
                // The reason is on its way on the control stream.
                return match timeout(LAST_WORDS, cut.cancelled()).await {
                    Ok(()) => None,
                    Err(_) => Some(LinkError::Finished.into()),
                };
            }
            Err(error) => return Some(error.into()),
        }
        match inflow.append(follower, state, cut).await {
            Ok(true) => {}
            Ok(false) => return None,
            Err(error) => return Some(error),
        }
    }
}

/// Takes what has arrived. May be cancelled.
async fn take(blocks: &mut BlockReceiver, inflow: &mut Inflow) -> Result<(), LinkError> {
    let Some(pieces) = blocks.receive().await? else {
        return Err(LinkError::Finished);
    };
    for piece in pieces {
        inflow.push(mem::take(piece));
    }
    Ok(())
}

/// Reads what the upstream says.
struct ControlReader<'a> {
    link: &'a Link,
    log: &'a Log,
    state: &'a FollowState,
    config: &'a FollowConfig,
    bootstrapping: bool,
    caught_up: watch::Sender<Option<Lsn>>,
}

impl ControlReader<'_> {
    /// What is brought in takes the place of the log in force, which may hold another history.
    fn check_history(&self, route: &Route) -> Result<(), FollowError> {
        let (epoch, upstreams) = (self.log.epoch(), self.config.upstreams.len());
        let has_other = self.bootstrapping && self.state.log().borrow().is_some();
        let must_stay = self.state.must_stay(route, epoch, upstreams);
        must_stay.filter(|_| has_other).map_or(Ok(()), Err)
    }

    async fn run(&self, mut receiver: ControlReceiver) -> Result<Infallible, FollowError> {
        let silence = self.config.contact_timeout;
        loop {
            let message = match timeout(silence, receiver.receive()).await {
                Ok(message) => message?.ok_or(LinkError::Finished)?,
                Err(_) => return Err(FollowError::Silent(silence)),
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
                        self.state.caught_up(at, self.log.snapshot().end().lsn);
                    }
                }
                Message::Route(route) => {
                    check_route(self.link, &route, &self.config.node_id)?;
                    self.check_history(&route)?;
                    self.state.routed(route);
                }
                Message::CutOff(cut) => self.state.cut_off(clip(&cut.reason)),
                Message::PrimaryHttp(http) => self.state.primary_http(clip(&http.address)),
                Message::End(end) => return Err(FollowError::EndedByPeer(clip(&end.reason))),
                _ => return Err(FollowError::Protocol("an unexpected message".to_owned())),
            }
        }
    }
}

/// Whether somebody with this route may be followed: who says that it is the primary must be
/// allowed to be that, by its certificate.
pub(crate) fn check_route(link: &Link, route: &Route, own: &str) -> Result<(), FollowError> {
    let is_primary = route.rooted && route.hops.len() <= 1;
    if let Some(reason) = link.refusal(Duty::Primary).filter(|_| is_primary) {
        return Err(FollowError::Untrusted {
            peer: link.peer().to_owned(),
            reason: format!("{reason}, which it says it is"),
        });
    }
    check_hops(route, own)
}

/// Following somebody with this route must not make a ring, nor a chain that is too long.
fn check_hops(route: &Route, own: &str) -> Result<(), FollowError> {
    let is_primary = route.rooted && route.hops.last().is_some_and(|hop| hop.id == own);
    if is_primary {
        let reason = "the primary has the id of this node, whose data directory is a copy of it: \
                      remove the file node-id here and start again";
        return Err(FollowError::Ring(reason.to_owned()));
    }
    if route.hops.iter().any(|hop| hop.id == own) {
        let names: Vec<String> = route.hops.iter().map(|hop| clip(&hop.name)).collect();
        let names = names.join(", which follows ");
        let reason = format!("the upstream is {names}: this node itself");
        return Err(FollowError::Ring(reason));
    }
    let hops = route.hops.len();
    if hops >= MAX_HOPS {
        let reason = format!("{hops} nodes up to the primary, at most {MAX_HOPS} may be");
        return Err(FollowError::Ring(reason));
    }
    Ok(())
}

/// Time for the primary's reason to arrive after its last block.
const LAST_WORDS: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(check_hops(&route(3), "own").is_ok());
        let error = check_hops(&route(3), "i1").expect_err("a ring").to_string();
        assert!(error.contains("n1, which follows n2"), "{error}");
        // The primary follows nobody, so who has its id is a copy of it.
        let error = check_hops(&route(3), "i2").expect_err("a copy");
        assert!(error.to_string().contains("a copy of it"), "{error}");
        assert!(check_hops(&route(MAX_HOPS - 1), "own").is_ok());
        assert!(check_hops(&route(MAX_HOPS), "own").is_err());
    }
}
