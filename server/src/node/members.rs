//! The secondaries that this node has seen, kept over its restarts in `secondaries.json`. Must
//! never stop a node from starting, nor keep the disk busy: the list can be made again by waiting.

use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use replica::Member;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use wal::{Chain, Lsn, Position};

use crate::node::data_dir::{DataDirError, write_durably};
use crate::node::kept::Restarted;
use crate::node::parts::blocking;

/// What the file holds.
#[derive(Debug, Serialize, Deserialize)]
struct Written {
    secondaries: Vec<Entry>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    id: String,
    name: String,
    address: SocketAddr,
    lsn: u64,
    /// 16 hexadecimal digits.
    chain: String,
    first_seen_unix_ms: u64,
    last_seen_unix_ms: u64,
}

/// A list that cannot be read.
#[derive(Debug, thiserror::Error)]
enum ListError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("it is longer than {} bytes", MOST_BYTES)]
    TooLong,
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    #[error("chain {0:?} is no number in hexadecimal digits")]
    Chain(String),
}

/// The secondaries that were seen before; none when there is no list, or none that can be read:
/// that one is put aside.
pub(crate) fn load(data_dir: &Path) -> Vec<Member> {
    let path = data_dir.join(FILE);
    let error = match read(&path) {
        Ok(members) => return members,
        Err(ListError::Io(error)) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => error,
    };
    let aside = data_dir.join(ASIDE);
    match std::fs::rename(&path, &aside) {
        Ok(()) => warn!(
            file = %path.display(), kept_as = %aside.display(), %error,
            "the list of secondaries cannot be read; it begins anew"
        ),
        Err(unmoved) => warn!(
            file = %path.display(), %error, %unmoved,
            "the list of secondaries cannot be read, and begins anew in its place"
        ),
    }
    Vec::new()
}

/// Says loudly that secondaries had more of this log than there is: what is missing was acknowledged.
pub(crate) fn warn_of_lost(members: &[Member], end: wal::Lsn) {
    let furthest = members.iter().max_by_key(|member| member.position.lsn);
    if let Some(member) = furthest.filter(|member| member.position.lsn > end) {
        warn!(
            secondary = %member.name,
            secondary_had = %member.position.lsn,
            %end,
            "this log ends BEFORE what a secondary has had of it: acknowledged rows are missing \
             here. If files were lost, or this is an old copy, stop this node before it takes \
             more: the secondary still has them (it puts them aside under its diverged/ once it \
             connects)"
        );
    }
}

fn read(path: &Path) -> Result<Vec<Member>, ListError> {
    let mut text = Vec::new();
    let mut file = std::fs::File::open(path)?.take(MOST_BYTES + 1);
    file.read_to_end(&mut text)?;
    if text.len() as u64 > MOST_BYTES {
        return Err(ListError::TooLong);
    }
    let written: Written = serde_json::from_slice(&text)?;
    written.secondaries.into_iter().map(member).collect()
}

fn member(entry: Entry) -> Result<Member, ListError> {
    let chain = u64::from_str_radix(&entry.chain, 16);
    let lsn = Lsn(entry.lsn);
    Ok(Member {
        position: Position {
            lsn,
            chain: Chain(chain.map_err(|_| ListError::Chain(entry.chain))?),
        },
        id: entry.id,
        name: entry.name,
        address: entry.address,
        first_seen_unix_ms: entry.first_seen_unix_ms,
        last_seen_unix_ms: entry.last_seen_unix_ms,
    })
}

/// Whole or not at all after a crash.
fn save(data_dir: &Path, members: Vec<Member>) -> Result<(), DataDirError> {
    let path = data_dir.join(FILE);
    let entry = |member: Member| Entry {
        id: member.id,
        name: member.name,
        address: member.address,
        lsn: member.position.lsn.0,
        chain: member.position.chain.to_string(),
        first_seen_unix_ms: member.first_seen_unix_ms,
        last_seen_unix_ms: member.last_seen_unix_ms,
    };
    let secondaries = members.into_iter().map(entry).collect();
    let text = serde_json::to_string_pretty(&Written { secondaries });
    let text = text.map_err(|error| DataDirError::Io {
        operation: "write",
        path: path.clone(),
        source: error.into(),
    })?;
    write_durably(&path, &text)
}

/// Keeps the list on disk as it changes.
pub(crate) struct Keeper {
    stop: CancellationToken,
    task: Restarted,
}

impl Keeper {
    /// Keeps `registry`'s list in `data_dir`. Needs a tokio runtime.
    pub(crate) fn start(data_dir: &Path, registry: replica::Registry, tasks: &wal::Tasks) -> Self {
        let changes = registry.changes();
        Self::watch(tasks, data_dir.to_owned(), PACE, changes, move || {
            registry.members()
        })
    }

    fn watch(
        tasks: &wal::Tasks,
        data_dir: PathBuf,
        pace: Pace,
        changes: watch::Receiver<u64>,
        members: impl Fn() -> Vec<Member> + Send + Sync + 'static,
    ) -> Self {
        let (stop, members) = (CancellationToken::new(), Arc::new(members));
        let stopped = stop.clone();
        let task = Restarted::start(tasks, "members-list", move || {
            let keeping = Keeping {
                data_dir: data_dir.clone(),
                pace,
                members: Arc::clone(&members),
                saved: Vec::new(),
                saved_at: None,
                complained: false,
            };
            keeping.run(changes.clone(), stopped.clone())
        });
        Self { stop, task }
    }

    /// Returns once the list as it is now is on disk.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.task.ended().await;
    }
}

/// How often the list is written.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// At most, when who is on it has changed.
    names: Duration,
    /// At most, when only their positions have.
    positions: Duration,
}

struct Keeping<F> {
    data_dir: PathBuf,
    pace: Pace,
    members: Arc<F>,
    /// What was written last.
    saved: Vec<Member>,
    saved_at: Option<Instant>,
    /// A disk that refuses is reported once.
    complained: bool,
}

impl<F: Fn() -> Vec<Member> + Send + Sync + 'static> Keeping<F> {
    async fn run(mut self, mut changes: watch::Receiver<u64>, stopped: CancellationToken) {
        // Set while something is still to be written that can wait.
        let mut later = None;
        loop {
            let alive = tokio::select! {
                changed = changes.changed() => changed.is_ok(),
                () = until(later) => true,
                () = stopped.cancelled() => false,
            };
            if !alive {
                break;
            }
            let members = (self.members)();
            later = self.due(&members).filter(|due| *due > Instant::now());
            if later.is_none() {
                later = self.write(members).await;
            }
            tokio::select! {
                () = tokio::time::sleep(self.pace.names) => {}
                () = stopped.cancelled() => break,
            }
        }
        let members = (self.members)();
        if members != self.saved {
            self.write(members).await;
        }
    }

    /// When these are to be written; none: at once.
    fn due(&self, members: &[Member]) -> Option<Instant> {
        let who = |member: &Member| (member.id.clone(), member.name.clone(), member.address);
        let same = members.iter().map(who).eq(self.saved.iter().map(who));
        let saved_at = self.saved_at.filter(|_| same)?;
        Some(saved_at + self.pace.positions)
    }

    /// Returns when to try again after a failure.
    async fn write(&mut self, members: Vec<Member>) -> Option<Instant> {
        let (data_dir, written) = (self.data_dir.clone(), members.clone());
        let failed = blocking(move || save(&data_dir, written)).await.err();
        let now = Instant::now();
        let Some(error) = failed else {
            self.complained = false;
            (self.saved, self.saved_at) = (members, Some(now));
            return None;
        };
        if self.complained {
            debug!(%error, "still no list of secondaries");
        } else {
            warn!(%error, "the list of secondaries is not kept; it is tried again");
        }
        self.complained = true;
        Some(now + self.pace.positions)
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

const FILE: &str = "secondaries.json";

/// Where a list goes that cannot be read.
const ASIDE: &str = "secondaries.json.unreadable";

/// Far more than a full list needs.
const MOST_BYTES: u64 = 4 << 20;

/// An fsync of the list costs the log's own fsyncs a little.
const PACE: Pace = Pace {
    names: Duration::from_secs(1),
    positions: Duration::from_secs(10),
};

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::{Arc, Mutex};

    use super::*;

    fn seen(name: &str, lsn: u64) -> Member {
        Member {
            id: format!("id-{name}"),
            name: name.to_owned(),
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 7)),
            position: Position {
                lsn: Lsn(lsn),
                chain: Chain(u64::MAX - lsn),
            },
            first_seen_unix_ms: 1,
            last_seen_unix_ms: 2,
        }
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let dir = tempfile::tempdir().unwrap();
        assert!(load(dir.path()).is_empty());
        let members = vec![seen("a", 3), seen("b\"\n", 4)];
        save(dir.path(), members.clone()).unwrap();
        assert_eq!(load(dir.path()), members);
        save(dir.path(), Vec::new()).unwrap();
        assert!(load(dir.path()).is_empty());
    }

    #[test]
    fn a_list_that_cannot_be_read_is_kept_aside() {
        for text in [
            "",
            "not a list",
            "{\"secondaries\": [{\"id\": 1}]}",
            &" ".repeat((4 << 20) + 1),
            "{\"secondaries\": [{\"id\": \"\", \"name\": \"\", \"address\": \"127.0.0.1:1\",
              \"lsn\": 1, \"chain\": \"xyz\", \"first_seen_unix_ms\": 0,
              \"last_seen_unix_ms\": 0}]}",
        ] {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join(FILE), text).unwrap();
            assert!(load(dir.path()).is_empty());
            assert!(!dir.path().join(FILE).exists());
            let kept = std::fs::read_to_string(dir.path().join(ASIDE)).unwrap();
            assert_eq!(kept, text);
        }
    }

    #[tokio::test]
    async fn changes_and_the_stop_are_written() {
        let dir = tempfile::tempdir().unwrap();
        let members = Arc::new(Mutex::new(Vec::new()));
        let (change, changes) = watch::channel(0_u64);
        let pace = Pace {
            names: Duration::ZERO,
            positions: Duration::from_secs(3_600),
        };
        let look = Arc::clone(&members);
        let keeper = Keeper::watch(
            &wal::Tasks::default(),
            dir.path().to_owned(),
            pace,
            changes,
            move || look.lock().unwrap().clone(),
        );
        *members.lock().unwrap() = vec![seen("a", 3)];
        change.send(1).unwrap();
        let written = async {
            while load(dir.path()).is_empty() {
                tokio::task::yield_now().await;
            }
        };
        let limit = Duration::from_secs(10);
        tokio::time::timeout(limit, written).await.unwrap();
        assert_eq!(load(dir.path()), [seen("a", 3)]);
        // Only a position: that can wait, but not beyond the stop.
        *members.lock().unwrap() = vec![seen("a", 9)];
        change.send(2).unwrap();
        keeper.stop().await;
        assert_eq!(load(dir.path()), [seen("a", 9)]);
    }

    #[tokio::test]
    async fn what_was_not_written_is_not_taken_for_saved() {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = dir.path().join("later");
        let mut keeping = Keeping {
            data_dir: data_dir.clone(),
            pace: PACE,
            members: Arc::new(Vec::<Member>::new),
            saved: Vec::new(),
            saved_at: None,
            complained: false,
        };
        let members = vec![seen("a", 3)];
        assert!(keeping.write(members.clone()).await.is_some());
        assert!(keeping.saved.is_empty() && keeping.complained);
        assert_eq!(keeping.due(&members), None);
        std::fs::create_dir(&data_dir).unwrap();
        assert_eq!(keeping.write(members.clone()).await, None);
        assert_eq!(keeping.saved, members);
        assert_eq!(load(&data_dir), members);
    }

    #[test]
    fn positions_wait_and_names_do_not() {
        let now = Instant::now();
        let keeping = Keeping {
            data_dir: PathBuf::new(),
            pace: PACE,
            members: Arc::new(Vec::<Member>::new),
            saved: vec![seen("a", 3)],
            saved_at: Some(now),
            complained: false,
        };
        assert_eq!(keeping.due(&[seen("a", 4)]), Some(now + PACE.positions));
        assert_eq!(keeping.due(&[seen("b", 3)]), None);
        assert_eq!(keeping.due(&[]), None);
        assert_eq!(keeping.due(&[seen("a", 3), seen("b", 3)]), None);
    }
}
