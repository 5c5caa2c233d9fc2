//! One secondary, seen from the primary: its handshake, then the loops over one connection (blocks,
//! heartbeats, statuses, fetches). It owns nothing but that connection and must never slow the
//! primary: what a stalled secondary holds is the connection's send window.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use wal::{Chunk, Cursor, Log, Lsn, Position, WalError};

use crate::clock;
use crate::codec::{CaughtUp, End, Heartbeat, Hello, Message, Refuse, Status, Welcome, WirePlan};
use crate::error::{CloseCode, LinkError, clip};
use crate::handshake::{MAX_NAME_LEN, Plan, UpstreamState, needs_snapshot, negotiate, plan};
use crate::peers::Peers;
use crate::quic::{BlockSender, ControlReceiver, ControlSender, Link};
use crate::registry::{Peer, Registration, Registry};

/// What all shippers of a primary share.
pub(crate) struct Shipping {
    pub(crate) log: Log,
    pub(crate) registry: Registry,
    /// Connected secondaries that can be asked for a file.
    pub(crate) peers: Peers,
    pub(crate) heartbeat: Duration,
    /// Cancelled when the primary stops.
    pub(crate) shutdown: CancellationToken,
}

/// Why a connection with a secondary ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ShipError {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("the secondary said nothing for {0:?}")]
    Silent(Duration),
    #[error("the secondary broke the protocol: {0}")]
    Protocol(String),
    #[error("refused: {}", .0.message)]
    Refused(Refuse),
    #[error("a newer connection of the same node took over")]
    Superseded,
    #[error("the primary stops")]
    Stopping,
    #[error("the log cannot be read: {0}")]
    Log(#[from] WalError),
    #[error("the log is closed")]
    LogClosed,
    #[error("a task failed: {0}")]
    Task(#[from] JoinError),
}

/// Serves one secondary until its connection ends, for whatever reason.
pub(crate) async fn serve(link: Link, shipping: Arc<Shipping>) -> ShipError {
    let session = tokio::select! {
        session = greet(&link, &shipping) => session,
        error = link.closed() => Err(error.into()),
        () = shipping.shutdown.cancelled() => Err(ShipError::Stopping),
    };
    let error = match session {
        Ok(session) => {
            let registration = Arc::clone(&session.registration);
            let error = stream(&link, session, &shipping).await;
            registration.ended(error.to_string());
            error
        }
        Err(error) => error,
    };
    part(&link, &error).await;
    error
}

/// What a handshake that succeeded leaves.
struct Session {
    registration: Arc<Registration>,
    sender: ControlSender,
    receiver: ControlReceiver,
    blocks: BlockSender,
    cursor: Cursor,
    protocol: u16,
    name: String,
}

async fn greet(link: &Link, shipping: &Shipping) -> Result<Session, ShipError> {
    let (mut sender, mut receiver) = in_time(link.accept_control()).await?;
    let hello = match in_time(receiver.receive()).await? {
        Some(Message::Hello(hello)) => hello,
        Some(other) => return Err(unexpected(&other)),
        None => return Err(LinkError::Finished.into()),
    };
    let peer = Peer {
        name: link.peer().to_owned(),
        id: hello.node_id.clone(),
        address: link.remote(),
    };
    // Looking up a position may read the disk.
    let (log, asked) = (shipping.log.clone(), hello.clone());
    let answer = match spawn_blocking(move || decide(&asked, &log)).await? {
        Ok((cursor, protocol)) => shipping
            .registry
            .register(peer.clone(), cursor.position())
            .map(|registration| (cursor, protocol, registration))
            .map_err(|reason| ShipError::Refused(Refuse::from(&reason))),
        Err(error) => Err(error),
    };
    match answer {
        Ok((cursor, protocol, registration)) => {
            sender
                .send(&welcome(&shipping.log, protocol, cursor.position()))
                .await?;
            Ok(Session {
                registration: Arc::new(registration),
                sender,
                receiver,
                blocks: link.open_blocks().await?,
                cursor,
                protocol,
                name: clip(&hello.node),
            })
        }
        Err(ShipError::Refused(refuse)) => {
            if (1..=MAX_NAME_LEN).contains(&hello.node_id.len()) {
                let reason = refuse.message.clone();
                shipping.registry.refused(peer, hello.position(), reason);
            }
            sender.send(&Message::Refuse(refuse.clone())).await?;
            sender.finish();
            Err(ShipError::Refused(refuse))
        }
        Err(error) => Err(error),
    }
}

/// The plan for this secondary, as a cursor to stream from and the protocol version.
fn decide(hello: &Hello, log: &Log) -> Result<(Cursor, u16), ShipError> {
    let durable = *log.durable().borrow();
    let upstream = UpstreamState {
        log: log.id(),
        epoch: log.epoch(),
        format_version: wal::FORMAT_VERSION,
        oldest: log.oldest(),
        durable,
        chain_at: |lsn| log.chain_at(lsn),
    };
    match plan(hello, &upstream) {
        Plan::Stream(position) => {
            let protocol =
                negotiate(hello).map_err(|reason| ShipError::Refused(Refuse::from(&reason)))?;
            Ok((log.cursor(position)?, protocol))
        }
        Plan::Snapshot { oldest } => Err(ShipError::Refused(needs_snapshot(hello, oldest))),
        Plan::Refuse(reason) => Err(ShipError::Refused(Refuse::from(&reason))),
    }
}

fn welcome(log: &Log, protocol: u16, from: Position) -> Message {
    Message::Welcome(Welcome {
        protocol,
        log: log.id().0,
        epoch: log.epoch().0,
        plan: WirePlan::Stream {
            lsn: from.lsn.0,
            chain: from.chain,
        },
        durable: log.durable().borrow().lsn.0,
        now_unix_ns: clock::unix_ns(),
    })
}

async fn stream(link: &Link, session: Session, shipping: &Shipping) -> ShipError {
    let (from, protocol) = (session.cursor.position(), session.protocol);
    tracing::info!(secondary = link.peer(), node = %session.name, address = %link.remote(), %from,
        "secondary connected");
    let course = Course {
        shipping,
        registration: &session.registration,
        sent: AtomicU64::new(from.lsn.0),
        flushed: watch::Sender::new(Lsn(0)),
        caught_up: watch::Sender::new(None),
    };
    let loops = async {
        tokio::try_join!(
            course.ship(session.cursor, session.blocks),
            course.beat(session.sender),
            course.listen(session.receiver),
        )
    };
    tokio::select! {
        ended = loops => match ended {
            Ok(_) => ShipError::Stopping,
            Err(error) => error,
        },
        () = session.registration.superseded().cancelled() => ShipError::Superseded,
        error = shipping.peers.attend(link, protocol, &shipping.log) => error.into(),
        error = link.closed() => error.into(),
    }
}

/// What the loops over one connection share.
struct Course<'a> {
    shipping: &'a Shipping,
    registration: &'a Registration,
    sent: AtomicU64,
    flushed: watch::Sender<Lsn>,
    caught_up: watch::Sender<Option<Lsn>>,
}

impl Course<'_> {
    /// Sends what is durable, then waits for more: catching up and following live are one loop.
    async fn ship(&self, mut cursor: Cursor, mut blocks: BlockSender) -> Result<(), ShipError> {
        let mut durable = self.shipping.log.durable();
        loop {
            let end = *durable.borrow_and_update();
            loop {
                let (moved, chunk) = next_chunk(cursor, end.lsn).await?;
                cursor = moved;
                let Some(mut chunk) = chunk else { break };
                // Noted first: the secondary may report a part before all of it is handed over.
                self.sent.store(chunk.end.lsn.0, Ordering::Relaxed);
                self.registration.sent(chunk.end.lsn);
                blocks.send(&mut chunk.parts).await?;
            }
            let at = cursor.position().lsn;
            self.caught_up.send_if_modified(|caught| {
                let first = caught.is_none();
                *caught = caught.or(Some(at));
                first
            });
            durable.changed().await.map_err(|_| ShipError::LogClosed)?;
        }
    }

    /// Tells where the log and the clock stand: when that changes, a little later to say it once
    /// for many groups, and from time to time anyway.
    async fn beat(&self, mut sender: ControlSender) -> Result<(), ShipError> {
        let mut durable = self.shipping.log.durable();
        let mut caught_up = self.caught_up.subscribe();
        let mut told = false;
        loop {
            let end = durable.borrow_and_update().lsn;
            let now_unix_ns = clock::unix_ns();
            let heartbeat = Heartbeat {
                durable: end.0,
                committed_at_ns: self.shipping.log.snapshot().committed_at(),
                now_unix_ns,
            };
            sender.send(&Message::Heartbeat(heartbeat)).await?;
            self.registration.beat(end, now_unix_ns);
            let at = *caught_up.borrow_and_update();
            if let Some(at) = at
                && !told
            {
                told = true;
                sender
                    .send(&Message::CaughtUp(CaughtUp { at: at.0 }))
                    .await?;
            }
            sleep(HEARTBEAT_GAP).await;
            tokio::select! {
                changed = durable.changed() => changed.map_err(|_| ShipError::LogClosed)?,
                changed = caught_up.changed() => changed.map_err(|_| ShipError::LogClosed)?,
                () = sleep(self.shipping.heartbeat) => {}
                () = self.shipping.shutdown.cancelled() => return self.say_goodbye(sender).await,
            }
        }
    }

    /// Gives the secondary a moment to have everything on disk, then tells it to go.
    async fn say_goodbye(&self, mut sender: ControlSender) -> Result<(), ShipError> {
        let end = self.shipping.log.durable().borrow().lsn;
        let mut flushed = self.flushed.subscribe();
        if timeout(DRAIN, flushed.wait_for(|lsn| *lsn >= end))
            .await
            .is_err()
        {
            tracing::debug!(%end, "the secondary did not have everything when the primary stopped");
        }
        let reason = ShipError::Stopping.to_string();
        sender.send(&Message::End(End { reason })).await?;
        sender.finish();
        Err(ShipError::Stopping)
    }

    async fn listen(&self, mut receiver: ControlReceiver) -> Result<(), ShipError> {
        loop {
            let status = match receiver.receive().await? {
                Some(Message::Status(status)) => status,
                Some(other) => return Err(unexpected(&other)),
                None => return Err(LinkError::Finished.into()),
            };
            let durable = *self.shipping.log.durable().borrow();
            check(&status, self.sent.load(Ordering::Relaxed), durable)?;
            let caught_up = *self.caught_up.borrow();
            let streams = caught_up.is_some_and(|at| status.applied >= at.0);
            self.registration.status(&status, streams);
            self.flushed.send_replace(Lsn(status.flushed));
        }
    }
}

/// The next run of blocks. Far from the log's end that may read the disk, which no other task
/// should have to wait for; near it the bytes are in memory and a thread hop would cost more than
/// they do.
async fn next_chunk(
    mut cursor: Cursor,
    durable: Lsn,
) -> Result<(Cursor, Option<Chunk>), ShipError> {
    let behind = durable.0.saturating_sub(cursor.position().lsn.0);
    if behind < COLD_ROWS {
        let chunk = cursor.next(CHUNK_BYTES)?;
        return Ok((cursor, chunk));
    }
    let read = move || {
        let chunk = cursor.next(CHUNK_BYTES);
        (cursor, chunk)
    };
    let (cursor, chunk) = spawn_blocking(read).await?;
    Ok((cursor, chunk?))
}

/// A status must be possible: in order, of what was sent, and of the same blocks.
fn check(status: &Status, sent: u64, durable: Position) -> Result<(), ShipError> {
    let Status {
        received,
        flushed,
        applied,
        chain,
    } = *status;
    if applied > flushed || flushed > received || received > sent {
        return Err(ShipError::Protocol(format!(
            "it reports received {received}, flushed {flushed}, applied {applied} of {sent} sent"
        )));
    }
    if flushed == durable.lsn.0 && chain != durable.chain {
        return Err(ShipError::Protocol(format!(
            "its log differs from the primary's before {flushed}"
        )));
    }
    Ok(())
}

async fn in_time<T>(answer: impl Future<Output = Result<T, LinkError>>) -> Result<T, ShipError> {
    match timeout(HELLO_TIMEOUT, answer).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(ShipError::Silent(HELLO_TIMEOUT)),
    }
}

fn unexpected(message: &Message) -> ShipError {
    let name = match message {
        Message::Hello(_) => "Hello",
        Message::Welcome(_) => "Welcome",
        Message::Refuse(_) => "Refuse",
        Message::Heartbeat(_) => "Heartbeat",
        Message::CaughtUp(_) => "CaughtUp",
        Message::Status(_) => "Status",
        Message::End(_) => "End",
        Message::Fetch(_) => "Fetch",
        Message::File(_) => "File",
    };
    ShipError::Protocol(format!("an unexpected {name}"))
}

/// Ends the connection so that the secondary learns why.
async fn part(link: &Link, error: &ShipError) {
    let code = match error {
        ShipError::Link(LinkError::Codec(_)) | ShipError::Protocol(_) => CloseCode::Protocol,
        ShipError::Link(_) => CloseCode::Done,
        ShipError::Silent(_) => CloseCode::Silent,
        ShipError::Refused(_) => CloseCode::Refused,
        ShipError::Superseded => CloseCode::Superseded,
        ShipError::Stopping => CloseCode::Done,
        ShipError::Log(_) | ShipError::LogClosed | ShipError::Task(_) => CloseCode::Internal,
    };
    if matches!(error, ShipError::Refused(_) | ShipError::Stopping) {
        // Closing drops what is still on its way, so the peer closes once it has the last message.
        let _ = timeout(FAREWELL, link.closed()).await;
    }
    link.close(code, &clip(&error.to_string()));
}

/// Most bytes read from the log in one step.
const CHUNK_BYTES: usize = 256 << 10;

/// Rows behind the durable end from which blocks are taken to be on disk.
const COLD_ROWS: u64 = 65_536;

/// Shortest time between heartbeats.
const HEARTBEAT_GAP: Duration = Duration::from_millis(20);

/// Time for a new connection to say Hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// Time for a secondary to flush what it is behind when the primary stops.
const DRAIN: Duration = Duration::from_secs(1);

/// Time for a peer to close after the last message.
const FAREWELL: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    const DURABLE: Position = Position {
        lsn: Lsn(100),
        chain: 7,
    };

    fn status(received: u64, flushed: u64, applied: u64, chain: u64) -> Status {
        Status {
            received,
            flushed,
            applied,
            chain,
        }
    }

    #[test]
    fn a_status_must_be_possible() {
        assert!(check(&status(90, 80, 70, 1), 90, DURABLE).is_ok());
        assert!(check(&status(100, 100, 100, 7), 100, DURABLE).is_ok());
        for impossible in [
            status(91, 80, 70, 1),
            status(80, 90, 70, 1),
            status(90, 70, 80, 1),
        ] {
            assert!(matches!(
                check(&impossible, 90, DURABLE),
                Err(ShipError::Protocol(_))
            ));
        }
    }

    #[test]
    fn a_status_with_another_chain_at_the_same_end_is_divergence() {
        let error = check(&status(100, 100, 100, 8), 100, DURABLE).expect_err("diverged");
        assert!(error.to_string().contains("differs"), "{error}");
    }
}
