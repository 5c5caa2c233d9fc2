//! The long-lived tasks and threads of a node: which of them have ended although the node goes on,
//! how often, and which are gone now. Owns that list; must never start anything by itself, and
//! never take an end for one that was meant, unless the task has said so or the node stops.
//!
//! Whoever runs a task has a [`Watched`] of it. The end of a vital one ends the node, however it
//! comes: by a panic, or because its future is dropped. All others are begun again by who runs them
//! ([`Tasks::keep`], [`Tasks::keep_thread`]); who drops one of these has no more use for it.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::clock::unix_ms;

/// The tasks of one node. Copies are the same list.
#[derive(Clone, Default)]
pub struct Tasks {
    shared: Arc<Shared>,
}

struct Shared {
    stopping: AtomicBool,
    by_name: Mutex<BTreeMap<&'static str, Known>>,
    /// Ends so far.
    ends: watch::Sender<u64>,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            stopping: AtomicBool::new(false),
            by_name: Mutex::default(),
            ends: watch::Sender::new(0),
        }
    }
}

/// What is known of all tasks of one name.
#[derive(Default)]
struct Known {
    vital: bool,
    /// Since the last end.
    begun: Option<Instant>,
    end: Option<TaskEnd>,
    /// A test wants it to panic; whoever can be woken for that.
    failing: bool,
    waker: Option<Waker>,
}

/// A task that has ended although the node went on.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TaskEnd {
    pub task: String,
    /// How often.
    pub ends: u64,
    /// How it ended last.
    pub reason: String,
    /// When.
    pub unix_ms: u64,
    /// It does not run now, or not long enough again to be relied on.
    pub is_down: bool,
    /// The node cannot go on without it.
    pub is_vital: bool,
}

impl Tasks {
    /// From now on all ends are meant.
    pub fn stop(&self) {
        self.shared.stopping.store(true, Ordering::Release);
    }

    /// A task that the node cannot do without begins.
    pub fn vital(&self, name: &'static str) -> Watched {
        self.begin(name, true)
    }

    /// A task begins, which is begun again should it end.
    pub fn begin_again(&self, name: &'static str) -> Watched {
        self.begin(name, false)
    }

    /// Runs what `make` makes, and makes it anew when it panics, after a while that grows from end
    /// to end. Returns once it has returned, which is taken to be meant.
    pub async fn keep<F, S>(
        &self,
        name: &'static str,
        mut make: impl FnMut() -> F,
        sleep: impl Fn(Duration) -> S,
    ) where
        F: Future<Output = ()>,
        S: Future<Output = ()>,
    {
        let mut pause = PAUSE;
        loop {
            let (watched, begun) = (self.begin_again(name), Instant::now());
            if panics_or(watched.steps(make())).await.is_some() {
                return;
            }
            watched.note(PANICKED);
            pause = next_pause(pause, begun.elapsed());
            sleep(pause).await;
        }
    }

    /// The same for a thread: `body` is called again after a panic, until `is_stopping`.
    pub fn keep_thread(
        &self,
        name: &'static str,
        is_stopping: impl Fn() -> bool,
        mut body: impl FnMut(&Watched),
    ) {
        let mut pause = PAUSE;
        loop {
            let (watched, begun) = (self.begin_again(name), Instant::now());
            let ended = catch_unwind(AssertUnwindSafe(|| {
                body(&watched);
            }));
            if ended.is_ok() {
                return;
            }
            watched.note(PANICKED);
            pause = next_pause(pause, begun.elapsed());
            let until = Instant::now() + pause;
            while Instant::now() < until {
                if is_stopping() {
                    return;
                }
                thread::park_timeout(LOOK);
            }
        }
    }

    /// Those that have ended although the node went on.
    pub fn ended(&self) -> Vec<TaskEnd> {
        let by_name = self.lock();
        by_name.values().filter_map(Known::told).collect()
    }

    /// How often each of those that have begun has ended although the node went on.
    pub fn counts(&self) -> Vec<(&'static str, u64)> {
        let by_name = self.lock();
        let count = |known: &Known| known.end.as_ref().map_or(0, |end| end.ends);
        by_name
            .iter()
            .map(|(name, known)| (*name, count(known)))
            .collect()
    }

    /// How many ends there were; changes with each.
    pub fn ends(&self) -> watch::Receiver<u64> {
        self.shared.ends.subscribe()
    }

    /// Makes a task of this name panic at its next step: for tests of what becomes of its node.
    #[doc(hidden)]
    pub fn fail(&self, name: &'static str) {
        let mut by_name = self.lock();
        let known = by_name.entry(name).or_default();
        known.failing = true;
        if let Some(waker) = known.waker.take() {
            waker.wake();
        }
    }

    fn begin(&self, name: &'static str, vital: bool) -> Watched {
        let mut by_name = self.lock();
        let known = by_name.entry(name).or_default();
        known.vital = vital;
        known.begun = Some(Instant::now());
        Watched {
            tasks: self.clone(),
            name,
            vital,
            finished: AtomicBool::new(false),
        }
    }

    fn note_end(&self, name: &'static str, how: &str) {
        if self.shared.stopping.load(Ordering::Acquire) {
            return;
        }
        let mut by_name = self.lock();
        let known = by_name.entry(name).or_default();
        known.begun = None;
        let ends = known.end.as_ref().map_or(0, |end| end.ends) + 1;
        known.end = Some(TaskEnd {
            task: name.to_owned(),
            ends,
            reason: how.to_owned(),
            unix_ms: unix_ms(),
            is_down: true,
            is_vital: known.vital,
        });
        drop(by_name);
        self.shared.ends.send_modify(|ends| *ends += 1);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Known>> {
        let by_name = self.shared.by_name.lock();
        by_name.unwrap_or_else(PoisonError::into_inner)
    }
}

/// The same list of tasks.
impl PartialEq for Tasks {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }
}

impl Eq for Tasks {}

impl Known {
    fn told(&self) -> Option<TaskEnd> {
        let end = self.end.clone()?;
        let proven = self.begun.is_some_and(|begun| begun.elapsed() >= PROVEN);
        Some(TaskEnd {
            is_down: !proven,
            ..end
        })
    }
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.lock().keys()).finish()
    }
}

/// Notices the end of the task or thread that it is part of: it is dropped with it.
#[derive(Debug)]
#[must_use = "dropped at once, it says that the task has ended"]
pub struct Watched {
    tasks: Tasks,
    name: &'static str,
    vital: bool,
    finished: AtomicBool,
}

impl Watched {
    /// The task ends because it is meant to.
    pub fn finish(&self) {
        self.finished.store(true, Ordering::Release);
    }

    /// Runs the task; that it returns is meant.
    pub async fn run<F: Future>(self, task: F) -> F::Output {
        let output = self.steps(task).await;
        self.finish();
        output
    }

    async fn steps<F: Future>(&self, task: F) -> F::Output {
        let mut task = pin!(task);
        std::future::poll_fn(|context| {
            self.fail_or_wake(context.waker());
            task.as_mut().poll(context)
        })
        .await
    }

    /// A place in a thread's loop where a test can make it panic.
    pub fn step(&self) {
        self.fail_or_wake(&Waker::from(Arc::new(Parked(thread::current()))));
    }

    /// It has ended and was not meant to.
    fn note(&self, how: &str) {
        if !self.finished.swap(true, Ordering::AcqRel) {
            self.tasks.note_end(self.name, how);
        }
    }

    fn fail_or_wake(&self, waker: &Waker) {
        let mut by_name = self.tasks.lock();
        let Some(known) = by_name.get_mut(self.name) else {
            return;
        };
        let failing = std::mem::take(&mut known.failing);
        known.waker = Some(waker.clone());
        drop(by_name);
        assert!(!failing, "a test wants the task {:?} to end", self.name);
    }
}

/// A thread that waits.
struct Parked(Thread);

impl Wake for Parked {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if thread::panicking() {
            self.note(PANICKED);
        } else if self.vital {
            self.note("it was dropped before its end");
        }
    }
}

/// What the future returns; none: it panicked.
async fn panics_or<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    std::future::poll_fn(|context| {
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
            Ok(Poll::Ready(output)) => Poll::Ready(Some(output)),
            Ok(Poll::Pending) => Poll::Pending,
            Err(_) => Poll::Ready(None),
        }
    })
    .await
}

/// How long to wait before a task that has run for `lived` is begun again.
fn next_pause(last: Duration, lived: Duration) -> Duration {
    if lived >= LONG_LIFE {
        return PAUSE;
    }
    (last * 2).min(LONGEST_PAUSE)
}

const PANICKED: &str = "it panicked: see the log for where";

/// Before a task is begun again, at first and at most.
const PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Whatever has run as long has not ended because of how it began.
const LONG_LIFE: Duration = Duration::from_secs(60);

/// A task that has been begun again is relied on once it has run for so long.
const PROVEN: Duration = Duration::from_secs(3);

/// How often a waiting thread looks whether it is to stop.
const LOOK: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(tasks: &Tasks) -> Vec<(String, u64, bool)> {
        let ended = tasks.ended().into_iter();
        ended.map(|end| (end.task, end.ends, end.is_down)).collect()
    }

    #[test]
    fn an_end_is_noticed_however_it_comes_unless_it_is_meant() {
        let tasks = Tasks::default();
        let told = tasks.ends();
        tasks.vital("a").finish();
        drop(tasks.begin_again("a"));
        drop(tasks.vital("b"));
        let panicking = tasks.clone();
        let thread = thread::spawn(move || {
            let _watched = panicking.begin_again("c");
            panic!("a test");
        });
        thread.join().unwrap_err();
        let found = tasks.ended();
        let reasons: Vec<_> = found
            .iter()
            .map(|end| (end.task.as_str(), end.is_vital, end.reason.as_str()))
            .collect();
        assert_eq!(
            reasons,
            [
                ("b", true, "it was dropped before its end"),
                ("c", false, PANICKED)
            ]
        );
        assert_eq!(*told.borrow(), 2);
        tasks.stop();
        drop(tasks.vital("b"));
        assert_eq!(*told.borrow(), 2);
    }

    #[tokio::test]
    async fn a_task_that_panics_is_begun_again_until_it_returns() {
        let tasks = Tasks::default();
        let mut times = 0;
        let make = || {
            times += 1;
            let panics = times < 4;
            async move {
                tokio::task::yield_now().await;
                assert!(!panics, "a test");
            }
        };
        tasks.keep("a", make, |_| std::future::ready(())).await;
        assert_eq!(times, 4);
        assert_eq!(ends(&tasks), [("a".to_owned(), 3, true)]);
    }

    #[tokio::test]
    async fn a_test_can_make_a_task_panic_that_waits() {
        let tasks = Tasks::default();
        let kept = tasks.clone();
        let kept = tokio::spawn(async move {
            kept.keep("a", std::future::pending::<()>, |_| std::future::ready(()))
                .await;
        });
        let mut told = tasks.ends();
        for ends in 1..3 {
            tasks.fail("a");
            told.wait_for(|told| *told == ends).await.unwrap();
        }
        kept.abort();
        assert!(kept.await.unwrap_err().is_cancelled());
        assert_eq!(*told.borrow(), 2, "who drops it has no more use for it");
    }

    #[test]
    fn a_thread_that_panics_is_begun_again_until_it_returns_or_is_to_stop() {
        let tasks = Tasks::default();
        let mut times = 0;
        tasks.keep_thread(
            "a",
            || false,
            |watched| {
                times += 1;
                watched.step();
                assert!(times == 3, "a test");
            },
        );
        assert_eq!(times, 3);
        tasks.keep_thread("b", || true, |_| panic!("a test"));
        let all = [("a".to_owned(), 2, true), ("b".to_owned(), 1, true)];
        assert_eq!(ends(&tasks), all);
    }

    #[test]
    fn the_more_often_it_ends_the_longer_is_the_pause_and_a_long_life_ends_that() {
        let mut pause = PAUSE;
        for _ in 0..20 {
            pause = next_pause(pause, Duration::ZERO);
        }
        assert_eq!(pause, LONGEST_PAUSE);
        assert_eq!(next_pause(pause, LONG_LIFE), PAUSE);
    }
}
