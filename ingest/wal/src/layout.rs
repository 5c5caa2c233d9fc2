//! Names of files and directories: `data/log-<id>/<first LSN, 20 digits>.log`. Knows no bytes.

use std::path::{Path, PathBuf};

use crate::disk::Disk;
use crate::error::WalError;
use crate::ids::{LogId, Lsn};

const LOG_PREFIX: &str = "log-";
const SEGMENT_SUFFIX: &str = ".log";

/// The directory of one log.
pub(crate) fn log_dir(data_dir: &Path, id: LogId) -> PathBuf {
    data_dir.join(format!("{LOG_PREFIX}{id}"))
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
    let names = disk.list(dir).map_err(WalError::io("list", dir))?;
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
    let names = disk
        .list(data_dir)
        .map_err(WalError::io("list", data_dir))?;
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
