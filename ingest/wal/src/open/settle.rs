//! What an interrupted exchange of logs has left, put in order before anything is opened: finished
//! or undone. It must never leave less than one whole log where there was one.

use std::path::Path;
use std::sync::Arc;

use crate::disk::Disk;
use crate::error::WalError;
use crate::ids::LogId;
use crate::parquet::manifest::MANIFEST;
use crate::paths::{
    DIVERGED, DRAFT, INCOMING, LOG_PREFIX, READ_PREFIX, READY_PREFIX, REPLACED_PREFIX, find_log,
    kept_name, log_dir, logs_among, ready_name, replaced_name,
};

/// At start, before anything is opened: finishes or undoes an interrupted swap and removes what is
/// left of replaced logs. Does nothing when there is nothing to do.
///
/// # Errors
/// `Io`; `WrongLog` when what is there cannot have been left by a swap.
pub fn settle(disk: &Arc<dyn Disk>, data_dir: &Path) -> Result<(), WalError> {
    let disk = disk.as_ref();
    let names = disk.list_names(data_dir)?;
    let incoming = data_dir.join(INCOMING);
    let ready = logs_among(&disk.list_names(&incoming)?, READY_PREFIX);
    let held = !logs_among(&names, LOG_PREFIX).is_empty();
    let replaced = logs_among(&names, REPLACED_PREFIX);
    remove_read(disk, data_dir, &names)?;
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
            disk.move_to(&incoming.join(ready_name(*id)), &back)?;
        }
        (Some(id), false) => put_in_force(disk, data_dir, *id)?,
        (None, false) => bring_back(disk, data_dir, &replaced)?,
        (None, true) => {}
    }
    if !replaced.is_empty() && find_log(disk, data_dir)?.is_some() {
        // The name seen here may be one that the crash of a process left not yet durable.
        disk.sync_names(data_dir)?;
        remove_replaced(disk, data_dir)?;
    }
    let diverged = data_dir.join(DIVERGED);
    if disk.list_names(&diverged)?.iter().any(|name| name == DRAFT) {
        let draft = diverged.join(DRAFT);
        disk.remove_tree(&draft)?;
    }
    Ok(())
}

/// The last step: the new log gets the name of one in force.
pub(crate) fn put_in_force(disk: &dyn Disk, data_dir: &Path, id: LogId) -> Result<(), WalError> {
    let incoming = data_dir.join(INCOMING);
    disk.move_to(&incoming.join(ready_name(id)), &log_dir(data_dir, id))?;
    disk.sync_names(&incoming)
}

/// No log is in force and none is ready: the one that was replaced is what there is.
fn bring_back(disk: &dyn Disk, data_dir: &Path, replaced: &[LogId]) -> Result<(), WalError> {
    match replaced {
        [] => Ok(()),
        [id] => {
            let from = data_dir.join(replaced_name(*id));
            disk.move_to(&from, &log_dir(data_dir, *id))
        }
        _ => Err(WalError::WrongLog {
            path: data_dir.to_owned(),
            reason: "holds no log but several that were replaced".to_owned(),
        }),
    }
}

pub(crate) fn remove_replaced(disk: &dyn Disk, data_dir: &Path) -> Result<(), WalError> {
    let replaced = logs_among(&disk.list_names(data_dir)?, REPLACED_PREFIX);
    for id in &replaced {
        let dir = data_dir.join(replaced_name(*id));
        disk.remove_tree(&dir)?;
    }
    if replaced.is_empty() {
        return Ok(());
    }
    disk.sync_names(data_dir)
}

/// Removes what was in force no more and was still read when an earlier run ended.
fn remove_read(disk: &dyn Disk, data_dir: &Path, names: &[String]) -> Result<(), WalError> {
    let mine = kept_name(disk);
    let of_logs = names.iter().filter(|name| name.starts_with(READ_PREFIX));
    for name in of_logs.filter(|name| !name.starts_with(&mine)) {
        disk.remove_tree(&data_dir.join(name))?;
    }
    Ok(())
}

/// Removes a staged log: its manifest first, so that what a crash leaves is not taken for one.
pub(crate) fn remove_staged(disk: &dyn Disk, dir: &Path) -> Result<(), WalError> {
    let manifest = dir.join(MANIFEST);
    if disk.remove_if_there(&manifest)? {
        disk.sync_names(dir)?;
    }
    disk.remove_tree(dir)
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::OsDisk;

    /// A data directory with these logs' directories, told apart by a file each.
    fn laid_out(dirs: &[String]) -> TempDir {
        let here = tempfile::tempdir().expect("dir");
        for dir in dirs {
            let path = here.path().join(dir);
            std::fs::create_dir_all(&path).expect("makes");
            std::fs::write(path.join("was"), dir).expect("writes");
        }
        here
    }

    #[test]
    fn settling_knows_every_state_that_a_swap_can_leave() {
        let (old, new) = (LogId::random(), LogId::random());
        let log = |id| format!("log-{id}");
        let (replaced, ready) = (format!("replaced-{old}"), format!("incoming/ready-{new}"));
        let staged = format!("incoming/log-{new}");
        // What is there; which log is in force then, and what it was before.
        for (dirs, id, was) in [
            (vec![log(old), ready.clone()], old, log(old)),
            (vec![replaced.clone(), ready.clone()], new, ready.clone()),
            (vec![ready.clone()], new, ready.clone()),
            (vec![replaced.clone(), log(new)], new, log(new)),
            (
                vec![replaced.clone(), staged.clone()],
                old,
                replaced.clone(),
            ),
            (vec![replaced.clone()], old, replaced.clone()),
            (vec![log(old), staged.clone()], old, log(old)),
        ] {
            let here = laid_out(&dirs);
            for _ in 0..2 {
                settle(&OsDisk::new(), here.path()).expect("settles");
                let found = find_log(OsDisk::new().as_ref(), here.path()).expect("reads");
                assert_eq!(found, Some(id), "{dirs:?}");
                let file = here.path().join(log(id)).join("was");
                assert_eq!(std::fs::read_to_string(file).expect("reads"), was);
                assert!(!here.path().join(&replaced).exists(), "{dirs:?}");
                assert!(!here.path().join(&ready).exists(), "{dirs:?}");
                let kept = dirs.contains(&staged) || (was == log(old) && dirs.contains(&ready));
                assert_eq!(here.path().join(&staged).exists(), kept, "{dirs:?}");
            }
        }
        let here = laid_out(&[log(new), replaced.clone(), ready]);
        let refused = settle(&OsDisk::new(), here.path());
        assert!(matches!(refused, Err(WalError::WrongLog { .. })));
        assert!(here.path().join(&replaced).exists(), "nothing is removed");
        settle(&OsDisk::new(), &here.path().join("not there")).expect("nothing to do");
    }
}
