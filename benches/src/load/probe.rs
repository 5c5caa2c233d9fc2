//! Probes: single messages to a table of their own, sent at random moments by one connection
//! whose every send and every PUBACK is timed.
//!
//! Open loop: a probe does not wait for the acknowledgement of the one before, so a server that
//! stops for a moment is seen by all probes of that moment. One thread writes, one reads. Must
//! never know who looks for the probes.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::error::{BenchError, Context};
use crate::load::generator::sleep_until;
use crate::load::packet::{self, Publish, Version};

/// Where probes go, and when.
#[derive(Clone, Debug)]
pub struct Options {
    /// The MQTT server.
    pub server: SocketAddr,
    /// The protocol.
    pub version: Version,
    /// The table of the probes; nothing else may be in it.
    pub table: String,
    /// Mean time between two.
    pub every: Duration,
    /// No probe after this.
    pub end: Instant,
}

/// Probes that are being sent.
#[derive(Debug)]
pub struct Prober {
    /// When each probe was sent, in their order, told before it is sent.
    pub sent: Receiver<Instant>,
    writer: JoinHandle<Result<(), BenchError>>,
    reader: JoinHandle<Result<Vec<Instant>, BenchError>>,
}

/// What writer and reader know of each other.
#[derive(Debug)]
struct Shared {
    acked: AtomicU64,
    /// All that were sent; `u64::MAX` until that is known.
    total: AtomicU64,
}

impl Prober {
    /// Connects and begins to send.
    ///
    /// # Errors
    /// When the server refuses the connection.
    pub fn start(options: &Options) -> Result<Self, BenchError> {
        let stream = connect(options)?;
        let reading = stream.try_clone().context("share a socket")?;
        let shared = Arc::new(Shared {
            acked: AtomicU64::new(0),
            total: AtomicU64::new(u64::MAX),
        });
        let (sender, sent) = sync_channel(MOST_UNSEEN);
        let writer = {
            let (options, shared) = (options.clone(), Arc::clone(&shared));
            thread::spawn(move || {
                let wrote = write(stream, &options, &sender, &shared);
                // Whatever happened, the reader must not wait for more than there is.
                shared
                    .total
                    .store(*wrote.as_ref().unwrap_or(&0), Ordering::Release);
                wrote.map(drop)
            })
        };
        let give_up = options.end + DRAIN_LIMIT;
        let reader = thread::spawn(move || read(reading, &shared, give_up));
        Ok(Self {
            sent,
            writer,
            reader,
        })
    }

    /// Waits for the last acknowledgement: when each probe's came, in their order.
    ///
    /// # Errors
    /// When the server broke the protocol or did not acknowledge every probe.
    pub fn finish(self) -> Result<Vec<Instant>, BenchError> {
        // A writer that has nobody to tell ends too.
        drop(self.sent);
        let panicked = |_| BenchError::Invalid("a probing thread panicked".to_owned());
        let wrote = self.writer.join().map_err(panicked)?;
        let acked = self.reader.join().map_err(panicked)?;
        wrote?;
        acked
    }
}

fn connect(options: &Options) -> Result<TcpStream, BenchError> {
    let mut stream = TcpStream::connect_timeout(&options.server, CONNECT_LIMIT)
        .context(format!("connect to {}", options.server))?;
    stream.set_nodelay(true).context("set TCP_NODELAY")?;
    stream
        .set_read_timeout(Some(CONNECT_LIMIT))
        .context("set a read timeout")?;
    let client_id = format!("{}-{}", options.table, std::process::id());
    stream
        .write_all(&packet::connect(options.version, &client_id))
        .context("send CONNECT")?;
    let allowed = packet::read_connack(options.version, &mut stream)?;
    if u64::from(allowed) < MOST_IN_FLIGHT {
        return Err(BenchError::Usage(format!(
            "probes need {MOST_IN_FLIGHT} messages in flight, the server allows {allowed}"
        )));
    }
    stream
        .set_read_timeout(Some(READ_LIMIT))
        .context("set a read timeout")?;
    Ok(stream)
}

/// Sends probes until the end: how many.
fn write(
    mut stream: TcpStream,
    options: &Options,
    sender: &SyncSender<Instant>,
    shared: &Shared,
) -> Result<u64, BenchError> {
    let topic = format!("{}/site-0/probe", options.table);
    let mut publish = Publish::new(options.version, &topic, 1);
    let mut sent = 0;
    let mut id = 1_u16;
    loop {
        let now = Instant::now();
        if now >= options.end {
            return Ok(sent);
        }
        if sent - shared.acked.load(Ordering::Acquire) >= MOST_IN_FLIGHT {
            return Err(BenchError::Invalid(
                "the primary stopped acknowledging".to_owned(),
            ));
        }
        publish.bytes[publish.id_at..publish.id_at + 2].copy_from_slice(&id.to_be_bytes());
        // Told first: whoever looks for probes must never see one that is not known.
        sender.send(Instant::now()).context("hand over a probe")?;
        stream.write_all(&publish.bytes).context("send a probe")?;
        sent += 1;
        id = packet::following(id);
        // Random, so that probes do not beat with ticks or with group commits.
        sleep_until(now + options.every.mul_f64(0.5 + fastrand::f64()));
    }
}

/// Takes acknowledgements until all that were sent are acknowledged.
fn read(
    mut stream: TcpStream,
    shared: &Shared,
    give_up: Instant,
) -> Result<Vec<Instant>, BenchError> {
    let mut acked = Vec::new();
    let mut expected = 1_u16;
    let mut pending: Vec<u8> = Vec::new();
    let mut buffer = [0; 4096];
    while (acked.len() as u64) < shared.total.load(Ordering::Acquire) {
        let len = match stream.read(&mut buffer) {
            Ok(0) => return Err(BenchError::Protocol("closed a connection".to_owned())),
            Ok(len) => len,
            Err(error) if is_pause(error.kind()) => 0,
            Err(error) => return Err(error).context("read from the server"),
        };
        let now = Instant::now();
        pending.extend_from_slice(&buffer[..len]);
        let mut used = 0;
        while let Some((id, len)) = packet::next_ack(&pending[used..])? {
            if id != expected {
                return Err(BenchError::Protocol(format!(
                    "acknowledged message {id}, the next one is {expected}"
                )));
            }
            expected = packet::following(id);
            acked.push(now);
            used += len;
        }
        pending.drain(..used);
        shared.acked.store(acked.len() as u64, Ordering::Release);
        if now >= give_up {
            return Err(BenchError::Invalid(
                "not every probe was acknowledged".to_owned(),
            ));
        }
    }
    Ok(acked)
}

/// Whether a read ended only because nothing came for a while.
fn is_pause(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
    )
}

/// Probes not acknowledged yet: what servers allow, and far more than one that works leaves
/// waiting.
const MOST_IN_FLIGHT: u64 = 1000;

/// Probes sent and not yet asked for.
const MOST_UNSEEN: usize = 65_536;

const CONNECT_LIMIT: Duration = Duration::from_secs(20);

/// The last probes must be acknowledged within this time.
const DRAIN_LIMIT: Duration = Duration::from_secs(30);

/// How often the reader looks whether anything is still to come.
const READ_LIMIT: Duration = Duration::from_millis(50);
