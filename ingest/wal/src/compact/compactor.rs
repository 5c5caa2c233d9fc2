//! The thread that compacts, at low priority, and the counts it keeps. Never ends by itself: what
//! fails is tried again, because a full disk empties and a damaged segment is repaired. It must
//! never decide what a file holds.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::compact::fingerprint::Fingerprinting;
use crate::compact::step::{self, Job, StepTotals, Stepper};
use crate::error::{Operation, WalError};
use crate::ids::{Boundary, Lsn};
use crate::parquet::Throttle;
use crate::read::log::{Log, LogState};
use crate::read::sealed::Sealed;
use crate::read::segment_starts::known;
use crate::tasks::{Tasks, Watched};

/// How compaction runs. Nothing here changes the files it makes.
#[derive(Clone, Debug, Default)]
pub struct CompactorConfig {
    /// Bytes of log it reads and of files it writes per second at most; 0: no limit.
    pub rate: u64,
    /// The node's: the thread is one of them.
    pub tasks: Tasks,
}

/// What compaction has done since it was started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CompactionStats {
    /// Segments made into files, and merges of files.
    pub steps: u64,
    pub merges: u64,
    /// Rows written, rewritten ones each time.
    pub rows: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub busy_nanos: u64,
    /// Bytes of sealed segments whose rows are not in files yet.
    pub backlog_bytes: u64,
    pub failures: u64,
    /// Why the last step failed; none once one has succeeded.
    pub last_error: Option<String>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    steps: AtomicU64,
    merges: AtomicU64,
    rows: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    busy_nanos: AtomicU64,
    failures: AtomicU64,
    last_error: Mutex<Option<String>>,
}

/// Handle to the compacting thread of an open log.
#[derive(Debug)]
pub struct Compactor {
    log: Log,
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

impl Compactor {
    /// Starts to compact. One per log.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(log: &Log, config: CompactorConfig) -> Result<Self, WalError> {
        let shared = Arc::new(Shared::default());
        let (state, mine) = (Arc::clone(log.state()), Arc::clone(&shared));
        let (log_state, thread_state) = (Arc::clone(&state), Arc::clone(&shared));
        let ends = move || thread_state.stopping() || log_state.maintenance.is_dismissed();
        let throttle = Throttle::new(config.rate, ends);
        let thread = thread::Builder::new()
            .name("compactor".to_owned())
            .spawn(move || {
                // Without it compaction only competes harder.
                let _ = rustix::process::nice(NICE);
                let ending = || mine.stopping() || state.maintenance.is_dismissed();
                config.tasks.keep_thread("compactor", ending, |watched| {
                    run(&state, &mine, &throttle, watched);
                });
            })
            .map_err(WalError::io(
                Operation::StartThread("compactor"),
                &log.state().dir,
            ))?;
        Ok(Self {
            log: log.clone(),
            shared,
            thread,
        })
    }

    /// Gives up the step it is at and ends. Blocks for a moment.
    pub fn stop(self) {
        self.shared.stop.store(true, Ordering::Release);
        self.thread.thread().unpark();
        // It has caught every panic; what it was at is made again.
        let _ = self.thread.join();
    }

    pub fn stats(&self) -> CompactionStats {
        self.shared.stats(self.log.state())
    }
}

/// Does all that is due, on this thread. Not beside a running [`Compactor`].
///
/// # Errors
/// What made a step fail.
pub fn compact_now(log: &Log) -> Result<CompactionStats, WalError> {
    let shared = Shared::default();
    let throttle = Throttle::off();
    retire(log.state())?;
    while let Some(work) = step::next(log.state()) {
        shared.step(log.state(), &throttle, &work)?;
        retire(log.state())?;
    }
    let mut fingerprinting = Fingerprinting::default();
    while fingerprinting.turn(log.state(), &throttle)? {}
    Ok(shared.stats(log.state()))
}

impl Shared {
    fn step(&self, state: &LogState, throttle: &Throttle, work: &Job) -> Result<(), WalError> {
        let stepper = Stepper {
            state,
            throttle,
            stop: &self.stop,
        };
        let started = Instant::now();
        let result = stepper.step(work);
        let nanos = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.busy_nanos.fetch_add(nanos, Ordering::Relaxed);
        let StepTotals {
            rows,
            bytes_in,
            bytes_out,
        } = result?;
        let counter = match work {
            Job::Segment(_) => &self.steps,
            Job::Merge(..) => &self.merges,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        self.rows.fetch_add(rows, Ordering::Relaxed);
        self.bytes_in.fetch_add(bytes_in, Ordering::Relaxed);
        self.bytes_out.fetch_add(bytes_out, Ordering::Relaxed);
        Ok(())
    }

    fn stats(&self, state: &LogState) -> CompactionStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let error = self
            .last_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let snapshot = state.snapshot();
        CompactionStats {
            steps: read(&self.steps),
            merges: read(&self.merges),
            rows: read(&self.rows),
            bytes_in: read(&self.bytes_in),
            bytes_out: read(&self.bytes_out),
            busy_nanos: read(&self.busy_nanos),
            backlog_bytes: snapshot.pending().map(|segment| segment.len()).sum(),
            failures: read(&self.failures),
            last_error: error.clone(),
        }
    }

    fn note(&self, error: Option<&WalError>) {
        if error.is_some() {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
        let mut held = self
            .last_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *held = error.map(ToString::to_string);
    }

    fn stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }
}

fn run(state: &LogState, shared: &Shared, throttle: &Throttle, watched: &Watched) {
    let _living = state.maintenance.compacting();
    let ending = || shared.stopping() || state.maintenance.is_dismissed();
    let mut retry = RETRY;
    let mut fingerprinting = Fingerprinting::default();
    while !ending() {
        watched.step();
        match turn(state, shared, throttle, &mut fingerprinting) {
            Ok(done) => {
                retry = RETRY;
                state.room.wait(None);
                if !done {
                    thread::park_timeout(LOOK);
                }
            }
            Err(_) if ending() => return,
            Err(error) => {
                shared.note(Some(&error));
                if error.is_full() {
                    state
                        .room
                        .wait(Some(format!("compaction waits for room: {error}")));
                    retry = retry.min(RETRY_FULL);
                }
                let until = Instant::now() + retry;
                while Instant::now() < until && !ending() {
                    thread::park_timeout(LOOK);
                }
                retry = RETRY_MOST.min(retry * 2);
            }
        }
    }
}

/// One step, if there is one to do. Segments have their fingerprints before their rows are in files.
fn turn(
    state: &LogState,
    shared: &Shared,
    throttle: &Throttle,
    fingerprinting: &mut Fingerprinting,
) -> Result<bool, WalError> {
    retire(state)?;
    match fingerprinting.turn(state, throttle) {
        Ok(true) => return Ok(true),
        // What makes room goes on without.
        Err(error) if !error.is_full() => return Err(error),
        Ok(false) | Err(_) => {}
    }
    let Some(work) = step::next(state) else {
        return Ok(false);
    };
    shared.step(state, throttle, &work)?;
    shared.note(None);
    Ok(true)
}

/// Deletes sealed segments that the log says need not be kept and whose rows are in files here; for
/// want of room also those that are only kept for secondaries that are away.
fn retire(state: &LogState) -> Result<(), WalError> {
    state.kept.history().expire(Instant::now());
    let snapshot = state.snapshot();
    let mut retired = snapshot.catalog.retired();
    if state.room.is_short() {
        retired = retired.max(state.published.replicated.borrow().slowest());
    }
    let upto = retired.min(snapshot.compacted().lsn);
    let oldest = snapshot.sealed.first();
    if oldest.is_none_or(|oldest| oldest.end.lsn > upto) && state.starts.is_saved() {
        return Ok(());
    }
    let _exchange = state.maintenance.exchange();
    let most = keep_starts(state, upto)?;
    let gone = state.published.change_sealed(|sealed| {
        let count = sealed.partition_point(|segment| segment.end.lsn <= upto);
        sealed.drain(..count.min(most)).collect::<Vec<_>>()
    });
    let mut gone = gone.into_iter();
    while let Some(segment) = gone.next() {
        let removed = remove(state, &segment);
        state.counters.count_retired(usize::from(removed.is_ok()));
        if let Err(error) = removed {
            // Those that are left go before any later one, or the log would have a gap.
            let still = state.disk.size_if_there(&state.dir.join(segment.name()));
            let still = (!matches!(still, Ok(None))).then_some(segment);
            let left: Vec<Arc<Sealed>> = still.into_iter().chain(gone).collect();
            state
                .published
                .change_sealed(|sealed| drop(sealed.splice(..0, left)));
            return Err(error);
        }
    }
    Ok(())
}

/// Removes a segment, for good once this returns: what a crash leaves is a log without a gap.
fn remove(state: &LogState, segment: &Arc<Sealed>) -> Result<(), WalError> {
    let path = state.dir.join(segment.name());
    let kept = segment
        .remove()
        .map_err(WalError::io(Operation::Remove, &path))?;
    state.damage.clear(&segment.name(), false);
    if kept {
        state.home.sync_kept()?;
    }
    state.disk.sync_names(&state.dir)
}

/// Makes it last where the segments began that end at or below `upto`; how many of them may go
/// then. On a full disk one must go first, or there would never be room: a crash then forgets its
/// start.
fn keep_starts(state: &LogState, upto: Lsn) -> Result<usize, WalError> {
    let snapshot = state.snapshot();
    let retired = snapshot.sealed.iter();
    let retired = retired.take_while(|segment| segment.end.lsn <= upto);
    let starts: Vec<Boundary> = retired.map(|segment| segment.start()).collect();
    let (disk, dir) = (state.disk.as_ref(), &state.dir);
    match state.starts.remember(disk, dir, &known(&starts)) {
        Err(error) if error.may_pass() => Ok(1),
        remembered => remembered.map(|()| starts.len()),
    }
}

/// How often the thread looks whether a segment has been sealed.
const LOOK: Duration = Duration::from_millis(250);
/// How long it waits after a failure, at first and at most.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_MOST: Duration = Duration::from_secs(60);
/// The same for want of room.
const RETRY_FULL: Duration = Duration::from_secs(2);
/// How much lower its priority is: it takes what the rest leaves idle.
const NICE: i32 = 19;
