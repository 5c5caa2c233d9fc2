//! A UDP relay on loopback that loses and delays packets: what QUIC meets on a bad line.
//!
//! Which packets are lost is drawn from a seed, one sequence for each direction. It must never
//! change or reorder a packet; what the kernel drops because a socket's buffer was full is
//! counted, because it would be loss that nobody asked for. One thread for each direction, and
//! with a delay one more.

use std::collections::HashMap;
use std::fmt;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use crate::error::{BenchError, Context};
use crate::load::generator::sleep_until;

/// What a line does to packets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Line {
    /// Part of the packets of each direction that is lost, 0 to 1.
    pub loss: f64,
    /// How long a packet travels.
    pub delay: Duration,
    /// Chooses the packets that are lost.
    pub seed: u64,
}

impl fmt::Display for Line {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} % loss", (self.loss * 1e4).round() / 1e2)?;
        if self.delay.is_zero() {
            return Ok(());
        }
        write!(out, ", {:?} each way", self.delay)
    }
}

/// What became of packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Passed on.
    pub passed: u64,
    /// Lost on purpose.
    pub lost: u64,
    /// Lost because the relay did not keep up.
    pub overflowed: u64,
}

/// A relay that runs until it is dropped.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    line: Line,
    target: SocketAddr,
    stop: AtomicBool,
    passed: AtomicU64,
    lost: AtomicU64,
    overflowed: AtomicU64,
    /// Of all its sockets.
    ports: Mutex<Vec<u16>>,
}

impl Relay {
    /// Relays to `target`.
    ///
    /// # Errors
    /// When a socket cannot be opened.
    pub fn start(target: SocketAddr, line: Line) -> Result<Self, BenchError> {
        let shared = Arc::new(Shared {
            line,
            target,
            stop: AtomicBool::new(false),
            passed: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            overflowed: AtomicU64::new(0),
            ports: Mutex::new(Vec::new()),
        });
        let front = socket(&shared)?;
        let address = front.local_addr().context("ask for a relay's port")?;
        let relaying = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            if let Err(error) = forwards(&front, &relaying) {
                eprintln!("the relay: {error}");
            }
        });
        Ok(Self {
            address,
            shared,
            thread: Some(thread),
        })
    }

    /// Where to connect instead of the target.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What became of the packets so far.
    ///
    /// # Errors
    /// When `/proc` does not tell.
    pub fn counts(&self) -> Result<Counts, BenchError> {
        let path = "/proc/self/net/udp";
        let sockets = std::fs::read_to_string(path).context(format!("read {path}"))?;
        let ports = self.shared.ports();
        let full: u64 = ports.iter().map(|port| drops_of(&sockets, *port)).sum();
        Ok(Counts {
            passed: self.shared.passed.load(Ordering::Relaxed),
            lost: self.shared.lost.load(Ordering::Relaxed),
            overflowed: full + self.shared.overflowed.load(Ordering::Relaxed),
        })
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A relay that failed has said so.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn ports(&self) -> std::sync::MutexGuard<'_, Vec<u16>> {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// One direction of one peer.
struct Lane {
    shared: Arc<Shared>,
    random: fastrand::Rng,
    out: Out,
}

/// How packets of a lane leave.
enum Out {
    Now(UdpSocket, SocketAddr),
    Later(SyncSender<(Instant, Vec<u8>)>),
}

impl Lane {
    fn new(shared: &Arc<Shared>, number: u64, socket: UdpSocket, to: SocketAddr) -> Self {
        let out = if shared.line.delay.is_zero() {
            Out::Now(socket, to)
        } else {
            let (sender, packets) = sync_channel(MOST_ON_THE_WAY);
            // Ends with the lane.
            thread::spawn(move || deliver(&packets, &socket, to));
            Out::Later(sender)
        };
        Self {
            shared: Arc::clone(shared),
            random: fastrand::Rng::with_seed(shared.line.seed.wrapping_add(number)),
            out,
        }
    }

    fn pass(&mut self, packet: &[u8]) {
        if self.random.f64() < self.shared.line.loss {
            self.shared.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let passed = match &self.out {
            Out::Now(socket, to) => socket.send_to(packet, to).is_ok(),
            Out::Later(sender) => {
                let due = Instant::now() + self.shared.line.delay;
                sender.try_send((due, packet.to_vec())).is_ok()
            }
        };
        let counter = if passed {
            &self.shared.passed
        } else {
            &self.shared.overflowed
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Sends each packet when it is due; all of a lane travel equally long, so they stay in order.
fn deliver(packets: &Receiver<(Instant, Vec<u8>)>, socket: &UdpSocket, to: SocketAddr) {
    while let Ok((due, packet)) = packets.recv() {
        sleep_until(due);
        // A packet that cannot be sent is a lost packet.
        let _ = socket.send_to(&packet, to);
    }
}

/// Passes packets of all peers on, and sees to the answers to each.
fn forwards(front: &UdpSocket, shared: &Arc<Shared>) -> Result<(), BenchError> {
    let mut lanes: HashMap<SocketAddr, Lane> = HashMap::new();
    let mut answering = Vec::new();
    let mut buffer = vec![0; LONGEST];
    while !shared.stopped() {
        let Ok((len, from)) = front.recv_from(&mut buffer) else {
            continue;
        };
        if let Some(lane) = lanes.get_mut(&from) {
            lane.pass(&buffer[..len]);
            continue;
        }
        let number = lanes.len() as u64;
        if number >= MOST_PEERS {
            continue;
        }
        let back = socket(shared)?;
        let receiving = back.try_clone().context("share a socket")?;
        let answers = front.try_clone().context("share a socket")?;
        let mut answers = Lane::new(shared, 2 * number + 1, answers, from);
        answering.push(thread::spawn(move || {
            let mut buffer = vec![0; LONGEST];
            while !answers.shared.stopped() {
                if let Ok(len) = receiving.recv(&mut buffer) {
                    answers.pass(&buffer[..len]);
                }
            }
        }));
        let mut lane = Lane::new(shared, 2 * number, back, shared.target);
        lane.pass(&buffer[..len]);
        lanes.insert(from, lane);
    }
    for thread in answering {
        // It has nothing to say.
        let _ = thread.join();
    }
    Ok(())
}

fn socket(shared: &Shared) -> Result<UdpSocket, BenchError> {
    let socket =
        Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).context("open a UDP socket")?;
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(&any.into()).context("bind a UDP socket")?;
    socket
        .set_read_timeout(Some(LOOK_EVERY))
        .context("set a read timeout")?;
    let socket = UdpSocket::from(socket);
    let address = socket.local_addr().context("ask for a relay's port")?;
    shared.ports().push(address.port());
    Ok(socket)
}

/// Packets that came for a local port while its buffer was full.
fn drops_of(sockets: &str, port: u16) -> u64 {
    sockets
        .lines()
        .skip(1)
        .filter_map(|line| {
            let local = line.split_ascii_whitespace().nth(1)?;
            let (_, hex) = local.rsplit_once(':')?;
            if u16::from_str_radix(hex, 16).ok()? != port {
                return None;
            }
            line.split_ascii_whitespace()
                .next_back()?
                .parse::<u64>()
                .ok()
        })
        .sum()
}

/// The system caps it without an error.
const SOCKET_BUFFER: usize = 8 << 20;

/// Packets on their way while there is a delay; more are lost, and counted.
const MOST_ON_THE_WAY: usize = 100_000;

/// Peers of one relay; packets of others are lost.
const MOST_PEERS: u64 = 64;

/// No UDP packet is longer.
const LONGEST: usize = 65_536;

/// How often a thread with nothing to do looks whether it should end.
const LOOK_EVERY: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends numbered packets through a relay to an echo: those that came back.
    fn echoes(line: Line, count: u8) -> Vec<u8> {
        let echo = UdpSocket::bind("127.0.0.1:0").unwrap();
        let relay = Relay::start(echo.local_addr().unwrap(), line).unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        for socket in [&echo, &client] {
            let limit = Some(Duration::from_millis(200));
            socket.set_read_timeout(limit).unwrap();
        }
        let mut back = Vec::new();
        let mut buffer = [0; 16];
        for number in 0..count {
            client.send_to(&[number], relay.address()).unwrap();
            if let Ok((len, from)) = echo.recv_from(&mut buffer) {
                echo.send_to(&buffer[..len], from).unwrap();
                if client.recv(&mut buffer).is_ok() {
                    back.push(buffer[0]);
                }
            }
        }
        assert_eq!(relay.counts().unwrap().overflowed, 0);
        back
    }

    fn line(loss: f64, delay: Duration) -> Line {
        Line {
            loss,
            delay,
            seed: 1,
        }
    }

    #[test]
    fn a_good_line_loses_nothing_and_keeps_the_order() {
        let all: Vec<u8> = (0..100).collect();
        assert_eq!(echoes(line(0.0, Duration::ZERO), 100), all);
        assert_eq!(echoes(line(0.0, Duration::from_millis(2)), 100), all);
    }

    #[test]
    fn the_same_seed_loses_the_same_packets() {
        let first = echoes(line(0.3, Duration::ZERO), 20);
        assert_eq!(first, echoes(line(0.3, Duration::ZERO), 20));
        assert!(first.len() < 20);
        assert!(echoes(line(1.0, Duration::ZERO), 3).is_empty());
    }

    #[test]
    fn drops_are_read_of_the_port_asked_for() {
        let sockets = "  sl  local_address rem_address st ... drops\n  \
            7: 0100007F:1F90 00000000:0000 07 00000000:00000000 00:00000000 00000000 0 0 5 2 0 12\n";
        assert_eq!(drops_of(sockets, 8080), 12);
        assert_eq!(drops_of(sockets, 8081), 0);
    }
}
