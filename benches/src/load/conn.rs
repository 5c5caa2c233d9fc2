//! One publishing connection: a ring of prebuilt packets, a window, and the order of its
//! PUBACKs.
//!
//! Everything that costs the generator time is done once: a message is two patched numbers in
//! the ring and its share of one `write`. Must never know of rates, threads or measuring
//! intervals.

use std::collections::VecDeque;
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use crate::error::{BenchError, Context};
use crate::load::packet::{self, Publish, Version, following};

/// Which connections to open.
#[derive(Clone, Debug)]
pub struct Peers {
    /// The server; always a loopback address.
    pub server: SocketAddr,
    /// The protocol all of them speak.
    pub version: Version,
    /// Readings in each message, 1 to `packet::MAX_ROWS`.
    pub rows: u16,
    /// Messages each may have in flight.
    pub window: u16,
    /// How many connections.
    pub connections: usize,
    /// The table: the first level of their topics.
    pub table: String,
    /// Devices are spread over this many second levels.
    pub sites: usize,
}

/// One connection of a generator.
#[derive(Debug)]
pub struct Conn {
    /// The socket, non-blocking.
    pub stream: mio::net::TcpStream,
    ring: Box<[u8]>,
    packet_len: usize,
    id_at: usize,
    digits_at: usize,
    window: u64,
    slot: usize,
    next_id: u16,
    expected_id: u16,
    sent: u64,
    acked: u64,
    filled_bytes: u64,
    written_bytes: u64,
    partial: Vec<u8>,
    sample: Option<(u64, Instant)>,
    unsampled: u64,
}

/// Times from the send of a message to its PUBACK.
#[derive(Debug, Default)]
pub struct Samples {
    /// Microseconds, in the order of the acknowledgements.
    pub micros: Vec<f64>,
    /// Whether new ones are kept.
    pub open: bool,
    /// One message in so many per connection; 0: none.
    pub every: u64,
}

/// Resolves an address and refuses anything that leaves this machine.
///
/// # Errors
/// When the address does not parse or is not a loopback address.
pub fn loopback(address: &str) -> Result<SocketAddr, BenchError> {
    let address = address
        .replace("localhost", "127.0.0.1")
        .parse::<SocketAddr>()
        .context(format!("parse {address:?} as IP:PORT"))?;
    if !address.ip().is_loopback() {
        return Err(BenchError::Usage(format!(
            "{address} is not a loopback address; the generator serves only tests on one machine"
        )));
    }
    Ok(address)
}

impl Peers {
    /// Opens all connections and completes their MQTT handshakes.
    ///
    /// # Errors
    /// When the server is not on loopback, refuses a connection, or allows less in flight than
    /// `window`.
    pub fn open(&self) -> Result<Vec<Conn>, BenchError> {
        if !self.server.ip().is_loopback() {
            return Err(BenchError::Usage(format!(
                "{} is not a loopback address",
                self.server
            )));
        }
        if !(1..=packet::MAX_ROWS).contains(&self.rows) {
            return Err(BenchError::Usage(format!(
                "a message has 1 to {} rows",
                packet::MAX_ROWS
            )));
        }
        if self.window == 0 || self.connections == 0 || self.sites == 0 {
            return Err(BenchError::Usage(
                "connections, window and sites start at 1".to_owned(),
            ));
        }
        crate::machine::require_files(self.connections)?;
        let mut conns = Vec::with_capacity(self.connections);
        let mut waiting = VecDeque::with_capacity(CONNECT_BATCH);
        for index in 0..self.connections {
            if waiting.len() == CONNECT_BATCH
                && let Some(stream) = waiting.pop_front()
            {
                conns.push(self.accept(conns.len(), stream)?);
            }
            waiting.push_back(self.dial(index)?);
        }
        for stream in waiting {
            conns.push(self.accept(conns.len(), stream)?);
        }
        Ok(conns)
    }

    /// Connects the socket and sends CONNECT.
    fn dial(&self, index: usize) -> Result<TcpStream, BenchError> {
        let domain = Domain::for_address(self.server);
        let socket =
            Socket::new(domain, Type::STREAM, Some(Protocol::TCP)).context("open a socket")?;
        socket.set_reuse_address(true).context("set SO_REUSEADDR")?;
        if let Some(source) = self.source(index)? {
            socket
                .bind(&source.into())
                .context(format!("bind {source}"))?;
        }
        let server = self.server;
        socket
            .connect_timeout(&server.into(), CONNECT_TIMEOUT)
            .context(format!("connect to {server}"))?;
        socket.set_tcp_nodelay(true).context("set TCP_NODELAY")?;
        let mut stream = TcpStream::from(socket);
        stream
            .set_read_timeout(Some(CONNECT_TIMEOUT))
            .context("set a read timeout")?;
        let client_id = format!("{}-{}-{index}", self.table, std::process::id());
        stream
            .write_all(&packet::connect(self.version, &client_id))
            .context("send CONNECT")?;
        Ok(stream)
    }

    /// 127.0.0.1, then .2 and so on: one address has too few ports for a large fleet.
    fn source(&self, index: usize) -> Result<Option<SocketAddr>, BenchError> {
        if self.server.is_ipv6() {
            return Ok(None);
        }
        let host = u8::try_from(1 + index / PER_SOURCE_ADDRESS)
            .ok()
            .filter(|host| *host < u8::MAX)
            .ok_or_else(|| BenchError::Usage(format!("{index} connections are too many")))?;
        let ip = IpAddr::V4(Ipv4Addr::new(127, 0, 0, host));
        Ok(Some(SocketAddr::new(ip, 0)))
    }

    /// Reads the CONNACK and builds the ring.
    fn accept(&self, index: usize, mut stream: TcpStream) -> Result<Conn, BenchError> {
        let allowed = packet::read_connack(self.version, &mut stream)?;
        if allowed < self.window {
            return Err(BenchError::Usage(format!(
                "the server allows {allowed} messages in flight, less than the window of {}",
                self.window
            )));
        }
        stream
            .set_nonblocking(true)
            .context("make a socket non-blocking")?;
        let site = index % self.sites;
        let topic = format!("{}/site-{site}/device-{index}", self.table);
        let publish = Publish::new(self.version, &topic, self.rows);
        let stream = mio::net::TcpStream::from_std(stream);
        Ok(Conn::new(stream, &publish, self.window, index as u64))
    }
}

impl Conn {
    fn new(stream: mio::net::TcpStream, publish: &Publish, window: u16, index: u64) -> Self {
        Self {
            stream,
            ring: publish.bytes.repeat(usize::from(window)).into_boxed_slice(),
            packet_len: publish.bytes.len(),
            id_at: publish.id_at,
            digits_at: publish.digits_at,
            window: u64::from(window),
            slot: 0,
            next_id: 1,
            expected_id: 1,
            sent: 0,
            acked: 0,
            filled_bytes: 0,
            written_bytes: 0,
            partial: Vec::new(),
            sample: None,
            // Spread, so that a fleet does not sample all its connections at one moment.
            unsampled: index,
        }
    }

    /// Messages that may be sent now.
    pub fn credit(&self) -> u64 {
        self.window - (self.sent - self.acked)
    }

    /// Puts `count` messages, at most `credit`, into the ring. `flush` sends them.
    pub fn fill(&mut self, count: u64, sample_every: u64) {
        debug_assert!(count <= self.credit(), "the caller asks for credit first");
        self.unsampled += count;
        if sample_every > 0 && self.unsampled >= sample_every && self.sample.is_none() {
            self.sample = Some((self.sent, Instant::now()));
            self.unsampled %= sample_every;
        }
        for _ in 0..count {
            let start = self.slot * self.packet_len;
            let packet = &mut self.ring[start..start + self.packet_len];
            packet[self.id_at..self.id_at + 2].copy_from_slice(&self.next_id.to_be_bytes());
            let low = (self.sent % 100) as usize * 2;
            let high = (self.sent / 100 % 100) as usize * 2;
            let digits = &mut packet[self.digits_at..self.digits_at + 4];
            digits[..2].copy_from_slice(&PAIRS[high..high + 2]);
            digits[2..].copy_from_slice(&PAIRS[low..low + 2]);
            self.sent += 1;
            self.next_id = following(self.next_id);
            self.slot = if self.slot + 1 == self.window as usize {
                0
            } else {
                self.slot + 1
            };
        }
        self.filled_bytes += count * self.packet_len as u64;
    }

    /// Writes what is in the ring, as far as the socket takes it.
    ///
    /// # Errors
    /// When the connection is broken.
    pub fn flush(&mut self) -> Result<(), BenchError> {
        while self.written_bytes < self.filled_bytes {
            // In flight, written or not, is at most one window: the ring never laps itself.
            let pending = (self.filled_bytes - self.written_bytes) as usize;
            let start = (self.written_bytes % self.ring.len() as u64) as usize;
            let (wrapped, straight) = self.ring.split_at(start);
            let first = &straight[..pending.min(straight.len())];
            let second = &wrapped[..pending - first.len()];
            let wrote = if second.is_empty() {
                self.stream.write(first)
            } else {
                self.stream
                    .write_vectored(&[IoSlice::new(first), IoSlice::new(second)])
            };
            match wrote {
                Ok(0) => return Err(BenchError::Protocol("closed a connection".to_owned())),
                Ok(bytes) => self.written_bytes += bytes as u64,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("write to the server"),
            }
        }
        Ok(())
    }

    /// Reads acknowledgements until the socket is empty and checks their order: how many there
    /// were. `closing` asks for the end of the stream too, which a short read would leave unseen.
    ///
    /// # Errors
    /// When the connection ends, or the server acknowledges something else than the next message.
    pub fn receive(
        &mut self,
        buffer: &mut [u8],
        samples: &mut Samples,
        closing: bool,
    ) -> Result<u64, BenchError> {
        let before = self.acked;
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return Err(BenchError::Protocol("closed a connection".to_owned())),
                Ok(len) => {
                    self.take(&buffer[..len], samples)?;
                    if len < buffer.len() && !closing {
                        return Ok(self.acked - before);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Ok(self.acked - before);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("read from the server"),
            }
        }
    }

    fn take(&mut self, bytes: &[u8], samples: &mut Samples) -> Result<(), BenchError> {
        if self.partial.is_empty() {
            let used = self.acknowledge(bytes, samples)?;
            self.partial.extend_from_slice(&bytes[used..]);
        } else {
            let mut joined = std::mem::take(&mut self.partial);
            joined.extend_from_slice(bytes);
            let used = self.acknowledge(&joined, samples)?;
            joined.drain(..used);
            self.partial = joined;
        }
        Ok(())
    }

    /// Handles all whole acknowledgements in `bytes`: how many bytes they took.
    fn acknowledge(&mut self, bytes: &[u8], samples: &mut Samples) -> Result<usize, BenchError> {
        let mut at = 0;
        while let Some((id, len)) = packet::next_ack(&bytes[at..])? {
            if id != self.expected_id || self.acked == self.sent {
                return Err(BenchError::Protocol(format!(
                    "acknowledged message {id}, the next one is {}",
                    self.expected_id
                )));
            }
            if let Some((number, since)) = self.sample
                && number == self.acked
            {
                self.sample = None;
                samples.push(since.elapsed());
            }
            self.acked += 1;
            self.expected_id = following(id);
            at += len;
        }
        Ok(at)
    }
}

impl Samples {
    /// Keeps one time, while open.
    pub fn push(&mut self, took: Duration) {
        if self.open {
            self.micros.push(took.as_secs_f64() * 1e6);
        }
    }
}

/// Connections that share one source address, well below the kernel's range of local ports.
const PER_SOURCE_ADDRESS: usize = 20_000;

/// Connections that wait for their CONNACK at the same time, below a usual listen backlog.
const CONNECT_BATCH: usize = 100;

/// A server on loopback that takes longer is not working.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// All two-digit numbers as text.
const PAIRS: &[u8; 200] = b"0001020304050607080910111213141516171819\
    2021222324252627282930313233343536373839\
    4041424344454647484950515253545556575859\
    6061626364656667686970717273747576777879\
    8081828384858687888990919293949596979899";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_loopback_is_a_target() {
        assert!(loopback("127.0.0.1:1883").is_ok());
        assert!(loopback("localhost:1883").is_ok());
        assert!(loopback("[::1]:1883").is_ok());
        assert!(loopback("192.0.2.1:1883").is_err());
        assert!(loopback("0.0.0.0:1883").is_err());
        assert!(loopback("example.org:1883").is_err());
    }
}
