//! Whether the files of an open log still have their names: what is written into files that have
//! none is gone with the process. Looks; it must never take what cannot be told for a loss.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use crate::disk::{Disk, FileIdentity};
use crate::error::WalError;
use crate::read::log::{Log, LogState};

impl Log {
    /// Whether the directory and the newest segment of this log are still where they were opened.
    /// A log that is being exchanged for another has no place.
    ///
    /// # Errors
    /// `Gone` when something else, or nothing, is there.
    pub fn check_place(&self) -> Result<(), WalError> {
        self.state().check_place()
    }

    /// Says that nothing may be committed any more, and why.
    pub fn fail(&self, reason: &str) {
        self.state().published.fail(reason);
    }
}

impl LogState {
    pub(crate) fn check_place(&self) -> Result<(), WalError> {
        loop {
            let snapshot = self.snapshot();
            let tail = &snapshot.tail;
            let disk = self.disk.as_ref();
            let checked = check(disk, &self.dir, self.dir_identity, 0).and_then(|()| {
                let path = Path::new(&tail.path);
                check(disk, path, tail.identity, snapshot.tail_bytes)
            });
            if checked.is_ok() || self.maintenance.is_dismissed() {
                return Ok(());
            }
            // Or another segment has been begun, and this one has been retired meanwhile.
            if Arc::ptr_eq(tail, &self.snapshot().tail) {
                return checked;
            }
        }
    }
}

fn check(
    disk: &dyn Disk,
    path: &Path,
    opened: Option<FileIdentity>,
    len: u64,
) -> Result<(), WalError> {
    let Some(opened) = opened else { return Ok(()) };
    let reason = match disk.identity(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => "it has been removed or renamed",
        Ok(Some(found)) if !found.is_same(opened) => "something else is in its place",
        Ok(Some(found)) if found.len < len => "it has been cut short",
        Ok(_) | Err(_) => return Ok(()),
    };
    Err(WalError::Gone {
        path: path.to_owned(),
        reason,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use crate::{Config, OsDisk, Row, Value, WalError, open_primary};

    #[test]
    fn nothing_is_acknowledged_that_goes_into_files_without_a_name() {
        type Change = fn(&std::path::Path, &std::path::Path);
        let changes: [Change; 4] = [
            |dir, _| fs::remove_dir_all(dir).expect("removes"),
            |dir, _| fs::rename(dir, dir.with_extension("moved")).expect("renames"),
            |_, segment| fs::remove_file(segment).expect("removes"),
            |_, segment| {
                let bytes = fs::read(segment).expect("reads");
                fs::remove_file(segment).expect("removes");
                fs::write(segment, bytes).expect("writes");
            },
        ];
        for change in changes {
            let here = tempfile::tempdir().expect("dir");
            let data = here.path().join("data");
            let (primary, _) =
                open_primary(OsDisk::new(), &data, &Config::default()).expect("opens");
            let mut appender = primary.appender(Box::new(|_| ()));
            let row = Row {
                time: 1,
                tags: &[],
                fields: &[("v".into(), Value::Int(1))],
            };
            let group = appender.append("one", &[row]).expect("fits");
            appender.wait(group).expect("durable");
            primary.log().check_place().expect("in its place");
            let segment = primary
                .log()
                .snapshot()
                .segments()
                .pop()
                .expect("active")
                .path;
            change(&data, segment.as_ref());
            let gone = primary.log().check_place();
            assert!(matches!(gone, Err(WalError::Gone { .. })), "{gone:?}");
            // The trust in the last look passes; rows that come meanwhile are in the next group.
            while let Ok(group) = appender.append("one", &[row]) {
                if appender.wait(group).is_err() {
                    break;
                }
            }
            assert!(primary.log().failed().borrow().is_some());
            drop(appender);
            assert!(primary.stop().is_err());
        }
    }
}
