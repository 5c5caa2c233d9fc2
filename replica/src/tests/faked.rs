//! Faked peers on real connections: a caller that says to an upstream whatever a test wants, a host
//! that a secondary takes for its upstream, and a wire between two nodes that can be cut. They own
//! how such a peer connects and what a decent one says; they must never judge the product: tests
//! do.

use std::mem;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::net::UdpSocket;
use tokio::time::timeout;
use wal::{BLOCK_HEADER_LEN, BlockHeader, Log, LogId, Position};

use super::{Cluster, Identity, any};
use crate::error::{CloseCode, LinkError};
use crate::quic::{BlockReceiver, BlockSender, ControlReceiver, ControlSender, Endpoint, Link};
use crate::wire::unpack::Unpacker;
use crate::wire::{
    CaughtUp, Heartbeat, Hello, Message, PROTOCOL_MAX, PROTOCOL_MIN, Report, Welcome, WirePlan,
    codec,
};

/// What must come within a bounded time.
pub(super) async fn soon<T>(what: &str, step: impl Future<Output = T>) -> T {
    match timeout(LONG, step).await {
        Ok(done) => done,
        Err(_) => panic!("{what}: not within {LONG:?}"),
    }
}

/// Waits until the peer ends the connection, with this code and these words in its text.
pub(super) async fn ends(link: &Link, code: u64, words: &str) {
    match soon("the peer closes", link.closed()).await {
        LinkError::Closed {
            code: found,
            reason,
        } => {
            let as_expected = found == code && reason.contains(words);
            assert!(as_expected, "{found}: {reason}, not {code}: {words}");
        }
        // QUIC forgets a closed connection after some round trips. Where the machine is so busy
        // that nobody had a turn meanwhile, this is what is left to say.
        LinkError::Lost(reason) if reason == "reset by peer" => println!("{reason}: {words}"),
        other => panic!("the connection ended otherwise: {other}, not {code}: {words}"),
    }
}

/// A control stream, or one for a file, from the side of a faked peer.
pub(super) struct Control {
    sender: ControlSender,
    receiver: ControlReceiver,
}

impl Control {
    pub(super) async fn say(&mut self, message: &Message) {
        self.try_say(message).await.expect("takes a message");
    }

    /// May fail where the peer may have had enough.
    pub(super) async fn try_say(&mut self, message: &Message) -> Result<(), LinkError> {
        soon("the peer takes it", self.sender.send(message)).await
    }

    /// Bytes that need not be a message. May fail where the peer may have had enough.
    pub(super) async fn say_bytes(&mut self, bytes: &[u8]) -> Result<(), LinkError> {
        let bytes = Bytes::copy_from_slice(bytes);
        soon("the peer takes it", self.sender.send_raw(bytes)).await
    }

    /// Says nothing more on this stream.
    pub(super) fn finish(&mut self) {
        self.sender.finish();
    }

    /// The next message; `None` at the end of the stream. May be cancelled.
    pub(super) async fn hear(&mut self) -> Result<Option<Message>, LinkError> {
        soon("the peer says something", self.receiver.receive()).await
    }

    pub(super) async fn welcomed(&mut self) -> Welcome {
        match self.hear().await {
            Ok(Some(Message::Welcome(welcome))) => welcome,
            other => panic!("not welcome: {other:?}"),
        }
    }
}

/// What a node without a log says first.
pub(super) fn hello(name: &str) -> Hello {
    Hello {
        protocol_min: PROTOCOL_MIN,
        protocol_max: PROTOCOL_MAX,
        format_version: wal::FORMAT_VERSION,
        node: name.to_owned(),
        node_id: name.to_owned(),
        ..Hello::default()
    }
}

/// The frame of a Hello as versions before 3 write it: it ends with the node's id.
pub(super) fn older_hello(hello: &Hello) -> Vec<u8> {
    let mut frame = codec::encode(&Message::Hello(hello.clone())).expect("encodes");
    // One byte for each of the later fields, which say no.
    frame.truncate(frame.len() - 3);
    relength(&mut frame);
    frame
}

/// A frame of some later build, whose message has more fields than this one knows.
pub(super) fn grown(message: &Message) -> Vec<u8> {
    let mut frame = codec::encode(message).expect("encodes");
    frame.extend_from_slice(b"more");
    relength(&mut frame);
    frame
}

fn relength(frame: &mut [u8]) {
    let length = u32::try_from(frame.len() - codec::LENGTH_LEN).expect("short");
    frame[..codec::LENGTH_LEN].copy_from_slice(&length.to_le_bytes());
}

/// What a secondary says that has everything below `at` on disk.
pub(super) fn report_of(at: Position) -> Report {
    Report {
        received: at.lsn.0,
        flushed: at.lsn.0,
        applied: at.lsn.0,
        chain: at.chain.0,
        ..Report::default()
    }
}

pub(super) fn report(at: Position) -> Message {
    Message::Report(report_of(at))
}

/// A faked secondary, or something that only looks like one.
pub(super) struct Caller {
    pub(super) link: Link,
    _endpoint: Endpoint,
}

impl Caller {
    /// Connects under this name and says nothing yet. Takes `window` bytes of each stream unread.
    pub(super) async fn connect(
        cluster: &Cluster,
        name: &str,
        upstream: SocketAddr,
        window: u32,
    ) -> Self {
        Self::connect_as(&cluster.identity(name), upstream, window).await
    }

    /// The same with this certificate.
    pub(super) async fn connect_as(identity: &Identity, upstream: SocketAddr, window: u32) -> Self {
        let memory = wal::Share::unlimited("replication");
        let endpoint = Endpoint::dial(upstream, identity, window, &memory).expect("dials");
        let link = soon("an answer", endpoint.connect(upstream)).await;
        Self {
            link: link.expect("a connection"),
            _endpoint: endpoint,
        }
    }

    /// Opens a stream, which the upstream sees with its first byte.
    pub(super) async fn open(&self) -> Result<Control, LinkError> {
        let (sender, receiver) = self.link.open_control().await?;
        Ok(Control { sender, receiver })
    }

    /// Opens the control stream and says Hello.
    pub(super) async fn handshake(&self, hello: Hello) -> Control {
        let mut control = self.open().await.expect("a stream");
        control.say(&Message::Hello(hello)).await;
        control
    }

    /// Ends the connection in order: a primary that stops waits for those who stay.
    pub(super) fn leave(self) {
        self.link.close(CloseCode::Done, "done");
    }
}

/// Takes blocks out of their frames, and checks that they are whole and continue each other.
pub(super) struct Taker {
    blocks: Option<BlockReceiver>,
    unpacker: Unpacker,
    /// End of the last whole block.
    pub(super) at: Position,
    /// All that came.
    pub(super) bytes: Vec<u8>,
    whole: usize,
}

impl Taker {
    pub(super) fn of(log: LogId) -> Self {
        Self {
            blocks: None,
            unpacker: Unpacker::new(),
            at: log.genesis(),
            bytes: Vec::new(),
            whole: 0,
        }
    }

    /// Waits for more; where the last whole block ends then. May be cancelled.
    pub(super) async fn take(&mut self, link: &Link) -> Position {
        let blocks = match &mut self.blocks {
            Some(blocks) => blocks,
            None => {
                let blocks = link.accept_blocks().await.expect("a stream of blocks");
                self.blocks.insert(blocks)
            }
        };
        let pieces = blocks.receive().await.expect("blocks");
        for piece in pieces.expect("more of them") {
            self.unpacker.push(mem::take(piece));
        }
        while let Some(raw) = self.unpacker.next().expect("good frames") {
            self.bytes.extend_from_slice(&raw);
        }
        loop {
            let rest = &self.bytes[self.whole..];
            if rest.len() < BLOCK_HEADER_LEN {
                return self.at;
            }
            let header = BlockHeader::decode(rest).expect("a header");
            if rest.len() < header.total_len() {
                return self.at;
            }
            BlockHeader::decode_block(rest).expect("a whole block");
            assert_eq!(header.start(), self.at, "blocks continue each other");
            self.at = header.end();
            self.whole += header.total_len();
        }
    }
}

/// A faked upstream.
pub(super) struct Host {
    endpoint: Endpoint,
    pub(super) address: SocketAddr,
}

impl Host {
    pub(super) fn listen(cluster: &Cluster, name: &str) -> Self {
        Self::listen_as(&cluster.identity(name))
    }

    pub(super) fn listen_as(identity: &Identity) -> Self {
        let memory = wal::Share::unlimited("replication");
        let endpoint = Endpoint::listen(any(), identity, 1 << 20, &memory);
        Self::of(endpoint.expect("listens"))
    }

    /// One that takes connections and lets no stream be opened on them.
    pub(super) fn deaf(cluster: &Cluster, name: &str) -> Self {
        Self::of(Endpoint::deaf(&cluster.identity(name)))
    }

    fn of(endpoint: Endpoint) -> Self {
        let address = endpoint.local_addr().expect("an address");
        Self { endpoint, address }
    }

    /// The next connection.
    pub(super) async fn incoming(&self) -> Link {
        let incoming = soon("an incoming connection", self.endpoint.accept()).await;
        let incoming = incoming.expect("an open endpoint");
        let link = soon("a connection", incoming.accept()).await.expect("TLS");
        link.set_windows(1 << 20, 1 << 20);
        link
    }

    /// The next secondary that comes and says Hello.
    pub(super) async fn guest(&self) -> Guest {
        let link = self.incoming().await;
        let came = Instant::now();
        let opened = soon("a control stream", link.accept_control()).await;
        let (sender, receiver) = opened.expect("a stream");
        let mut control = Control { sender, receiver };
        match control.hear().await {
            Ok(Some(Message::Hello(hello))) => Guest {
                link,
                control,
                hello,
                came,
            },
            other => panic!("no Hello: {other:?}"),
        }
    }
}

/// A secondary that a host has let in.
pub(super) struct Guest {
    pub(super) link: Link,
    pub(super) control: Control,
    pub(super) hello: Hello,
    pub(super) came: Instant,
}

impl Guest {
    /// What a decent upstream of this log answers: blocks from the secondary's end on.
    pub(super) fn welcome(&self, protocol: u16, log: &Log) -> Welcome {
        let from = match self.hello.log {
            Some(_) => self.hello.position(),
            None => log.id().genesis(),
        };
        Welcome {
            protocol,
            log: log.id().0,
            epoch: log.epoch().0,
            plan: WirePlan::Stream {
                lsn: from.lsn.0,
                chain: from.chain.0,
            },
            durable: log.durable().borrow().lsn.0,
            now_unix_ns: 1,
        }
    }

    pub(super) async fn blocks(&self) -> BlockSender {
        let blocks = soon("a stream of blocks", self.link.open_blocks()).await;
        blocks.expect("a stream")
    }

    /// Where the log stands, and that everything up to there has been sent.
    pub(super) async fn caught_up(&mut self, log: &Log) {
        let durable = log.durable().borrow().lsn.0;
        let beat = Heartbeat {
            durable,
            committed_at_ns: 1,
            now_unix_ns: 1,
        };
        self.control.say(&Message::Heartbeat(beat)).await;
        let at = CaughtUp { at: durable };
        self.control.say(&Message::CaughtUp(at)).await;
    }
}

/// Sends these bytes as (a part of) a stream of blocks; fails where the peer may have had enough.
pub(super) async fn send(blocks: &mut BlockSender, bytes: Vec<u8>) -> Result<(), LinkError> {
    soon("bytes leave", blocks.send(&mut [Bytes::from(bytes)])).await
}

/// All blocks of a log, one by one, with where each begins.
pub(super) fn blocks_of(log: &Log) -> Vec<(Position, Vec<u8>)> {
    let mut cursor = log.cursor(log.id().genesis()).expect("a cursor");
    let mut blocks = Vec::new();
    loop {
        let start = cursor.position();
        match cursor.next(1).expect("reads") {
            Some(chunk) => blocks.push((start, chunk.parts.concat())),
            None => return blocks,
        }
    }
}

/// All bytes of a log's blocks.
pub(super) fn bytes_of(log: &Log) -> Vec<u8> {
    let blocks = blocks_of(log).into_iter();
    blocks.flat_map(|(_, bytes)| bytes).collect()
}

/// Stands between one node and its upstream. Once it is cut, everything vanishes both ways.
pub(super) struct Wire {
    pub(super) address: SocketAddr,
    cut: Arc<AtomicBool>,
}

impl Wire {
    pub(super) async fn to(upstream: SocketAddr) -> Self {
        let front = UdpSocket::bind(any()).await.expect("a socket");
        let back = UdpSocket::bind(any()).await.expect("a socket");
        back.connect(upstream).await.expect("an address");
        let wire = Self {
            address: front.local_addr().expect("an address"),
            cut: Arc::default(),
        };
        // It ends with the test's runtime.
        tokio::spawn(carry(front, back, Arc::clone(&wire.cut)));
        wire
    }

    /// One that carries what proves the address `from` of a handshake and the answer to that, and
    /// nothing more: two packets there.
    pub(super) async fn half(upstream: SocketAddr, from: SocketAddr) -> Self {
        let front = UdpSocket::bind(any()).await.expect("a socket");
        let back = UdpSocket::bind(from).await.expect("a socket");
        back.connect(upstream).await.expect("an address");
        let wire = Self {
            address: front.local_addr().expect("an address"),
            cut: Arc::default(),
        };
        let cut = Arc::clone(&wire.cut);
        tokio::spawn(async move {
            let (mut there, mut here) = (vec![0; 65_536], vec![0; 65_536]);
            let (mut node, mut carried) = (None, 0);
            loop {
                tokio::select! {
                    came = front.recv_from(&mut there) => if let Ok((length, from)) = came {
                        node = Some(from);
                        if carried < 2 {
                            carried += 1;
                            let _ = back.send(&there[..length]).await;
                        }
                    },
                    came = back.recv(&mut here) => if let (Ok(length), Some(node)) = (came, node) {
                        let _ = front.send_to(&here[..length], node).await;
                        cut.store(carried == 2, Ordering::Relaxed);
                    },
                }
            }
        });
        wire
    }

    /// Waits until such a handshake has come as far as it will, or was refused.
    pub(super) async fn is_half(&self) {
        super::eventually("half a handshake", || {
            if self.cut.load(Ordering::Relaxed) {
                Ok(())
            } else {
                Err("not answered")
            }
        })
        .await;
    }

    pub(super) fn cut(&self) {
        self.cut.store(true, Ordering::Relaxed);
    }
}

async fn carry(front: UdpSocket, back: UdpSocket, cut: Arc<AtomicBool>) {
    let (mut there, mut here) = (vec![0; 65_536], vec![0; 65_536]);
    let mut node = None;
    loop {
        // What a socket cannot take is lost, as on any wire.
        tokio::select! {
            came = front.recv_from(&mut there) => if let Ok((length, from)) = came {
                node = Some(from);
                if !cut.load(Ordering::Relaxed) {
                    let _ = back.send(&there[..length]).await;
                }
            },
            came = back.recv(&mut here) => if let (Ok(length), Some(node)) = (came, node)
                && !cut.load(Ordering::Relaxed)
            {
                let _ = front.send_to(&here[..length], node).await;
            },
        }
    }
}

/// A window that takes whatever a test sends.
pub(super) const WIDE: u32 = 32 << 20;
/// Longest time for anything that is waited for.
const LONG: Duration = Duration::from_secs(20);
