//! The write path of a secondary: the primary's blocks, checked and appended byte for byte. It must
//! never change a byte of a block.
//!
//! `append` checks the chain before anything is queued, so what reaches the disk continues the log.
//! One thread writes and fsyncs; several appends may share one fsync.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::config::FollowerConfig;
use crate::error::{Operation, WalError};
use crate::format::block::BlockKind;
use crate::format::chain::BlockScan;
use crate::format::control::Control;
use crate::format::segment::BlockEntry;
use crate::ids::Position;
use crate::read::log::{Log, LogState};
use crate::share::Held;
use crate::tasks::Watched;
use crate::write::group::Group;
use crate::write::space::Space;
use crate::write::writer::Writer;

/// The write side of a secondary's log.
#[derive(Debug)]
pub struct Follower {
    log: Log,
    tip: Position,
    queue: mpsc::Sender<Group>,
    stopping: Arc<AtomicBool>,
    thread: JoinHandle<Result<(), WalError>>,
}

impl Follower {
    pub(crate) fn start(
        writer: Writer,
        state: Arc<LogState>,
        config: &FollowerConfig,
    ) -> Result<Self, WalError> {
        let space = Space::new(&state, config.reserve_disk);
        let stopping = Arc::new(AtomicBool::new(false));
        let mine = Arc::clone(&stopping);
        let log = Log::new(Arc::clone(&state));
        let tip = writer.tip;
        let dir = writer.dir.clone();
        let schemas = config.schemas.take_beyond(writer.catalog.memory() as u64);
        let (queue, jobs) = mpsc::channel(QUEUE);
        let watched = config.tasks.vital("follower");
        let thread = thread::Builder::new()
            .name("follower".to_owned())
            .spawn(move || {
                let _failing = FailOnPanic(&state);
                let ended = run(writer, &state, space, jobs, &mine, (&watched, schemas));
                // An error is told by the log.
                watched.finish();
                ended
            })
            .map_err(WalError::io(Operation::StartThread("follower"), &dir))?;
        Ok(Self {
            log,
            tip,
            queue,
            stopping,
            thread,
        })
    }

    /// The log's read side.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// The end of what has been accepted; it may not be durable yet.
    pub fn tip(&self) -> Position {
        self.tip
    }

    /// Checks every block of `blocks` against the chain, then queues them for write and fsync.
    /// Waits while the queue is full. Returns the new tip.
    ///
    /// # Errors
    /// `Diverged` or `InvalidBlock` on a bad block: nothing of `blocks` is accepted then.
    /// `Poisoned` when an earlier write failed.
    pub async fn append(&mut self, blocks: Bytes) -> Result<Position, WalError> {
        let groups = split(&blocks, self.tip)?;
        for group in groups {
            let end = group.end;
            if self.queue.send(group).await.is_err() {
                return Err(self.poisoned());
            }
            self.tip = end;
        }
        Ok(self.tip)
    }

    fn poisoned(&self) -> WalError {
        let failed = self.log.failed();
        let reason = failed.borrow().clone();
        WalError::Poisoned(reason.unwrap_or_else(|| "the follower thread has ended".to_owned()))
    }

    /// Writes and fsyncs what has been accepted, then ends the thread. What finds no room is left:
    /// it is fetched again.
    ///
    /// # Errors
    /// The error that poisoned the log, if one did.
    pub async fn stop(self) -> Result<(), WalError> {
        self.stopping.store(true, Ordering::Release);
        drop(self.queue);
        let thread = self.thread;
        let join = tokio::task::spawn_blocking(move || thread.join());
        match join.await {
            Ok(Ok(result)) => result,
            _ => Err(WalError::Poisoned(
                "the follower thread panicked".to_owned(),
            )),
        }
    }
}

/// Checked groups, each ending where a segment ends or the bytes do.
fn split(blocks: &Bytes, tip: Position) -> Result<Vec<Group>, WalError> {
    let mut scan = BlockScan::new(blocks, tip);
    let mut groups = Vec::new();
    let (mut start, mut entries, mut controls) = (0, Vec::new(), Vec::new());
    while let Some((header, offset, body)) = scan.next()? {
        entries.push(BlockEntry::of(&header, (offset - start) as u64));
        controls.extend(Control::of(&header, body)?);
        let seals = header.kind == BlockKind::Seal;
        if seals || scan.offset() == blocks.len() {
            groups.push(Group {
                bytes: blocks.slice(start..scan.offset()),
                entries: std::mem::take(&mut entries),
                controls: std::mem::take(&mut controls),
                end: scan.tip(),
                committed_at: header.committed_at,
                seals,
            });
            start = scan.offset();
        }
    }
    Ok(groups)
}

fn run(
    mut writer: Writer,
    state: &LogState,
    mut space: Space,
    mut jobs: mpsc::Receiver<Group>,
    stopping: &AtomicBool,
    (watched, mut schemas): (&Watched, Held),
) -> Result<(), WalError> {
    let stop = || stopping.load(Ordering::Acquire);
    while let Some(group) = jobs.blocking_recv() {
        watched.step();
        while !space.has_room() {
            if stop() {
                return Ok(());
            }
            space.pause();
        }
        let mut bytes = group.bytes.len();
        let mut groups = vec![group];
        while bytes < SYNC_BYTES && groups.last().is_some_and(|last| !last.seals) {
            let Ok(next) = jobs.try_recv() else { break };
            bytes += next.bytes.len();
            groups.push(next);
        }
        match write(&mut writer, state, &mut space, &groups, stop) {
            // A primary has taken them: they cannot be refused.
            Ok(true) => schemas.resize_beyond(writer.catalog.memory() as u64),
            Ok(false) => return Ok(()),
            Err(error) => {
                state.published.fail(&error.to_string());
                return Err(error);
            }
        }
    }
    Ok(())
}

/// However the thread ends, nobody takes its log for one that goes on.
struct FailOnPanic<'a>(&'a LogState);

impl Drop for FailOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.published.fail("the follower thread panicked");
        }
    }
}

/// Makes groups durable and published; false when it was given up for want of room.
fn write(
    writer: &mut Writer,
    state: &LogState,
    space: &mut Space,
    groups: &[Group],
    stop: impl Fn() -> bool,
) -> Result<bool, WalError> {
    if space
        .write(|| writer.commit(state, groups), &stop)?
        .is_none()
    {
        return Ok(false);
    }
    if groups.last().is_some_and(|last| last.seals) {
        let Some(sealed) = space.write(|| writer.rotate(), &stop)? else {
            return Ok(false);
        };
        state.published.publish(writer.committed(Some(sealed)));
    }
    Ok(true)
}

/// Appends that may wait for the writer's thread.
const QUEUE: usize = 16;
/// Bytes that one fsync covers at most.
const SYNC_BYTES: usize = 8 << 20;
