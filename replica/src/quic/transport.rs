//! How connections are tuned: windows, acknowledgements, timers, and the socket below them. It owns
//! those numbers and must never know who the peer is or what is said.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::QuicServerConfig;
use quinn::{TransportConfig, VarInt};
use socket2::{Domain, Protocol, Socket, Type};
use wal::{Held, Share};

use crate::error::ReplicaError;

pub(super) fn server_config(
    tls: rustls::ServerConfig,
    send_window_bytes: u64,
) -> Result<quinn::ServerConfig, ReplicaError> {
    let crypto =
        QuicServerConfig::try_from(tls).map_err(|error| ReplicaError::Tls(error.to_string()))?;
    let mut server = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    server
        .transport_config(Arc::new(upstream_transport(send_window_bytes)))
        .migration(false)
        .max_incoming(MAX_INCOMING)
        .incoming_buffer_size(INCOMING_BUFFER_BYTES)
        .incoming_buffer_size_total(INCOMING_BUFFER_BYTES * 64);
    Ok(server)
}

pub(super) fn endpoint(
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

/// Whether this machine can send to `remote` at all: without a network the library would only time
/// out, and complain of every packet.
pub(crate) fn has_way(remote: SocketAddr) -> io::Result<()> {
    let any: IpAddr = match remote {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // Looks for a way and sends nothing.
    UdpSocket::bind((any, 0))?.connect(remote)
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

pub(super) fn upstream_transport(send_window_bytes: u64) -> TransportConfig {
    let mut acks = quinn::AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(VarInt::from_u32(ACK_EVERY))
        .max_ack_delay(Some(ACK_WITHIN));
    let mut transport = transport();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(1 + FETCHES))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(CONTROL_WINDOW))
        // Until it is known who comes; then as much as there is memory for.
        .receive_window(VarInt::from_u32(FIRST_WINDOW))
        .send_window(send_window_bytes.min(u64::from(FIRST_WINDOW)))
        .ack_frequency_config(Some(acks));
    transport
}

/// How a secondary is tuned, and what may be under way to and from it: as much as is wanted and
/// this share of the memory has, and always a little.
pub(super) fn downstream(receive_window_bytes: u32, memory: &Share) -> (TransportConfig, Held) {
    let part = |wanted: u32, of: u64| {
        let most = (memory.limit() / of).max(u64::from(LEAST_WINDOW));
        u32::try_from(most).map_or(wanted, |most| wanted.min(most))
    };
    let (mut blocks, mut files) = (part(receive_window_bytes, 4), part(FETCH_WINDOW, 8));
    let held = loop {
        let both_ways = u64::from(blocks) + 2 * u64::from(files + CONTROL_WINDOW);
        match memory.try_take(both_ways) {
            Some(held) => break held,
            None if blocks.max(files) <= LEAST_WINDOW => break memory.take_beyond(both_ways),
            None => {
                (blocks, files) = (smaller(blocks), smaller(files));
            }
        }
    };
    let all = blocks.saturating_add(CONTROL_WINDOW).saturating_add(files);
    let mut transport = transport();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(FETCHES))
        .max_concurrent_uni_streams(VarInt::from_u32(1))
        .stream_receive_window(VarInt::from_u32(blocks))
        .receive_window(VarInt::from_u32(all))
        .send_window(u64::from(CONTROL_WINDOW + files))
        .keep_alive_interval(Some(KEEP_ALIVE));
    (transport, held)
}

/// Half of a window, where that is not too little.
fn smaller(window: u32) -> u32 {
    (window / 2).max(window.min(LEAST_WINDOW))
}

/// Largest UDP payload tried for and accepted. The library sends up to ten packets in one call,
/// which must stay below 64 KiB together.
const MAX_DATAGRAM: u16 = 6_000;
const _: () = assert!(MAX_DATAGRAM as usize * 10 < 64 * 1024);
const SOCKET_BUFFER_BYTES: usize = 8 << 20;
const CONTROL_WINDOW: u32 = 256 << 10;

/// What a secondary lets be under way to it of blocks and of files, however little memory there is.
const LEAST_WINDOW: u32 = 128 << 10;

/// What may be under way to and from who has just connected.
const FIRST_WINDOW: u32 = 16 << 10;

/// Fetches that one side may have open at once on a connection.
const FETCHES: u32 = 3;

/// Bytes of one fetched file that may be under way. Windows have room for them beside what they are
/// for, so that a fetch takes nothing from blocks and messages.
pub(crate) const FETCH_AHEAD_BYTES: u32 = 2 << 20;
pub(crate) const FETCH_WINDOW: u32 = FETCHES * FETCH_AHEAD_BYTES;
const IDLE_TIMEOUT_MS: u32 = 20_000;
const KEEP_ALIVE: Duration = Duration::from_secs(5);
const INITIAL_RTT: Duration = Duration::from_millis(10);

/// Packets a secondary may receive before it must acknowledge, and how long it may take otherwise.
/// On a line that loses packets the window is a dozen of them: whoever acknowledges later keeps it
/// waiting.
const ACK_EVERY: u32 = 4;
const ACK_WITHIN: Duration = Duration::from_millis(1);
const MAX_INCOMING: usize = 256;
const INCOMING_BUFFER_BYTES: u64 = 64 << 10;
