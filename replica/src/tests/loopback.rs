//! For tests of this crate: two connected nodes of one cluster in one process, and files without a
//! disk. It owns those stand-ins and must never be compiled into a node.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::watch;
use wal::{Damaged, LogId, Lsn, Position, Share, WalError};

use crate::certs::{Authority, CertRole};
use crate::files::leases::Leases;
use crate::files::{Files, Given, blocks_name};
use crate::quic::{Endpoint, Link};

/// The name of the segment that begins at `lsn`.
pub(crate) fn segment(lsn: u64) -> String {
    format!("{lsn:020}.log")
}

/// A damaged file of this name.
pub(crate) fn damaged(name: &str) -> Damaged {
    Damaged {
        name: name.to_owned(),
        bytes: 0,
        reason: "flipped".to_owned(),
    }
}

/// The two ends of one connection.
pub(crate) struct Pair {
    pub(crate) primary: Link,
    pub(crate) secondary: Link,
    /// Connections live no longer than these.
    _endpoints: [Endpoint; 2],
}

impl Pair {
    pub(crate) async fn connect() -> Self {
        let authority = Authority::new().expect("a CA");
        let ours = authority
            .issue("primary", CertRole::Primary, &[])
            .expect("a certificate");
        let theirs = authority
            .issue("secondary", CertRole::Secondary, &[])
            .expect("a certificate");
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let memory = Share::unlimited("replication");
        let listening = Endpoint::listen(any, &ours, 1 << 20, &memory).expect("listens");
        let address = listening.local_addr().expect("an address");
        let dialing = Endpoint::dial(address, &theirs, 1 << 20, &memory).expect("dials");
        let accepting = async {
            let incoming = listening.accept().await.expect("an incoming connection");
            let link = incoming.accept().await.expect("a connection");
            link.set_windows(1 << 20, 1 << 20);
            link
        };
        let (primary, secondary) = tokio::join!(accepting, dialing.connect(address));
        Self {
            primary,
            secondary: secondary.expect("a connection"),
            _endpoints: [listening, dialing],
        }
    }
}

/// Files in memory.
#[derive(Clone)]
pub(crate) struct Shelf {
    held: Arc<Mutex<HashMap<String, Bytes>>>,
    damaged: Arc<watch::Sender<Vec<Damaged>>>,
}

impl Shelf {
    /// One intact file.
    pub(crate) fn holding(name: String, bytes: Bytes) -> Self {
        let shelf = Self::lacking(&[]);
        shelf.put(&name, bytes);
        shelf
    }

    /// Nothing but damaged files.
    pub(crate) fn lacking(names: &[String]) -> Self {
        let damaged = names.iter().map(|name| damaged(name)).collect();
        Self {
            held: Arc::default(),
            damaged: Arc::new(watch::Sender::new(damaged)),
        }
    }

    /// One more intact file.
    pub(crate) fn put(&self, name: &str, bytes: Bytes) {
        self.held().insert(name.to_owned(), bytes);
    }

    /// A file's bytes.
    pub(crate) fn read(&self, name: &str) -> Option<Bytes> {
        self.held().get(name).cloned()
    }

    fn held(&self) -> MutexGuard<'_, HashMap<String, Bytes>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Files for Shelf {
    fn log_id(&self) -> LogId {
        LOG
    }

    fn damaged(&self) -> watch::Receiver<Vec<Damaged>> {
        self.damaged.subscribe()
    }

    fn read_from(&self, name: &str, from: u64) -> Option<Given> {
        let file = self.read(name)?;
        let from = usize::try_from(from)
            .ok()
            .filter(|from| *from <= file.len())?;
        Some(Given::Bytes(file.slice(from..)))
    }

    fn segment_starts(&self, _: Option<Position>) -> Option<Bytes> {
        self.read("past")
    }

    fn manifest(&self, _: &Leases, id: &str) -> Option<Bytes> {
        self.read(&format!("manifest for {id}"))
    }

    fn blocks(&self, from: Position, to: Lsn) -> Option<Given> {
        self.read(&blocks_name(from, to)).map(Given::Bytes)
    }

    fn length(&self, _: &str) -> Option<u64> {
        None
    }

    fn replace(&self, name: &str, bytes: Bytes) -> Result<bool, WalError> {
        self.put(name, bytes);
        self.damaged
            .send_modify(|all| all.retain(|damaged| damaged.name != name));
        Ok(true)
    }
}

/// The log that every [`Shelf`] belongs to.
pub(crate) const LOG: LogId = LogId([7; 16]);
