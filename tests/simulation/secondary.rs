//! A secondary: the real store of its logs on a disk that crashes, with the log in force and
//! one that is being brought in. Takes blocks only through the followers, and is open between
//! steps. Must never know a connection.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use fastrand::Rng;
use replica::Store;
use replica::reconcile::{Before, Fate, LANDMARKS, before_blocks, fate, introduced};
use tests::crash_disk::CrashDisk;
use tests::workload::numbers;
use wal::{
    BlockHeader, BlockKind, Disk, Diverged, Epoch, Follower, FollowerConfig, Log, LogId, Lsn,
    OldLog, Position, Recovery, Staging, WalError, compact_now,
};

use crate::oracle::{Check, Fault, Oracle, all_rows_aside, dir, has_stopped, rows_aside, text};

pub(crate) struct Secondary {
    pub(crate) name: &'static str,
    disk: CrashDisk,
    store: Store,
    /// The log in force.
    pub(crate) main: Option<Follower>,
    /// What is being brought in, and its log.
    pub(crate) staging: Option<Staging>,
    pub(crate) staged: Option<Follower>,
    /// Nothing that is still held is common: another log is to be brought in.
    pub(crate) anew: bool,
    /// The primary was once put back to what it had been: another history than its may be about.
    pub(crate) careful: bool,
    /// Rises whenever another log, or another end of it, may be in force.
    pub(crate) generation: u64,
    /// What puts a tail aside loses it again: for a test of the tests.
    pub(crate) loses_tails: bool,
    armed: bool,
    had_log: bool,
    /// Rows that were ever durable in its log in force.
    seen: BTreeSet<i64>,
    /// Where its log was cut last because the upstream has others there, and the rows put aside.
    pub(crate) parted: Option<(Position, BTreeSet<i64>)>,
    checked: [Option<Position>; 2],
}

fn quiet(_: &Log, _: &Recovery, _: Instant) {}

fn store(disk: &CrashDisk) -> Store {
    let (disk, config) = (Arc::new(disk.clone()), FollowerConfig::default());
    Store::new(disk, dir().to_owned(), config, quiet)
}

impl Secondary {
    /// A node with an empty disk.
    pub(crate) fn new(name: &'static str) -> Self {
        let disk = CrashDisk::new();
        Self {
            name,
            store: store(&disk),
            disk,
            main: None,
            staging: None,
            staged: None,
            anew: false,
            careful: false,
            generation: 0,
            loses_tails: false,
            armed: false,
            had_log: false,
            seen: BTreeSet::new(),
            parted: None,
            checked: [None; 2],
        }
    }

    /// What it serves.
    pub(crate) fn log(&self) -> Option<Log> {
        self.main.as_ref().map(|main| main.log().clone())
    }

    /// The log that blocks are for, and whether it is, or will be, one that is brought in.
    pub(crate) fn following(&self) -> (Option<&Follower>, bool) {
        introduced(self.staged.as_ref(), self.main.as_ref(), self.anew)
    }

    /// What is due before blocks are taken.
    pub(crate) fn before_blocks(&self) -> Before {
        before_blocks(self.staged.is_some(), self.anew, self.main.is_some())
    }

    /// Ends of both logs, for the trace.
    pub(crate) fn ends(&self) -> (Option<Lsn>, Option<Lsn>) {
        let end = |log: &Option<Follower>| log.as_ref().map(|log| log.tip().lsn);
        (end(&self.main), end(&self.staged))
    }

    pub(crate) fn is_armed(&self) -> bool {
        self.armed
    }

    /// Begins a log in force from its first block on, or goes on with it.
    pub(crate) fn begin_log(&mut self, log: LogId, epoch: Epoch) -> Result<(), Fault> {
        let opened = self.store.open(log, epoch);
        self.main = Some(opened.map_err(|error| self.fault(&error))?);
        self.had_log = true;
        self.check_damage()
    }

    /// Begins to bring in a log: from a manifest and the upstream's past, or from its first block
    /// on.
    pub(crate) async fn begin(
        &mut self,
        manifest: Option<(&[u8], &[u8])>,
        (log, epoch): (LogId, Epoch),
    ) -> Result<(), Fault> {
        self.stop_staged().await?;
        self.staging = None;
        let begun = match manifest {
            Some((manifest, past)) => self.store.begin(manifest, log).and_then(|mut staging| {
                staging.take_segment_starts(past)?;
                Ok(staging)
            }),
            None => self.store.begin_empty(log, epoch),
        };
        let staging = begun.map_err(|error| self.refused(&error))?;
        let opened = self.store.open_staged(&staging);
        self.staged = Some(opened.map_err(|error| self.fault(&error))?);
        self.staging = Some(staging);
        Ok(())
    }

    /// Gives up what is being brought in; what was brought stays on the disk.
    pub(crate) async fn give_up(&mut self) -> Result<(), Fault> {
        self.stop_staged().await?;
        self.staging = None;
        Ok(())
    }

    /// Appends blocks to the log that is followed, and returns once they are durable.
    pub(crate) async fn take(&mut self, run: Bytes) -> Result<(), Fault> {
        let follower = match (&mut self.staged, &mut self.main) {
            (Some(staged), _) => staged,
            (None, Some(main)) => main,
            (None, None) => return Err(Fault::Broken("blocks for no log".to_owned())),
        };
        let seals = ends_with_seal(&run);
        let taken = match follower.append(run).await {
            Ok(_) => flushed(follower, seals).await,
            Err(error) => Err(error),
        };
        taken.map_err(|error| self.refused(&error))
    }

    /// Writes bytes of a file that is being brought in.
    pub(crate) fn write(&mut self, name: &str, at: u64, bytes: &[u8]) -> Result<(), Fault> {
        let Some(staging) = &mut self.staging else {
            return Err(Fault::Broken("a file for no log".to_owned()));
        };
        let written = staging.write(name, at, bytes);
        written.map_err(|error| self.refused(&error))
    }

    /// Takes a newer manifest; false when the staged log has not come so far.
    pub(crate) fn refresh(&mut self, manifest: &[u8]) -> Result<bool, Fault> {
        let (Some(staging), Some(staged)) = (&mut self.staging, &self.staged) else {
            return Err(Fault::Broken("a manifest for no log".to_owned()));
        };
        match staging.refresh(manifest, staged.tip()) {
            Ok(()) => Ok(true),
            Err(WalError::NotHeld(_)) => Ok(false),
            Err(error) => Err(self.refused(&error)),
        }
    }

    /// Puts the log that was brought in in force; says what became of the old one.
    pub(crate) async fn swap(&mut self) -> Result<&'static str, Fault> {
        let (old, new) = (
            self.log(),
            self.staged.as_ref().map(|new| new.log().clone()),
        );
        self.stop_staged().await?;
        self.stop_main().await?;
        let Some(staging) = self.staging.take() else {
            return Err(Fault::Broken("nothing to put in force".to_owned()));
        };
        let (fate, what) = match (old, new) {
            (Some(old), Some(new)) => self.retire(&old, &new)?,
            _ => (OldLog::Remove, "swapped in"),
        };
        let swapped = self.store.swap_in(staging, fate, None);
        swapped.map_err(|error| self.fault(&error))?;
        self.open()?;
        self.check_seen().await?;
        Ok(what)
    }

    /// What is not proven to be in the new log is put aside.
    fn retire(&mut self, old: &Log, new: &Log) -> Result<(OldLog, &'static str), Fault> {
        let (landmarks, view) = (old.landmarks(LANDMARKS), old.snapshot());
        let (compacted, tip) = (view.compacted().lsn, old.end());
        match fate(&landmarks, |lsn| new.chain_at(lsn), compacted, tip) {
            Fate::Remove => Ok((OldLog::Remove, "swapped in")),
            Fate::Save(at) => {
                self.put_aside(old.id(), at)?;
                Ok((OldLog::Remove, "swapped in for a diverged end"))
            }
            Fate::Keep(_) => Ok((OldLog::Keep, "swapped in for a log kept whole")),
        }
    }

    fn put_aside(&mut self, log: LogId, at: Position) -> Result<Diverged, Fault> {
        // The disk does not show a directory that is empty, as a log is once all of it is aside.
        self.had_log = at != log.genesis();
        let diverged = self.store.save_diverged(log, at);
        diverged.map_err(|error| self.fault(&error))
    }

    /// Puts what lies behind `at` aside; what is left and what was put aside are what was there.
    pub(crate) async fn save_diverged(&mut self, at: Position) -> Result<(), Fault> {
        let Some(log) = self.log() else {
            return Err(Fault::Broken("no log to cut".to_owned()));
        };
        let before: BTreeSet<i64> = numbers(&log).map_err(text)?.into_iter().collect();
        self.close().await;
        let diverged = self.put_aside(log.id(), at)?;
        if self.loses_tails {
            let _ = self.disk.remove_dir_all(&diverged.path);
        }
        self.generation += 1;
        self.begin_log(log.id(), log.epoch())?;
        let log = self.log().ok_or_else(|| "the log is gone".to_owned())?;
        let left: BTreeSet<i64> = numbers(&log).map_err(text)?.into_iter().collect();
        let aside = rows_aside(&self.disk, &diverged.path).await?;
        let counted = u64::try_from(aside.len()).map_err(text)?;
        // An attempt that a crash has ended may have put more aside than was still in the log.
        let whole = before
            .iter()
            .all(|row| left.contains(row) || aside.contains(row));
        let apart = left.is_subset(&before) && left.is_disjoint(&aside);
        if !whole || !apart || counted != diverged.rows {
            let name = self.name;
            let what =
                format!("{name} had {before:?}, left {left:?}, shelf {aside:?} {diverged:?}");
            return Err(Fault::Broken(what));
        }
        self.parted = Some((at, aside));
        self.check_seen().await
    }

    pub(crate) fn compact(&self) -> Result<(), Fault> {
        let Some(main) = &self.main else {
            return Ok(());
        };
        match compact_now(main.log()) {
            Ok(_) => Ok(()),
            Err(error) => Err(self.fault(&error)),
        }
    }

    /// The disk stops in the middle of one of the next operations.
    pub(crate) fn arm(&mut self, operations: u64) {
        self.disk.stop_at(self.disk.operations() + operations);
        self.armed = true;
    }

    /// The machine loses power and starts again, perhaps more than once.
    pub(crate) async fn crash(&mut self, random: &mut Rng) -> Result<(), Fault> {
        self.lose(random).await;
        if random.u8(..3) == 0 {
            self.arm(random.u64(..12));
        }
        match self.open() {
            Err(Fault::Disk) => {
                self.lose(random).await;
                self.open()?;
            }
            opened => opened?,
        }
        self.check_seen().await
    }

    /// The node stops in order and starts again.
    pub(crate) async fn restart(&mut self) -> Result<(), Fault> {
        self.stop_staged().await?;
        self.stop_main().await?;
        self.staging = None;
        self.open()?;
        self.check_seen().await
    }

    /// Turns one bit in the middle of a sealed segment; false when there is none.
    pub(crate) async fn rot(&mut self) -> Result<bool, Fault> {
        let sealed = self.log().map(|log| log.snapshot().segments());
        let sealed = sealed.and_then(|all| all.into_iter().find(|segment| segment.sealed));
        let Some(segment) = sealed else {
            return Ok(false);
        };
        self.close().await;
        let path = PathBuf::from(segment.path);
        self.disk.damage(&path, |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        });
        self.checked = [None; 2];
        self.open()?;
        Ok(true)
    }

    /// What it has is what a primary had.
    pub(crate) fn check(&mut self, oracle: &Oracle) -> Check {
        if let Some(main) = &self.main {
            oracle.check_blocks(self.name, main.log(), &mut self.checked[0], &mut self.seen)?;
        }
        if let Some(staged) = &self.staged {
            let mut aside = BTreeSet::new();
            let who = format!("what {} brings in", self.name);
            oracle.check_blocks(&who, staged.log(), &mut self.checked[1], &mut aside)?;
        }
        Ok(())
    }

    /// No row is lost that was ever durable here: it is in the log or aside.
    pub(crate) async fn check_seen(&mut self) -> Result<(), Fault> {
        let Some(log) = self.log() else {
            return Ok(());
        };
        let mut rows: BTreeSet<i64> = numbers(&log).map_err(text)?.into_iter().collect();
        let held = rows.clone();
        if !self.seen.is_subset(&rows) {
            rows.extend(all_rows_aside(&self.disk).await?);
        }
        let lost: Vec<i64> = self.seen.difference(&rows).copied().collect();
        if !lost.is_empty() {
            let what = format!("{} has neither in its log nor aside: {lost:?}", self.name);
            return Err(Fault::Broken(what));
        }
        self.seen.extend(held);
        Ok(())
    }

    fn open(&mut self) -> Result<(), Fault> {
        self.generation += 1;
        self.anew = false;
        let opened = self.store.open_existing();
        self.main = opened.map_err(|error| self.fault(&error))?;
        if self.had_log && self.main.is_none() {
            return Err(Fault::Broken(format!("the log of {} is gone", self.name)));
        }
        self.had_log = self.main.is_some();
        let found = self.store.staging();
        self.staging = found.map_err(|error| self.fault(&error))?;
        if let Some(staging) = &self.staging {
            let opened = self.store.open_staged(staging);
            self.staged = Some(opened.map_err(|error| self.fault(&error))?);
        }
        self.check_damage()
    }

    fn check_damage(&self) -> Result<(), Fault> {
        let damaged = self.main.as_ref().map(|main| main.log().damage());
        match damaged.is_some_and(|damaged| !damaged.borrow().is_empty()) {
            true => Err(format!("the log of {} is damaged", self.name).into()),
            false => Ok(()),
        }
    }

    async fn stop_main(&mut self) -> Result<(), Fault> {
        match self.main.take() {
            Some(main) => main.stop().await.map_err(|error| self.fault(&error)),
            None => Ok(()),
        }
    }

    async fn stop_staged(&mut self) -> Result<(), Fault> {
        match self.staged.take() {
            Some(staged) => staged.stop().await.map_err(|error| self.fault(&error)),
            None => Ok(()),
        }
    }

    /// Lets go of everything; what cannot be written any more is not.
    pub(crate) async fn close(&mut self) {
        for follower in [self.staged.take(), self.main.take()].into_iter().flatten() {
            let _ = follower.stop().await;
        }
        self.staging = None;
    }

    async fn lose(&mut self, random: &mut Rng) {
        self.disk.stop_at(self.disk.operations());
        self.close().await;
        self.disk = self.disk.after_crash(random);
        self.store = store(&self.disk);
        self.armed = false;
    }

    /// What an error of the disk means: the crash that was ordered, or a broken promise.
    fn fault(&self, error: &WalError) -> Fault {
        if self.armed && has_stopped(error) {
            return Fault::Disk;
        }
        Fault::Broken(format!("{}: {error}", self.name))
    }

    /// The same where bytes that came in may be what is wrong.
    fn refused(&self, error: &WalError) -> Fault {
        match error {
            WalError::Diverged { .. }
            | WalError::InvalidBlock(_)
            | WalError::Corrupt { .. }
            | WalError::NewerFormat { .. } => Fault::Closed(REFUSED),
            error => self.fault(error),
        }
    }
}

/// Waits until everything accepted is durable and, where it ends with a seal, the next segment is
/// begun: from then on the follower's thread rests.
async fn flushed(follower: &Follower, seals: bool) -> Result<(), WalError> {
    let (log, tip) = (follower.log(), follower.tip());
    let (mut durable, mut failed) = (log.durable(), log.failed());
    tokio::select! {
        _ = durable.wait_for(|at| *at == tip) => {}
        _ = failed.wait_for(Option::is_some) => {}
    }
    loop {
        if let Some(reason) = log.failed().borrow().clone() {
            return Err(WalError::Poisoned(reason));
        }
        let active = log.snapshot().segments().last().map(|active| active.first);
        if !seals || active == Some(tip.lsn) {
            return Ok(());
        }
        std::thread::yield_now();
    }
}

fn ends_with_seal(run: &Bytes) -> bool {
    let mut rest = run.clone();
    let mut last = None;
    while let Ok(header) = BlockHeader::decode(&rest) {
        last = Some(header.kind);
        let length = header.total_len().min(rest.len());
        rest = rest.split_off(length);
    }
    last == Some(BlockKind::Seal)
}

/// Bytes that came in are not taken.
pub(crate) const REFUSED: &str = "refused";
