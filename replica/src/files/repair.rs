//! The task that repairs a node's damaged files with what its peers hold. It owns when to ask whom
//! again, one file at a time, and must never decide what is damaged or whether bytes are right:
//! `wal` does both.

use std::collections::HashMap;
use std::future::pending;
use std::mem::{self, Discriminant};
use std::time::Duration;

use bytes::Bytes;
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use wal::{Damaged, Due, Quiet, WalError};

use crate::backoff::Backoff;
use crate::files::Files;
use crate::files::fetch::{self, FetchError};
use crate::files::peers::Peers;

/// Why a file is still damaged.
#[derive(Debug, thiserror::Error)]
enum RepairError {
    #[error("no peer is connected")]
    NoPeer,
    #[error("{peer}: {error}")]
    Fetch { peer: String, error: FetchError },
    #[error("the copy of {peer} is not taken: {error}")]
    Install { peer: String, error: WalError },
    #[error("a task failed: {0}")]
    Task(#[from] JoinError),
}

/// Repairs what gets damaged until told to stop. A file that is being put back is waited for.
pub(crate) async fn run<F: Files>(files: F, peers: Peers, shutdown: CancellationToken) {
    let mut damaged = files.damaged();
    let mut repair = Repair {
        files,
        peers,
        attempts: Attempts::default(),
        quiet: Quiet::default(),
        asked: 0,
        listed: 0,
    };
    loop {
        let known = damaged.borrow_and_update().clone();
        repair.attempts.keep(&known, Instant::now());
        let name = tokio::select! {
            name = repair.due() => name,
            listed = repair.peers.another(repair.listed) => {
                // Somebody new may have what nobody had before.
                repair.listed = listed;
                repair.attempts.hurry(Instant::now());
                continue;
            }
            changed = damaged.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
            () = shutdown.cancelled() => return,
        };
        let fetched = tokio::select! {
            fetched = repair.fetch(&name) => fetched,
            () = shutdown.cancelled() => return,
        };
        let outcome = match fetched {
            Ok(copy) => repair.install(&name, copy).await,
            Err(error) => Err(error),
        };
        repair.settle(&name, outcome);
    }
}

/// A file's bytes and whose they are.
struct Found {
    bytes: Bytes,
    peer: String,
}

struct Repair<F> {
    files: F,
    peers: Peers,
    attempts: Attempts,
    quiet: Quiet<(String, Discriminant<RepairError>)>,
    /// Counts who was asked, so that the next attempt begins with another peer.
    asked: usize,
    /// Peers that were ever listed, as last seen.
    listed: u64,
}

impl<F: Files> Repair<F> {
    /// Waits for a file to ask for, and for someone to ask.
    async fn due(&self) -> String {
        let Some((name, due)) = self.attempts.first() else {
            return pending().await;
        };
        sleep_until(due).await;
        self.peers.some().await;
        name
    }

    /// The file from the first peer that has it.
    async fn fetch(&mut self, name: &str) -> Result<Found, RepairError> {
        let links = self.peers.all();
        let mut error = RepairError::NoPeer;
        for _ in 0..links.len().min(ASKED) {
            let link = &links[self.asked % links.len()];
            self.asked = self.asked.wrapping_add(1);
            let peer = link.peer().to_owned();
            let length = self.files.length(name);
            match fetch::ask(link, self.files.log_id(), name, length).await {
                Ok(bytes) => return Ok(Found { bytes, peer }),
                Err(reason) => {
                    tracing::debug!(file = %name, %peer, %reason, "a peer did not help");
                    error = RepairError::Fetch {
                        peer,
                        error: reason,
                    };
                }
            }
        }
        Err(error)
    }

    async fn install(&self, name: &str, copy: Found) -> Result<(), RepairError> {
        let Found { bytes, peer } = copy;
        let known = self.files.damaged();
        if !known.borrow().iter().any(|damaged| damaged.name == name) {
            // It was merged or retired while it was fetched.
            return Ok(());
        }
        let (files, file, length) = (self.files.clone(), name.to_owned(), bytes.len());
        match spawn_blocking(move || files.replace(&file, bytes)).await? {
            Ok(true) => {
                tracing::info!(file = %name, bytes = length, %peer, "a damaged file was repaired");
                Ok(())
            }
            Ok(false) => {
                tracing::warn!(file = %name, bytes = length, %peer,
                    "a damaged file was repaired; this node had no fingerprint of it, so nothing but the log's checksums vouches for the copy of that peer");
                Ok(())
            }
            Err(error) => Err(RepairError::Install { peer, error }),
        }
    }

    /// Notes an attempt. One that succeeded pauses too: what it repaired is not listed any more,
    /// and what is still listed must not be fetched without end.
    fn settle(&mut self, name: &str, outcome: Result<(), RepairError>) {
        let pause = self.attempts.tried(name, Instant::now());
        let Err(reason) = outcome else { return };
        let kind = (name.to_owned(), mem::discriminant(&reason));
        if self.quiet.note(kind, std::time::Instant::now()) != Due::Not {
            tracing::warn!(file = %name, %reason, ?pause, "a damaged file is not repaired yet");
        } else {
            tracing::debug!(file = %name, %reason, ?pause, "a damaged file is still not repaired");
        }
    }
}

/// When to ask for what.
#[derive(Debug, Default)]
struct Attempts {
    files: HashMap<String, Attempt>,
}

#[derive(Debug)]
struct Attempt {
    due: Instant,
    tried: Option<Instant>,
    backoff: Backoff,
}

impl Attempts {
    /// Forgets what is damaged no more; what is newly damaged is due at once.
    fn keep(&mut self, known: &[Damaged], now: Instant) {
        let listed = |name: &str| known.iter().any(|damaged| damaged.name == name);
        self.files.retain(|name, _| listed(name));
        for damaged in known {
            let name = damaged.name.clone();
            self.files.entry(name).or_insert_with(|| Attempt {
                due: now,
                tried: None,
                backoff: Backoff::new(PAUSE_MIN, PAUSE_MAX),
            });
        }
    }

    /// What is due first, and when.
    fn first(&self) -> Option<(String, Instant)> {
        let first = self.files.iter().min_by_key(|(_, attempt)| attempt.due);
        first.map(|(name, attempt)| (name.clone(), attempt.due))
    }

    /// Moves a file's next attempt on; by how much.
    fn tried(&mut self, name: &str, now: Instant) -> Duration {
        let Some(attempt) = self.files.get_mut(name) else {
            return Duration::ZERO;
        };
        let pause = attempt.backoff.pause(fastrand::f64());
        attempt.due = now + pause;
        attempt.tried = Some(now);
        pause
    }

    /// Makes everything due soon, but nothing sooner than the shortest pause after its last
    /// attempt.
    fn hurry(&mut self, now: Instant) {
        for attempt in self.files.values_mut() {
            let soon = attempt.tried.map_or(now, |tried| tried + PAUSE_MIN);
            attempt.due = attempt.due.min(soon.max(now));
        }
    }
}

/// Peers asked in one attempt.
const ASKED: usize = 8;

/// Shortest and longest pause between two attempts for the same file.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;
    use crate::files::fetch::Giving;
    use crate::tests::loopback::{Pair, Shelf, damaged, segment};

    #[test]
    fn pauses_grow_for_each_file_alone_and_are_forgotten_with_it() {
        let now = Instant::now();
        let mut attempts = Attempts::default();
        let (a, b) = (segment(1), segment(2));
        attempts.keep(&[damaged(&a), damaged(&b)], now);
        let first = attempts.tried(&a, now);
        assert!(first <= PAUSE_MIN && first >= PAUSE_MIN / 2, "{first:?}");
        assert_eq!(attempts.first(), Some((b.clone(), now)));
        for _ in 0..20 {
            attempts.tried(&a, now);
        }
        let long = attempts.tried(&a, now);
        assert!(long <= PAUSE_MAX && long >= PAUSE_MAX / 2, "{long:?}");
        attempts.hurry(now);
        assert_eq!(attempts.files[&a].due, now + PAUSE_MIN);
        attempts.keep(&[damaged(&b)], now);
        attempts.keep(&[damaged(&a)], now);
        assert_eq!(attempts.first(), Some((a, now)));
        attempts.keep(&[], now);
        assert_eq!(attempts.first(), None);
        assert_eq!(attempts.tried(&b, now), Duration::ZERO);
    }

    /// Both ends attend to the connection while `near` repairs itself; true when it did in time.
    async fn repairs(near: &Shelf, far: &Shelf, within: Duration) -> bool {
        let pair = Pair::connect().await;
        let (ours, theirs) = (Peers::new(), Peers::new());
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(run(near.clone(), ours.clone(), shutdown.clone()));
        let whole = async {
            let mut damaged = near.damaged();
            timeout(within, damaged.wait_for(Vec::is_empty))
                .await
                .is_ok()
        };
        let (ours_give, theirs_give) = (Giving::of(near), Giving::of(far));
        let repaired = tokio::select! {
            repaired = whole => repaired,
            error = ours.attend(&pair.secondary, &ours_give) => panic!("ended: {error}"),
            error = theirs.attend(&pair.primary, &theirs_give) => panic!("ended: {error}"),
        };
        shutdown.cancel();
        task.await.expect("ends");
        assert!(ours.all().is_empty() && theirs.all().is_empty());
        repaired
    }

    #[tokio::test]
    async fn damaged_files_are_replaced_by_the_peers() {
        let (file, other) = (Bytes::from(vec![9; 3 << 20]), Bytes::from_static(b"x"));
        let far = Shelf::holding(segment(3), file.clone());
        far.put("parquet/b.parquet", other.clone());
        let near = Shelf::lacking(&[segment(3), "parquet/b.parquet".to_owned()]);
        assert!(repairs(&near, &far, Duration::from_secs(20)).await);
        assert!(near.read(&segment(3)) == Some(file));
        assert_eq!(near.read("parquet/b.parquet"), Some(other));
    }

    #[tokio::test]
    async fn the_next_peer_is_asked_when_one_does_not_have_it() {
        let (one, two) = (Pair::connect().await, Pair::connect().await);
        let empty = Shelf::lacking(&[]);
        let full = Shelf::holding(segment(3), Bytes::from_static(b"three"));
        let near = Shelf::lacking(&[segment(3)]);
        let (ours, theirs) = (Peers::new(), Peers::new());
        let shutdown = CancellationToken::new();
        let mut whole = near.damaged();
        let ours_give = Giving::of(&near);
        let (nothing, everything) = (Giving::of(&empty), Giving::of(&full));
        tokio::select! {
            () = run(near.clone(), ours.clone(), shutdown) => panic!("it must not end"),
            error = ours.attend(&one.primary, &ours_give) => panic!("ended: {error}"),
            error = ours.attend(&two.primary, &ours_give) => panic!("ended: {error}"),
            error = theirs.attend(&one.secondary, &nothing) => panic!("ended: {error}"),
            error = theirs.attend(&two.secondary, &everything) => panic!("ended: {error}"),
            whole = timeout(Duration::from_secs(20), whole.wait_for(Vec::is_empty)) => {
                assert!(whole.is_ok(), "not repaired");
            }
        }
        assert_eq!(near.read(&segment(3)), Some(Bytes::from_static(b"three")));
    }
}
