//! The peers a node can ask for a file, and be asked by: those whose handshake is done. It owns the
//! list and the bound on what is served at once, and must never end a connection: a peer without a
//! file is as good as before.

use std::sync::Arc;

use tokio::sync::watch;

use crate::error::LinkError;
use crate::files::Files;
use crate::files::fetch::{self, Giving};
use crate::files::places::Places;
use crate::quic::Link;

/// Connected peers. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Peers {
    list: Arc<watch::Sender<List>>,
    /// What may be served at once, over all connections.
    places: Places,
}

#[derive(Default)]
struct List {
    links: Vec<Listing>,
    listed: u64,
}

struct Listing {
    number: u64,
    link: Link,
}

impl Peers {
    pub(crate) fn new() -> Self {
        Self {
            list: Arc::new(watch::Sender::new(List::default())),
            places: Places::new(),
        }
    }

    /// Lists a peer and answers what it asks, until the connection ends or this is dropped.
    pub(crate) async fn attend<F: Files>(&self, link: &Link, giving: &Giving<'_, F>) -> LinkError {
        let _listed = self.list_link(link);
        fetch::serve(link, giving, &self.places).await
    }

    /// Everyone who can be asked now.
    pub(crate) fn all(&self) -> Vec<Link> {
        let list = self.list.borrow();
        list.links.iter().map(|one| one.link.clone()).collect()
    }

    /// Waits until there is someone to ask.
    pub(crate) async fn some(&self) {
        let mut list = self.list.subscribe();
        // The sender lives as long as self, so this cannot fail.
        let _ = list.wait_for(|list| !list.links.is_empty()).await;
    }

    /// Waits until more than `seen` have ever been listed; how many have.
    pub(crate) async fn another(&self, seen: u64) -> u64 {
        let mut list = self.list.subscribe();
        let listed = list.wait_for(|list| list.listed > seen).await;
        // The sender lives as long as self, so this cannot fail.
        listed.map_or(seen, |list| list.listed)
    }

    fn list_link(&self, link: &Link) -> Listed {
        let mut number = 0;
        self.list.send_modify(|list| {
            list.listed += 1;
            number = list.listed;
            list.links.push(Listing {
                number,
                link: link.clone(),
            });
        });
        Listed {
            peers: self.clone(),
            number,
        }
    }
}

/// A place on the list; given up when dropped.
struct Listed {
    peers: Peers,
    number: u64,
}

impl Drop for Listed {
    fn drop(&mut self) {
        let number = self.number;
        self.peers
            .list
            .send_modify(|list| list.links.retain(|one| one.number != number));
    }
}
