//! The yardsticks of log shipping: a bulk transfer over plain quinn, and a plain file written
//! durably.
//!
//! Two endpoints on loopback, each on its own thread and runtime, one stream, quinn's defaults;
//! a bad line may lie between them. It must never use anything of the product. TCP and TLS are
//! in `tls.rs`.

use std::fs::File;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use quinn::{ClientConfig, ConnectionError, Endpoint, ServerConfig, WriteError};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio::runtime::{Builder, Runtime};
use tokio::time::{timeout, timeout_at};

use crate::error::{BenchError, Context};
use crate::machine;
use crate::yardstick::lossy::{Counts, Line, Relay};

/// How fast and how costly a transfer was.
#[derive(Clone, Copy, Debug)]
pub struct Transfer {
    /// Payload bytes that arrived.
    pub bytes: u64,
    /// Whether these are all.
    pub whole: bool,
    /// From the first byte to the last.
    pub elapsed: Duration,
    /// CPU seconds of both sides.
    pub cpu: f64,
}

impl Transfer {
    /// Millions of bytes per second.
    pub fn megabytes_per_second(&self) -> f64 {
        self.bytes as f64 / 1e6 / self.elapsed.as_secs_f64()
    }

    /// CPU seconds of both sides per 10^9 bytes.
    pub fn cpu_per_gigabyte(&self) -> f64 {
        self.cpu * 1e9 / self.bytes as f64
    }
}

/// Sends `bytes` bytes from one endpoint to another, over `line` if there is one; what has not
/// arrived within `limit` is not waited for. Also what became of the packets on that line.
///
/// # Errors
/// When the endpoints cannot be set up or lose each other.
pub fn transfer(
    bytes: u64,
    line: Option<Line>,
    limit: Duration,
) -> Result<(Transfer, Counts), BenchError> {
    let certified = rcgen::generate_simple_self_signed(vec![SERVER_NAME.to_owned()])
        .context("make a certificate")?;
    let certificate = CertificateDer::from(certified.cert);
    let key = PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der());
    let server = ServerConfig::with_single_cert(vec![certificate.clone()], key.into())
        .context("configure the receiver")?;
    let (address_sender, address) = sync_channel(1);
    let cpu = machine::own_cpu_seconds()?;
    let receiver =
        thread::spawn(move || runtime()?.block_on(receive(server, &address_sender, limit)));
    let (sent, counts) = match address.recv() {
        Ok(address) => over(line, address, certificate, bytes),
        // The receiver never listened; its own error says why.
        Err(_) => (Ok(()), Counts::default()),
    };
    let (received, elapsed) = receiver
        .join()
        .map_err(|_| BenchError::Invalid("the receiving thread panicked".to_owned()))??;
    sent?;
    if received != bytes && elapsed < limit {
        return Err(BenchError::Invalid(format!(
            "{received} of {bytes} bytes arrived"
        )));
    }
    let transfer = Transfer {
        bytes: received,
        whole: received == bytes,
        elapsed,
        cpu: machine::own_cpu_seconds()? - cpu,
    };
    Ok((transfer, counts))
}

/// Sends through a relay if there is a line.
fn over(
    line: Option<Line>,
    address: SocketAddr,
    certificate: CertificateDer<'static>,
    bytes: u64,
) -> (Result<(), BenchError>, Counts) {
    let relay = match line.map(|line| Relay::start(address, line)).transpose() {
        Ok(relay) => relay,
        Err(error) => return (Err(error), Counts::default()),
    };
    let address = relay.as_ref().map_or(address, Relay::address);
    let sent = runtime().and_then(|runtime| runtime.block_on(send(address, certificate, bytes)));
    let counts = relay.map_or_else(|| Ok(Counts::default()), |relay| relay.counts());
    match counts {
        Ok(counts) => (sent, counts),
        Err(error) => (sent.and(Err(error)), Counts::default()),
    }
}

/// Writes `bytes` bytes into a new file in `dir`, durable every few megabytes.
///
/// # Errors
/// When the disk refuses.
pub fn write_file(dir: &Path, bytes: u64) -> Result<Transfer, BenchError> {
    let path = dir.join("plain");
    let chunk = vec![0x5A; CHUNK];
    let cpu = machine::own_cpu_seconds()?;
    let mut file = File::create(&path).context(format!("create {}", path.display()))?;
    let started = Instant::now();
    let (mut left, mut unsynced) = (bytes, 0);
    while left > 0 {
        let part = &chunk[..CHUNK.min(usize::try_from(left).unwrap_or(CHUNK))];
        file.write_all(part)
            .context(format!("write {}", path.display()))?;
        left -= part.len() as u64;
        unsynced += part.len();
        if unsynced >= SYNC_EVERY || left == 0 {
            file.sync_data()
                .context(format!("sync {}", path.display()))?;
            unsynced = 0;
        }
    }
    let elapsed = started.elapsed();
    Ok(Transfer {
        bytes,
        whole: true,
        elapsed,
        cpu: machine::own_cpu_seconds()? - cpu,
    })
}

async fn receive(
    config: ServerConfig,
    address: &SyncSender<SocketAddr>,
    limit: Duration,
) -> Result<(u64, Duration), BenchError> {
    let endpoint = Endpoint::server(config, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
        .context("open the receiver")?;
    let listening = endpoint
        .local_addr()
        .context("ask for the receiver's port")?;
    address
        .send(listening)
        .context("tell the receiver's port")?;
    let incoming = timeout(CONNECT_LIMIT, endpoint.accept())
        .await
        .context("wait for the sender")?
        .ok_or_else(|| BenchError::Invalid("the receiver was closed".to_owned()))?;
    let connection = incoming.await.context("accept a connection")?;
    let mut stream = connection.accept_uni().await.context("accept a stream")?;
    let started = Instant::now();
    let mut chunks = vec![Bytes::new(); CHUNKS];
    let mut received = 0;
    let end = tokio::time::Instant::from_std(started + limit);
    while let Ok(read) = timeout_at(end, stream.read_chunks(&mut chunks)).await {
        let Some(count) = read.context("receive")? else {
            break;
        };
        received += chunks[..count]
            .iter()
            .map(|chunk| chunk.len() as u64)
            .sum::<u64>();
    }
    let elapsed = started.elapsed();
    // Only the receiver knows that everything has been read, or the time is over, so it ends the
    // connection.
    connection.close(0_u32.into(), b"received");
    endpoint.wait_idle().await;
    Ok((received, elapsed))
}

async fn send(
    address: SocketAddr,
    certificate: CertificateDer<'static>,
    bytes: u64,
) -> Result<(), BenchError> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate).context("trust the certificate")?;
    let config =
        ClientConfig::with_root_certificates(Arc::new(roots)).context("configure the sender")?;
    let mut endpoint =
        Endpoint::client(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).context("open the sender")?;
    endpoint.set_default_client_config(config);
    let connection = endpoint
        .connect(address, SERVER_NAME)
        .context("start a connection")?
        .await
        .context("connect")?;
    let mut stream = connection.open_uni().await.context("open a stream")?;
    let chunk = Bytes::from(vec![0x5A; CHUNK]);
    let mut left = bytes;
    while left > 0 {
        let part = CHUNK.min(usize::try_from(left).unwrap_or(CHUNK));
        match stream.write_chunk(chunk.slice(..part)).await {
            Ok(()) => left -= part as u64,
            Err(WriteError::ConnectionLost(error)) if is_end(&error) => break,
            Err(error) => return Err(error).context("send"),
        }
    }
    // Fails only when the connection has ended.
    let _ = stream.finish();
    match connection.closed().await {
        error if is_end(&error) => {}
        error => return Err(error).context("wait for the receiver"),
    }
    endpoint.wait_idle().await;
    Ok(())
}

/// Whether the receiver has ended the connection; on a bad line that word itself may be lost. What
/// arrived is for the receiver to tell.
fn is_end(error: &ConnectionError) -> bool {
    matches!(
        error,
        ConnectionError::ApplicationClosed(_) | ConnectionError::TimedOut | ConnectionError::Reset
    )
}

fn runtime() -> Result<Runtime, BenchError> {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start a runtime")
}

/// What the sender hands to quinn at once, without copying.
const CHUNK: usize = 256 * 1024;

/// Chunks taken from quinn at once.
const CHUNKS: usize = 32;

const SERVER_NAME: &str = "localhost";

const CONNECT_LIMIT: Duration = Duration::from_secs(20);

/// Bytes between two calls of fdatasync, as a follower that keeps up makes them.
const SYNC_EVERY: usize = 8 << 20;
