//! MQTT by the byte, and a listener on a log of its own: what the promises of this crate are tested
//! with. Must never use the crate's own codec: a mistake in it would hide itself.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use mqtt::{Config, Listener, Stats};
use wal::{Committer, Log, Lsn, Replicated};

/// A listener on a log in a directory of its own.
pub(crate) struct Node {
    pub(crate) listener: Listener,
    committer: Committer,
    _dir: tempfile::TempDir,
}

impl Node {
    pub(crate) fn start(config: Config) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let (committer, _) =
            wal::open_primary(wal::OsDisk::new(), dir.path(), &wal::Config::default())
                .expect("opens");
        let config = Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            ..config
        };
        let (appenders, log) = (committer.appenders(), committer.log().clone());
        let listener = Listener::start(config, appenders, log).expect("listens");
        Self {
            listener,
            committer,
            _dir: dir,
        }
    }

    /// Says that secondaries have flushed up to these.
    pub(crate) fn report(&self, flushed: &[u64]) {
        let copies = flushed.iter().zip(1..).map(|(lsn, node)| wal::NodeCopy {
            node,
            flushed: Lsn(*lsn),
        });
        self.log().set_replicated(Replicated::new(copies.collect()));
    }

    pub(crate) fn log(&self) -> &Log {
        self.committer.log()
    }

    /// The first LSN that nothing durable has.
    pub(crate) fn end(&self) -> u64 {
        self.log().durable().borrow().lsn.0
    }

    /// The counters, once they are as wanted.
    pub(crate) fn stats(&self, wanted: impl Fn(&Stats) -> bool) -> Stats {
        let begun = Instant::now();
        loop {
            let stats = self.listener.stats();
            if wanted(&stats) {
                return stats;
            }
            assert!(begun.elapsed() < FOREVER, "{stats:?}");
            std::thread::yield_now();
        }
    }

    /// The counters, once nothing waits and every PUBLISH is in one place.
    pub(crate) fn at_rest(&self) -> Stats {
        self.stats(|stats| stats.waiting == 0 && adds_up(stats))
    }
}

fn adds_up(stats: &Stats) -> bool {
    let answered = stats.acknowledged + stats.qos0 + stats.duplicates + stats.refused_messages;
    stats.received == answered + stats.dropped + stats.waiting
}

/// A packet from the server, as far as the tests look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reply {
    /// 0x40 PUBACK, 0x50 PUBREC, 0x70 PUBCOMP, 0xd0 PINGRESP.
    pub(crate) first: u8,
    pub(crate) id: u16,
    pub(crate) code: u8,
    pub(crate) lsn: Option<u64>,
    pub(crate) ack: Option<String>,
    pub(crate) reason: Option<String>,
}

/// A connection.
pub(crate) struct Client {
    stream: TcpStream,
    level: u8,
}

impl Client {
    pub(crate) fn v5(node: &Node, name: &str) -> Self {
        Self::connect(node, name, 5, &[0])
    }

    /// One that asks for no properties in acknowledgements.
    pub(crate) fn v5_terse(node: &Node, name: &str) -> Self {
        Self::connect(node, name, 5, &[2, 0x17, 0])
    }

    pub(crate) fn v3(node: &Node, name: &str) -> Self {
        Self::connect(node, name, 4, &[])
    }

    fn connect(node: &Node, name: &str, level: u8, properties: &[u8]) -> Self {
        let stream = TcpStream::connect(node.listener.local_addr()).expect("connects");
        stream.set_read_timeout(Some(FOREVER)).expect("sets");
        let mut client = Self { stream, level };
        let mut body = b"\x00\x04MQTT".to_vec();
        body.extend_from_slice(&[level, 2, 0, 60]);
        body.extend_from_slice(properties);
        text(&mut body, name);
        client.send(0x10, &body);
        let (first, body) = client.packet().expect("CONNACK");
        assert_eq!((first, body[1]), (0x20, 0), "{body:?}");
        client
    }

    /// Sends a message of one row; `ack` become user properties.
    pub(crate) fn publish(&mut self, qos: u8, id: u16, topic: &str, ack: &[&str]) {
        let mut body = Vec::new();
        text(&mut body, topic);
        if qos > 0 {
            body.extend_from_slice(&id.to_be_bytes());
        }
        if self.level == 5 {
            let mut properties = Vec::new();
            for value in ack {
                properties.push(0x26);
                text(&mut properties, "ack");
                text(&mut properties, value);
            }
            body.push(u8::try_from(properties.len()).expect("short"));
            body.extend_from_slice(&properties);
        }
        body.extend_from_slice(b"{\"v\":1}");
        self.send(0x30 | qos << 1, &body);
    }

    /// PUBREL; returns once PUBCOMP is there.
    pub(crate) fn release(&mut self, id: u16) {
        self.send(0x62, &id.to_be_bytes());
        let reply = self.reply();
        assert_eq!((reply.first, reply.id, reply.code), (0x70, id, 0));
    }

    /// Everything sent before has been taken in when this returns, and nothing was answered.
    pub(crate) fn hears_nothing(&mut self) {
        self.send(0xc0, &[]);
        assert_eq!(self.reply().first, 0xd0, "an answer too early");
    }

    pub(crate) fn reply(&mut self) -> Reply {
        self.next().expect("a packet")
    }

    /// The next packet but DISCONNECT; `None` once the server has closed.
    pub(crate) fn next(&mut self) -> Option<Reply> {
        let (first, body) = self.packet()?;
        if first == 0xe0 {
            return self.next();
        }
        Some(parse(first, &body))
    }

    fn send(&mut self, first: u8, body: &[u8]) {
        let length = u8::try_from(body.len()).expect("short");
        assert!(length < 0x80);
        let packet = [&[first, length][..], body].concat();
        // A peer that has gone is no error here.
        let _ = self.stream.write_all(&packet);
    }

    fn packet(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut head = [0; 2];
        self.stream.read_exact(&mut head).ok()?;
        assert!(head[1] < 0x80, "{head:?}");
        let mut body = vec![0; usize::from(head[1])];
        self.stream.read_exact(&mut body).ok()?;
        Some((head[0], body))
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    let length = u16::try_from(text.len()).expect("short");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn parse(first: u8, body: &[u8]) -> Reply {
    let mut reply = Reply {
        first,
        ..Reply::default()
    };
    let Some((id, rest)) = body.split_first_chunk() else {
        return reply;
    };
    reply.id = u16::from_be_bytes(*id);
    let Some((code, rest)) = rest.split_first() else {
        return reply;
    };
    reply.code = *code;
    let mut rest = rest.get(1..).unwrap_or_default();
    while let Some((kind, more)) = rest.split_first() {
        let (name, more) = take(more);
        rest = more;
        if *kind == 0x1f {
            reply.reason = Some(name);
            continue;
        }
        assert_eq!(*kind, 0x26, "{body:?}");
        let (value, more) = take(rest);
        rest = more;
        match name.as_str() {
            "lsn" => reply.lsn = Some(value.parse().expect("a number")),
            "ack" => reply.ack = Some(value),
            _ => panic!("property {name:?}"),
        }
    }
    reply
}

fn take(bytes: &[u8]) -> (String, &[u8]) {
    let (length, rest) = bytes.split_first_chunk().expect("a length");
    let (text, rest) = rest.split_at(usize::from(u16::from_be_bytes(*length)));
    (String::from_utf8(text.to_vec()).expect("UTF-8"), rest)
}

/// What nothing here takes, even on a busy machine.
const FOREVER: Duration = Duration::from_secs(30);
