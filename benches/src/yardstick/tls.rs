//! The other yardstick: a bulk transfer over TCP and TLS 1.3, as `scp` or a file server would
//! do it.
//!
//! Two threads, blocking sockets, one connection. Loss is made where the kernel takes segments
//! from the wire: a socket filter (classic BPF) that discards a random part of those that come,
//! so TCP sees what it sees on a bad line. That says something only where one segment travels
//! as one packet; whether it does is measured, never assumed. Must never use anything of the
//! product.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
};
use socket2::{SockFilter, SockRef};

use crate::error::{BenchError, Context};
use crate::machine;
use crate::yardstick::bulk::Transfer;

/// Sends `bytes` bytes over one connection of which each side loses the part `loss` of the segments
/// that come; what has not arrived within `limit` is not waited for.
///
/// # Errors
/// When the connection cannot be set up or breaks.
pub fn transfer(bytes: u64, loss: f64, limit: Duration) -> Result<Transfer, BenchError> {
    let (server, client) = configs()?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("open the receiver")?;
    let address = listener
        .local_addr()
        .context("ask for the receiver's port")?;
    let cpu = machine::own_cpu_seconds()?;
    let over = Arc::new(AtomicBool::new(false));
    let receiver = {
        let over = Arc::clone(&over);
        thread::spawn(move || {
            let received = receive(&listener, server, bytes, loss, limit);
            over.store(true, Ordering::Release);
            received
        })
    };
    let sent = send(address, client, bytes, loss, &over);
    let (received, elapsed) = receiver
        .join()
        .map_err(|_| BenchError::Invalid("the receiving thread panicked".to_owned()))??;
    let whole = received == bytes;
    if !whole && elapsed < limit {
        sent?;
        return Err(BenchError::Invalid(format!(
            "{received} of {bytes} bytes arrived"
        )));
    }
    Ok(Transfer {
        bytes: received,
        whole,
        elapsed,
        cpu: machine::own_cpu_seconds()? - cpu,
    })
}

/// Why loss cannot be made here for TCP; `None` when it can. The loopback device usually carries
/// many segments as one packet, and losing all of them at once is another thing than losing one.
///
/// # Errors
/// When not even a transfer without loss succeeds.
pub fn why_no_loss() -> Result<Option<String>, BenchError> {
    let before = machine::loopback_traffic()?;
    transfer(TRIAL, 0.0, CONNECT_LIMIT)?;
    let traffic = machine::loopback_traffic()?.since(before);
    let length = traffic.bytes / traffic.packets.max(1);
    if length <= LONGEST_PACKET {
        return Ok(None);
    }
    Ok(Some(format!(
        "loss for TCP is not measurable here: loopback carries {length} bytes as one packet; \
         run in a network namespace of its own with `ip link set lo mtu 1500 gso_max_segs 1`"
    )))
}

fn receive(
    listener: &TcpListener,
    config: Arc<ServerConfig>,
    bytes: u64,
    loss: f64,
    limit: Duration,
) -> Result<(u64, Duration), BenchError> {
    let (socket, _) = listener.accept().context("accept a connection")?;
    prepare(&socket, loss)?;
    let connection = ServerConnection::new(config).context("begin TLS")?;
    let mut stream = StreamOwned::new(connection, socket);
    let mut buffer = vec![0; CHUNK];
    let mut started = Instant::now();
    let mut received = 0;
    while received < bytes && started.elapsed() < limit {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(len) => {
                if received == 0 {
                    // The handshake is not part of it, as it is not with quinn.
                    started = Instant::now();
                }
                received += len as u64;
            }
            Err(error) if is_pause(error.kind()) => {}
            Err(error) => return Err(error).context("receive"),
        }
    }
    Ok((received, started.elapsed()))
}

/// Sends until the receiver has everything, or `over` says that it waits no longer.
fn send(
    address: SocketAddr,
    config: Arc<ClientConfig>,
    bytes: u64,
    loss: f64,
    over: &AtomicBool,
) -> Result<(), BenchError> {
    let socket =
        TcpStream::connect_timeout(&address, CONNECT_LIMIT).context("connect to the receiver")?;
    prepare(&socket, loss)?;
    let name = ServerName::try_from(SERVER_NAME).context("name the receiver")?;
    let connection = ClientConnection::new(config, name).context("begin TLS")?;
    let mut stream = StreamOwned::new(connection, socket);
    let chunk = vec![0x5A; CHUNK];
    let mut left = bytes;
    // The socket stays open until the receiver is done: closing it might drop what is on its way.
    while !over.load(Ordering::Acquire) {
        if left == 0 && !stream.conn.wants_write() {
            thread::sleep(Duration::from_millis(1));
            continue;
        }
        let part = CHUNK.min(usize::try_from(left).unwrap_or(CHUNK));
        let wrote = if part > 0 {
            stream.write(&chunk[..part])
        } else {
            stream.flush().map(|()| 0)
        };
        match wrote {
            Ok(len) => left -= len as u64,
            Err(error) if is_pause(error.kind()) => {}
            Err(error) => return Err(error).context("send"),
        }
    }
    Ok(())
}

/// Nothing blocks for long, and each side loses what it should lose.
fn prepare(socket: &TcpStream, loss: f64) -> Result<(), BenchError> {
    socket
        .set_read_timeout(Some(LOOK_EVERY))
        .context("set a read timeout")?;
    socket
        .set_write_timeout(Some(LOOK_EVERY))
        .context("set a write timeout")?;
    if loss <= 0.0 {
        return Ok(());
    }
    SockRef::from(socket)
        .attach_filter(&dropping(loss))
        .context("attach a filter to a socket")
}

/// A filter that discards this part of the segments: those whose random number is below it.
fn dropping(loss: f64) -> [SockFilter; 4] {
    let below = (loss.clamp(0.0, 1.0) * f64::from(u32::MAX)) as u32;
    [
        SockFilter::new(LOAD_WORD, 0, 0, RANDOM),
        SockFilter::new(JUMP_IF_AT_LEAST, 1, 0, below),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ]
}

fn configs() -> Result<(Arc<ServerConfig>, Arc<ClientConfig>), BenchError> {
    let certified = rcgen::generate_simple_self_signed(vec![SERVER_NAME.to_owned()])
        .context("make a certificate")?;
    let certificate = CertificateDer::from(certified.cert);
    let key = PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der());
    // The cipher of log shipping.
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites = vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256];
    let provider = Arc::new(provider);
    let mut roots = RootCertStore::empty();
    roots
        .add(certificate.clone())
        .context("trust the certificate")?;
    let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .context("configure TLS")?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key.into())
        .context("configure the receiver")?;
    // Nobody would read them, and a socket that is closed with something unread resets the line.
    server.send_tls13_tickets = 0;
    let client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .context("configure TLS")?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok((Arc::new(server), Arc::new(client)))
}

/// Whether nothing could be done for a moment.
fn is_pause(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
    )
}

/// What is handed to TLS, or taken from it, at once.
const CHUNK: usize = 256 * 1024;

const SERVER_NAME: &str = "localhost";

/// How often a side that cannot go on looks whether it should.
const LOOK_EVERY: Duration = Duration::from_millis(100);

const CONNECT_LIMIT: Duration = Duration::from_secs(20);

/// What is sent to see how long packets are.
const TRIAL: u64 = 8 << 20;

/// The longest packet of a network whose frames have the usual length.
const LONGEST_PACKET: u64 = 1600;

/// Loads of a filter's program: a random number, and the two verdicts.
const LOAD_WORD: u16 = 0x20;
const JUMP_IF_AT_LEAST: u16 = 0x35;
const RETURN: u16 = 0x06;
const RANDOM: u32 = 0xffff_f038;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_arrives_whatever_the_loss() {
        let limit = Duration::from_secs(20);
        for loss in [0.0, 0.02] {
            let transfer = transfer(1 << 20, loss, limit).unwrap();
            assert!(transfer.whole && transfer.bytes == 1 << 20, "{loss}");
        }
    }

    #[test]
    fn what_does_not_arrive_in_time_is_not_waited_for() {
        let transfer = transfer(1 << 20, 1.0, Duration::from_millis(300)).unwrap();
        assert!(!transfer.whole && transfer.bytes < 1 << 20);
    }
}
