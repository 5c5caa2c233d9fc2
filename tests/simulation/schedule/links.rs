//! Connections between the nodes: who follows whom, what moves on one, and when it is cut. Must
//! never touch a log but through its node.

use replica::wire::{Route, WireHop};

use super::{NAMES, Sabotage, World};
use crate::link::Link;
use crate::oracle::Fault;
use crate::upstream::Served;

impl World {
    pub(super) async fn advance(&mut self, node: usize, link: &mut Link) -> Result<(), Fault> {
        let upstream = self.upstream(node);
        link.shipping.tell(&upstream.route, &mut link.streams);
        let own = &mut self.nodes[node];
        link.go_on(own).await?;
        let first = self.random.u8(..5);
        for kind in (first..5).chain(0..first) {
            let streaming = link.is_streaming();
            let streams = &mut link.streams;
            match kind {
                0 => {
                    let most = self.random.usize(1..2_000);
                    if streams.blocks.len() >= WINDOW {
                        continue;
                    }
                    match link.shipping.ship(most, streams) {
                        Ok(true) => return Ok(()),
                        Ok(false) => {}
                        Err(wal::WalError::NotHeld(_)) => return Err(Fault::Closed("retired")),
                        Err(error) => return Err(Fault::Broken(error.to_string())),
                    }
                }
                1 => {
                    if let Some(said) = streams.up.take(&mut self.random) {
                        let held = &mut self.holds[node];
                        link.shipping.hear(&said, &upstream, held, streams)?;
                        return Ok(());
                    }
                }
                2 => {
                    if let Some(said) = streams.control.take(&mut self.random) {
                        return link.hear(&said, own).await;
                    }
                }
                // Before blocks are agreed on nobody looks for them.
                3 if !streaming => {}
                3 => {
                    if let Some(piece) = streams.blocks.take(&mut self.random) {
                        let skips = self.options.sabotage == Sabotage::SkipsPieces;
                        if skips && self.random.u8(..20) == 0 {
                            return Ok(());
                        }
                        return link.blocks(piece, own).await;
                    }
                }
                _ => {
                    if let Some(piece) = streams.files.take(&mut self.random) {
                        return link.file(piece, own).await;
                    }
                }
            }
        }
        Ok(())
    }

    pub(super) fn dial(&mut self, node: usize) {
        if self.step < self.steps && self.random.u8(..4) == 0 {
            self.count("attempt dropped");
            return;
        }
        let link = Link::dial(&self.nodes[node], self.compression);
        self.links[node] = Some(link);
        self.count("dialled");
    }

    pub(super) fn upstream(&self, node: usize) -> Served {
        let hop = |name: &str| WireHop {
            id: name.to_owned(),
            name: name.to_owned(),
        };
        let Some(relay) = self.above[node] else {
            return Served {
                log: Some(self.primary.log()),
                route: Route {
                    hops: vec![hop("primary")],
                    rooted: true,
                },
            };
        };
        // It has a way to the primary while it is told so; but not for what it serves while it
        // brings in another log.
        let told = self.links[relay].as_ref().map(Link::route);
        let mut route = told.unwrap_or_default();
        route.hops.insert(0, hop(NAMES[relay]));
        route.rooted &= self.nodes[relay].staging.is_none();
        Served {
            log: self.nodes[relay].log(),
            route,
        }
    }

    pub(super) fn relays_above(&self, node: usize) -> usize {
        self.above[node].map_or(0, |relay| 1 + self.relays_above(relay))
    }

    pub(super) fn cut(&mut self, node: usize) {
        if let Some(link) = self.links[node].take() {
            self.old[node] = link.streams.into_old();
        }
    }

    /// Nobody is connected to this relay any more, or to the primary.
    pub(super) fn cut_off(&mut self, upstream: Option<usize>) {
        for node in 0..NAMES.len() {
            if self.above[node] == upstream {
                self.cut(node);
                self.holds[node] = None;
            }
        }
    }
}

/// Pieces of blocks that may be under way.
const WINDOW: usize = 8;
