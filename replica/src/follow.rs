//! One connection to the primary, seen from the secondary: the handshake, then blocks in, statuses
//! out, heartbeats read and fetches served. It owns nothing beyond that connection and must never
//! put into the log a byte that the log itself did not check.

use std::io;
use std::mem;
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use wal::{Epoch, Follower, Log, LogId, Lsn, Position, WalError};

use crate::assemble::{AssembleError, Assembler};
use crate::board::Board;
use crate::codec::{Hello, Message, PROTOCOL_MAX, PROTOCOL_MIN, Refuse, Status, Welcome, WirePlan};
use crate::config::FollowConfig;
use crate::error::{CloseCode, LinkError, ReplicaError, clip};
use crate::handshake::NEEDS_SNAPSHOT;
use crate::peers::Peers;
use crate::quic::{BlockReceiver, ControlReceiver, ControlSender, Link};
use crate::status::FollowPhase;

/// Why a connection ended, or did not come about.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FollowError {
    #[error("cannot resolve {upstream}: {source}")]
    Resolve { upstream: String, source: io::Error },
    #[error("{0} resolves to no address")]
    NoAddress(String),
    #[error("no answer from {address} within {within:?}")]
    Unanswered { address: String, within: Duration },
    #[error(transparent)]
    Setup(#[from] ReplicaError),
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("nothing heard from the primary for {0:?}")]
    Silent(Duration),
    #[error("the primary broke the protocol: {0}")]
    Protocol(String),
    #[error("the primary refuses: {}", .0.message)]
    Refused(Refuse),
    #[error("the primary ended the connection: {0}")]
    Ended(String),
    #[error("{0}")]
    Stream(#[from] AssembleError),
    #[error("the primary's blocks do not continue the local log: {0}")]
    BadBlock(WalError),
    #[error("the local log stands at {found}, not at {wanted}")]
    Moved { wanted: Position, found: Position },
    #[error("the local log has failed: {0}")]
    LocalLog(String),
    #[error("this node stops")]
    Stopping,
    #[error("another part of the connection ended it")]
    Cut,
}

impl FollowError {
    /// The state to show until the next attempt succeeds.
    pub(crate) fn phase(&self) -> FollowPhase {
        match self {
            Self::Refused(refuse) if refuse.code == NEEDS_SNAPSHOT => FollowPhase::NeedsSnapshot,
            Self::Refused(_)
            | Self::Link(LinkError::PeerCertificate(_) | LinkError::OwnCertificate(_)) => {
                FollowPhase::Refused
            }
            Self::LocalLog(_) => FollowPhase::Failed,
            _ => FollowPhase::Connecting,
        }
    }

    /// What to tell the primary when closing.
    pub(crate) fn close_code(&self) -> CloseCode {
        match self {
            Self::Protocol(_) | Self::Link(LinkError::Codec(_)) => CloseCode::Protocol,
            Self::BadBlock(_) | Self::Stream(_) => CloseCode::BadBlock,
            Self::LocalLog(_) | Self::Moved { .. } => CloseCode::Internal,
            Self::Silent(_) => CloseCode::Silent,
            _ => CloseCode::Done,
        }
    }

    /// What an error of the local log means: a block it will not have, or its end.
    fn of_append(error: WalError) -> Self {
        match error {
            WalError::Diverged { .. }
            | WalError::InvalidBlock(_)
            | WalError::Corrupt { .. }
            | WalError::NewerFormat { .. } => Self::BadBlock(error),
            other => Self::LocalLog(other.to_string()),
        }
    }
}

/// What this node says first.
pub(crate) fn hello(config: &FollowConfig, follower: Option<&Follower>) -> Hello {
    let mut hello = Hello {
        protocol_min: PROTOCOL_MIN,
        protocol_max: PROTOCOL_MAX,
        format_version: wal::FORMAT_VERSION,
        node: config.node.clone(),
        node_id: config.node_id.clone(),
        ..Hello::default()
    };
    if let Some(follower) = follower {
        let tip = follower.tip();
        hello.log = Some(follower.log().id().0);
        hello.epoch = follower.log().epoch().0;
        hello.lsn = tip.lsn.0;
        hello.chain = tip.chain;
    }
    hello
}

/// What a handshake that succeeded leaves.
pub(crate) struct Agreement {
    sender: ControlSender,
    receiver: ControlReceiver,
    /// Version of this connection.
    protocol: u16,
    /// The primary's log.
    pub(crate) log: LogId,
    /// Its epoch.
    pub(crate) epoch: Epoch,
    /// Where blocks begin.
    pub(crate) from: Position,
    durable: Lsn,
    now_unix_ns: i64,
}

/// Says Hello and hears what the primary makes of it.
pub(crate) async fn greet(link: &Link, hello: Hello) -> Result<Agreement, FollowError> {
    let (mut sender, mut receiver) = link.open_control().await?;
    sender.send(&Message::Hello(hello.clone())).await?;
    let answer = match timeout(GREET_TIMEOUT, receiver.receive()).await {
        Ok(answer) => answer?,
        Err(_) => return Err(FollowError::Silent(GREET_TIMEOUT)),
    };
    match answer {
        Some(Message::Welcome(welcome)) => {
            let (log, from) = agreed(&hello, &welcome)?;
            Ok(Agreement {
                sender,
                receiver,
                protocol: welcome.protocol,
                log,
                epoch: Epoch(welcome.epoch),
                from,
                durable: Lsn(welcome.durable),
                now_unix_ns: welcome.now_unix_ns,
            })
        }
        Some(Message::Refuse(mut refuse)) => {
            refuse.message = clip(&refuse.message);
            Err(FollowError::Refused(refuse))
        }
        Some(_) => Err(FollowError::Protocol("no answer to Hello".to_owned())),
        None => Err(LinkError::Finished.into()),
    }
}

/// Checks that the primary agreed to what was asked.
fn agreed(hello: &Hello, welcome: &Welcome) -> Result<(LogId, Position), FollowError> {
    let broken = |what: &str| Err(FollowError::Protocol(what.to_owned()));
    if !(hello.protocol_min..=hello.protocol_max).contains(&welcome.protocol) {
        return broken("it chose a version that was not offered");
    }
    let log = LogId(welcome.log);
    let WirePlan::Stream { lsn, chain } = welcome.plan;
    let from = Position {
        lsn: Lsn(lsn),
        chain,
    };
    let asked = match hello.log() {
        Some(own) if own != log => return broken("it welcomed another log"),
        Some(_) => hello.position(),
        None => log.genesis(),
    };
    if from != asked {
        return broken("it begins at another position");
    }
    Ok((log, from))
}

/// Follows the primary until something ends the connection. An append that has begun is always
/// finished first: the log must not lose what it has accepted.
pub(crate) async fn stream(
    link: &Link,
    agreement: Agreement,
    follower: &mut Follower,
    board: &Board,
    config: &FollowConfig,
    peers: &Peers,
    shutdown: &CancellationToken,
) -> FollowError {
    let log = follower.log().clone();
    let tip = follower.tip();
    if tip != agreement.from {
        let (wanted, found) = (agreement.from, tip);
        return FollowError::Moved { wanted, found };
    }
    board.received(tip.lsn);
    board.welcomed();
    board.beat(agreement.durable, agreement.now_unix_ns, Instant::now());

    let cut = CancellationToken::new();
    let receiving = async {
        let error = receive(link, follower, board, &cut).await;
        cut.cancel();
        error
    };
    let minding = async {
        let error = tokio::select! {
            error = listen(agreement.receiver, &log, board, config.contact_timeout) => error,
            error = report(agreement.sender, &log, board) => error,
            reason = failure(&log) => FollowError::LocalLog(reason),
            error = peers.attend(link, agreement.protocol, &log) => error.into(),
            error = link.closed() => error.into(),
            () = shutdown.cancelled() => FollowError::Stopping,
            () = cut.cancelled() => FollowError::Cut,
        };
        cut.cancel();
        error
    };
    let (received, minded) = tokio::join!(receiving, minding);
    match (received, minded) {
        (FollowError::Cut, error) => error,
        // Both saw the end; the control stream knows more about why.
        (FollowError::Link(_), error) if !matches!(error, FollowError::Cut) => error,
        (error, _) => error,
    }
}

/// Takes blocks into the log until told to stop.
async fn receive(
    link: &Link,
    follower: &mut Follower,
    board: &Board,
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
    let mut assembler = Assembler::new();
    loop {
        let taken = tokio::select! {
            taken = take(&mut blocks, &mut assembler) => taken,
            () = cut.cancelled() => return FollowError::Cut,
        };
        match taken {
            Ok(()) => {}
            Err(FollowError::Link(LinkError::Finished)) => {
                // The reason is on its way on the control stream.
                let told = timeout(LAST_WORDS, cut.cancelled()).await;
                return told.map_or(LinkError::Finished.into(), |()| FollowError::Cut);
            }
            Err(error) => return error,
        }
        if let Err(error) = append(follower, &mut assembler, board).await {
            return error;
        }
    }
}

/// Moves what has arrived into the assembler. May be cancelled.
async fn take(blocks: &mut BlockReceiver, assembler: &mut Assembler) -> Result<(), FollowError> {
    let Some(pieces) = blocks.receive().await? else {
        return Err(LinkError::Finished.into());
    };
    for piece in pieces {
        assembler.push(mem::take(piece));
    }
    Ok(())
}

/// Appends every whole block in hand.
async fn append(
    follower: &mut Follower,
    assembler: &mut Assembler,
    board: &Board,
) -> Result<(), FollowError> {
    while let Some(run) = assembler.next_run(RUN_BYTES)? {
        let tip = follower.append(run).await;
        board.received(tip.map_err(FollowError::of_append)?.lsn);
    }
    Ok(())
}

/// Reads what the primary says.
async fn listen(
    mut receiver: ControlReceiver,
    log: &Log,
    board: &Board,
    contact_timeout: Duration,
) -> FollowError {
    loop {
        let message = match timeout(contact_timeout, receiver.receive()).await {
            Ok(Ok(Some(message))) => message,
            Ok(Ok(None)) => return LinkError::Finished.into(),
            Ok(Err(error)) => return error.into(),
            Err(_) => return FollowError::Silent(contact_timeout),
        };
        match message {
            Message::Heartbeat(beat) => {
                board.beat(Lsn(beat.durable), beat.now_unix_ns, Instant::now());
            }
            Message::CaughtUp(caught_up) => {
                board.caught_up(Lsn(caught_up.at), log.snapshot().position().lsn);
            }
            Message::End(end) => return FollowError::Ended(clip(&end.reason)),
            _ => return FollowError::Protocol("an unexpected message".to_owned()),
        }
    }
}

/// Tells the primary how far this node is: when more is on disk, a little later to say it once for
/// many groups, and from time to time anyway.
async fn report(mut sender: ControlSender, log: &Log, board: &Board) -> FollowError {
    let mut durable = log.durable();
    loop {
        let flushed = *durable.borrow_and_update();
        let snapshot = log.snapshot();
        // The snapshot is published first, so it may be a group further.
        let applied = snapshot.position().lsn.min(flushed.lsn);
        board.applied(applied, snapshot.committed_at());
        drop(snapshot);
        let status = Status {
            received: board.received_lsn().max(flushed.lsn).0,
            flushed: flushed.lsn.0,
            applied: applied.0,
            chain: flushed.chain,
        };
        if let Err(error) = sender.send(&Message::Status(status)).await {
            return error.into();
        }
        sleep(STATUS_GAP).await;
        tokio::select! {
            changed = durable.changed() => if changed.is_err() {
                return FollowError::LocalLog("it is closed".to_owned());
            },
            () = sleep(STATUS_EVERY) => {}
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
        // The log was closed in order: that is told elsewhere.
        None => std::future::pending().await,
    }
}

/// Most bytes appended in one step, unless one block is longer.
const RUN_BYTES: usize = 1 << 20;

/// Time for the primary to answer Hello: it may have to read its disk.
const GREET_TIMEOUT: Duration = Duration::from_secs(10);

/// Time for the primary's reason to arrive after its last block.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Shortest time between statuses.
const STATUS_GAP: Duration = Duration::from_millis(10);

/// Longest time between statuses.
const STATUS_EVERY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn welcome(plan: WirePlan) -> Welcome {
        Welcome {
            protocol: PROTOCOL_MAX,
            log: [7; 16],
            epoch: 1,
            plan,
            durable: 100,
            now_unix_ns: 0,
        }
    }

    fn asking(log: Option<[u8; 16]>, lsn: u64, chain: u64) -> Hello {
        Hello {
            log,
            lsn,
            chain,
            ..hello(&FollowConfig::new("p:1", "s", "id"), None)
        }
    }

    #[test]
    fn a_node_without_a_log_asks_for_one() {
        let hello = hello(&FollowConfig::new("p:1", "s", "id"), None);
        assert_eq!((hello.log, hello.lsn, hello.epoch), (None, 0, 0));
        assert_eq!((hello.node.as_str(), hello.node_id.as_str()), ("s", "id"));
    }

    #[test]
    fn an_answer_must_be_to_what_was_asked() {
        let plan = WirePlan::Stream { lsn: 50, chain: 5 };
        let asked = asking(Some([7; 16]), 50, 5);
        let (log, from) = agreed(&asked, &welcome(plan)).expect("agreed");
        assert_eq!((log, from.lsn, from.chain), (LogId([7; 16]), Lsn(50), 5));

        let wrong = [
            (asking(Some([8; 16]), 50, 5), welcome(plan)),
            (asking(Some([7; 16]), 51, 5), welcome(plan)),
            (asking(Some([7; 16]), 50, 6), welcome(plan)),
            (asking(None, 0, 0), welcome(plan)),
            (
                asked,
                Welcome {
                    protocol: PROTOCOL_MAX + 1,
                    ..welcome(plan)
                },
            ),
        ];
        for (hello, welcome) in wrong {
            let answer = agreed(&hello, &welcome);
            assert!(matches!(answer, Err(FollowError::Protocol(_))), "{hello:?}");
        }
    }

    #[test]
    fn a_new_log_begins_at_its_genesis() {
        let genesis = LogId([7; 16]).genesis();
        let plan = WirePlan::Stream {
            lsn: genesis.lsn.0,
            chain: genesis.chain,
        };
        let (_, from) = agreed(&asking(None, 0, 0), &welcome(plan)).expect("agreed");
        assert_eq!(from, genesis);
    }

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
}
