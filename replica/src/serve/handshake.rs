//! The upstream's end of the handshake: hears Hello, decides, answers, and where the two logs do
//! not meet helps to find out where they did. It owns a connection until blocks flow; it must never
//! send one.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};
use wal::{Cursor, Due, Log, Position};

use crate::error::{LinkError, clip};
use crate::quic::{BlockSender, ControlReceiver, ControlSender, Link};
use crate::serve::ended::SessionEnd;
use crate::serve::entries::{Contest, Peer};
use crate::serve::error::{ShipError, unexpected};
use crate::serve::registry::Registration;
use crate::serve::shared::{Said, Shipping};
use crate::wire::common_point::{MAX_POINTS, find_common};
use crate::wire::message::MAX_NAME_LEN;
use crate::wire::plan::{Plan, negotiate, plan, upstream_state};
use crate::wire::refusal::RefuseReason;
use crate::wire::version::Versions;
use crate::wire::{Common, Hello, Message, Refuse, Welcome, WirePlan};

/// What a handshake that succeeded leaves.
pub(crate) struct Accepted {
    pub(crate) registration: Arc<Registration>,
    pub(crate) sender: ControlSender,
    pub(crate) receiver: ControlReceiver,
    /// The log that was agreed on.
    pub(crate) log: Log,
    pub(crate) protocol: u16,
    pub(crate) hello: Hello,
    /// Blocks from the cursor on; none: files, for as long as the secondary stays.
    pub(crate) blocks: Option<(BlockSender, Cursor)>,
}

/// Takes a new connection as far as blocks or files; breaks where it ends before.
pub(crate) async fn handshake(
    link: &Link,
    shipping: &Shipping,
) -> Result<ControlFlow<SessionEnd, Accepted>, ShipError> {
    let within = shipping.handshake_timeout;
    let (mut sender, mut receiver) = in_time(within, link.accept_control()).await?;
    let hello = match in_time(within, receiver.receive()).await? {
        Some(Message::Hello(hello)) => hello,
        Some(other) => return Err(unexpected(&other)),
        None => return Err(LinkError::Finished.into()),
    };
    match answer(link, shipping, &hello, &mut sender, &mut receiver).await {
        Ok(ControlFlow::Continue(Answered {
            log,
            protocol,
            registration,
            blocks,
        })) => Ok(ControlFlow::Continue(Accepted {
            registration: Arc::new(registration),
            sender,
            receiver,
            log,
            protocol,
            hello,
            blocks,
        })),
        Ok(ControlFlow::Break(end)) => Ok(ControlFlow::Break(end)),
        Err(ShipError::Refused(refuse)) => {
            note(link, shipping, &hello, &refuse.message);
            in_time(within, sender.send(&Message::Refuse(refuse.clone()))).await?;
            sender.finish();
            Err(ShipError::Refused(refuse))
        }
        Err(error) => Err(error),
    }
}

struct Answered {
    log: Log,
    protocol: u16,
    registration: Registration,
    blocks: Option<(BlockSender, Cursor)>,
}

async fn answer(
    link: &Link,
    shipping: &Shipping,
    hello: &Hello,
    sender: &mut ControlSender,
    receiver: &mut ControlReceiver,
) -> Result<ControlFlow<SessionEnd, Answered>, ShipError> {
    let within = shipping.handshake_timeout;
    let protocol = negotiate(hello, shipping.versions).map_err(refused)?;
    if let Some(reason) = shipping.source.lineage().bars(&hello.node_id) {
        return Err(refused(reason));
    }
    let Some(log) = shipping.source.log() else {
        return Err(refused(RefuseReason::NoLogYet));
    };
    // Looking up a position may read the disk.
    let (asked, held, versions) = (hello.clone(), log.clone(), shipping.versions);
    let (plan, cursor) = spawn_blocking(move || decide(&asked, &held, versions)).await??;
    let (position, plan) = match plan {
        Plan::Stream(from) => {
            if hello.bootstrapping {
                shipping.leases.touch(&hello.node_id);
            } else {
                shipping.leases.release(&hello.node_id);
            }
            let plan = WirePlan::Stream {
                lsn: from.lsn.0,
                chain: from.chain.0,
            };
            (from, plan)
        }
        Plan::Snapshot => (hello.position(), snapshot(shipping, hello, &log).await?),
        Plan::Compare(reason) => {
            note(link, shipping, hello, &reason.to_string());
            let welcome = welcome(shipping, &log, protocol, WirePlan::Compare {});
            in_time(within, sender.send(&welcome)).await?;
            let route = Message::Route(shipping.source.lineage().route());
            in_time(within, sender.send(&route)).await?;
            let compared = compare(&log, sender, receiver, reason, within).await?;
            return Ok(ControlFlow::Break(compared));
        }
    };
    let peer = peer(link, hello, protocol);
    contend(shipping, &peer).await?;
    let bootstrapping = hello.bootstrapping || cursor.is_none();
    let registration = shipping.registry.register(peer, position, bootstrapping);
    let registration = registration.map_err(refused)?;
    let welcome = welcome(shipping, &log, protocol, plan);
    in_time(within, sender.send(&welcome)).await?;
    let blocks = match cursor {
        Some(cursor) => Some((in_time(within, link.open_blocks()).await?, cursor)),
        None => None,
    };
    Ok(ControlFlow::Continue(Answered {
        log,
        protocol,
        registration,
        blocks,
    }))
}

/// Waits until nobody else is connected as this node, or is seen to be alive beside it. Two nodes
/// with one identity would only take each other's place for ever.
async fn contend(shipping: &Shipping, peer: &Peer) -> Result<(), ShipError> {
    let arrived = Instant::now();
    loop {
        match shipping.registry.contest(peer, arrived) {
            Contest::Free => return Ok(()),
            Contest::Open => sleep(LOOK_EVERY).await,
            Contest::Taken(reason) => {
                shipping.registry.twin(peer);
                if shipping.due(Said::Twin(peer.id.clone())) != Due::Not {
                    tracing::warn!(secondary = %peer.name, id = %peer.id, came_from = %peer.address,
                        %reason, "two nodes have one identity: the second one is turned away");
                }
                return Err(refused(reason));
            }
        }
    }
}

/// The plan for this secondary, and where blocks come from if it is to stream them.
fn decide(
    hello: &Hello,
    log: &Log,
    versions: Versions,
) -> Result<(Plan, Option<Cursor>), ShipError> {
    let plan = plan(hello, &upstream_state(log, versions)).map_err(refused)?;
    let cursor = match &plan {
        Plan::Stream(from) => Some(log.cursor(*from)?),
        Plan::Compare(_) if !log.is_whole_at(hello.position().lsn) => {
            let position = hello.position().lsn;
            return Err(refused(RefuseReason::Damaged { position }));
        }
        Plan::Snapshot | Plan::Compare(_) => None,
    };
    Ok((plan, cursor))
}

/// What a snapshot would be now; its files are held for this secondary.
async fn snapshot(shipping: &Shipping, hello: &Hello, log: &Log) -> Result<WirePlan, ShipError> {
    let (leases, id, log) = (shipping.leases.clone(), hello.node_id.clone(), log.clone());
    let bundle = spawn_blocking(move || leases.take(&id, &log)).await?;
    let compacted = bundle.compacted();
    Ok(WirePlan::Snapshot {
        lsn: compacted.lsn.0,
        chain: compacted.chain.0,
        files: bundle.files(),
        bytes: bundle.bytes(),
    })
}

/// Tells for as long as it is asked which ends of blocks this log has too. The secondary closes
/// once it knows.
async fn compare(
    log: &Log,
    sender: &mut ControlSender,
    receiver: &mut ControlReceiver,
    reason: RefuseReason,
    within: Duration,
) -> Result<SessionEnd, ShipError> {
    for _ in 0..MAX_PROBES {
        let probe = match in_time(within, receiver.receive()).await {
            Ok(Some(Message::Probe(probe))) if probe.points.len() <= MAX_POINTS => probe,
            Ok(Some(other)) => return Err(unexpected(&other)),
            Ok(None) | Err(ShipError::Link(LinkError::Closed { .. })) => {
                return Ok(SessionEnd::Compared(reason));
            }
            Err(error) => return Err(error),
        };
        let points: Vec<Position> = probe.points.into_iter().map(Position::from).collect();
        let (asked, durable) = (log.clone(), *log.durable().borrow());
        let index =
            spawn_blocking(move || find_common(&points, durable, |lsn| asked.chain_at(lsn)))
                .await?
                .and_then(|index| u32::try_from(index).ok());
        let common = Common {
            index,
            durable: durable.into(),
        };
        in_time(within, sender.send(&Message::Common(common))).await?;
    }
    let endless = "it asks without end where the logs meet";
    Err(ShipError::Protocol(endless.to_owned()))
}

/// A relay hands on what it last heard of the primary, as in heartbeats.
fn welcome(shipping: &Shipping, log: &Log, protocol: u16, plan: WirePlan) -> Message {
    let end = log.durable().borrow().lsn;
    let beat = shipping.source.lineage().heartbeat(log, end);
    Message::Welcome(Welcome {
        protocol,
        log: log.id().0,
        epoch: log.epoch().0,
        plan,
        // The search for a common point needs this node's own end.
        durable: match plan {
            WirePlan::Compare {} => end.0,
            _ => beat.durable,
        },
        now_unix_ns: beat.now_unix_ns,
    })
}

fn peer(link: &Link, hello: &Hello, protocol: u16) -> Peer {
    Peer {
        name: link.peer().to_owned(),
        key: link.key(),
        id: hello.node_id.clone(),
        address: link.remote(),
        protocol,
        serves: clip(&hello.serves),
    }
}

/// Remembers somebody who is turned away.
fn note(link: &Link, shipping: &Shipping, hello: &Hello, reason: &str) {
    if (1..=MAX_NAME_LEN).contains(&hello.node_id.len()) {
        let peer = peer(link, hello, 0);
        let ours = shipping.source.log().map(|log| log.id());
        let foreign = hello
            .log()
            .filter(|log| ours.is_some_and(|ours| ours != *log));
        let why = (reason.to_owned(), foreign);
        shipping.registry.refused(peer, hello.position(), why);
    }
}

fn refused(reason: RefuseReason) -> ShipError {
    ShipError::Refused(Refuse::from(&reason))
}

/// A peer that takes nothing must not hold its place for ever either: its windows may be shut.
pub(crate) async fn in_time<T>(
    within: Duration,
    step: impl Future<Output = Result<T, LinkError>>,
) -> Result<T, ShipError> {
    match timeout(within, step).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(ShipError::Silent(within)),
    }
}

/// How often it is looked whether the other node of one identity is alive.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Questions where two logs meet: each narrows the answer by a factor of a thousand.
const MAX_PROBES: usize = 64;
