//! Names of files and directories: `data/log-<id>/<first LSN, 20 digits>.log`. Knows no bytes. It
//! must never read what is in a file.

use std::path::{Path, PathBuf};

use crate::disk::Disk;
use crate::error::WalError;
use crate::ids::{LogId, Lsn};

/// The directory of one log.
pub(crate) fn log_dir(data_dir: &Path, id: LogId) -> PathBuf {
    data_dir.join(format!("{LOG_PREFIX}{id}"))
}

/// The directory name of a log that has been replaced and is about to be removed.
pub(crate) fn replaced_name(id: LogId) -> String {
    format!("{REPLACED_PREFIX}{id}")
}

/// The directory name of files that are not in force and are still read, in this run.
pub(crate) fn kept_name(disk: &dyn Disk) -> String {
    format!("{READ_PREFIX}{:016x}", disk.run())
}

/// The directory name of a log that has been replaced and is still read, in this run.
pub(crate) fn unnamed_dir(disk: &dyn Disk, id: LogId) -> String {
    format!("{}-{id}", kept_name(disk))
}

/// The directory name of a log that has all it needs to be put in force.
pub(crate) fn ready_name(id: LogId) -> String {
    format!("{READY_PREFIX}{id}")
}

/// Logs of one kind among the names in a directory.
pub(crate) fn logs_among(names: &[String], prefix: &str) -> Vec<LogId> {
    let ids = names.iter().filter_map(|name| name.strip_prefix(prefix));
    let mut ids: Vec<LogId> = ids.filter_map(|id| id.parse().ok()).collect();
    ids.sort_unstable_by_key(|id| id.0);
    ids
}

/// The file name of the segment that starts at `first`.
pub(crate) fn segment_name(first: Lsn) -> String {
    format!("{:020}{SEGMENT_SUFFIX}", first.0)
}

/// The first LSN in a segment's file name; `None` when the file is no segment.
pub(crate) fn segment_first(name: &str) -> Option<Lsn> {
    let digits = name.strip_suffix(SEGMENT_SUFFIX)?;
    (digits.len() == 20).then_some(())?;
    digits.parse().ok().map(Lsn)
}

/// First LSNs of the segments in `dir`, ascending.
pub(crate) fn segments(disk: &dyn Disk, dir: &Path) -> Result<Vec<Lsn>, WalError> {
    let names = disk.list_names(dir)?;
    let mut found: Vec<Lsn> = names
        .iter()
        .filter_map(|name| segment_first(name))
        .collect();
    found.sort_unstable();
    Ok(found)
}

/// The log kept in `data_dir`, if there is one.
///
/// # Errors
/// When the directory cannot be read or holds more than one log.
pub fn find_log(disk: &dyn Disk, data_dir: &Path) -> Result<Option<LogId>, WalError> {
    let names = disk.list_names(data_dir)?;
    let ids: Vec<LogId> = names
        .iter()
        .filter_map(|name| name.strip_prefix(LOG_PREFIX)?.parse().ok())
        .collect();
    match ids[..] {
        [] => Ok(None),
        [id] => Ok(Some(id)),
        _ => Err(WalError::WrongLog {
            path: data_dir.to_owned(),
            reason: format!("holds {} logs; a node serves one", ids.len()),
        }),
    }
}

/// Whether `data_dir` holds a log, also one that an interrupted exchange has left. A directory with
/// a log's name in which nothing was ever written, or of which nothing is left, is none.
///
/// # Errors
/// When the directory cannot be read.
pub fn holds_log(disk: &dyn Disk, data_dir: &Path) -> Result<bool, WalError> {
    let names = disk.list_names(data_dir)?;
    let incoming = disk.list_names(&data_dir.join(INCOMING))?;
    if !logs_among(&names, REPLACED_PREFIX).is_empty()
        || !logs_among(&incoming, READY_PREFIX).is_empty()
    {
        return Ok(true);
    }
    for id in logs_among(&names, LOG_PREFIX) {
        if holds_bytes(disk, &log_dir(data_dir, id))? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a log's directory has a manifest, or a segment that is not empty.
fn holds_bytes(disk: &dyn Disk, dir: &Path) -> Result<bool, WalError> {
    let names = disk.list_names(dir)?;
    let mut segments = names.iter().filter(|name| segment_first(name).is_some());
    // One that cannot be looked at is there.
    let is_empty = |name: &String| {
        let size = disk.open_read(&dir.join(name)).and_then(|file| file.size());
        size.is_ok_and(|size| size == 0)
    };
    Ok(names.iter().any(|name| name == MANIFEST) || segments.any(|name| !is_empty(name)))
}

pub(crate) const LOG_PREFIX: &str = "log-";
pub(crate) const REPLACED_PREFIX: &str = "replaced-";
pub(crate) const READ_PREFIX: &str = "read-";
pub(crate) const READY_PREFIX: &str = "ready-";
/// Name of the manifest in the log's directory.
pub(crate) const MANIFEST: &str = "manifest";
const SEGMENT_SUFFIX: &str = ".log";
/// Beside the log in force: one that is being brought in, and what was kept of other histories.
pub(crate) const INCOMING: &str = "incoming";
pub(crate) const DIVERGED: &str = "diverged";
/// Where a tail is copied to before it has its name.
pub(crate) const DRAFT: &str = "draft";
/// Name of a file that is being taken in.
pub(crate) const FETCHED_NEW: &str = "fetched.new";
