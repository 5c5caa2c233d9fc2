//! The place of a connection from its first byte to its end, and whether it is a client's yet. Must
//! never keep a place that nobody is in.

use std::sync::Arc;
use std::time::Instant;

use ntex::io::Io;
use ntex::io::types::PeerAddr;

use crate::places::Place;
use crate::worker::Worker;

/// A connection that has come, for as long as it is there.
pub(crate) struct Arrival<'w> {
    worker: &'w Worker,
    place: Option<Arc<Place>>,
}

impl<'w> Arrival<'w> {
    pub(crate) fn new(io: &Io, worker: &'w Worker) -> Self {
        let peer = io.query::<PeerAddr>().get().map(PeerAddr::into_inner);
        let place = worker.clients.places.enter(peer, Instant::now());
        if let Some(place) = &place {
            worker.arrive(place, io.get_ref());
        }
        Self { worker, place }
    }

    /// None when there is no room for it: it can only be told so.
    pub(crate) fn place(&self) -> Option<&Arc<Place>> {
        self.place.as_ref()
    }

    /// It has become a client's.
    pub(crate) fn welcome(&self) {
        if let Some(place) = &self.place {
            self.worker.settled(place);
            self.worker.clients.places.welcome(place);
        }
    }
}

impl Drop for Arrival<'_> {
    fn drop(&mut self) {
        if let Some(place) = &self.place {
            self.worker.settled(place);
            self.worker.clients.places.leave(place);
        }
    }
}
