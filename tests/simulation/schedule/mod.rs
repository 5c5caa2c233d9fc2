//! One seed: a primary, nodes of which each follows it or one before it, so that there are up
//! to two relays between, and what happens to them step by step. Everything is driven from
//! here, one thing after the other, so that a seed repeats itself. Must never decide what the
//! product decides.

mod links;
mod rest;

use std::collections::BTreeMap;

use bytes::Bytes;
use fastrand::Rng;
use replica::wire::blocks::Compression;
use wal::Bundle;

use crate::link::Link;
use crate::oracle::{Check, Fault, Oracle};
use crate::primary::Primary;
use crate::secondary::Secondary;

/// What is broken on purpose: the promises must be seen to fail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Sabotage {
    #[default]
    Nothing,
    /// Bytes on their way are left out.
    SkipsPieces,
    /// A sealed segment of a secondary rots.
    Rots,
    /// The primary loses what it has acknowledged.
    Forgets,
    /// What was put aside is thrown away.
    LosesTails,
}

/// How a schedule is run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Options {
    pub(crate) sabotage: Sabotage,
    /// Lengths on the wire then follow from nothing but the seed.
    pub(crate) unpacked: bool,
}

/// What happened.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) counts: BTreeMap<&'static str, u64>,
    pub(crate) trace: Vec<String>,
}

/// A promise that did not hold, and what came before it.
#[derive(Debug)]
pub(crate) struct Violation {
    pub(crate) what: String,
    pub(crate) trace: Vec<String>,
}

/// Runs one schedule to its end.
pub(crate) fn run(seed: u64, options: Options) -> Result<Report, Violation> {
    let _named = Named(seed);
    // The log's identity comes from there.
    fastrand::seed(seed);
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.expect("a runtime");
    let random = Rng::with_seed(seed);
    let mut world = World::new(random, options)?;
    let played = runtime.block_on(async {
        let played = world.play().await;
        world.close().await;
        played
    });
    let report = world.report;
    match played {
        Ok(()) => Ok(report),
        Err(what) => Err(Violation {
            what,
            trace: report.trace,
        }),
    }
}

/// A panic names its seed too.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}", self.0);
        }
    }
}

struct World {
    random: Rng,
    options: Options,
    oracle: Oracle,
    primary: Primary,
    nodes: Vec<Secondary>,
    /// The relay that a node follows; none: the primary itself.
    above: [Option<usize>; NAMES.len()],
    links: [Option<Link>; NAMES.len()],
    /// What upstreams hold for those who join.
    holds: [Option<Bundle>; NAMES.len()],
    /// What an earlier connection of the node has sent.
    old: [Vec<Bytes>; NAMES.len()],
    apart_until: [usize; NAMES.len()],
    /// Each node's generation that those below it have connected to.
    served: [u64; NAMES.len()],
    compression: Compression,
    step: usize,
    steps: usize,
    /// Rows are long, so that files have several chunks.
    wide: bool,
    report: Report,
}

impl World {
    fn new(mut random: Rng, options: Options) -> Result<Self, Violation> {
        let wide = random.u8(..80) == 0;
        let compression = if options.unpacked || random.bool() {
            Compression::None
        } else {
            Compression::Zstd
        };
        let (primary, oracle) = Primary::new(&mut random, wide).map_err(|fault| Violation {
            what: format!("{fault:?}"),
            trace: Vec::new(),
        })?;
        let mut nodes: Vec<Secondary> = NAMES.into_iter().map(Secondary::new).collect();
        for node in &mut nodes {
            node.loses_tails = options.sabotage == Sabotage::LosesTails;
        }
        let mut above = [None; NAMES.len()];
        for (node, above) in above.iter_mut().enumerate() {
            // Mostly one below the other.
            let relay = if random.bool() {
                node
            } else {
                random.usize(..=node)
            };
            *above = relay.checked_sub(1);
        }
        let steps = if wide { 60 } else { random.usize(50..200) };
        Ok(Self {
            options,
            oracle,
            primary,
            nodes,
            above,
            links: Default::default(),
            holds: Default::default(),
            old: Default::default(),
            apart_until: [0; NAMES.len()],
            served: [0; NAMES.len()],
            compression,
            step: 0,
            steps,
            wide,
            report: Report::default(),
            random,
        })
    }

    /// Ends every thread.
    async fn close(&mut self) {
        self.primary.close();
        for node in &mut self.nodes {
            node.close().await;
        }
    }

    async fn play(&mut self) -> Check {
        if self.wide {
            // Whoever joins has long files to fetch.
            for _ in 0..WIDE_ROWS {
                let done = self.primary.append(&mut self.oracle);
                self.after_primary(done)?;
            }
            self.retire()?;
        }
        while self.step < self.steps {
            let what = self.one().await?;
            self.note(what);
            self.check()?;
            self.step += 1;
        }
        self.heal().await?;
        self.at_rest().await
    }

    fn count(&mut self, what: &'static str) {
        *self.report.counts.entry(what).or_default() += 1;
    }

    fn note(&mut self, what: &'static str) {
        self.count(what);
        let ends: Vec<_> = self.nodes.iter().map(Secondary::ends).collect();
        let durable = self.oracle.upto().lsn;
        let line = format!("{:4} {what}: primary {durable}, {ends:?}", self.step);
        self.report.trace.push(line);
    }

    fn check(&mut self) -> Check {
        for node in &mut self.nodes {
            node.check(&self.oracle)?;
        }
        Ok(())
    }

    /// Draws one thing to happen.
    async fn one(&mut self) -> Result<&'static str, String> {
        let node = self.random.usize(..NAMES.len());
        match self.random.u8(..100) {
            0..24 => self.append().await,
            24..68 => {
                for _ in 0..self.random.usize(1..16) {
                    let node = self.random.usize(..NAMES.len());
                    self.turn(node).await?;
                }
                Ok("turns")
            }
            68..80 => Ok(self.disturb(node)),
            80..84 => self.primary_does(Primary::compact, "primary compacts"),
            84..88 => {
                let done = self.nodes[node].compact();
                self.after(node, done).await?;
                Ok("secondary compacts")
            }
            88..90 => {
                let after = self.random.u64(..30);
                self.nodes[node].arm(after);
                Ok("secondary will crash")
            }
            90 => {
                self.after(node, Err(Fault::Disk)).await?;
                Ok("secondary crashes")
            }
            91 => {
                self.cut(node);
                let done = self.nodes[node].restart().await;
                self.after(node, done).await?;
                Ok("secondary restarts")
            }
            92..94 => {
                let after = self.random.u64(..20);
                self.primary.arm(after);
                Ok("primary will crash")
            }
            94 => self.primary_does(|_| Err(Fault::Disk), "primary crashes"),
            95 => self.retire(),
            96 => {
                self.primary.save(&self.oracle);
                Ok("primary is copied")
            }
            97 => self.restore(),
            98 => Ok(self.move_away()),
            _ => self.sabotage().await,
        }
    }

    /// A node follows another upstream than it did.
    fn move_away(&mut self) -> &'static str {
        let node = self.random.usize(1..NAMES.len());
        self.cut(node);
        self.holds[node] = None;
        // The primary counts as the first.
        let was = self.above[node].map_or(0, |relay| relay + 1);
        let is = (was + 1 + self.random.usize(..node)) % (node + 1);
        self.above[node] = is.checked_sub(1);
        "another upstream"
    }

    async fn append(&mut self) -> Result<&'static str, String> {
        for _ in 0..self.random.usize(1..6) {
            let done = self.primary.append(&mut self.oracle);
            self.after_primary(done)?;
        }
        Ok("rows")
    }

    fn primary_does(
        &mut self,
        what: impl FnOnce(&Primary) -> Result<(), Fault>,
        name: &'static str,
    ) -> Result<&'static str, String> {
        let done = what(&self.primary);
        self.after_primary(done)?;
        Ok(name)
    }

    /// The log's head goes, as far as it need not be kept.
    fn retire(&mut self) -> Result<&'static str, String> {
        for _ in 0..2 {
            let done = self.primary.compact();
            self.after_primary(done)?;
            self.cut_off(None);
            self.primary.restart(&mut self.oracle, &mut self.random)?;
        }
        let done = self.primary.compact();
        self.after_primary(done)?;
        Ok("head retired")
    }

    fn restore(&mut self) -> Result<&'static str, String> {
        self.cut_off(None);
        let restored = self.primary.restore(&mut self.oracle, &mut self.random)?;
        if !restored {
            return Ok("nothing to restore");
        }
        for node in &mut self.nodes {
            node.careful = true;
        }
        Ok("primary restored")
    }

    /// Something happens on the way between a node and its upstream.
    fn disturb(&mut self, node: usize) -> &'static str {
        let random = &mut self.random;
        let Some(link) = &mut self.links[node] else {
            self.apart_until[node] = self.step + random.usize(1..25);
            return "partition";
        };
        match random.u8(..8) {
            0..2 => self.cut(node),
            2 => {
                self.apart_until[node] = self.step + random.usize(1..25);
                return "partition";
            }
            3 => {
                self.cut(node);
                self.apart_until[node] = self.step + self.random.usize(1..25);
                return "partition and cut";
            }
            4 if link.streams.blocks.flip(random) => {
                link.tainted = true;
                return "block byte flipped";
            }
            5 if link.flip_file(random) => {
                link.tainted = true;
                return "file byte flipped";
            }
            6 | 7 if link.streams.replay(&self.old[node], random) => {
                link.tainted = true;
                return "old bytes replayed";
            }
            _ => return "quiet",
        }
        "cut"
    }

    async fn sabotage(&mut self) -> Result<&'static str, String> {
        match self.options.sabotage {
            Sabotage::Rots => {
                self.cut(NEAR);
                let done = self.nodes[NEAR].rot().await.map(|_| ());
                self.after(NEAR, done).await?;
                Ok("a segment rots")
            }
            Sabotage::Forgets => {
                self.cut_off(None);
                self.primary.forget(&mut self.oracle, &mut self.random)?;
                Ok("the primary forgets")
            }
            _ => Ok("quiet"),
        }
    }

    /// A node and its upstream get on by one piece of what is under way between them.
    async fn turn(&mut self, node: usize) -> Check {
        if self.step < self.apart_until[node] {
            return Ok(());
        }
        let Some(mut link) = self.links[node].take() else {
            self.dial(node);
            return Ok(());
        };
        let done = self.advance(node, &mut link).await;
        self.check_parted(node)?;
        match done {
            Ok(()) => self.links[node] = Some(link),
            Err(_) => self.old[node] = link.streams.into_old(),
        }
        self.after(node, done).await
    }

    /// Of what a node has put aside as another history, the primary has nothing; but where
    /// upstreams no longer hold blocks they know only of some places.
    fn check_parted(&mut self, node: usize) -> Check {
        let Some((at, rows)) = self.nodes[node].parted.take() else {
            return Ok(());
        };
        if self.relays_above(node) > 1 {
            self.count("tail diverged two relays deep");
        }
        let held = self.upstream(node).log;
        if held.is_some_and(|log| log.oldest().lsn <= at.lsn) {
            return self.oracle.check_parted(NAMES[node], &rows);
        }
        Ok(())
    }

    /// Deals with what a node's doing has led to.
    async fn after(&mut self, node: usize, mut done: Result<(), Fault>) -> Check {
        loop {
            match done {
                Ok(()) => break,
                Err(Fault::Closed(why)) => {
                    self.count(why);
                    self.links[node] = None;
                    break;
                }
                Err(Fault::Broken(what)) => return Err(what),
                Err(Fault::Disk) => {
                    self.count("secondary crashed");
                    self.cut(node);
                    done = self.nodes[node].crash(&mut self.random).await;
                }
            }
        }
        for relay in 0..NAMES.len() {
            let generation = self.nodes[relay].generation;
            if std::mem::replace(&mut self.served[relay], generation) != generation {
                // Another log, or another handle of it: those who followed it connect again.
                self.cut_off(Some(relay));
            }
        }
        Ok(())
    }

    fn after_primary(&mut self, done: Result<(), Fault>) -> Check {
        match done {
            Ok(()) => Ok(()),
            Err(Fault::Disk | Fault::Closed(_)) => {
                self.count("primary crashed");
                self.cut_off(None);
                self.primary.crash(&mut self.oracle, &mut self.random)
            }
            Err(Fault::Broken(what)) => Err(what),
        }
    }
}

/// The nodes by number; each may follow the primary or one before it.
const NAMES: [&str; 3] = ["near", "middle", "far"];

/// The one that follows nobody but the primary.
const NEAR: usize = 0;

/// Long rows before anybody joins: more than one segment of them.
const WIDE_ROWS: usize = 40;
