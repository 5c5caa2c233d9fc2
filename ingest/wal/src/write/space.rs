//! Whether there is room to write, and whether files are still where they were: looks at most so
//! often, and waits where there is no room. It must never write.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::error::WalError;
use crate::read::log::LogState;
use crate::room::{FILE_IN_MANIFEST, FILE_OVERHEAD};
use crate::write::spare::Spare;

/// Watches the free space of a log's disk for its writer.
#[derive(Debug)]
pub(crate) struct Space {
    state: Arc<LogState>,
    spare: Spare,
    looked: Option<Instant>,
    /// What may be written before the next look.
    left: u64,
    /// Bytes that the log had written when it was asked last, and most between two times.
    written: u64,
    most: u64,
    placed: Option<Instant>,
}

impl Space {
    pub(crate) fn new(state: &Arc<LogState>, reserve: u64) -> Self {
        state.room.keep(reserve);
        let mut spare = Spare::default();
        spare.refill();
        Self {
            state: Arc::clone(state),
            spare,
            looked: None,
            left: 0,
            written: 0,
            most: 0,
            placed: None,
        }
    }

    /// Whether rows may be written now; says so to whoever watches.
    pub(crate) fn has_room(&mut self) -> bool {
        let stalled = self.state.published.is_stalled();
        let room = &self.state.room;
        let reserve = room.reserve();
        if reserve == 0 {
            return true;
        }
        let written = self.state.counters.bytes();
        let new = written.saturating_sub(self.written);
        (self.written, self.most) = (written, self.most.max(new));
        self.left = self.left.saturating_sub(new);
        let trusted = self.looked.is_some_and(|at| at.elapsed() < TRUST);
        if !stalled && trusted && self.left > 0 {
            return true;
        }
        self.looked = Some(Instant::now());
        // However much is written next.
        let beside = room.beside(self.next_files()).saturating_add(self.most);
        let kept = reserve.saturating_add(beside);
        let free = room.free();
        self.left = free.map_or(u64::MAX, |free| free.saturating_sub(kept));
        let low = free.filter(|free| *free < kept);
        self.state.low(low.map(|free| {
            format!(
                "the disk is too full: {} MiB are free at {}, log.reserve_disk keeps {} MiB, and \
                 compaction needs {} MiB to make room: make room there, or keep less",
                free >> 20,
                self.state.dir.display(),
                reserve >> 20,
                beside.div_ceil(1 << 20)
            )
        }));
        low.is_none()
    }

    /// What the files of the next segment take, about, that is not in files yet: the room for them
    /// grows with it.
    fn next_files(&self) -> u64 {
        let snapshot = self.state.snapshot();
        let active = (snapshot.tail_bytes, snapshot.tail_len);
        let pending = snapshot
            .pending()
            .next()
            .filter(|segment| segment.fault.is_none());
        let sealed = pending.map(|segment| (segment.len(), segment.entries.len()));
        let files = |(bytes, blocks): (u64, usize)| {
            let tables = blocks.min(snapshot.catalog.count()) as u64;
            bytes.saturating_add(tables.saturating_mul(FILE_OVERHEAD))
        };
        let manifest = snapshot.files.all().count() as u64 * FILE_IN_MANIFEST;
        files(active).max(sealed.map_or(0, files)) + manifest
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
                    let reason = Some(lacking(&error));
                    if error.is_full() {
                        self.state.low(reason);
                    } else {
                        self.state.stall(reason);
                    }
                    if stop() {
                        return Ok(None);
                    }
                    thread::sleep(wait);
                    wait = WAIT.min(wait * 2);
                }
                Err(error) => return Err(error),
                Ok(done) => {
                    if self.state.published.is_stalled() {
                        self.state.low(None);
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
