//! One connection and the secondary's end of it: says Hello, does what the answer says, and
//! puts what comes into the node's logs through the product's own unpacker, assembler and
//! follower. What ends a connection is decided here; what a crash does must never be.

use bytes::Bytes;
use fastrand::Rng;
use replica::reconcile::{Before, Decision, Meeting, decide, truncate_at};
use replica::wire::assembler::Assembler;
use replica::wire::blocks::Compression;
use replica::wire::common_point::{Search, has_diverged, retired};
use replica::wire::unpack::Unpacker;
use replica::wire::{
    Common, FetchFrom, FrameReader, Hello, Message, PROTOCOL_MAX, PROTOCOL_MIN, Point, Probe,
    Route, Welcome, WirePlan, codec::encode,
};
use wal::{CHUNK_LEN, Epoch, LogId, Lsn, Position};

use crate::network::Streams;
use crate::oracle::Fault;
use crate::secondary::{REFUSED, Secondary};
use crate::upstream::{MANIFEST, PAST, Shipping};

/// One connection between a secondary and its upstream.
pub(crate) struct Link {
    pub(crate) streams: Streams,
    pub(crate) shipping: Shipping,
    reader: FrameReader,
    phase: Phase,
    unpacker: Unpacker,
    assembler: Assembler,
    files: FrameReader,
    fetch: Option<Fetching>,
    /// A file of the manifest is no longer to be had.
    stale: bool,
    /// The upstream's durable end when it was first told, and whom it follows.
    durable: Lsn,
    route: Route,
    /// Up to here everything was sent.
    caught_up: Option<Lsn>,
    /// Somebody has touched its bytes: what comes may be refused.
    pub(crate) tainted: bool,
}

enum Phase {
    Hello(Hello),
    Streaming,
    /// The log's beginning is gone: the manifest comes first, then the past.
    Snapshot(LogId, Epoch, Vec<u8>),
    Comparing(Box<Search>),
    /// Nothing that is held is common: whether the upstream has these, of what was held once.
    Recalling(Vec<Position>),
}

/// A file on its way.
struct Fetching {
    name: String,
    at: u64,
    /// Bytes still to come; none before the answer.
    left: Option<usize>,
    bytes: Vec<u8>,
}

impl Link {
    /// Connects and says Hello.
    pub(crate) fn dial(node: &Secondary, compression: Compression) -> Self {
        let mut hello = Hello {
            protocol_min: PROTOCOL_MIN,
            protocol_max: PROTOCOL_MAX,
            format_version: wal::FORMAT_VERSION,
            node: node.name.to_owned(),
            node_id: node.name.to_owned(),
            compressions: 1,
            ..Hello::default()
        };
        let (follower, bootstrapping) = node.following();
        hello.bootstrapping = bootstrapping;
        if let Some(follower) = follower {
            let (log, tip) = (follower.log(), follower.tip());
            (hello.log, hello.epoch) = (Some(log.id().0), log.epoch().0);
            (hello.lsn, hello.chain) = (tip.lsn.0, tip.chain.0);
        }
        let mut link = Self {
            streams: Streams::default(),
            shipping: Shipping::new(compression),
            reader: FrameReader::new(),
            phase: Phase::Hello(hello.clone()),
            unpacker: Unpacker::new(),
            assembler: Assembler::new(),
            files: FrameReader::new(),
            fetch: None,
            stale: false,
            durable: Lsn(0),
            route: Route::default(),
            caught_up: None,
            tainted: false,
        };
        link.say(&Message::Hello(hello));
        link
    }

    fn say(&mut self, message: &Message) {
        let frame = encode(message).expect("a message");
        self.streams.up.push(frame.into());
    }

    /// Why the connection ends: bytes that nobody has touched are never refused.
    fn judge(&self, fault: Fault) -> Fault {
        match fault {
            Fault::Closed(REFUSED) if !self.tainted => {
                Fault::Broken("bytes were refused that nobody has touched".to_owned())
            }
            fault => fault,
        }
    }

    /// Some of what the upstream has said arrives.
    pub(crate) async fn hear(&mut self, said: &[u8], node: &mut Secondary) -> Result<(), Fault> {
        self.reader.push(said);
        while let Some(message) = self.reader.next_message().map_err(crate::oracle::text)? {
            match message {
                Message::Welcome(welcome) => self.welcomed(&welcome, node).await?,
                Message::Route(route) => self.route = route,
                Message::Common(common) => self.common(&common, node).await?,
                Message::CaughtUp(caught_up) => self.caught_up = Some(Lsn(caught_up.at)),
                Message::Refuse(_) => return Err(Fault::Closed("turned away")),
                other => return Err(format!("an upstream says {other:?}").into()),
            }
        }
        Ok(())
    }

    async fn welcomed(&mut self, welcome: &Welcome, node: &mut Secondary) -> Result<(), Fault> {
        let Phase::Hello(hello) = &self.phase else {
            return Err("welcomed twice".to_owned().into());
        };
        let (log, epoch) = (LogId(welcome.log), Epoch(welcome.epoch));
        self.durable = Lsn(welcome.durable);
        match welcome.plan {
            WirePlan::Stream { lsn, chain } => {
                let from = Position {
                    lsn: Lsn(lsn),
                    chain: wal::Chain(chain),
                };
                let asked = match hello.log {
                    Some(_) => hello.position(),
                    None => log.genesis(),
                };
                if from != asked {
                    return Err(format!("asked for {asked}, blocks begin at {from}").into());
                }
                self.phase = Phase::Streaming;
                match node.before_blocks() {
                    Before::Begin => {
                        node.begin(None, (log, epoch)).await?;
                        Err(Fault::Closed("begun anew"))
                    }
                    Before::Open => node.begin_log(log, epoch),
                    Before::Nothing => Ok(()),
                }
            }
            WirePlan::Snapshot { .. } => {
                self.phase = Phase::Snapshot(log, epoch, Vec::new());
                self.ask(log, MANIFEST.to_owned(), 0);
                Ok(())
            }
            WirePlan::Compare {} => self.compare(node).await,
        }
    }

    /// The logs do not meet.
    async fn compare(&mut self, node: &mut Secondary) -> Result<(), Fault> {
        let (Some(follower), _) = node.following() else {
            return Err("compared without a log".to_owned().into());
        };
        self.phase = Phase::Comparing(Box::new(Search::new(follower.log())));
        self.probe(node).await
    }

    async fn common(&mut self, common: &Common, node: &mut Secondary) -> Result<(), Fault> {
        let index = common.index.and_then(|index| usize::try_from(index).ok());
        match &mut self.phase {
            Phase::Comparing(search) => search.answer(index),
            Phase::Recalling(known) => {
                let diverged_before = has_diverged(known, index);
                return self.part(None, diverged_before, node).await;
            }
            _ => return Err("an answer to no question".to_owned().into()),
        }
        self.probe(node).await
    }

    /// Asks on where the logs meet, or acts on what was found.
    async fn probe(&mut self, node: &mut Secondary) -> Result<(), Fault> {
        let Phase::Comparing(search) = &mut self.phase else {
            return Ok(());
        };
        if let Some(points) = search.probe() {
            self.inquire(&points);
            return Ok(());
        }
        let common = search.common();
        let log = node.following().0.map(|follower| follower.log().clone());
        let known = log.map_or_else(Vec::new, |log| retired(&log, self.durable));
        if common.is_none() && !known.is_empty() {
            self.inquire(&known);
            self.phase = Phase::Recalling(known);
            return Ok(());
        }
        self.part(common, false, node).await
    }

    fn inquire(&mut self, points: &[Position]) {
        let points = points.iter().copied().map(Point::from).collect();
        self.say(&Message::Probe(Probe { points }));
    }

    /// Does what the product has decided, once that is more than to wait.
    async fn part(
        &self,
        common: Option<Position>,
        diverged_before: bool,
        node: &mut Secondary,
    ) -> Result<(), Fault> {
        let (Some(follower), bootstrapping) = node.following() else {
            return Err("nothing to part".to_owned().into());
        };
        let (log, tip) = (follower.log().clone(), follower.tip());
        let meeting = Meeting {
            common,
            durable: self.durable,
            route: self.route.clone(),
            diverged_before,
        };
        let decided = decide(&meeting, bootstrapping, log.oldest().lsn);
        match decided {
            Decision::Wait(_) if self.route.rooted => {
                return Err(Fault::Closed("ahead of a relay"));
            }
            Decision::Wait(_) => return Err(Fault::Closed("apart from a relay on its own")),
            _ if !node.careful => {
                let what = format!("{} parts at {common:?}, is at {tip}", node.name);
                let why = "no primary was ever put back";
                return Err(Fault::Broken(format!("{what}: {why}")));
            }
            Decision::GiveUp => {
                node.give_up().await?;
                return Err(Fault::Closed("staged log given up"));
            }
            Decision::SaveDiverged => {}
        }
        match truncate_at(common, log.snapshot().compacted().lsn) {
            Some(common) => {
                node.save_diverged(common).await?;
                Err(Fault::Closed("tail diverged"))
            }
            None => {
                node.anew = true;
                Err(Fault::Closed("nothing in common"))
            }
        }
    }

    /// The way from the upstream to the primary, as far as it has told while blocks came.
    pub(crate) fn route(&self) -> Route {
        if self.is_streaming() {
            return self.route.clone();
        }
        Route::default()
    }

    /// Whether blocks are agreed on: before that their stream is not even there.
    pub(crate) fn is_streaming(&self) -> bool {
        matches!(self.phase, Phase::Streaming)
    }

    /// Some bytes of blocks arrive.
    pub(crate) async fn blocks(&mut self, piece: Bytes, node: &mut Secondary) -> Result<(), Fault> {
        let taken = self.take_blocks(piece, node).await;
        taken.map_err(|fault| self.judge(fault))
    }

    async fn take_blocks(&mut self, piece: Bytes, node: &mut Secondary) -> Result<(), Fault> {
        let refused = || Fault::Closed(REFUSED);
        self.unpacker.push(piece);
        while let Some(bytes) = self.unpacker.next().map_err(|_| refused())? {
            self.assembler.push(bytes);
        }
        while let Some(run) = self.assembler.next_run(RUN).map_err(|_| refused())? {
            node.take(run).await?;
        }
        Ok(())
    }

    /// Goes on with what is brought in: asks for a file, or puts the log in force.
    pub(crate) async fn go_on(&mut self, node: &mut Secondary) -> Result<(), Fault> {
        if self.fetch.is_some() || !self.is_streaming() {
            return Ok(());
        }
        let (Some(staging), Some(staged)) = (&node.staging, &node.staged) else {
            return Ok(());
        };
        let log = staging.log();
        if self.stale {
            self.stale = false;
            self.ask(log, MANIFEST.to_owned(), 0);
            return Ok(());
        }
        if let Some(missing) = staging.wanted().into_iter().next() {
            self.ask(log, missing.name, missing.held);
            return Ok(());
        }
        let end = staged.tip().lsn;
        if self.caught_up.is_some_and(|at| at <= end) {
            return Err(Fault::Closed(node.swap().await?));
        }
        Ok(())
    }

    fn ask(&mut self, log: LogId, name: String, from: u64) {
        self.files = FrameReader::new();
        self.fetch = Some(Fetching {
            name: name.clone(),
            at: from,
            left: None,
            bytes: Vec::new(),
        });
        let log = log.0;
        self.say(&Message::FetchFrom(FetchFrom { log, name, from }));
    }

    /// Turns a bit of a file that is under way; false when there is none.
    pub(crate) fn flip_file(&mut self, random: &mut Rng) -> bool {
        // The answer before it is not what a checksum of ours covers.
        let begun = self
            .fetch
            .as_ref()
            .is_some_and(|fetch| fetch.left.is_some());
        begun && self.streams.files.flip(random)
    }

    /// Some of a file arrives.
    pub(crate) async fn file(&mut self, piece: Bytes, node: &mut Secondary) -> Result<(), Fault> {
        let taken = self.take_file(piece, node).await;
        taken.map_err(|fault| self.judge(fault))
    }

    async fn take_file(&mut self, piece: Bytes, node: &mut Secondary) -> Result<(), Fault> {
        let Some(fetch) = &mut self.fetch else {
            return Err("a file that nobody asked for".to_owned().into());
        };
        if fetch.left.is_some() {
            return self.got(&piece, node).await;
        }
        self.files.push(&piece);
        let answer = match self.files.next_message().map_err(crate::oracle::text)? {
            Some(Message::File(answer)) => answer,
            Some(other) => return Err(format!("a fetch is answered with {other:?}").into()),
            None => return Ok(()),
        };
        if !answer.found {
            self.stale = true;
            self.fetch = None;
            return match &self.phase {
                Phase::Streaming => Ok(()),
                _ => Err("a manifest and a past are always to be had"
                    .to_owned()
                    .into()),
            };
        }
        fetch.left = Some(usize::try_from(answer.bytes).map_err(crate::oracle::text)?);
        let rest = self.files.take_rest();
        self.got(&rest, node).await
    }

    async fn got(&mut self, bytes: &[u8], node: &mut Secondary) -> Result<(), Fault> {
        let Some(fetch) = &mut self.fetch else {
            return Ok(());
        };
        let left = fetch.left.and_then(|left| left.checked_sub(bytes.len()));
        let left = left.ok_or_else(|| format!("too many bytes of {}", fetch.name))?;
        fetch.left = Some(left);
        fetch.bytes.extend_from_slice(bytes);
        if fetch.name == MANIFEST || fetch.name == PAST {
            if left > 0 {
                return Ok(());
            }
            let (name, bytes) = (fetch.name.clone(), std::mem::take(&mut fetch.bytes));
            self.fetch = None;
            return if name == PAST {
                self.past(&bytes, node).await
            } else {
                self.manifest(bytes, node)
            };
        }
        let whole = match left {
            0 => fetch.bytes.len(),
            _ => fetch.bytes.len() / CHUNK_LEN * CHUNK_LEN,
        };
        if whole > 0 {
            node.write(&fetch.name, fetch.at, &fetch.bytes[..whole])?;
            fetch.at += whole as u64;
            fetch.bytes.drain(..whole);
        }
        if left == 0 {
            self.fetch = None;
        }
        Ok(())
    }

    fn manifest(&mut self, manifest: Vec<u8>, node: &mut Secondary) -> Result<(), Fault> {
        if let Phase::Snapshot(log, _, begun) = &mut self.phase {
            let log = *log;
            *begun = manifest;
            self.ask(log, PAST.to_owned(), 0);
            return Ok(());
        }
        // One that is too new or too old is asked for again: blocks come meanwhile.
        self.stale = !node.refresh(&manifest)?;
        Ok(())
    }

    async fn past(&mut self, past: &[u8], node: &mut Secondary) -> Result<(), Fault> {
        let Phase::Snapshot(log, epoch, manifest) = &self.phase else {
            return Err("a past that nobody asked for".to_owned().into());
        };
        let manifest = (manifest.as_slice(), past);
        node.begin(Some(manifest), (*log, *epoch)).await?;
        Err(Fault::Closed("snapshot begun"))
    }
}

/// Most bytes appended in one step, unless one block is longer.
const RUN: usize = 700;
