//! What the two sides say to each other: every message and its fields, in the order in which they
//! travel. Fields are never reordered and numbers never reused; it must never know what they mean
//! together, which is the business of `plan`, `serve` and `follow`.

use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode};
use wal::{Chain, Epoch, LogId, Lsn, NodeCopy, Position};

use crate::wire::statement::{NodeCertificate, Statements};
use crate::wire::version::Versions;

/// Everything that is ever said: on the control stream, and fetches on a stream for each file.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Message {
    /// Secondary: first message.
    Hello(Hello),
    /// Primary: blocks follow from the agreed position.
    Welcome(Welcome),
    /// Primary: no.
    Refuse(Refuse),
    /// Primary: where its log and clock stand.
    Heartbeat(Heartbeat),
    /// Primary: everything that was durable has been sent; live blocks follow.
    CaughtUp(CaughtUp),
    /// Number 5 was a word of version 2, which nobody speaks any more.
    Retired5(Retired),
    /// Primary: it stops.
    End(End),
    /// Either: first message of a stream of its own.
    Fetch(Fetch),
    /// The answer to it, and to [`Message::FetchFrom`]; the file's bytes follow.
    File(File),
    /// Upstream: whom it follows itself, up to the primary.
    Route(Route),
    /// Secondary: ends of blocks it has; which of them the upstream has too?
    Probe(Probe),
    /// The answer to it.
    Common(Common),
    /// Either: like [`Message::Fetch`], but from some byte on.
    FetchFrom(FetchFrom),
    /// Secondary: how far it is, and those who follow it.
    Report(Report),
    /// Secondary that serves others: who they are.
    Descendants(Descendants),
    /// Relay, from version 4 on, after a [`Message::Route`] without a way to the primary: why.
    CutOff(CutOff),
    /// Upstream, from version 4 on: where the primary takes rows over HTTP.
    PrimaryHttp(PrimaryHttp),
    /// Secondary, from version 5 on: the certificate of a node whose statements follow.
    NodeCertificate(NodeCertificate),
    /// Secondary, from version 5 on: what nodes vouch for, itself and those behind it.
    Statements(Statements),
}

/// What a secondary is and has. The fields behind `node_id` came with version 3: all of them are
/// there, or none, so that an older peer can be told why it is refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hello {
    /// Oldest protocol version it speaks.
    pub protocol_min: u16,
    /// Newest protocol version it speaks.
    pub protocol_max: u16,
    /// Log format it writes.
    pub format_version: u8,
    /// Log it holds; none before it ever reached its primary.
    pub log: Option<[u8; 16]>,
    /// Epoch of that log.
    pub epoch: u64,
    /// End of that log.
    pub lsn: u64,
    /// Chain value at that end.
    pub chain: u64,
    /// Name it gives itself; its certificate says who it is.
    pub node: String,
    /// Identity of its data directory.
    pub node_id: String,
    /// Its position is that of a log which is being brought in.
    pub bootstrapping: bool,
    /// Compressions of blocks that it can undo, one bit each; bit 0: zstd.
    pub compressions: u8,
    /// Where it serves other secondaries; empty when it does not.
    pub serves: String,
}

impl Encode for Hello {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.protocol_min.encode(encoder)?;
        self.protocol_max.encode(encoder)?;
        self.format_version.encode(encoder)?;
        self.log.encode(encoder)?;
        self.epoch.encode(encoder)?;
        self.lsn.encode(encoder)?;
        self.chain.encode(encoder)?;
        self.node.encode(encoder)?;
        self.node_id.encode(encoder)?;
        self.bootstrapping.encode(encoder)?;
        self.compressions.encode(encoder)?;
        self.serves.encode(encoder)
    }
}

impl<C> Decode<C> for Hello {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let mut hello = Self {
            protocol_min: Decode::decode(decoder)?,
            protocol_max: Decode::decode(decoder)?,
            format_version: Decode::decode(decoder)?,
            log: Decode::decode(decoder)?,
            epoch: Decode::decode(decoder)?,
            lsn: Decode::decode(decoder)?,
            chain: Decode::decode(decoder)?,
            node: Decode::decode(decoder)?,
            node_id: Decode::decode(decoder)?,
            ..Self::default()
        };
        // Older peers end here.
        match bool::decode(decoder) {
            Ok(bootstrapping) => hello.bootstrapping = bootstrapping,
            Err(DecodeError::UnexpectedEnd { .. }) => return Ok(hello),
            Err(error) => return Err(error),
        }
        hello.compressions = Decode::decode(decoder)?;
        hello.serves = Decode::decode(decoder)?;
        Ok(hello)
    }
}

bincode::impl_borrow_decode!(Hello);

impl Hello {
    /// The protocol versions it speaks.
    #[must_use]
    pub fn versions(&self) -> Versions {
        Versions {
            min: self.protocol_min,
            max: self.protocol_max,
        }
    }

    /// The log it holds.
    #[must_use]
    pub fn log(&self) -> Option<LogId> {
        self.log.map(LogId)
    }

    /// Epoch of that log.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        Epoch(self.epoch)
    }

    /// End of that log.
    #[must_use]
    pub fn position(&self) -> Position {
        Position {
            lsn: Lsn(self.lsn),
            chain: Chain(self.chain),
        }
    }
}

/// What was agreed.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Welcome {
    /// Protocol version of this connection.
    pub protocol: u16,
    /// The primary's log.
    pub log: [u8; 16],
    /// Its epoch.
    pub epoch: u64,
    /// What follows.
    pub plan: WirePlan,
    /// Its durable end.
    pub durable: u64,
    /// The primary's clock, nanoseconds since 1970.
    pub now_unix_ns: i64,
}

/// How a secondary gets up to date.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum WirePlan {
    /// Blocks from this position on.
    Stream {
        /// First LSN to come.
        lsn: u64,
        /// Chain value there.
        chain: u64,
    },
    /// The log's beginning is gone: the manifest and the files it names, then blocks from this
    /// position on.
    Snapshot {
        /// Everything below is in the files.
        lsn: u64,
        /// Chain value there.
        chain: u64,
        /// How many files.
        files: u64,
        /// Their bytes.
        bytes: u64,
    },
    /// The logs do not meet where the secondary's ends: find out where they did.
    Compare {},
}

/// Why not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Refuse {
    /// See `RefuseReason::code`.
    pub code: u16,
    /// A sentence for people.
    pub message: String,
    /// `key=value` pairs for machines.
    pub detail: String,
}

/// Where the primary stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Heartbeat {
    /// Durable end of its log.
    pub durable: u64,
    /// When the last block below that was committed, by its clock; 0 in an empty log.
    pub committed_at_ns: i64,
    /// Its clock now, nanoseconds since 1970.
    pub now_unix_ns: i64,
}

/// The catch-up is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct CaughtUp {
    /// End of what has been sent.
    pub at: u64,
}

/// What can neither be said nor read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Retired {}

/// The primary stops.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct End {
    /// A sentence for people.
    pub reason: String,
}

/// A node asks for a file of which its own copy is damaged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Fetch {
    /// The log the file belongs to.
    pub log: [u8; 16],
    /// Its name, relative to the log's directory.
    pub name: String,
}

/// What became of a [`Fetch`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct File {
    /// Whether the peer holds it intact.
    pub found: bool,
    /// Bytes of it that follow this message; 0 when not found.
    pub bytes: u64,
    /// When not found: a sentence for people.
    pub reason: String,
}

/// A node on the way to the primary.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct WireHop {
    /// Identity of its data directory.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// Whom an upstream follows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Route {
    /// The upstream itself first, then whom it follows, and so on.
    pub hops: Vec<WireHop>,
    /// Whether the last of them is the primary; else somebody on the way has lost contact.
    pub rooted: bool,
}

/// Why a relay has no way to the primary.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct CutOff {
    /// A sentence for people.
    pub reason: String,
}

/// Where the primary's HTTP is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct PrimaryHttp {
    /// The URL that it advertises, or the address it listens on; empty: it answers no HTTP.
    pub address: String,
}

/// The end of a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Point {
    /// Its LSN.
    pub lsn: u64,
    /// Chain value there.
    pub chain: u64,
}

impl From<Position> for Point {
    fn from(position: Position) -> Self {
        Self {
            lsn: position.lsn.0,
            chain: position.chain.0,
        }
    }
}

impl From<Point> for Position {
    fn from(point: Point) -> Self {
        Self {
            lsn: Lsn(point.lsn),
            chain: Chain(point.chain),
        }
    }
}

/// Ends of blocks of the secondary's log, ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Probe {
    /// At most 1,024 of them.
    pub points: Vec<Point>,
}

/// Where two logs are still the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Common {
    /// The last of the points asked about that is in the upstream's log too; none: not one is.
    pub index: Option<u32>,
    /// The upstream's durable end.
    pub durable: Point,
}

/// A node asks for a file, or the manifest, from some byte on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct FetchFrom {
    /// The log the file belongs to.
    pub log: [u8; 16],
    /// Its name, relative to the log's directory, or `manifest`.
    pub name: String,
    /// The first byte wanted.
    pub from: u64,
}

/// How far a secondary is (`received >= flushed >= applied`), what it holds in files, and how far
/// those are who follow it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Report {
    /// End of what its log has accepted.
    pub received: u64,
    /// End of what is on its disk.
    pub flushed: u64,
    /// End of what its queries see.
    pub applied: u64,
    /// Chain value at `flushed`.
    pub chain: u64,
    /// What is on the disks of those who follow it, furthest first; at most 8. From version 5 on
    /// empty, and never believed: see [`Statements`].
    pub descendants: Vec<Disk>,
    /// Everything below is in its files.
    pub compacted: u64,
    /// The ordinal of its next file.
    pub next: u64,
    /// Checksum of its manifest.
    pub digest: u64,
}

/// What is on a node's disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Disk {
    /// FNV-1a, 64 bits, of the node's id.
    pub node: u64,
    /// Everything below is there.
    pub flushed: u64,
}

impl From<NodeCopy> for Disk {
    fn from(copy: NodeCopy) -> Self {
        Self {
            node: copy.node,
            flushed: copy.flushed.0,
        }
    }
}

impl From<Disk> for NodeCopy {
    fn from(disk: Disk) -> Self {
        Self {
            node: disk.node,
            flushed: Lsn(disk.flushed),
        }
    }
}

/// Those who follow a secondary, directly or not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Descendants {
    /// At most 200 of them.
    pub nodes: Vec<NodeSummary>,
    /// How many more there are.
    pub more: u32,
}

/// A secondary somewhere below, in summary.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct NodeSummary {
    /// Identity of its data directory.
    pub id: String,
    /// Common name of its certificate.
    pub name: String,
    /// Where it connected from last.
    pub address: String,
    /// As its upstream sees it.
    pub state: String,
    /// End of what its queries see.
    pub applied: u64,
    /// Identity of whom it follows.
    pub via: String,
}

impl NodeSummary {
    /// Whether every text of it is as short as names and ids are.
    pub(crate) fn is_short(&self) -> bool {
        let texts = [&self.id, &self.name, &self.address, &self.state, &self.via];
        texts.iter().all(|text| text.len() <= MAX_NAME_LEN)
    }
}

/// Longest node name and node id that are accepted, in bytes.
pub const MAX_NAME_LEN: usize = 255;

/// Most nodes in one list of those who follow a secondary.
pub const MAX_SUMMARIES: usize = 200;
