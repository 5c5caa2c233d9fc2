//! One connection from CONNECT to its end. Reads packets in order, hands messages to the worker,
//! stops reading while too much is unacknowledged. Must never hold more than the one message that
//! it cannot hand over yet.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use ntex::io::Io;
use ntex::io::types::PeerAddr;
use ntex::time::{Millis, timeout};
use ntex::util::{ByteString, Bytes, Either};
use ntex_mqtt::QoS;
use ntex_mqtt::v5::codec::DisconnectReasonCode;
use wal::GroupId;

use crate::ack::{Ack, Asked, Unkept};
use crate::aliases::{BadAlias, MAX_ALIAS_BYTES};
use crate::arrival::Arrival;
use crate::clip::{MAX_NAME, clipped};
use crate::codec::{Codec, Outgoing, Packet, Publish, ReadError};
use crate::first_packet::{UNACCEPTABLE_VERSION, Unwelcome};
use crate::frame::Version;
use crate::handshake::{Handshake, NO_MEMORY, answer, no_memory};
use crate::large::is_large;
use crate::memory::Memory;
use crate::queue::{AckKind, Need, Waiting};
use crate::receive::receive;
use crate::reply;
use crate::session::Session;
use crate::stats::add;
use crate::store::NotTaken;
use crate::topic;
use crate::worker::{Said, Worker, close};

/// Why a connection ends.
enum End {
    /// The client sent DISCONNECT.
    Disconnect { with_will: bool },
    /// The connection broke or was closed by the clock.
    Lost,
    /// The client broke the protocol.
    ProtocolError(DisconnectReasonCode, String),
    /// The node is stopping or its log has failed.
    Stopping,
}

/// Serves one connection.
pub(crate) async fn serve(io: Io, worker: Rc<Worker>) {
    let Some(memory) = Memory::enter(&worker.config.memory) else {
        tell(&io, "", NO_MEMORY, &worker);
        add(&worker.counters.refused_connections, 1);
        io.terminate();
        return;
    };
    let arrival = Arrival::new(&io, &worker);
    let codec = Rc::new(Codec::new(memory));
    // On the heap, for as long as it takes: a handshake is larger than what comes after it.
    let connecting = Box::pin(connect(&io, &codec, &arrival, &worker));
    let Some(session) = connecting.await else {
        add(&worker.counters.refused_connections, 1);
        let _ = io.shutdown().await;
        return;
    };
    worker.enter(&session);
    let _guard = Leave {
        worker: &worker,
        session: &session,
    };
    let end = packets(&io, &session, &worker).await;
    leave(&io, end, &session, &worker);
    let _ = io.shutdown().await;
}

/// Says what is to be said, and stores the will.
fn leave(io: &Io, end: End, session: &Session, worker: &Worker) {
    let with_will = match end {
        End::Disconnect { with_will } => with_will,
        End::Lost => true,
        End::ProtocolError(code, reason) => {
            tell(io, &session.client, &reason, worker);
            add(&worker.counters.refused_connections, 1);
            close(session, code, &reason);
            true
        }
        End::Stopping => {
            let reason = "the server is shutting down";
            close(session, DisconnectReasonCode::ServerShuttingDown, reason);
            false
        }
    };
    let will = session.will.take();
    if let Some(will) = will.filter(|_| with_will && !worker.signal.is_stopping())
        && worker.store(session, &will.topic, &will.payload).is_err()
        && worker.is_due(Said::WillLost)
    {
        tracing::warn!(
            client = clipped(&session.client, MAX_NAME),
            topic = clipped(&will.topic, MAX_NAME),
            "the will could not be stored"
        );
    }
}

/// However serving ends, a panic included, the worker forgets the session.
struct Leave<'a> {
    worker: &'a Worker,
    session: &'a Rc<Session>,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.worker.leave(self.session);
    }
}

/// The handshake; `None` when there will be no session.
async fn connect(
    io: &Io,
    codec: &Rc<Codec>,
    arrival: &Arrival<'_>,
    worker: &Worker,
) -> Option<Rc<Session>> {
    let place = arrival.place();
    let limit = if place.is_some() {
        CONNECT_TIMEOUT
    } else {
        REFUSE_TIMEOUT
    };
    let first = match timeout(limit, receive(io, codec, &worker.reads)).await {
        Ok(Ok(Some(packet))) => packet,
        Ok(Err(Either::Left(error))) => {
            tell(io, "", &error.to_string(), worker);
            if let ReadError::First(Unwelcome::Protocol { .. }) = error {
                let _ = io.encode_slice(&UNACCEPTABLE_VERSION);
                let _ = io.flush(true).await;
            }
            return None;
        }
        _ => return None,
    };
    let assigned = format!("auto-{:016x}", fastrand::u64(..));
    let (packet, reason) = match answer(first, &worker.config, place.is_none(), assigned) {
        Handshake::Accept(identity, packet) => {
            let will = identity.will.as_ref();
            let will = will.map_or(0, |will| will.topic.len() + will.payload.len());
            let place = place?;
            if codec.memory().keep(identity.client.len() + will) {
                codec.set_limit(worker.config.max_packet);
                arrival.welcome();
                worker.clients.enter(&identity.client, place);
                let (codec, place) = (Rc::clone(codec), Arc::clone(place));
                let session = Session::new(io.get_ref(), codec, identity, place);
                return send(&session, packet).map(|()| Rc::new(session));
            }
            (no_memory(codec.version()), NO_MEMORY)
        }
        Handshake::Refuse(packet, reason) => (packet, reason),
        Handshake::Ignore => return None,
    };
    tell(io, "", reason, worker);
    let _ = io.encode(packet, codec.as_ref());
    let _ = io.flush(true).await;
    None
}

/// Says why a connection is refused, or closed; its client may not be known.
fn tell(io: &Io, client: &str, reason: &str, worker: &Worker) {
    let peer = io.query::<PeerAddr>().get().map(PeerAddr::into_inner);
    let refusals = &worker.told.refusals;
    refusals.tell(client, peer, reason, Instant::now());
}

fn send(session: &Session, packet: Outgoing) -> Option<()> {
    session.io.encode(packet, session.codec.as_ref()).ok()
}

async fn packets(io: &Io, session: &Rc<Session>, worker: &Worker) -> End {
    loop {
        if worker.signal.is_stopping() {
            return End::Stopping;
        }
        let packet = match receive(io, &session.codec, &worker.reads).await {
            Ok(Some(packet)) => packet,
            Err(Either::Left(error)) => return read_error(&error),
            Ok(None) | Err(Either::Right(_)) => return End::Lost,
        };
        session.liveness.saw_packet(Instant::now());
        if let Some(end) = handle(packet, session, worker).await {
            return end;
        }
    }
}

/// Waits until the session may have another message in flight, or is at its end. Until then
/// nothing more is read; a client that keeps to Receive Maximum never gets there, so its pings are
/// answered however long its messages wait.
async fn await_window(session: &Session, worker: &Worker) -> Option<End> {
    let limit = usize::from(worker.config.max_inflight);
    if session.in_flight() < limit {
        return None;
    }
    poll_fn(|context| {
        if session.in_flight() < limit {
            return Poll::Ready(None);
        }
        if worker.signal.is_stopping() {
            return Poll::Ready(Some(End::Stopping));
        }
        if session.io.is_closed() {
            return Poll::Ready(Some(End::Lost));
        }
        session.waker.register(context.waker());
        session.gone().poll_ready(context).map(|()| Some(End::Lost))
    })
    .await
}

fn read_error(error: &ReadError) -> End {
    use crate::frame::FrameError;
    let code = match error {
        ReadError::Frame(FrameError::TooLarge { .. }) => DisconnectReasonCode::PacketTooLarge,
        ReadError::NoMemory => DisconnectReasonCode::QuotaExceeded,
        _ => DisconnectReasonCode::MalformedPacket,
    };
    End::ProtocolError(code, error.to_string())
}

fn protocol_error(reason: &str) -> Option<End> {
    Some(End::ProtocolError(
        DisconnectReasonCode::ProtocolError,
        reason.to_owned(),
    ))
}

async fn handle(packet: Packet, session: &Rc<Session>, worker: &Worker) -> Option<End> {
    let version = session.version();
    let reply = match packet {
        Packet::Publish(publish) => return on_publish(publish, session, worker).await,
        Packet::Release(id) => reply::complete(version, id, session.release(id)),
        Packet::Subscribe { filters: 0, .. } | Packet::Unsubscribe { filters: 0, .. } => {
            return protocol_error("a subscription without a filter");
        }
        Packet::Subscribe { id, filters } => reply::refuse_subscribe(version, id, filters),
        Packet::Unsubscribe { id, filters } => reply::unsubscribed(version, id, filters),
        Packet::Ping => reply::pong(version),
        Packet::Disconnect { with_will } => return Some(End::Disconnect { with_will }),
        Packet::ConnectV3(_) | Packet::ConnectV5(_) => return protocol_error("a second CONNECT"),
        Packet::Unexpected => return protocol_error("a packet that only a server sends"),
    };
    send(session, reply).is_none().then_some(End::Lost)
}

async fn on_publish(publish: Publish, session: &Rc<Session>, worker: &Worker) -> Option<End> {
    let topic = match session.resolve(publish.topic, publish.alias) {
        Ok(topic) => topic,
        Err(bad) => return Some(bad_alias(bad)),
    };
    if let Err(reason) = topic::check(&topic) {
        return Some(End::ProtocolError(
            DisconnectReasonCode::TopicNameInvalid,
            reason,
        ));
    }
    worker.arrived(session, publish.payload.len());
    let (id, kind) = match (publish.qos, publish.id) {
        (QoS::AtMostOnce, _) | (_, None) => {
            let counter = match store(&topic, &publish.payload, session, worker).await {
                Ok(Ok(_)) => &worker.counters.qos0,
                Ok(Err(_)) => &worker.counters.refused_messages,
                Err(end) => return Some(end),
            };
            worker.settle(session, counter);
            return None;
        }
        (QoS::AtLeastOnce, Some(id)) => (id, AckKind::Ack),
        (QoS::ExactlyOnce, Some(id)) => (id, AckKind::Received),
    };
    if kind == AckKind::Received && exceeds_receive_maximum(session, worker) {
        let reason = "more messages of QoS 2 than the Receive Maximum wait for PUBREL".to_owned();
        let code = DisconnectReasonCode::ReceiveMaximumExceeded;
        return Some(End::ProtocolError(code, reason));
    }
    if let Some(end) = await_window(session, worker).await {
        return Some(end);
    }
    let need = match ack_for(publish.ack, &topic, worker) {
        None => Need::Refuse,
        Some(_) if kind == AckKind::Received && !session.receive(id) => {
            if session.is_waiting(id) {
                worker.settle(session, &worker.counters.duplicates);
                return None;
            }
            Need::Repeat
        }
        Some(ack) => match store(&topic, &publish.payload, session, worker).await {
            Ok(Ok(group)) => need_of(ack, group),
            Ok(Err(unkept)) => {
                // Its id is free: the client sends no PUBREL for what is refused.
                if session.version() == Version::V5 {
                    session.release(id);
                }
                Need::NotKept(unkept)
            }
            Err(end) => return Some(end),
        },
    };
    session.enqueue(Waiting { id, kind, need });
    match need {
        Need::Repeat | Need::Refuse | Need::NotKept(_) => worker.answer_now(session),
        Need::Durable(group) | Need::Replicas(group, _) => worker.await_fsync(session, group),
    }
    None
}

fn bad_alias(bad: BadAlias) -> End {
    match bad {
        BadAlias::Unknown => {
            let reason = "unknown topic alias".to_owned();
            End::ProtocolError(DisconnectReasonCode::TopicAliasInvalid, reason)
        }
        BadAlias::TooLong => {
            let reason = format!(
                "the topics with an alias are longer than {MAX_ALIAS_BYTES} bytes together: give \
                 aliases to fewer or shorter topics"
            );
            End::ProtocolError(DisconnectReasonCode::QuotaExceeded, reason)
        }
    }
}

/// When the message is to be acknowledged; `None` when it asks for what nobody can promise.
fn ack_for(asked: Asked, topic: &str, worker: &Worker) -> Option<Ack> {
    match asked {
        Asked::Nothing => Some(worker.config.ack_for(topic)),
        Asked::For(ack) => Some(ack),
        Asked::Unknown => None,
    }
}

/// MQTT 3.1.1 has no such maximum; there are only so many packet ids.
fn exceeds_receive_maximum(session: &Session, worker: &Worker) -> bool {
    session.version() == Version::V5
        && session.unreleased() > usize::from(worker.config.max_inflight)
}

fn need_of(ack: Ack, group: GroupId) -> Need {
    match ack {
        Ack::Durable => Need::Durable(group),
        Ack::Replicated(replicas) => Need::Replicas(group, replicas),
    }
}

/// Hands a message to the log, once that has room for it. That neither its table nor the dead
/// letters take it is told, and is no reason to end a session: it would come again, and nothing
/// else ever would.
async fn store(
    topic: &ByteString,
    payload: &Bytes,
    session: &Session,
    worker: &Worker,
) -> Result<Result<GroupId, Unkept>, End> {
    loop {
        let taken = if is_large(payload) {
            // What makes its reader panic ends its connection, as it would here.
            let taken = Box::pin(worker.store_large(session, topic, payload)).await;
            taken.ok_or(End::Lost)?
        } else {
            worker.store(session, topic, payload)
        };
        match taken {
            Ok(group) => return Ok(Ok(group)),
            Err(NotTaken::Full) => worker.next_group().await,
            Err(NotTaken::Closed) => return Err(End::Stopping),
            Err(NotTaken::Unkept(why, _)) => return Ok(Err(why)),
        }
        if session.io.is_closed() || worker.signal.is_stopping() {
            return Err(End::Lost);
        }
    }
}

/// From the TCP connection to a whole CONNECT.
const CONNECT_TIMEOUT: Millis = Millis(10_000);

/// The same where it is refused whatever it says.
const REFUSE_TIMEOUT: Millis = Millis(2_000);
