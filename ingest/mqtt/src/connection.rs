//! One connection from CONNECT to its end. Reads packets in order, hands messages to the worker,
//! stops reading while too much is unacknowledged.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Instant;

use ntex::io::Io;
use ntex::time::{Seconds, timeout};
use ntex::util::Either;
use ntex_mqtt::QoS;
use ntex_mqtt::v5::codec::DisconnectReasonCode;

use crate::codec::{Codec, Outgoing, Packet, Publish, ReadError};
use crate::handshake::{Handshake, answer};
use crate::reply;
use crate::route;
use crate::session::{AckKind, Session, Waiting};
use crate::stats::add;
use crate::worker::{NotTaken, Worker, close};

/// From the TCP connection to a whole CONNECT.
const CONNECT_TIMEOUT: Seconds = Seconds(10);

/// Why a connection ends.
enum End {
    /// The client said so, or went away after its will was dropped.
    Goodbye { with_will: bool },
    /// The connection broke or was closed by the clock.
    Lost,
    /// The client broke the protocol.
    Fault(DisconnectReasonCode, String),
    /// The node is stopping or its log has failed.
    Stopping,
}

/// Serves one connection.
pub(crate) async fn serve(io: Io, worker: Rc<Worker>) {
    let codec = Rc::new(Codec::new());
    let Some(session) = connect(&io, &codec, &worker).await else {
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
    let with_will = match end {
        End::Goodbye { with_will } => with_will,
        End::Lost => true,
        End::Fault(code, reason) => {
            tracing::info!(client = session.client, reason, "closing connection");
            add(&worker.counters.refused_connections, 1);
            close(&session, code, &reason);
            true
        }
        End::Stopping => {
            let reason = "the server is shutting down";
            close(&session, DisconnectReasonCode::ServerShuttingDown, reason);
            false
        }
    };
    let will = session.will.take();
    if let Some(will) = will.filter(|_| with_will && !worker.signal.is_stopping())
        && worker
            .store(&session.client, &will.topic, &will.payload)
            .is_err()
    {
        tracing::warn!(
            client = session.client,
            topic = will.topic,
            "the will could not be stored"
        );
    }
    let _ = io.shutdown().await;
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
async fn connect(io: &Io, codec: &Rc<Codec>, worker: &Worker) -> Option<Rc<Session>> {
    let first = match timeout(CONNECT_TIMEOUT, io.recv(codec.as_ref())).await {
        Ok(Ok(Some(packet))) => packet,
        Ok(Err(Either::Left(error))) => {
            tracing::info!(%error, "refusing connection");
            return None;
        }
        _ => return None,
    };
    let full = worker.clients.len() >= worker.config.max_connections;
    let assigned = format!("auto-{:016x}", fastrand::u64(..));
    match answer(first, &worker.config, full, assigned) {
        Handshake::Accept(identity, packet) => {
            codec.set_limit(worker.config.max_packet);
            let flag = worker.clients.enter(&identity.client);
            let session = Session::new(io.get_ref(), Rc::clone(codec), identity, flag);
            send(&session, packet).map(|()| Rc::new(session))
        }
        Handshake::Refuse(packet, reason) => {
            tracing::info!(reason, "refusing connection");
            let _ = io.encode(packet, codec.as_ref());
            let _ = io.flush(true).await;
            None
        }
        Handshake::Ignore => None,
    }
}

fn send(session: &Session, packet: Outgoing) -> Option<()> {
    session.io.encode(packet, session.codec.as_ref()).ok()
}

async fn packets(io: &Io, session: &Rc<Session>, worker: &Worker) -> End {
    loop {
        if session.in_flight() >= usize::from(worker.config.max_inflight) {
            room(session, worker).await;
        }
        if worker.signal.is_stopping() {
            return End::Stopping;
        }
        let packet = match io.recv(session.codec.as_ref()).await {
            Ok(Some(packet)) => packet,
            Err(Either::Left(error)) => return read_fault(&error),
            Ok(None) | Err(Either::Right(_)) => return End::Lost,
        };
        session.saw_packet(Instant::now());
        if let Some(end) = handle(packet, session, worker).await {
            return end;
        }
    }
}

/// Resolves once the session may have another message in flight.
async fn room(session: &Session, worker: &Worker) {
    poll_fn(|context| {
        let full = session.in_flight() >= usize::from(worker.config.max_inflight);
        if !full || session.io.is_closed() || worker.signal.is_stopping() {
            return Poll::Ready(());
        }
        session.waker.register(context.waker());
        Poll::Pending
    })
    .await;
}

fn read_fault(error: &ReadError) -> End {
    use crate::frame::FrameError;
    let code = match error {
        ReadError::Frame(FrameError::TooLarge { .. }) => DisconnectReasonCode::PacketTooLarge,
        _ => DisconnectReasonCode::MalformedPacket,
    };
    End::Fault(code, error.to_string())
}

fn protocol_fault(reason: &str) -> Option<End> {
    Some(End::Fault(
        DisconnectReasonCode::ProtocolError,
        reason.to_owned(),
    ))
}

async fn handle(packet: Packet, session: &Rc<Session>, worker: &Worker) -> Option<End> {
    let version = session.version;
    let reply = match packet {
        Packet::Publish(publish) => return message(publish, session, worker).await,
        Packet::Release(id) => reply::complete(version, id, session.release(id)),
        Packet::Subscribe { filters: 0, .. } | Packet::Unsubscribe { filters: 0, .. } => {
            return protocol_fault("a subscription without a filter");
        }
        Packet::Subscribe { id, filters } => reply::refuse_subscribe(version, id, filters),
        Packet::Unsubscribe { id, filters } => reply::unsubscribed(version, id, filters),
        Packet::Ping => reply::pong(version),
        Packet::Disconnect { with_will } => return Some(End::Goodbye { with_will }),
        Packet::ConnectV3(_) | Packet::ConnectV5(_) => return protocol_fault("a second CONNECT"),
        Packet::Unexpected => return protocol_fault("a packet that only a server sends"),
    };
    send(session, reply).is_none().then_some(End::Lost)
}

async fn message(publish: Publish, session: &Rc<Session>, worker: &Worker) -> Option<End> {
    let Some(topic) = session.resolve(publish.topic, publish.alias) else {
        let reason = "unknown topic alias".to_owned();
        return Some(End::Fault(DisconnectReasonCode::TopicAliasInvalid, reason));
    };
    if !route::is_publishable(&topic) {
        let reason = format!("topic {topic:?} is empty or has wildcards");
        return Some(End::Fault(DisconnectReasonCode::TopicNameInvalid, reason));
    }
    add(&worker.counters.received, 1);
    add(&worker.counters.bytes, publish.payload.len() as u64);
    let answer = match (publish.qos, publish.id) {
        (QoS::AtMostOnce, _) | (_, None) => None,
        (QoS::AtLeastOnce, Some(id)) => Some((id, AckKind::Ack)),
        (QoS::ExactlyOnce, Some(id)) => Some((id, AckKind::Received)),
    };
    if let Some((id, AckKind::Received)) = answer
        && !session.receive(id)
    {
        return repeat_received(id, session, worker);
    }
    let ticket = loop {
        match worker.store(&session.client, &topic, &publish.payload) {
            Ok(ticket) => break ticket,
            Err(NotTaken::Full) => worker.next_group().await,
            Err(NotTaken::Closed) => return Some(End::Stopping),
        }
        if session.io.is_closed() || worker.signal.is_stopping() {
            return Some(End::Lost);
        }
    };
    if let Some((id, kind)) = answer {
        session.wait_for(Waiting { id, kind, ticket });
        worker.list(session);
    }
    None
}

/// A QoS 2 message that came again: it is stored, or on its way; only the PUBREC is repeated.
fn repeat_received(
    id: std::num::NonZeroU16,
    session: &Rc<Session>,
    worker: &Worker,
) -> Option<End> {
    if session.is_waiting(id) {
        return None;
    }
    let mut out = Vec::with_capacity(4);
    reply::acknowledge(&mut out, AckKind::Received, id, None);
    add(&worker.counters.acknowledged, 1);
    session.io.encode_slice(&out).is_err().then_some(End::Lost)
}
