//! What connections cost in memory: idle ones, and those that hold on to all they can, while honest
//! clients beside them go on. Counts what is allocated; a process of its own, and one test, so that
//! nothing else is counted. Must never use the crate's own codec.

#![expect(clippy::expect_used, reason = "a test that cannot go on ends")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use mqtt::{Config, Listener};
use wal::Share;

/// Counts the bytes that are allocated.
struct Counting;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

#[expect(unsafe_code, reason = "an allocator is")]
// SAFETY: all is handed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn allocated() -> usize {
    ALLOCATED.load(Ordering::Relaxed)
}

/// Asks until it is so, or for a minute.
fn until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "{what}: {} bytes",
            allocated()
        );
        std::thread::yield_now();
    }
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first];
    let mut rest = body.len();
    loop {
        let low = u8::try_from(rest & 0x7f).expect("seven bits");
        rest >>= 7;
        packet.push(if rest > 0 { low | 0x80 } else { low });
        if rest == 0 {
            break;
        }
    }
    packet.extend_from_slice(body);
    packet
}

fn text(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).expect("short");
    [&length.to_be_bytes()[..], text.as_bytes()].concat()
}

/// A client of MQTT 5 after its CONNACK.
fn client(address: SocketAddr, name: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("connects");
    let forever = Some(Duration::from_secs(60));
    stream.set_read_timeout(forever).expect("sets");
    let hello = [&b"\x00\x04MQTT\x05\x02\x00\x00\x00"[..], &text(name)].concat();
    stream.write_all(&packet(0x10, &hello)).expect("sends");
    let answer = read(&mut stream);
    assert_eq!((answer[0], answer[3]), (0x20, 0), "{answer:?}");
    stream
}

/// The next packet; of less than 128 bytes.
fn read(stream: &mut TcpStream) -> Vec<u8> {
    let mut head = [0; 2];
    stream.read_exact(&mut head).expect("a packet");
    let mut rest = vec![0; usize::from(head[1])];
    stream.read_exact(&mut rest).expect("all of it");
    [&head[..], &rest].concat()
}

fn publish(topic: &str, alias: Option<u8>, payload: &[u8]) -> Vec<u8> {
    let properties = alias.map_or(vec![0], |alias| vec![3, 0x23, 0, alias]);
    let body = [&text(topic)[..], &[0, 1], &properties, payload].concat();
    packet(0x32, &body)
}

/// Sends one message and waits for its PUBACK.
fn acknowledged(stream: &mut TcpStream, message: &[u8]) {
    stream.write_all(message).expect("sends");
    let answer = read(stream);
    assert_eq!(
        (answer[0], &answer[2..4]),
        (0x40, &[0, 1][..]),
        "{answer:?}"
    );
}

#[test]
fn connections_cost_little_and_never_more_than_their_share() {
    assert!(wal::OsDisk::raise_open_files().is_some_and(|most| most > 2_600));
    let dir = tempfile::tempdir().expect("a directory");
    let config = wal::Config::default();
    let (committer, _) = wal::open_primary(wal::OsDisk::new(), dir.path(), &config).expect("opens");
    let share = Share::new("mqtt", 24 << 20);
    let config = Config {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        workers: 1,
        max_packet: 4 << 20,
        memory: share.clone(),
        ..Config::default()
    };
    let listener = Listener::start(config, committer.appenders(), committer.log().clone());
    let listener = listener.expect("listens");
    let address = listener.local_addr();
    let mut honest = client(address, "honest");
    acknowledged(&mut honest, &publish("a/b", None, b"{\"v\":1}"));
    idle_ones_take_four_kib(address, &listener);
    half_packets_keep_to_the_share(address, &share, &mut honest);
    aliases_have_a_bound(address);
    listener_is_empty_again(&listener, &share, honest);
    drop(listener);
    committer.stop().expect("stops");
}

fn idle_ones_take_four_kib(address: SocketAddr, listener: &Listener) {
    let connected = |count: u64| until("connections", || listener.stats().connections == count);
    // What grows by steps has grown.
    let first: Vec<_> = (0..600)
        .map(|n| client(address, &format!("first-{n}")))
        .collect();
    connected(601);
    let before = allocated();
    let idle: Vec<_> = (0..500)
        .map(|n| client(address, &format!("idle-{n}")))
        .collect();
    connected(1_101);
    let each = (allocated() - before) / idle.len();
    println!("an idle connection takes {each} bytes");
    assert!(each <= 4 << 10, "{each}");
    // Those that have sent much, and are at rest again, are no different.
    let burst = publish("busy/b", None, b"{\"v\":1}").repeat(200);
    let mut busy = idle;
    for stream in &mut busy {
        stream.write_all(&burst).expect("sends");
        (0..200).for_each(|_| assert_eq!(read(stream)[0], 0x40));
    }
    let most = before + busy.len() * (4 << 10) + (8 << 20);
    until("buffers are given back", || allocated() <= most);
    println!(
        "{} bytes after a burst",
        (allocated() - before) / busy.len()
    );
    drop((first, busy));
    connected(1);
}

/// Each begins a packet of 4 MiB, sends half of it, and no more.
fn half_packets_keep_to_the_share(address: SocketAddr, share: &Share, honest: &mut TcpStream) {
    let whole = publish("half/x", None, &vec![b' '; 4_000_000]);
    let before = allocated();
    let half = &whole[..whole.len() / 2];
    let mut hoards = Vec::new();
    for n in 0..60 {
        let mut stream = client(address, &format!("half-{n}"));
        stream.set_nonblocking(true).expect("sets");
        // As much as the server takes.
        let mut at = 0;
        let begun = Instant::now();
        while at < half.len() && begun.elapsed() < Duration::from_millis(100) {
            match stream.write(&half[at..]) {
                Ok(written) => at += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
                // There is no memory for it.
                Err(_) => break,
            }
        }
        hoards.push(stream);
        acknowledged(honest, &publish("a/b", None, b"{\"v\":1}"));
        assert!(share.used() <= share.limit(), "{share:?}");
        let taken = allocated() - before;
        // What the log holds is in it, too.
        assert!(taken < (24 << 20) + (12 << 20), "{taken} bytes after {n}");
    }
    // Who sends all of it, and comes again when there was no memory, gets its answer: those that
    // stand still must go.
    let value = "x".repeat(2_000_000);
    let message = publish("large/x", None, format!("{{\"v\":\"{value}\"}}").as_bytes());
    until("a large packet is taken", || {
        let mut large = client(address, "large");
        let mut head = [0; 1];
        let answered = large
            .write_all(&message)
            .and_then(|()| large.read_exact(&mut head));
        answered.is_ok() && head == [0x40]
    });
    acknowledged(honest, &publish("a/b", None, b"{\"v\":2}"));
}

fn aliases_have_a_bound(address: SocketAddr) {
    let mut stream = client(address, "aliases");
    for alias in 1..=4 {
        let topic = format!("aliases/{}", "x".repeat(900));
        acknowledged(&mut stream, &publish(&topic, Some(alias), b"{\"v\":1}"));
    }
    let long = publish(
        &format!("aliases/{}", "x".repeat(900)),
        Some(5),
        b"{\"v\":1}",
    );
    stream.write_all(&long).expect("sends");
    let mut all = Vec::new();
    stream.read_to_end(&mut all).expect("a clean end");
    assert_eq!((all[0], all[2]), (0xe0, 0x97), "{all:?}");
    assert!(String::from_utf8_lossy(&all).contains("fewer or shorter topics"));
}

fn listener_is_empty_again(listener: &Listener, share: &Share, honest: TcpStream) {
    drop(honest);
    until("all are gone", || listener.stats().connections == 0);
    until("all is given back", || share.used() == 0);
}
