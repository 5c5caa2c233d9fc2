//! What strangers send: other protocols, other versions, and messages of any kind, whose fate must
//! be what `explain` says. Real connections to a listener on a real log. Must never use the crate's
//! own codec: a mistake in it would hide itself.

#![expect(clippy::expect_used, reason = "a test that cannot go on ends")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use mqtt::{Config, Fate, Listener, Stats, explain};
use wal::{Column, ColumnRole, ColumnType, Columns, Committer, Log, TableDef, TableOptions};

/// A log in a directory of its own, with tables that a conf declares.
struct Store {
    committer: Committer,
    _dir: tempfile::TempDir,
}

impl Store {
    fn new() -> Self {
        Self::within(wal::Limits::default())
    }

    fn within(limits: wal::Limits) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let config = wal::Config {
            tables: tables(),
            limits,
            ..wal::Config::default()
        };
        let disk = wal::OsDisk::new();
        let (committer, _) = wal::open_primary(disk, dir.path(), &config).expect("opens");
        Self {
            committer,
            _dir: dir,
        }
    }

    fn listen(&self, config: &Config) -> Listener {
        let (appenders, log) = (self.committer.appenders(), self.committer.log().clone());
        Listener::start(config.clone(), appenders, log).expect("listens")
    }
}

fn tables() -> Vec<TableDef> {
    let column = |name: &str, role, kind| Column::new(name, role, kind);
    let table = |name: &str, strict| TableDef {
        name: name.to_owned(),
        columns: vec![
            column("site", ColumnRole::Tag, ColumnType::Text),
            column("t", ColumnRole::Field, ColumnType::Float),
            column("on", ColumnRole::Field, ColumnType::Bool),
        ],
        strict,
        options: TableOptions::default(),
    };
    vec![table("strict", true), table("declared", false)]
}

fn config() -> Config {
    Config {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        workers: 1,
        max_packet: 512,
        ..Config::default()
    }
}

fn connect(listener: &Listener) -> TcpStream {
    let stream = TcpStream::connect(listener.local_addr()).expect("connects");
    let forever = Some(Duration::from_secs(30));
    stream.set_read_timeout(forever).expect("sets");
    stream
}

/// All that comes until the server closes.
fn until_closed(mut stream: &TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).expect("a clean end");
    all
}

#[test]
fn another_version_is_told_so_and_another_protocol_is_closed() {
    let store = Store::new();
    let listener = store.listen(&config());
    let unacceptable: &[u8] = &[0x20, 2, 0, 1];
    for (sent, answer) in [
        (
            &b"\x10\x0f\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x01a"[..],
            unacceptable,
        ),
        (
            b"\x10\x0d\x00\x04MQTT\x84\x02\x00\x3c\x00\x01a",
            unacceptable,
        ),
        (
            b"\x10\x0d\x00\x04MQTT\x06\x02\x00\x3c\x00\x01a",
            unacceptable,
        ),
        (b"\x16\x03\x01\x00\x05hello", b""),
        (b"GET / HTTP/1.1\r\n\r\n", b""),
        (b"\x30\x05\x00\x01a{}", b""),
    ] {
        let mut stream = connect(&listener);
        stream.write_all(sent).expect("sends");
        assert_eq!(until_closed(&stream), answer, "{sent:?}");
    }
    while listener.stats().refused_connections < 6 {
        std::thread::yield_now();
    }
}

/// What a log holds: the columns of each table with rows, and these without their time, which may
/// be that of their arrival.
fn content(log: &Log) -> BTreeMap<String, (Columns, Vec<String>)> {
    let snapshot = log.snapshot();
    let mut content = BTreeMap::new();
    for schema in snapshot.catalog().tables() {
        let rows = snapshot.blocks(schema.id).into_iter().map(|block| {
            let fields: Vec<usize> = (1..schema.columns.len()).collect();
            format!("{:?}", block.read(schema, &fields).expect("sound"))
        });
        let rows: Vec<String> = rows.collect();
        // What a conf declares is in a log a moment after it is opened.
        if !rows.is_empty() {
            let held = (schema.columns.clone(), rows);
            content.insert(schema.name.clone(), held);
        }
    }
    content
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let (low, high) = (body.len() & 0x7f, body.len() >> 7);
    assert!(high < 0x80);
    let mut packet = vec![first];
    if high > 0 {
        packet.push(u8::try_from(low | 0x80).expect("a byte"));
        packet.push(u8::try_from(high).expect("a byte"));
    } else {
        packet.push(u8::try_from(low).expect("a byte"));
    }
    packet.extend_from_slice(body);
    packet
}

fn text(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).expect("short");
    [&length.to_be_bytes()[..], text.as_bytes()].concat()
}

/// Sends one message; whether it was acknowledged.
fn publish(listener: &Listener, topic: &str, payload: &[u8]) -> bool {
    let mut stream = connect(listener);
    let hello = [&b"\x00\x04MQTT\x04\x02\x00\x3c"[..], &text("check-conf")].concat();
    stream.write_all(&packet(0x10, &hello)).expect("sends");
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).expect("CONNACK");
    assert_eq!(answer, [0x20, 2, 0, 0]);
    let message = [&text(topic)[..], &[0, 1], payload].concat();
    // A server that refuses the packet may close before all of it has left.
    let _ = stream.write_all(&packet(0x32, &message));
    match stream.read_exact(&mut answer) {
        Ok(()) => {
            assert_eq!(answer, [0x40, 2, 0, 1]);
            true
        }
        Err(_) => false,
    }
}

fn choose<'a>(random: &mut fastrand::Rng, from: &[&'a str]) -> &'a str {
    from[random.usize(..from.len())]
}

fn topic(random: &mut fastrand::Rng) -> String {
    const LEVELS: &[&str] = &[
        "",
        "",
        "plant",
        "strict",
        "declared",
        "system",
        "system.dead_letters",
        "system.x",
        "$SYS",
        "a b",
        "\u{1}x",
        "information_schema",
        "+",
        "#",
        "topic",
        "\u{fc}",
    ];
    let levels: Vec<&str> = (0..random.usize(1..4))
        .map(|_| choose(random, LEVELS))
        .collect();
    levels.join("/")
}

fn value(random: &mut fastrand::Rng) -> String {
    const VALUES: &[&str] = &[
        "1",
        "2.5",
        "0.0",
        "true",
        "\"x\"",
        "null",
        "[1,2]",
        "{\"in\":1}",
        "9223372036854775808",
        "1e999",
        "\"\"",
        "-0",
        "9007199254740993",
        "[]",
        "{}",
    ];
    choose(random, VALUES).to_owned()
}

fn object(random: &mut fastrand::Rng) -> String {
    const NAMES: &[&str] = &[
        "t", "t", "on", "site", "v", "topic", "time", "ts", "Time", "", "\\u0001", "a_in", "a",
    ];
    let fields: Vec<String> = (0..random.usize(..4))
        .map(|_| format!("\"{}\":{}", choose(random, NAMES), value(random)))
        .collect();
    format!("{{{}}}", fields.join(","))
}

fn payload(random: &mut fastrand::Rng) -> Vec<u8> {
    let objects = |random: &mut fastrand::Rng, between: &str| {
        let all: Vec<String> = (0..random.usize(..4)).map(|_| object(random)).collect();
        all.join(between)
    };
    match random.u8(..8) {
        0 => value(random).into_bytes(),
        1 => format!("[{}]", objects(random, ",")).into_bytes(),
        2 => objects(random, "\n").into_bytes(),
        3 => (0..random.usize(..20)).map(|_| random.u8(..)).collect(),
        4 => format!("{{\"t\":\"{}\"}}", "x".repeat(random.usize(..600))).into_bytes(),
        _ => object(random).into_bytes(),
    }
}

#[test]
fn the_fate_of_any_message_is_what_is_explained() {
    let seed = std::env::var("SEED").map_or_else(
        |_| fastrand::u64(..),
        |seed| seed.parse().expect("a number"),
    );
    println!("seed={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let config = config();
    let mut fates = [0; 3];
    for _ in 0..12 {
        let (real, told) = (Store::new(), Store::new());
        let mut appender = told.committer.appender(Box::new(|_| ()));
        let mut listener = real.listen(&config);
        let mut before = Stats::default();
        for _ in 0..15 {
            let (topic, payload) = (topic(&mut random), payload(&mut random));
            let case = format!("{topic:?} {:?}", String::from_utf8_lossy(&payload));
            let now = wal::clock::unix_nanos();
            let fate = explain(&config, &mut appender, &topic, &payload, now);
            let acknowledged = publish(&listener, &topic, &payload);
            let stats = listener.stats();
            let (at, group, expected) = match &fate {
                Fate::Rows { rows, group, .. } => (0, Some(*group), (true, *rows as u64, 0)),
                Fate::DeadLetter { group, .. } => (1, Some(*group), (true, 0, 1)),
                Fate::Closed { .. } => (2, None, (false, 0, 0)),
            };
            let rows = stats.rows - before.rows;
            let dead_letters = stats.dead_letters - before.dead_letters;
            let seen = (acknowledged, rows, dead_letters);
            assert_eq!(seen, expected, "{case}: {fate:?}");
            if let Fate::DeadLetter { reason, .. } = &fate {
                let letter = listener.newest_dead_letter().expect("the newest");
                assert_eq!(letter.reason, *reason, "{case}");
            }
            fates[at] += 1;
            before = stats;
            // As a client does that waits for its acknowledgement: so the blocks are the same.
            if let Some(group) = group {
                appender.wait(group).expect("durable");
            }
        }
        listener.stop();
        let logs = [&real, &told].map(|store| content(store.committer.log()));
        assert_eq!(logs[0], logs[1]);
    }
    assert!(fates.iter().all(|count| *count > 3), "{fates:?}");
}

/// Tables up to the log's limit, so that not even the dead letters find room.
#[test]
fn a_message_that_nothing_takes_does_not_end_its_session() {
    let store = Store::new();
    let mut appender = store.committer.appender(Box::new(|_| ()));
    let fields = [("v".into(), wal::Value::Int(1))];
    for table in 0..wal::MAX_TABLES {
        let row = wal::Row {
            time: 1,
            tags: &[],
            fields: &fields,
        };
        while let Err(error) = appender.append(&format!("t{table}"), &[row]) {
            if !matches!(error, wal::AppendError::Full) {
                break;
            }
            std::thread::yield_now();
        }
    }
    let listener = store.listen(&config());
    let mut stream = connect(&listener);
    let hello = [&b"\x00\x04MQTT\x04\x02\x00\x3c"[..], &text("full")].concat();
    stream.write_all(&packet(0x10, &hello)).expect("sends");
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).expect("CONNACK");
    // One that is nothing, and a good one behind it in the same session.
    for (id, topic, payload) in [(1, "t1", "{"), (2, "t1", "{\"v\":2}")] {
        let message = [&text(topic)[..], &[0, id], payload.as_bytes()].concat();
        stream.write_all(&packet(0x32, &message)).expect("sends");
        stream.read_exact(&mut answer).expect("an answer");
        assert_eq!(answer, [0x40, 2, 0, id]);
    }
    while listener.stats().waiting > 0 {
        std::thread::yield_now();
    }
    let stats = listener.stats();
    assert_eq!((stats.received, stats.rows), (2, 1));
    assert_eq!(stats.dead_letters + stats.refused_messages, 1);
}

/// A client that makes names up, and an honest one.
#[test]
fn messages_beyond_a_quota_are_dead_letters_and_end_no_session() {
    let limits = wal::Limits {
        new_tables_per_minute: 3,
        ..wal::Limits::default()
    };
    let store = Store::within(limits);
    let listener = store.listen(&config());
    let mut answer = [0; 4];
    let mut sessions = ["greedy", "honest"].map(|client| {
        let mut stream = connect(&listener);
        let hello = [&b"\x00\x04MQTT\x04\x02\x00\x3c"[..], &text(client)].concat();
        stream.write_all(&packet(0x10, &hello)).expect("sends");
        stream.read_exact(&mut answer).expect("CONNACK");
        stream
    });
    let [greedy, honest] = &mut sessions;
    let mut send = |stream: &mut std::net::TcpStream, id: u8, table: String| {
        let message = [&text(&table)[..], &[0, id], b"{\"v\":2}"].concat();
        stream.write_all(&packet(0x32, &message)).expect("sends");
        stream.read_exact(&mut answer).expect("an answer");
        assert_eq!(answer, [0x40, 2, 0, id]);
    };
    for id in 1..=20 {
        send(greedy, id, format!("g{id}"));
        if id % 8 == 0 {
            send(honest, id, format!("h{id}"));
        }
        send(greedy, id, "g1".to_owned());
    }
    while listener.stats().waiting > 0 {
        std::thread::yield_now();
    }
    let stats = listener.stats();
    assert_eq!((stats.rows, stats.dead_letters), (3 + 2 + 20, 17));
    assert_eq!((stats.received, stats.connections), (42, 2));
    let newest = listener.newest_dead_letter().expect("one");
    assert!(
        newest.reason.contains("ingest.new_tables_per_minute"),
        "{}",
        newest.reason
    );
}
