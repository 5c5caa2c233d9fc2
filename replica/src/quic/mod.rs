//! QUIC, wrapped in the few shapes that log shipping needs: an endpoint, a link to one peer, a
//! control stream of messages, a stream of block bytes and short streams for one file each. The
//! only module that names the QUIC library; it owns transport settings and must never know what a
//! position or a plan is.

use std::array;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ConnectionError, ReadError, TransportConfig, VarInt, WriteError};
use rustls::pki_types::CertificateDer;
use socket2::{Domain, Protocol, Socket, Type};

use crate::certs::identity::{self, Identity};
use crate::certs::revocations::Revocations;
use crate::certs::tls::SERVER_NAME;
use crate::error::{CloseCode, LinkError, ReplicaError, clip};
use crate::wire::{FrameReader, MAX_MESSAGE_LEN, Message, codec};

/// One UDP socket and the connections over it.
pub(crate) struct Endpoint {
    inner: quinn::Endpoint,
    dialing: Option<quinn::ClientConfig>,
    send_window_bytes: u64,
    /// What peers that connect from now on are checked by.
    revocations: Mutex<Revocations>,
}

impl Endpoint {
    /// An endpoint that takes connections of secondaries.
    pub(crate) fn listen(
        address: SocketAddr,
        identity: &Identity,
        send_window_bytes: u64,
    ) -> Result<Self, ReplicaError> {
        let server = server_config(identity, send_window_bytes)?;
        let inner = endpoint(address, Some(server))
            .map_err(|source| ReplicaError::Bind { address, source })?;
        Ok(Self {
            inner,
            dialing: None,
            send_window_bytes,
            revocations: Mutex::new(identity.revocations().clone()),
        })
    }

    /// Makes a listening endpoint take what this identity says now, such as a new revocation list,
    /// from the next connection on.
    pub(crate) fn set_identity(&self, identity: &Identity) -> Result<(), ReplicaError> {
        let server = server_config(identity, self.send_window_bytes)?;
        *held(&self.revocations) = identity.revocations().clone();
        self.inner.set_server_config(Some(server));
        Ok(())
    }

    /// An endpoint for one connection to `remote`.
    pub(crate) fn dial(
        remote: SocketAddr,
        identity: &Identity,
        receive_window_bytes: u32,
    ) -> Result<Self, ReplicaError> {
        let crypto = QuicClientConfig::try_from(identity.client_tls()?)
            .map_err(|error| ReplicaError::Tls(error.to_string()))?;
        let mut client = quinn::ClientConfig::new(Arc::new(crypto));
        client.transport_config(Arc::new(downstream_transport(receive_window_bytes)));
        let any = match remote {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let address = SocketAddr::new(any, 0);
        let inner =
            endpoint(address, None).map_err(|source| ReplicaError::Bind { address, source })?;
        Ok(Self {
            inner,
            dialing: Some(client),
            send_window_bytes: 0,
            revocations: Mutex::new(identity.revocations().clone()),
        })
    }

    /// The address it is bound to.
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    /// The next peer that has proved to live at its address; `None` once the endpoint is closed.
    pub(crate) async fn accept(&self) -> Option<Incoming> {
        loop {
            let incoming = self.inner.accept().await?;
            if incoming.remote_address_validated() {
                let revocations = self.revocations();
                return Some(Incoming {
                    incoming,
                    revocations,
                });
            }
            // Costs the peer one round trip and a forger the answer. Unvalidated peers may always
            // be asked to try again, so this cannot fail.
            let _ = incoming.retry();
        }
    }

    /// Connects an endpoint made by [`Endpoint::dial`].
    pub(crate) async fn connect(&self, remote: SocketAddr) -> Result<Link, LinkError> {
        let config = self.dialing.clone().ok_or(LinkError::ClosedHere)?;
        let connecting = self
            .inner
            .connect_with(config, remote, SERVER_NAME)
            .map_err(|error| LinkError::Lost(error.to_string()))?;
        Link::new(connecting.await.map_err(lost)?, self.revocations())
    }

    fn revocations(&self) -> Revocations {
        held(&self.revocations).clone()
    }

    /// Ends every connection and takes no more.
    pub(crate) fn close(&self, code: CloseCode, reason: &str) {
        self.inner.close(code.into(), reason.as_bytes());
    }

    /// Waits until peers have been told of closed connections.
    pub(crate) async fn idle(&self) {
        self.inner.wait_idle().await;
    }
}

/// A peer that wants to connect; nothing has been spent on it yet.
pub(crate) struct Incoming {
    incoming: quinn::Incoming,
    revocations: Revocations,
}

impl Incoming {
    pub(crate) fn remote(&self) -> SocketAddr {
        self.incoming.remote_address()
    }

    /// Turns the peer away.
    pub(crate) fn refuse(self) {
        self.incoming.refuse();
    }

    /// Does the TLS handshake.
    pub(crate) async fn accept(self) -> Result<Link, LinkError> {
        let connecting = self.incoming.accept().map_err(lost)?;
        Link::new(connecting.await.map_err(lost)?, self.revocations)
    }
}

/// A connection to a peer of this cluster. Ends when the last of it and its streams is dropped.
#[derive(Clone)]
pub(crate) struct Link {
    connection: quinn::Connection,
    peer: String,
    serial: Arc<[u8]>,
    revocations: Revocations,
}

impl Link {
    fn new(connection: quinn::Connection, revocations: Revocations) -> Result<Self, LinkError> {
        let Some((peer, serial)) = peer_identity(&connection) else {
            let reason = "it has no common name";
            connection.close(CloseCode::Protocol.into(), reason.as_bytes());
            return Err(LinkError::PeerCertificate(reason.to_owned()));
        };
        let link = Self {
            connection,
            peer,
            serial,
            revocations,
        };
        // It may have been revoked since the TLS handshake began.
        if link.revocations.is_revoked(link.serial()) {
            return Err(link.turn_away());
        }
        Ok(link)
    }

    /// Serial number of the peer's certificate.
    pub(crate) fn serial(&self) -> &[u8] {
        &self.serial
    }

    fn turn_away(&self) -> LinkError {
        let reason = "the certificate is on the revocation list";
        self.close(CloseCode::Revoked, reason);
        LinkError::PeerRevoked
    }

    /// Common name of the peer's certificate.
    pub(crate) fn peer(&self) -> &str {
        &self.peer
    }

    pub(crate) fn remote(&self) -> SocketAddr {
        self.connection.remote_address()
    }

    /// Secondary: opens the control stream. The primary sees it with the first message.
    pub(crate) async fn open_control(&self) -> Result<(ControlSender, ControlReceiver), LinkError> {
        let (send, receive) = self.connection.open_bi().await.map_err(lost)?;
        Ok(control(send, receive, CONTROL_PRIORITY))
    }

    /// Primary: waits for the control stream.
    pub(crate) async fn accept_control(
        &self,
    ) -> Result<(ControlSender, ControlReceiver), LinkError> {
        let (send, receive) = self.connection.accept_bi().await.map_err(lost)?;
        Ok(control(send, receive, CONTROL_PRIORITY))
    }

    /// Either side, after the control stream: opens a stream for one file, which the peer sees with
    /// the first message. What the asking side says is a few bytes and need not wait.
    pub(crate) async fn open_fetch(&self) -> Result<(ControlSender, ControlReceiver), LinkError> {
        let (send, receive) = self.connection.open_bi().await.map_err(lost)?;
        Ok(control(send, receive, CONTROL_PRIORITY))
    }

    /// Either side, after the control stream: waits for a stream for one file.
    pub(crate) async fn accept_fetch(&self) -> Result<(ControlSender, ControlReceiver), LinkError> {
        let (send, receive) = self.connection.accept_bi().await.map_err(lost)?;
        Ok(control(send, receive, FETCH_PRIORITY))
    }

    /// Primary: opens the stream of blocks.
    pub(crate) async fn open_blocks(&self) -> Result<BlockSender, LinkError> {
        let stream = self.connection.open_uni().await.map_err(lost)?;
        Ok(BlockSender { stream })
    }

    /// Secondary: waits for the stream of blocks, which comes with the first block.
    pub(crate) async fn accept_blocks(&self) -> Result<BlockReceiver, LinkError> {
        let stream = self.connection.accept_uni().await.map_err(lost)?;
        let pieces = array::from_fn(|_| Bytes::new());
        Ok(BlockReceiver { stream, pieces })
    }

    /// Ends the connection; what is not acknowledged yet may be lost.
    pub(crate) fn close(&self, code: CloseCode, reason: &str) {
        self.connection.close(code.into(), reason.as_bytes());
    }

    /// Waits for the end of the connection, whoever ends it; ends it as soon as the peer's
    /// certificate is revoked.
    pub(crate) async fn closed(&self) -> LinkError {
        tokio::select! {
            biased;
            error = self.connection.closed() => lost(error),
            () = self.revocations.revoked(self.serial()) => self.turn_away(),
        }
    }
}

/// Sends control messages.
pub(crate) struct ControlSender {
    stream: quinn::SendStream,
}

impl ControlSender {
    /// Sends one message; waits while the peer does not read. Not to be cancelled.
    pub(crate) async fn send(&mut self, message: &Message) -> Result<(), LinkError> {
        let frame = codec::encode(message)?;
        self.stream.write_all(&frame).await.map_err(unwritten)
    }

    /// Sends bytes that are no message; waits while the window is full. Not to be cancelled.
    pub(crate) async fn send_raw(&mut self, bytes: Bytes) -> Result<(), LinkError> {
        self.stream.write_chunk(bytes).await.map_err(unwritten)
    }

    /// Nothing more comes.
    pub(crate) fn finish(&mut self) {
        // Fails only when the stream has ended already.
        let _ = self.stream.finish();
    }
}

/// Receives control messages.
pub(crate) struct ControlReceiver {
    stream: quinn::RecvStream,
    frames: FrameReader,
}

impl ControlReceiver {
    /// The next message; `None` when the peer finished. May be cancelled.
    pub(crate) async fn receive(&mut self) -> Result<Option<Message>, LinkError> {
        loop {
            if let Some(message) = self.frames.next_message()? {
                return Ok(Some(message));
            }
            match self.stream.read_chunk(MAX_MESSAGE_LEN, true).await {
                Ok(Some(chunk)) => self.frames.push(&chunk.bytes),
                Ok(None) => return Ok(None),
                Err(error) => return Err(unread(error)),
            }
        }
    }

    /// The next bytes after the last message; `None` when the peer finished. May be cancelled.
    pub(crate) async fn receive_raw(&mut self) -> Result<Option<Bytes>, LinkError> {
        let rest = self.frames.take_rest();
        if !rest.is_empty() {
            return Ok(Some(rest.freeze()));
        }
        let chunk = self.stream.read_chunk(MAX_MESSAGE_LEN, true).await;
        Ok(chunk.map_err(unread)?.map(|chunk| chunk.bytes))
    }
}

/// Sends block bytes.
pub(crate) struct BlockSender {
    stream: quinn::SendStream,
}

impl BlockSender {
    /// Hands the parts over without copying them; waits while the window is full.
    pub(crate) async fn send(&mut self, parts: &mut [Bytes]) -> Result<(), LinkError> {
        self.stream.write_all_chunks(parts).await.map_err(unwritten)
    }
}

/// Receives block bytes.
pub(crate) struct BlockReceiver {
    stream: quinn::RecvStream,
    pieces: [Bytes; PIECES],
}

impl BlockReceiver {
    /// The next bytes in order, in as many pieces as have arrived; `None` at the end of the stream.
    /// May be cancelled.
    pub(crate) async fn receive(&mut self) -> Result<Option<&mut [Bytes]>, LinkError> {
        match self.stream.read_chunks(&mut self.pieces).await {
            Ok(Some(count)) => Ok(Some(&mut self.pieces[..count])),
            Ok(None) => Ok(None),
            Err(error) => Err(unread(error)),
        }
    }
}

impl From<CloseCode> for VarInt {
    fn from(code: CloseCode) -> Self {
        Self::from_u32(code as u32)
    }
}

/// Largest UDP payload tried for and accepted. The library sends up to ten packets in one call,
/// which must stay below 64 KiB together.
const MAX_DATAGRAM: u16 = 6_000;
const _: () = assert!(MAX_DATAGRAM as usize * 10 < 64 * 1024);

const SOCKET_BUFFER_BYTES: usize = 8 << 20;
const CONTROL_WINDOW: u32 = 256 << 10;

/// Fetches that one side may have open at once on a connection.
const FETCHES: u32 = 3;

/// Bytes of one fetched file that may be under way. Windows have room for them beside what they are
/// for, so that a fetch takes nothing from blocks and messages.
pub(crate) const FETCH_AHEAD_BYTES: u32 = 2 << 20;
const FETCH_WINDOW: u32 = FETCHES * FETCH_AHEAD_BYTES;

/// Heartbeats and statuses go before queued blocks, which have priority 0; files come last.
const CONTROL_PRIORITY: i32 = 1;
const FETCH_PRIORITY: i32 = -1;

const IDLE_TIMEOUT_MS: u32 = 20_000;
const KEEP_ALIVE: Duration = Duration::from_secs(5);
const INITIAL_RTT: Duration = Duration::from_millis(10);

/// Packets a secondary may receive before it must acknowledge, and how long it may take otherwise. On
/// a line that loses packets the window is a dozen of them: whoever acknowledges later keeps it
/// waiting.
const ACK_EVERY: u32 = 4;
const ACK_WITHIN: Duration = Duration::from_millis(1);

const MAX_INCOMING: usize = 256;
const INCOMING_BUFFER_BYTES: u64 = 64 << 10;

/// Pieces taken from the library in one go; each is at most one packet's payload.
const PIECES: usize = 64;

fn held(revocations: &Mutex<Revocations>) -> MutexGuard<'_, Revocations> {
    revocations.lock().unwrap_or_else(PoisonError::into_inner)
}

fn server_config(
    identity: &Identity,
    send_window_bytes: u64,
) -> Result<quinn::ServerConfig, ReplicaError> {
    let crypto = QuicServerConfig::try_from(identity.server_tls()?)
        .map_err(|error| ReplicaError::Tls(error.to_string()))?;
    let mut server = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    server
        .transport_config(Arc::new(upstream_transport(send_window_bytes)))
        .migration(false)
        .max_incoming(MAX_INCOMING)
        .incoming_buffer_size(INCOMING_BUFFER_BYTES)
        .incoming_buffer_size_total(INCOMING_BUFFER_BYTES * 64);
    Ok(server)
}

fn endpoint(
    address: SocketAddr,
    server: Option<quinn::ServerConfig>,
) -> io::Result<quinn::Endpoint> {
    let mut config = quinn::EndpointConfig::default();
    config
        .max_udp_payload_size(MAX_DATAGRAM)
        .map_err(io::Error::other)?;
    let socket = socket(address)?;
    quinn::Endpoint::new(config, server, socket, Arc::new(quinn::TokioRuntime))
}

fn socket(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    if address.is_ipv6() {
        // Best effort: some systems have no dual-stack sockets.
        let _ = socket.set_only_v6(false);
    }
    // Best effort: the system caps them (net.core.rmem_max, wmem_max) without an error.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER_BYTES);
    let granted = socket.recv_buffer_size().unwrap_or(0);
    tracing::debug!(%address, granted, wanted = SOCKET_BUFFER_BYTES, "UDP receive buffer");
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// What both sides share. CUBIC, because the library's BBR is experimental and slow at LAN round
/// trips.
fn transport() -> TransportConfig {
    let mut mtu = quinn::MtuDiscoveryConfig::default();
    mtu.upper_bound(MAX_DATAGRAM);
    let mut transport = TransportConfig::default();
    transport
        .initial_rtt(INITIAL_RTT)
        .max_idle_timeout(Some(VarInt::from_u32(IDLE_TIMEOUT_MS).into()))
        .mtu_discovery_config(Some(mtu))
        .congestion_controller_factory(Arc::new(quinn::congestion::CubicConfig::default()))
        .datagram_receive_buffer_size(None);
    transport
}

fn upstream_transport(send_window_bytes: u64) -> TransportConfig {
    let mut acks = quinn::AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(VarInt::from_u32(ACK_EVERY))
        .max_ack_delay(Some(ACK_WITHIN));
    let mut transport = transport();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(1 + FETCHES))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(CONTROL_WINDOW))
        // The control stream, the fetches of the secondary and the answer to one fetch of its own.
        .receive_window(VarInt::from_u32(CONTROL_WINDOW * (2 + FETCHES)))
        .send_window(send_window_bytes.saturating_add(u64::from(FETCH_WINDOW)))
        .ack_frequency_config(Some(acks));
    transport
}

fn downstream_transport(receive_window_bytes: u32) -> TransportConfig {
    let all = receive_window_bytes
        .saturating_add(CONTROL_WINDOW)
        .saturating_add(FETCH_WINDOW);
    let mut transport = transport();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(FETCHES))
        .max_concurrent_uni_streams(VarInt::from_u32(1))
        .stream_receive_window(VarInt::from_u32(receive_window_bytes))
        .receive_window(VarInt::from_u32(all))
        .send_window(u64::from(CONTROL_WINDOW + FETCH_WINDOW))
        .keep_alive_interval(Some(KEEP_ALIVE));
    transport
}

fn control(
    send: quinn::SendStream,
    receive: quinn::RecvStream,
    priority: i32,
) -> (ControlSender, ControlReceiver) {
    // Fails only on a stream that has ended.
    let _ = send.set_priority(priority);
    let sender = ControlSender { stream: send };
    let receiver = ControlReceiver {
        stream: receive,
        frames: FrameReader::new(),
    };
    (sender, receiver)
}

/// Common name and serial number of the peer's certificate.
fn peer_identity(connection: &quinn::Connection) -> Option<(String, Arc<[u8]>)> {
    let chain = connection
        .peer_identity()?
        .downcast::<Vec<CertificateDer<'static>>>()
        .ok()?;
    let leaf = chain.first()?;
    Some((identity::common_name(leaf)?, identity::serial(leaf)?.into()))
}

fn unwritten(error: WriteError) -> LinkError {
    match error {
        WriteError::ConnectionLost(error) => lost(error),
        WriteError::Stopped(code) => LinkError::Lost(format!("the peer stopped reading ({code})")),
        WriteError::ClosedStream | WriteError::ZeroRttRejected => LinkError::Finished,
    }
}

fn unread(error: ReadError) -> LinkError {
    match error {
        ReadError::ConnectionLost(error) => lost(error),
        ReadError::Reset(code) => LinkError::Lost(format!("the peer reset the stream ({code})")),
        ReadError::ClosedStream | ReadError::IllegalOrderedRead | ReadError::ZeroRttRejected => {
            LinkError::Finished
        }
    }
}

fn lost(error: ConnectionError) -> LinkError {
    match error {
        ConnectionError::TransportError(error) if u64::from(error.code) == REVOKED_ALERT => {
            LinkError::PeerRevoked
        }
        ConnectionError::TransportError(error) if blames_certificate(u64::from(error.code)) => {
            LinkError::PeerCertificate(clip(&error.reason))
        }
        ConnectionError::ConnectionClosed(close)
            if u64::from(close.error_code) == REVOKED_ALERT =>
        {
            LinkError::OwnRevoked("TLS alert 44".to_owned())
        }
        ConnectionError::ConnectionClosed(close)
            if blames_certificate(u64::from(close.error_code)) =>
        {
            let said = clip(&String::from_utf8_lossy(&close.reason));
            let code = u64::from(close.error_code) - TLS_ALERT;
            LinkError::OwnCertificate(format!("TLS alert {code}: {said}"))
        }
        ConnectionError::ApplicationClosed(close)
            if close.error_code == CloseCode::Revoked.into() =>
        {
            LinkError::OwnRevoked(clip(&String::from_utf8_lossy(&close.reason)))
        }
        ConnectionError::ApplicationClosed(close) => LinkError::Closed {
            code: close.error_code.into_inner(),
            reason: clip(&String::from_utf8_lossy(&close.reason)),
        },
        ConnectionError::TimedOut => LinkError::TimedOut,
        ConnectionError::LocallyClosed => LinkError::ClosedHere,
        other => LinkError::Lost(clip(&other.to_string())),
    }
}

/// Transport error codes from here on carry a TLS alert.
const TLS_ALERT: u64 = 0x100;
const REVOKED_ALERT: u64 = TLS_ALERT + 44;

/// Bad, unsupported, revoked, expired or unknown certificate, unknown CA, access denied, a
/// signature that does not fit, no certificate at all.
fn blames_certificate(code: u64) -> bool {
    matches!(
        code.checked_sub(TLS_ALERT),
        Some(42..=46 | 48 | 49 | 51 | 116)
    )
}

#[cfg(test)]
mod tests;
