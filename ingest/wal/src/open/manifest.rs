//! The manifest of a log that is opened, and drafts that a crash has left. It must never do without
//! a manifest whose files hold rows that the log no longer has.

use std::path::Path;

use crate::disk::Disk;
use crate::error::WalError;
use crate::ids::{LogId, Lsn};
use crate::parquet::FILES_DIR;
use crate::parquet::manifest::{MANIFEST, MANIFEST_NEW, Manifest};
use crate::paths::FETCHED_NEW;
use crate::read::fingerprints::FINGERPRINTS_NEW;
use crate::read::segment_starts::PAST_NEW;

/// Half-written files: what they were for is made again.
pub(super) fn remove_drafts(disk: &dyn Disk, dir: &Path) -> Result<(), WalError> {
    for name in disk.list_names(dir)? {
        let drafts = [MANIFEST_NEW, FETCHED_NEW, PAST_NEW, FINGERPRINTS_NEW];
        if drafts.contains(&name.as_str()) {
            let path = dir.join(name);
            disk.remove_file(&path)?;
        }
    }
    Ok(())
}

/// The manifest; none when there is none, or when it is damaged and the log still has every row.
pub(super) fn load_manifest(
    disk: &dyn Disk,
    dir: &Path,
    id: LogId,
    oldest: Option<Lsn>,
) -> Result<Option<Manifest>, WalError> {
    let path = dir.join(MANIFEST);
    let Some(bytes) = disk.read_if_there(&path)? else {
        return missing_manifest(disk, dir, oldest);
    };
    match Manifest::decode(&path.display().to_string(), &bytes) {
        Ok(manifest) if manifest.log != id => Err(WalError::foreign(&path, id, manifest.log)),
        Ok(manifest) => Ok(Some(manifest)),
        Err(WalError::Corrupt { .. }) if oldest == Some(Lsn(0)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// No manifest: right for a log that was never compacted, or that can be compacted anew.
fn missing_manifest(
    disk: &dyn Disk,
    dir: &Path,
    oldest: Option<Lsn>,
) -> Result<Option<Manifest>, WalError> {
    let files = dir.join(FILES_DIR);
    let names = disk.list_names(&files)?;
    if names.is_empty() || oldest == Some(Lsn(0)) {
        return Ok(None);
    }
    let path = dir.join(MANIFEST).display().to_string();
    let reason = "is missing, and the log no longer reaches back to the rows of the Parquet files";
    Err(WalError::corrupt(&path, 0, reason))
}
