//! Which certificates are revoked, as a running node knows it. It owns the list in force and
//! follows the file `crl.pem`; it must never take an older list for a newer one, forget a
//! list because the file is gone, or end a connection itself (links do, `quic`).

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::mem::{self, Discriminant};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use wal::{Due, Quiet};

use crate::certs::crl::{self, Crl};
use crate::certs::stamp::Stamp;
use crate::error::ReplicaError;

/// The revoked certificates of a cluster; all clones share one list.
///
/// A certificate is known by its serial number alone: they are random, so one number names one
/// certificate even while a cluster has two CAs.
#[derive(Clone)]
pub(crate) struct Revocations {
    list: Arc<watch::Sender<List>>,
    source: Option<Arc<Source>>,
}

/// The lists in force.
#[derive(Debug, Default)]
pub(crate) struct List {
    lists: Vec<Crl>,
    serials: HashSet<Box<[u8]>>,
}

/// Where lists come from, and who must have signed them.
struct Source {
    path: PathBuf,
    ca: Mutex<Vec<CertificateDer<'static>>>,
}

impl Revocations {
    /// Nothing is revoked, now or later: for certificates that no file holds.
    pub(crate) fn none() -> Self {
        Self {
            list: Arc::new(watch::Sender::new(List::default())),
            source: None,
        }
    }

    /// What the file lists now; nothing if there is none yet.
    pub(crate) fn load(
        path: PathBuf,
        ca: Vec<CertificateDer<'static>>,
    ) -> Result<Self, ReplicaError> {
        let ca = Mutex::new(ca);
        let source = Source { path, ca };
        let list = source.read()?.unwrap_or_default();
        Ok(Self {
            list: Arc::new(watch::Sender::new(list)),
            source: Some(Arc::new(source)),
        })
    }

    /// Takes lists of these CAs from now on.
    pub(crate) fn trust(&self, ca: Vec<CertificateDer<'static>>) {
        if let Some(source) = &self.source {
            *source.ca.lock().unwrap_or_else(PoisonError::into_inner) = ca;
        }
    }

    /// Whether the certificate with this serial number is revoked.
    pub(crate) fn is_revoked(&self, serial: &[u8]) -> bool {
        self.list.borrow().holds(serial)
    }

    /// Waits until the certificate with this serial number is revoked.
    pub(crate) async fn revoked(&self, serial: &[u8]) {
        // The sender lives as long as `self` is borrowed, so waiting cannot fail.
        let _ = self
            .list
            .subscribe()
            .wait_for(|list| list.holds(serial))
            .await;
    }

    /// Tells of every new list.
    pub(crate) fn changed(&self) -> watch::Receiver<List> {
        self.list.subscribe()
    }

    /// The lists in force, for the TLS library.
    pub(crate) fn crls(&self) -> Vec<CertificateRevocationListDer<'static>> {
        self.list.borrow().lists.iter().map(Crl::der).collect()
    }

    /// Follows the file until `shutdown`.
    pub(crate) async fn watch_task(&self, shutdown: CancellationToken) {
        self.watch_every(LOOK_EVERY, shutdown).await;
    }

    async fn watch_every(&self, pause: Duration, shutdown: CancellationToken) {
        let Some(source) = &self.source else { return };
        let (mut seen, mut quiet) = (None, Quiet::default());
        loop {
            match self.look(source, &mut seen).await {
                Ok(true) => {
                    quiet.reset();
                    let revoked = self.list.borrow().serials.len();
                    let path = source.path.display();
                    tracing::info!(%path, revoked, "a new revocation list is in force");
                }
                Ok(false) => {}
                Err(error) => complain(&mut quiet, &error),
            }
            tokio::select! {
                () = sleep(pause) => {}
                () = shutdown.cancelled() => return,
            }
        }
    }

    /// Takes what the file lists, if the file is another than the one `seen`. True: that was news.
    async fn look(
        &self,
        source: &Arc<Source>,
        seen: &mut Option<Stamp>,
    ) -> Result<bool, ReplicaError> {
        // Whatever fails below is tried again at the next look.
        let last = seen.take();
        let reader = Arc::clone(source);
        let found = spawn_blocking(move || reader.read_unless(last)).await;
        let (stamp, list) = found.map_err(|error| source.unread(io::Error::other(error)))??;
        let news = match (stamp, list) {
            (_, Some(list)) => self.take(list).map_err(|reason| source.unusable(reason))?,
            (None, None) if !self.list.borrow().lists.is_empty() => {
                let reason = "the revocation list is gone; what it revokes stays revoked until this node restarts";
                return Err(source.unusable(reason.to_owned()));
            }
            (_, None) => false,
        };
        *seen = stamp;
        Ok(news)
    }

    /// Puts a list in force, unless it is older than the one that is.
    fn take(&self, list: List) -> Result<bool, String> {
        let mut outcome = Ok(false);
        self.list.send_if_modified(|held| {
            outcome = held.may_become(&list).map(|()| held.lists != list.lists);
            let news = outcome == Ok(true);
            if news {
                *held = list;
            }
            news
        });
        outcome
    }
}

impl fmt::Debug for Revocations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Revocations")
            .field("revoked", &self.list.borrow().serials.len())
            .finish_non_exhaustive()
    }
}

impl List {
    fn new(lists: Vec<Crl>) -> Self {
        let entries = lists.iter().flat_map(Crl::entries);
        let serials = entries.map(|entry| entry.serial.clone()).collect();
        Self { lists, serials }
    }

    fn holds(&self, serial: &[u8]) -> bool {
        self.serials.contains(crl::plain(serial))
    }

    /// Lists only grow; a lower number is a file from before, copied by mistake.
    fn may_become(&self, next: &Self) -> Result<(), String> {
        for held in &self.lists {
            let number = held.number();
            match next.lists.iter().find(|list| list.is_of_issuer_of(held)) {
                Some(list) if list.number() >= number => {}
                Some(list) => {
                    return Err(format!(
                        "this revocation list has number {}, the one in force {number}: it is older and not taken",
                        list.number()
                    ));
                }
                None => {
                    return Err(format!(
                        "the revocation list in force, number {number}, has no successor here: this one is not taken"
                    ));
                }
            }
        }
        Ok(())
    }
}

impl Source {
    /// `None`: there is no file.
    fn read(&self) -> Result<Option<List>, ReplicaError> {
        let bytes = crl::read(&self.path).map_err(|source| self.unread(source))?;
        let ca = self.ca.lock().unwrap_or_else(PoisonError::into_inner);
        bytes
            .map(|bytes| crl::parse(&bytes, &ca).map(List::new))
            .transpose()
            .map_err(|reason| self.unusable(reason))
    }

    /// The file's stamp, and what it lists if that is not the stamp of `last`.
    fn read_unless(
        &self,
        last: Option<Stamp>,
    ) -> Result<(Option<Stamp>, Option<List>), ReplicaError> {
        // The stamp comes first: what is written in between is seen at the next look.
        let stamp = Stamp::of(&self.path).map_err(|source| self.unread(source))?;
        if stamp.is_none() || stamp == last {
            return Ok((stamp, None));
        }
        let list = self.read()?;
        Ok((stamp.filter(|_| list.is_some()), list))
    }

    fn unread(&self, source: io::Error) -> ReplicaError {
        ReplicaError::Read {
            path: self.path.clone(),
            source,
        }
    }

    fn unusable(&self, reason: String) -> ReplicaError {
        ReplicaError::Certificate {
            path: self.path.clone(),
            reason,
        }
    }
}

fn complain(quiet: &mut Quiet<Discriminant<ReplicaError>>, error: &ReplicaError) {
    if quiet.note(mem::discriminant(error), Instant::now()) != Due::Not {
        tracing::warn!(reason = %error, "the revocation list in force stays");
    }
}

/// A running node follows a revocation within ten seconds.
const LOOK_EVERY: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests;
