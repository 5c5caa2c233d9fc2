//! Puts a staged log in the place of the one held. Each step is one rename, made durable before the
//! next; the names alone say after a crash how far it came, and `settle` goes on from there. It
//! must never rename what is open.
//!
//! | step | name |
//! |---|---|
//! | all files whole | `incoming/log-<id>` becomes `incoming/ready-<id>` |
//! | the old log goes | `log-<old>` becomes `replaced-<old>`, or is kept under `diverged/` |
//! | the new one comes | `incoming/ready-<id>` becomes `log-<id>` |
//! | the old one is removed | `replaced-<old>`, or `read-<run>-<old>` while it is read |
//!
//! From the first rename of the old log on only going forward keeps what was brought in; before it,
//! only going back keeps what was held. So there is always one whole log.

use std::path::PathBuf;

use crate::error::WalError;
use crate::open::settle::{put_in_force, remove_replaced};
use crate::paths::{INCOMING, find_log, log_dir, ready_name, replaced_name, unnamed_dir};
use crate::read::log::Log;
use crate::replace::diverged::keep_as;
use crate::replace::staging::Staging;

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
    /// `readers` is a handle of the old one, if there may be readers of it: they go on, and what they
    /// read goes with the last of them. Returns where the old one was kept. After an error, and after a crash, [`settle`](crate::settle) must be
    /// called before anything is opened.
    ///
    /// # Errors
    /// `WrongLog` when files are missing: nothing has changed. `Io`.
    pub fn swap_in(
        mut self,
        old: OldLog,
        readers: Option<&Log>,
    ) -> Result<Option<PathBuf>, WalError> {
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
        disk.move_to(&self.dir, &ready)?;
        let home = readers.map(|log| &log.state().home);
        let home = home.filter(|_| readers.map(Log::id) == held);
        let mut kept = None;
        if let Some(held) = held {
            let from = log_dir(&self.data_dir, held);
            let to = match old {
                OldLog::Remove => self.data_dir.join(replaced_name(held)),
                OldLog::Keep => keep_as(disk, &self.data_dir, held)?,
            };
            match home {
                Some(home) => home.move_to(&to)?,
                None => disk.move_to(&from, &to)?,
            }
            disk.sync_names(&self.data_dir)?;
            kept = (old == OldLog::Keep).then_some(to);
        }
        put_in_force(disk, &self.data_dir, self.log())?;
        if let (OldLog::Remove, Some(home), Some(held)) = (old, home, held)
            && home
                .move_to(&self.data_dir.join(unnamed_dir(disk, held)))
                .is_ok()
        {
            home.leave();
        }
        // The new log is in force: an old one that stays is removed at the next start.
        let _ = remove_replaced(disk, &self.data_dir);
        Ok(kept)
    }
}
