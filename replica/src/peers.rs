//! The peers a node can ask for a file, and be asked by: those whose connection has agreed on a
//! version that knows how. It owns the list and the bound on what is served at once, and must never
//! end a connection: a peer without a file is as good as before.

use std::sync::Arc;

use tokio::sync::{Semaphore, watch};

use crate::codec::FETCH_SINCE;
use crate::error::LinkError;
use crate::fetch;
use crate::files::Files;
use crate::quic::Link;

/// Connected peers. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Peers {
    list: Arc<watch::Sender<List>>,
    /// One permit for each file that may be held for peers at once, over all connections.
    places: Arc<Semaphore>,
}

#[derive(Default)]
struct List {
    links: Vec<(u64, Link)>,
    joined: u64,
}

impl Peers {
    pub(crate) fn new() -> Self {
        Self {
            list: Arc::new(watch::Sender::new(List::default())),
            places: Arc::new(Semaphore::new(PLACES)),
        }
    }

    /// Lists a peer and answers what it asks, until the connection ends or this is dropped.
    pub(crate) async fn attend<F: Files>(
        &self,
        link: &Link,
        protocol: u16,
        files: &F,
    ) -> LinkError {
        if protocol < FETCH_SINCE {
            return link.closed().await;
        }
        let _listed = self.join(link);
        fetch::serve(link, files, &self.places).await
    }

    /// Everyone who can be asked now.
    pub(crate) fn all(&self) -> Vec<Link> {
        let list = self.list.borrow();
        list.links.iter().map(|(_, link)| link.clone()).collect()
    }

    /// Waits until there is someone to ask.
    pub(crate) async fn some(&self) {
        let mut list = self.list.subscribe();
        // The sender lives as long as self, so this cannot fail.
        let _ = list.wait_for(|list| !list.links.is_empty()).await;
    }

    fn join(&self, link: &Link) -> Listed {
        let mut number = 0;
        self.list.send_modify(|list| {
            list.joined += 1;
            number = list.joined;
            list.links.push((number, link.clone()));
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
            .send_modify(|list| list.links.retain(|(other, _)| *other != number));
    }
}

/// Files held for peers at once; further ones wait for their turn.
const PLACES: usize = 4;
