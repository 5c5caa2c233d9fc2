//! How a schedule ends: everything works again, and then all nodes must come to the same end by
//! themselves. Must never disturb anything.

use super::{NAMES, World};
use crate::link::Link;
use crate::oracle::{Check, Fault, check_equal, check_files, check_whole};
use crate::primary::Primary;
use crate::secondary::Secondary;

impl World {
    /// Everything works again; the nodes go on until all of them have what the primary has.
    pub(super) async fn heal(&mut self) -> Check {
        self.apart_until = [0; NAMES.len()];
        self.step = self.steps;
        for node in 0..NAMES.len() {
            self.cut(node);
            // What a restart leaves armed is a crash more.
            while self.nodes[node].is_armed() {
                self.after(node, Err(Fault::Disk)).await?;
            }
        }
        while self.primary.is_armed() {
            self.after_primary(Err(Fault::Disk))?;
        }
        self.note("healed");
        self.overtake()?;
        self.quiesce().await?;
        // And on from there.
        for _ in 0..3 {
            let done = self.primary.append(&mut self.oracle);
            self.after_primary(done)?;
        }
        self.quiesce().await
    }

    /// A node below a relay that was put back with its primary cannot tell whether it is only ahead
    /// before that has come to where its own log begins: the primary goes on.
    fn overtake(&mut self) -> Check {
        if self.above.iter().all(Option::is_none) {
            return Ok(());
        }
        let ends = self.nodes.iter().map(Secondary::ends);
        let furthest = ends.map(|(main, staged)| main.max(staged)).max().flatten();
        while furthest.is_some_and(|end| end >= self.oracle.upto().lsn) {
            let done = self.primary.append(&mut self.oracle);
            self.after_primary(done)?;
        }
        Ok(())
    }

    async fn quiesce(&mut self) -> Check {
        for _ in 0..ROUNDS {
            if (0..NAMES.len()).all(|node| self.is_done(node)) {
                return Ok(());
            }
            // One that was put back makes its files again: somebody may wait for one.
            self.primary_does(Primary::compact, "primary compacts")?;
            for node in 0..NAMES.len() {
                for _ in 0..TURNS {
                    if self.is_done(node) {
                        break;
                    }
                    self.turn(node).await?;
                }
                let done = self.nodes[node].compact();
                self.after(node, done).await?;
            }
            self.check()?;
        }
        self.note("stuck");
        let counts = &self.report.counts;
        Err(format!("the nodes do not come to rest: {counts:?}"))
    }

    /// Whether a node has all, follows, and knows of a way to the primary.
    fn is_done(&self, node: usize) -> bool {
        let way = self.links[node].as_ref().map(Link::route);
        if !way.is_some_and(|way| way.rooted) {
            return false;
        }
        let node = &self.nodes[node];
        let end = node.log().map(|log| *log.durable().borrow());
        node.staging.is_none() && end == Some(self.oracle.upto())
    }

    /// All nodes are equal, and nothing is lost.
    pub(super) async fn at_rest(&mut self) -> Check {
        self.note("at rest");
        self.primary_does(Primary::compact, "primary compacts")?;
        let primary = self.primary.log();
        self.oracle.check_rows("the primary", &primary)?;
        check_whole("the primary", &primary)?;
        for at in 0..NAMES.len() {
            let done = self.nodes[at].compact();
            self.after(at, done).await?;
            let node = &mut self.nodes[at];
            let Some(log) = node.log() else {
                return Err(format!("{} has no log", node.name));
            };
            node.check(&self.oracle)?;
            check_equal(node.name, &log, &primary)?;
            self.oracle.check_rows(node.name, &log)?;
            check_files(node.name, &log, &primary)?;
            check_whole(node.name, &log)?;
            let seen = node.check_seen().await;
            self.after(at, seen).await?;
            if self.relays_above(at) > 1 {
                self.count("at rest two relays deep");
            }
        }
        let rows = self.oracle.rows().len();
        self.report.trace.push(format!("     {rows} rows"));
        Ok(())
    }
}

/// Rounds and turns in which everything must have come to rest.
const ROUNDS: usize = 300;
const TURNS: usize = 80;
