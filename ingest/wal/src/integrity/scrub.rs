//! The thread that reads everything again and again, slowly, so that a flipped byte is found while
//! another node still has the right one. Reports; never repairs, never changes a byte. It must
//! never change a byte: it reports.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::clock::unix_nanos;
use crate::error::{Operation, WalError};
use crate::ids::Lsn;
use crate::integrity::digest::check_tail;
use crate::parquet::FILES_DIR;
use crate::paths::segment_first;
use crate::read::log::{Log, LogState};
use crate::tasks::{Tasks, Watched};

/// How scrubbing runs.
#[derive(Clone, Debug, Default)]
pub struct ScrubConfig {
    /// Bytes read per second; 0: nothing is scrubbed.
    pub rate: u64,
    /// The node's: the thread is one of them.
    pub tasks: Tasks,
}

/// What scrubbing has done since it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubStats {
    /// Times that everything was read.
    pub passes: u64,
    pub bytes: u64,
    /// Damaged files that nobody had found before.
    pub faults: u64,
    /// The end of the last pass; 0: none yet.
    pub last_pass_unix_ms: u64,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    passes: AtomicU64,
    bytes: AtomicU64,
    faults: AtomicU64,
    last_pass_unix_ms: AtomicU64,
}

/// Handle to the scrubbing thread of an open log.
#[derive(Debug)]
pub struct Scrubber {
    shared: Arc<Shared>,
    /// None: it is off.
    thread: Option<JoinHandle<()>>,
}

impl Scrubber {
    /// Starts to read. One per log.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(log: &Log, config: ScrubConfig) -> Result<Self, WalError> {
        let shared = Arc::new(Shared::default());
        if config.rate == 0 {
            return Ok(Self {
                shared,
                thread: None,
            });
        }
        let (state, mine) = (Arc::clone(log.state()), Arc::clone(&shared));
        let thread = thread::Builder::new()
            .name("scrubber".to_owned())
            .spawn(move || {
                // Without it scrubbing only competes harder.
                let _ = rustix::process::nice(NICE);
                config.tasks.keep_thread(
                    "scrubber",
                    || mine.stopping(),
                    |watched| {
                        run(&state, &mine, config.rate, watched);
                    },
                );
            })
            .map_err(WalError::io(
                Operation::StartThread("scrubber"),
                &log.state().dir,
            ))?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Ends the thread. Blocks for a moment.
    pub fn stop(self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread {
            thread.thread().unpark();
            // It has caught every panic.
            let _ = thread.join();
        }
    }

    pub fn stats(&self) -> ScrubStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ScrubStats {
            passes: read(&self.shared.passes),
            bytes: read(&self.shared.bytes),
            faults: read(&self.shared.faults),
            last_pass_unix_ms: read(&self.shared.last_pass_unix_ms),
        }
    }
}

impl Shared {
    fn stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Waits until then; false when it is to stop.
    fn wait_until(&self, then: Instant, watched: &Watched) -> bool {
        loop {
            watched.step();
            if self.stopping() {
                return false;
            }
            let now = Instant::now();
            if now >= then {
                return true;
            }
            thread::park_timeout(then - now);
        }
    }
}

/// Lets bytes pass at a bounded rate.
struct Pace<'a> {
    shared: &'a Shared,
    watched: &'a Watched,
    rate: u64,
    free_at: Instant,
    /// Not waited for yet.
    owed: u64,
}

impl Pace<'_> {
    /// Waits until so many more may be read; false when it is to stop.
    fn spend(&mut self, bytes: usize) -> bool {
        self.owed = self.owed.saturating_add(bytes as u64);
        if self.owed < BATCH.min(self.rate) {
            return !self.shared.stopping();
        }
        let bytes = std::mem::take(&mut self.owed);
        self.shared.bytes.fetch_add(bytes, Ordering::Relaxed);
        let share = Duration::from_nanos(nanos_of(bytes, self.rate));
        self.free_at = self.free_at.max(Instant::now()) + share;
        self.shared.wait_until(self.free_at, self.watched)
    }
}

/// How long `bytes` take at `rate`, at most a day.
fn nanos_of(bytes: u64, rate: u64) -> u64 {
    const DAY: u128 = 86_400_000_000_000;
    let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1));
    u64::try_from(nanos.min(DAY)).unwrap_or(u64::MAX)
}

fn run(state: &LogState, shared: &Shared, rate: u64, watched: &Watched) {
    loop {
        let started = Instant::now();
        let mut pass = Pass {
            state,
            shared,
            pace: Pace {
                shared,
                watched,
                rate,
                free_at: started,
                owed: 0,
            },
        };
        if !pass.run() {
            return;
        }
        let now_ms = u64::try_from(unix_nanos() / 1_000_000).unwrap_or(0);
        let done = &shared.last_pass_unix_ms;
        done.store(now_ms, Ordering::Relaxed);
        shared.passes.fetch_add(1, Ordering::Release);
        if !shared.wait_until(started + PASS_EVERY, watched) {
            return;
        }
    }
}

/// Reads everything once. Holds one segment or file at a time, so that nothing that was replaced or
/// repaired meanwhile is kept or reported.
struct Pass<'a> {
    state: &'a LogState,
    shared: &'a Shared,
    pace: Pace<'a>,
}

impl Pass<'_> {
    /// False when it is to stop.
    fn run(&mut self) -> bool {
        self.missing();
        let snapshot = self.state.snapshot();
        let sealed = snapshot.sealed.iter();
        let segments: Vec<Lsn> = sealed.map(|segment| segment.start().lsn).collect();
        let files: Vec<String> = snapshot.files.all().map(|file| file.meta.name()).collect();
        drop(snapshot);
        let whole = segments.into_iter().all(|first| self.segment(first))
            && self.tail()
            && files.into_iter().all(|name| self.file(&name));
        let owed = std::mem::take(&mut self.pace.owed);
        self.shared.bytes.fetch_add(owed, Ordering::Relaxed);
        whole
    }

    fn found(&self, name: &str, report: impl FnOnce()) {
        if !self.state.damage.holds(name) {
            self.shared.faults.fetch_add(1, Ordering::Relaxed);
            report();
        }
    }

    fn segment(&mut self, first: Lsn) -> bool {
        let snapshot = self.state.snapshot();
        let mut sealed = snapshot.sealed.iter();
        let held = sealed.find(|held| held.start().lsn == first);
        let held = held.map(Arc::clone);
        drop(snapshot);
        let Some(segment) = held else {
            return !self.shared.stopping();
        };
        let (walked, fault) = segment.walk(segment.end.lsn, &mut |bytes| self.pace.spend(bytes));
        let damage = fault.filter(|fault| matches!(fault, WalError::Corrupt { .. }));
        if let Some(fault) = damage.filter(|_| self.state.published.shows(&segment)) {
            self.found(&segment.name(), || segment.blame(&fault));
        }
        !walked.stopped
    }

    fn tail(&mut self) -> bool {
        let snapshot = self.state.snapshot();
        let upto = snapshot.end().lsn;
        let checked = check_tail(&snapshot, upto, &mut |bytes| self.pace.spend(bytes));
        if let Some(checked) = checked.filter(|checked| checked.damaged()) {
            let name = crate::paths::segment_name(checked.range.first);
            self.found(&name, || checked.report(&self.state.damage));
        }
        !self.shared.stopping()
    }

    fn file(&mut self, name: &str) -> bool {
        let found = self.state.snapshot().files.find(name).map(Arc::clone);
        let Some(file) = found else {
            return !self.shared.stopping();
        };
        let known = self.state.damage.holds(name);
        let scanned = file.scan(&mut |bytes| self.pace.spend(bytes));
        if let (Some((_, Some(WalError::Corrupt { .. }))), false) = (&scanned, known) {
            // It has put itself on the list.
            self.shared.faults.fetch_add(1, Ordering::Relaxed);
        }
        scanned.is_some()
    }

    /// Files that somebody has removed: what is open or in memory would hide it for long.
    fn missing(&self) {
        let state = self.state;
        // What is named stays while this is held.
        let _exchange = state.maintenance.exchange();
        let list = |dir: &std::path::Path| {
            let names = state.disk.list(dir).ok()?;
            Some(names.into_iter().collect::<HashSet<String>>())
        };
        // Of a directory that cannot be listed now nothing can be told.
        let (Some(here), Some(files)) = (list(&state.dir), list(&state.dir.join(FILES_DIR))) else {
            return;
        };
        // The active segment always is: without it this is no directory of a log in use.
        if !here.iter().any(|name| segment_first(name).is_some()) {
            return;
        }
        let snapshot = state.snapshot();
        for segment in snapshot.sealed.iter() {
            let name = segment.name();
            if !here.contains(&name) {
                self.found(&name, || segment.report("is missing"));
            }
        }
        for file in snapshot.files.all() {
            let name = file.meta.name();
            let inside = name.rsplit('/').next().unwrap_or_default();
            if !files.contains(inside) {
                let report = || state.damage.report(&name, file.meta.bytes, "is missing");
                self.found(&name, report);
            }
        }
    }
}

/// A pass begins at least this long after the one before.
const PASS_EVERY: Duration = Duration::from_secs(600);
/// Bytes that are waited for at a time, at most.
const BATCH: u64 = 256 << 10;
/// How much lower its priority is: it takes what the rest leaves idle.
const NICE: i32 = 19;

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::io;

    use super::*;
    use crate::tests::refusing_disk::RefusingDisk;
    use crate::{Config, Row, Value, compact_now, open_primary};

    #[test]
    fn a_directory_that_cannot_be_listed_says_of_no_file_that_it_is_missing() {
        let (here, disk) = (
            tempfile::tempdir().expect("dir"),
            Arc::<RefusingDisk>::default(),
        );
        let config = Config {
            segment_size: 2_500,
            upkeep_every: Duration::from_secs(3_600),
            ..Config::default()
        };
        let (primary, _) =
            open_primary(Arc::<RefusingDisk>::clone(&disk), here.path(), &config).expect("opens");
        let mut appender = primary.appender(Box::new(|_| ()));
        for number in 0..300 {
            let row = Row {
                time: number,
                tags: &[("t", "a")],
                fields: &[(Cow::Borrowed("n"), Value::Int(number))],
            };
            let group = appender.append("one", &[row]).expect("fits");
            appender.wait(group).expect("durable");
        }
        compact_now(primary.log()).expect("compacts");
        let state = primary.log().state();
        let files = state.dir.join(FILES_DIR);
        let snapshot = state.snapshot();
        assert!(!snapshot.sealed.is_empty() && snapshot.files.all().count() > 0);
        let shared = Shared::default();
        let missing = || {
            let watched = Tasks::default().begin_again("scrubber");
            let pace = Pace {
                watched: &watched,
                shared: &shared,
                rate: 1,
                free_at: Instant::now(),
                owed: 0,
            };
            let pass = Pass {
                state,
                shared: &shared,
                pace,
            };
            pass.missing();
            primary.log().damage().borrow().len()
        };
        for dir in [&state.dir, &files] {
            let refused = dir.clone();
            disk.refuse(move |operation, path| {
                let is_it = operation == "list" && path == refused;
                is_it.then(|| io::Error::other("too many open files"))
            });
            assert_eq!(missing(), 0, "{}", dir.display());
        }
        disk.relent();
        std::fs::remove_dir_all(&files).expect("removes");
        assert_eq!(missing(), snapshot.files.all().count());
    }
}
