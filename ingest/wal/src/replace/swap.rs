//! Puts a staged log in the place of the one held. Each step is one rename, made durable before the
//! next; the names alone say after a crash how far it came, and `settle` goes on from there.
//!
//! | step | name |
//! |---|---|
//! | all files whole | `incoming/log-<id>` becomes `incoming/ready-<id>` |
//! | the old log goes | `log-<old>` becomes `replaced-<old>`, or is kept under `diverged/` |
//! | the new one comes | `incoming/ready-<id>` becomes `log-<id>` |
//! | the old one is removed | `replaced-<old>` |
//!
//! From the first rename of the old log on only going forward keeps what was brought in; before it,
//! only going back keeps what was held. So there is always one whole log.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::Disk;
use crate::error::WalError;
use crate::ids::LogId;
use crate::replace::staging::{Staging, remove_staged};
use crate::paths::{
    DIVERGED, INCOMING, LOG_PREFIX, READY_PREFIX, REPLACED_PREFIX, find_log, log_dir, logs_among,
    ready_name, replaced_name,
};
use crate::replace::diverged::{DRAFT, keep_as};

/// What becomes of the log that is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OldLog {
    /// All it has is in the new one.
    Remove,
    /// It is another history: it is moved to `diverged/log-<id>-<lsn of its end>`.
    Keep,
}

impl Staging {
    /// With both logs closed and all files whole: puts the staged log in the place of the one held.
    /// Returns where the old one was kept. After an error, and after a crash, [`settle`] must be
    /// called before anything is opened.
    ///
    /// # Errors
    /// `WrongLog` when files are missing: nothing has changed. `Io`.
    pub fn swap_in(mut self, old: OldLog) -> Result<Option<PathBuf>, WalError> {
        if !self.is_complete() {
            let (path, reason) = (self.dir.clone(), "files are still missing".to_owned());
            return Err(WalError::WrongLog { path, reason });
        }
        self.parts.close();
        self.align()?;
        let disk = self.disk.as_ref();
        let held = find_log(disk, &self.data_dir)?;
        remove_replaced(disk, &self.data_dir)?;
        let incoming = self.data_dir.join(INCOMING);
        let ready = incoming.join(ready_name(self.log()));
        rename(disk, &self.dir, &ready)?;
        let mut kept = None;
        if let Some(held) = held {
            let from = log_dir(&self.data_dir, held);
            let to = match old {
                OldLog::Remove => self.data_dir.join(replaced_name(held)),
                OldLog::Keep => keep_as(disk, &self.data_dir, held)?,
            };
            rename(disk, &from, &to)?;
            sync(disk, &self.data_dir)?;
            kept = (old == OldLog::Keep).then_some(to);
        }
        put_in_force(disk, &self.data_dir, self.log())?;
        // The new log is in force: an old one that stays is removed at the next start.
        let _ = remove_replaced(disk, &self.data_dir);
        Ok(kept)
    }
}

/// At start, before anything is opened: finishes or undoes an interrupted swap and removes what is
/// left of replaced logs. Does nothing when there is nothing to do.
///
/// # Errors
/// `Io`; `WrongLog` when what is there cannot have been left by a swap.
pub fn settle(disk: &Arc<dyn Disk>, data_dir: &Path) -> Result<(), WalError> {
    let disk = disk.as_ref();
    let names = list(disk, data_dir)?;
    let incoming = data_dir.join(INCOMING);
    let ready = logs_among(&list(disk, &incoming)?, READY_PREFIX);
    let held = !logs_among(&names, LOG_PREFIX).is_empty();
    let replaced = logs_among(&names, REPLACED_PREFIX);
    match (ready.first(), held) {
        (Some(_), true) if !replaced.is_empty() => {
            // No step of a swap leaves this, and one of the two is not to be lost.
            return Err(WalError::WrongLog {
                path: data_dir.to_owned(),
                reason: "a log was begun while another was being replaced".to_owned(),
            });
        }
        (Some(id), true) => {
            // The old log is still in force. Nothing stages beside a log that is ready.
            let back = log_dir(&incoming, *id);
            remove_staged(disk, &back)?;
            rename(disk, &incoming.join(ready_name(*id)), &back)?;
        }
        (Some(id), false) => put_in_force(disk, data_dir, *id)?,
        (None, false) => bring_back(disk, data_dir, &replaced)?,
        (None, true) => {}
    }
    if !replaced.is_empty() && find_log(disk, data_dir)?.is_some() {
        // The name seen here may be one that the crash of a process left not yet durable.
        sync(disk, data_dir)?;
        remove_replaced(disk, data_dir)?;
    }
    let diverged = data_dir.join(DIVERGED);
    if list(disk, &diverged)?.iter().any(|name| name == DRAFT) {
        let draft = diverged.join(DRAFT);
        disk.remove_dir_all(&draft)
            .map_err(WalError::io("remove directory", &draft))?;
    }
    Ok(())
}

/// The last step: the new log gets the name of one in force.
fn put_in_force(disk: &dyn Disk, data_dir: &Path, id: LogId) -> Result<(), WalError> {
    let incoming = data_dir.join(INCOMING);
    rename(disk, &incoming.join(ready_name(id)), &log_dir(data_dir, id))?;
    sync(disk, &incoming)
}

/// No log is in force and none is ready: the one that was replaced is what there is.
fn bring_back(disk: &dyn Disk, data_dir: &Path, replaced: &[LogId]) -> Result<(), WalError> {
    match replaced {
        [] => Ok(()),
        [id] => {
            let from = data_dir.join(replaced_name(*id));
            rename(disk, &from, &log_dir(data_dir, *id))
        }
        _ => Err(WalError::WrongLog {
            path: data_dir.to_owned(),
            reason: "holds no log but several that were replaced".to_owned(),
        }),
    }
}

fn remove_replaced(disk: &dyn Disk, data_dir: &Path) -> Result<(), WalError> {
    let replaced = logs_among(&list(disk, data_dir)?, REPLACED_PREFIX);
    for id in &replaced {
        let dir = data_dir.join(replaced_name(*id));
        disk.remove_dir_all(&dir)
            .map_err(WalError::io("remove directory", &dir))?;
    }
    if replaced.is_empty() {
        return Ok(());
    }
    sync(disk, data_dir)
}

fn list(disk: &dyn Disk, dir: &Path) -> Result<Vec<String>, WalError> {
    disk.list(dir).map_err(WalError::io("list", dir))
}

fn sync(disk: &dyn Disk, dir: &Path) -> Result<(), WalError> {
    disk.sync_dir(dir)
        .map_err(WalError::io("fsync directory", dir))
}

/// Gives a directory another name; durable once this returns.
fn rename(disk: &dyn Disk, from: &Path, to: &Path) -> Result<(), WalError> {
    disk.rename(from, to)
        .map_err(WalError::io("rename", from))?;
    sync(disk, to.parent().unwrap_or(to))
}
