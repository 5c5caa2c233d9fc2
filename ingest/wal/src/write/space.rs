//! Whether there is room to write, and whether files are still where they were: looks at most so
//! often, and waits where there is no room. It must never write.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::error::WalError;
use crate::read::log::LogState;
use crate::write::spare::Spare;

/// Watches the free space of a log's disk for its writer.
#[derive(Debug)]
pub(crate) struct Space {
    state: Arc<LogState>,
    reserve: u64,
    spare: Spare,
    looked: Option<Instant>,
    placed: Option<Instant>,
}

impl Space {
    pub(crate) fn new(state: &Arc<LogState>, reserve: u64) -> Self {
        let mut spare = Spare::default();
        spare.refill();
        Self {
            state: Arc::clone(state),
            reserve,
            spare,
            looked: None,
            placed: None,
        }
    }

    /// Whether rows may be written now; says so to whoever watches.
    pub(crate) fn has_room(&mut self) -> bool {
        let stalled = self.state.published.is_stalled();
        if self.reserve == 0 {
            return true;
        }
        if !stalled && self.looked.is_some_and(|at| at.elapsed() < TRUST) {
            return true;
        }
        self.looked = Some(Instant::now());
        let free = self.state.disk.free(&self.state.dir).ok().flatten();
        let low = free.filter(|free| *free < self.reserve);
        self.state.stall(low.map(|free| {
            format!(
                "the disk is too full: {} MiB are free at {}, log.reserve_disk keeps {} MiB: make \
                 room there, or keep less",
                free >> 20,
                self.state.dir.display(),
                self.reserve >> 20
            )
        }));
        low.is_none()
    }

    /// Whether what was written is there for the next process, too. Nobody may be told that it is
    /// durable before.
    pub(crate) fn check_place(&mut self) -> Result<(), WalError> {
        if let Some(reason) = &*self.state.published.failed.borrow() {
            return Err(WalError::Poisoned(reason.clone()));
        }
        if self.placed.is_some_and(|at| at.elapsed() < TRUST_PLACE) {
            return Ok(());
        }
        self.state.check_place()?;
        self.placed = Some(Instant::now());
        Ok(())
    }

    /// Writes once there is room, and whatever else it needs: `write` is tried again for as long as
    /// something has run out and `stop` does not say to give up. `None`: given up, nothing was
    /// written.
    pub(crate) fn write<T>(
        &mut self,
        mut write: impl FnMut() -> Result<T, WalError>,
        stop: impl Fn() -> bool,
    ) -> Result<Option<T>, WalError> {
        let mut wait = FIRST_WAIT;
        loop {
            match write() {
                // Another try, with what was held for it.
                Err(error) if error.may_pass() && !error.is_full() && self.spare.give_up() => {}
                Err(error) if error.may_pass() => {
                    self.state.stall(Some(lacking(&error)));
                    if stop() {
                        return Ok(None);
                    }
                    thread::sleep(wait);
                    wait = WAIT.min(wait * 2);
                }
                Err(error) => return Err(error),
                Ok(done) => {
                    if self.state.published.is_stalled() {
                        self.state.stall(None);
                    }
                    self.spare.refill();
                    self.check_place()?;
                    return Ok(Some(done));
                }
            }
        }
    }

    /// A moment to wait before looking again.
    pub(crate) fn pause(&self) {
        thread::sleep(WAIT);
    }
}

fn lacking(error: &WalError) -> String {
    if error.is_full() {
        format!("the disk is full, make room there: {error}")
    } else {
        format!(
            "the system gives this process no more files, memory or length of files, and the log \
             waits until it does: {error}"
        )
    }
}

/// How long one look at the free space is trusted.
const TRUST: Duration = Duration::from_millis(100);
/// The same of the place of the files.
const TRUST_PLACE: Duration = Duration::from_millis(50);
/// How often a writer that waits for space looks again, at first and then.
const FIRST_WAIT: Duration = Duration::from_millis(5);
const WAIT: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use crate::config::Config;
    use crate::disk::OsDisk;
    use crate::open::open_primary;

    #[test]
    fn a_log_that_is_opened_without_room_says_so_before_any_row_comes() {
        let dir = tempfile::tempdir().expect("a directory");
        let config = Config {
            reserve_disk: u64::MAX,
            ..Config::default()
        };
        let (committer, _) = open_primary(OsDisk::new(), dir.path(), &config).expect("opens");
        let stalled = committer.log().stalled().borrow().clone();
        let reason = stalled.expect("no room");
        let place = format!("free at {}", dir.path().display());
        assert!(reason.contains(&place), "{reason}");
        committer.stop().expect("a clean stop");
    }
}
