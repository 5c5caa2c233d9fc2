//! A UDP relay between a secondary and its primary that can be cut, and that can lose, delay and
//! reorder packets as a bad line does, by a seed. Counts what it carries; never looks into it.

use std::collections::{BTreeMap, HashMap};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What the line does to packets, each way.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    /// Part of the packets that is lost, 0 to 1.
    pub loss: f64,
    /// How long each packet takes.
    pub delay: Duration,
    /// Part of the packets that is overtaken by those behind it, 0 to 1.
    pub reorder: f64,
}

/// A running relay.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    line: Arc<Line>,
}

/// What all threads of a relay share.
#[derive(Debug)]
struct Line {
    cut: AtomicBool,
    stop: AtomicBool,
    weather: Mutex<Weather>,
    random: Mutex<fastrand::Rng>,
    /// Bytes on their way to the secondary.
    carried: AtomicU64,
    lost: AtomicU64,
    post: SyncSender<Letter>,
}

/// A packet that is to be sent later.
#[derive(Debug)]
struct Letter {
    due: Instant,
    socket: Arc<UdpSocket>,
    to: SocketAddr,
    bytes: Vec<u8>,
}

impl Proxy {
    /// Relays to `target`, in fine weather.
    pub fn start(target: &str) -> Self {
        Self::between("127.0.0.1:0", target, 0)
    }

    /// Relays from this address to `target`; what happens to which packet follows from `seed`.
    pub fn between(listen: &str, target: &str, seed: u64) -> Self {
        let target: SocketAddr = target.parse().expect("an address");
        let front = Arc::new(UdpSocket::bind(listen).expect("binds"));
        let address = front.local_addr().expect("an address");
        let (post, letters) = sync_channel(ON_THE_WAY);
        let line = Arc::new(Line {
            cut: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            weather: Mutex::default(),
            random: Mutex::new(fastrand::Rng::with_seed(seed)),
            carried: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            post,
        });
        std::thread::spawn(move || deliver(&letters));
        let shared = Arc::clone(&line);
        std::thread::spawn(move || relay(&front, target, &shared));
        Self { address, line }
    }

    /// Where the secondary connects.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Drops every packet from now on, or relays again.
    pub fn cut(&self, cut: bool) {
        self.line.cut.store(cut, Ordering::Relaxed);
    }

    /// What the line is like from now on.
    pub fn weather(&self, weather: Weather) {
        *held(&self.line.weather) = weather;
    }

    /// Bytes of packets that were passed on towards the secondary.
    pub fn carried(&self) -> u64 {
        self.line.carried.load(Ordering::Relaxed)
    }

    /// Packets that were lost to the weather.
    pub fn lost(&self) -> u64 {
        self.line.lost.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.line.stop.store(true, Ordering::Relaxed);
    }
}

impl Line {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Sends a packet on, now or later or not at all; whether it is on its way.
    fn pass(&self, socket: &Arc<UdpSocket>, to: SocketAddr, bytes: &[u8]) -> bool {
        if self.cut.load(Ordering::Relaxed) {
            return false;
        }
        let weather = *held(&self.weather);
        let (lost, late) = {
            let mut random = held(&self.random);
            let late = (random.f64() < weather.reorder).then(|| random.u64(1..=5));
            (random.f64() < weather.loss, late)
        };
        if lost {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        let delay = weather.delay + late.map_or(Duration::ZERO, Duration::from_millis);
        if delay.is_zero() {
            // A line that is down swallows what is sent.
            return socket.send_to(bytes, to).is_ok();
        }
        let letter = Letter {
            due: Instant::now() + delay,
            socket: Arc::clone(socket),
            to,
            bytes: bytes.to_vec(),
        };
        // What does not fit is lost, as in any queue of a line.
        self.post.try_send(letter).is_ok()
    }
}

fn relay(front: &Arc<UdpSocket>, target: SocketAddr, line: &Arc<Line>) {
    front.set_read_timeout(Some(LOOK)).expect("sets");
    let mut backs: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut buffer = vec![0; 65_536];
    while !line.stopped() {
        let Ok((len, from)) = front.recv_from(&mut buffer) else {
            continue;
        };
        let back = backs.entry(from).or_insert_with(|| {
            let back = Arc::new(UdpSocket::bind("0.0.0.0:0").expect("binds"));
            let (reader, front) = (Arc::clone(&back), Arc::clone(front));
            let line = Arc::clone(line);
            std::thread::spawn(move || answers(&reader, &front, from, &line));
            back
        });
        line.pass(back, target, &buffer[..len]);
    }
}

fn answers(back: &Arc<UdpSocket>, front: &Arc<UdpSocket>, to: SocketAddr, line: &Line) {
    back.set_read_timeout(Some(LOOK)).expect("sets");
    let mut buffer = vec![0; 65_536];
    while !line.stopped() {
        let Ok(len) = back.recv(&mut buffer) else {
            continue;
        };
        if line.pass(front, to, &buffer[..len]) {
            line.carried.fetch_add(len as u64, Ordering::Relaxed);
        }
    }
}

/// Sends what is due until nobody posts any more.
fn deliver(letters: &Receiver<Letter>) {
    let mut waiting: BTreeMap<(Instant, u64), Letter> = BTreeMap::new();
    for number in 0.. {
        let now = Instant::now();
        while let Some(first) = waiting.first_entry() {
            if first.key().0 > now {
                break;
            }
            let letter = first.remove();
            let _ = letter.socket.send_to(&letter.bytes, letter.to);
        }
        let next = waiting.first_key_value();
        let wait = next.map_or(LOOK, |((due, _), _)| due.saturating_duration_since(now));
        match letters.recv_timeout(wait) {
            Ok(letter) if waiting.len() < ON_THE_WAY => {
                waiting.insert((letter.due, number), letter);
            }
            Ok(_) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn held<T>(lock: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Packets that can be on their way at one time.
const ON_THE_WAY: usize = 16_384;
/// How often a thread sees whether it is to end.
const LOOK: Duration = Duration::from_millis(100);
