//! `headwater repair`: what to do about a stopped node whose newest segment has blocks that cannot
//! be read. Must never lose anything without being told to.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use wal::{Unreadable, cut_unreadable, fill_unreadable, find_unreadable};

use super::exit::FAILURE;
use super::output::say;
use super::show::{count, show_bytes};
use crate::node::data_dir::{DataDirError, DirLock};

/// Why nothing was repaired.
#[derive(Debug, thiserror::Error)]
pub(super) enum RepairError {
    #[error("{} holds no log", .0.display())]
    NoLog(PathBuf),
    #[error("--from {} is the data directory itself: it must be another node's, or a copy of one", .0.display())]
    Itself(PathBuf),
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error("nothing was changed: {0}")]
    Log(#[from] wal::WalError),
}

/// What to do about it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Means<'a> {
    /// Say what there is.
    Look,
    /// Another node's data directory has the bytes.
    From(&'a Path),
    /// Go on without them, and without all that follows.
    Lose,
}

/// Looks, and does what it is told to.
pub(super) fn run(data_dir: &Path, means: Means<'_>) -> Result<ExitCode, RepairError> {
    if !wal::holds_log(&wal::OsDisk, data_dir)? {
        return Err(RepairError::NoLog(data_dir.to_owned()));
    }
    let _held = DirLock::take(data_dir)?;
    let disk = wal::OsDisk::new();
    let (found, done) = match means {
        Means::Look => (find_unreadable(&disk, data_dir)?, None),
        Means::From(other) if is_same(data_dir, other) => {
            return Err(RepairError::Itself(other.to_owned()));
        }
        Means::From(other) => {
            let _other = DirLock::take(other)?;
            let found = fill_unreadable(&disk, data_dir, other)?;
            if found.is_some()
                && let Some(left) = find_unreadable(&disk, data_dir)?
            {
                say!(
                    "{} has a part of it, which is in its place.",
                    other.display()
                );
                (Some(left), None)
            } else {
                let done = format!("brought from {}; the log is whole", other.display());
                (found, Some(done))
            }
        }
        Means::Lose => match cut_unreadable(&disk, data_dir)? {
            Some((found, kept)) => {
                let done = format!("cut off; the segment as it was is in {}", kept.display());
                (Some(found), Some(done))
            }
            None => (None, None),
        },
    };
    let Some(found) = found else {
        say!("nothing to repair: the newest segment can be read to its end");
        return Ok(ExitCode::SUCCESS);
    };
    say!("{}", words(&found));
    match done {
        Some(done) => {
            say!("{done}");
            Ok(ExitCode::SUCCESS)
        }
        None => {
            say!("{}", ways(data_dir));
            Ok(ExitCode::from(FAILURE))
        }
    }
}

fn is_same(one: &Path, other: &Path) -> bool {
    let of = |path: &Path| path.canonicalize().ok();
    of(one).is_some_and(|one| Some(one) == of(other))
}

fn words(found: &Unreadable) -> String {
    let lost = found.to.0.saturating_sub(found.from.lsn.0);
    format!(
        "{} cannot be read from offset {} on ({} to its end). Everything below LSN {} is sound. \
         From there to LSN {} are {}, of which {} can still be read behind the damage.",
        found.file.display(),
        found.offset,
        show_bytes(found.bytes),
        found.from.lsn,
        found.to,
        count(lost, "row or control block"),
        count(found.rows_behind, "row"),
    )
}

fn ways(data_dir: &Path) -> String {
    let dir = data_dir.display();
    format!(
        "A secondary has the same bytes: stop it, and with its data directory (or a copy)\n  \
         headwater repair {dir} --from SECONDARY_DATA_DIR\nWithout one, this says what would be \
         lost and how to go on without it\n  headwater open {dir}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_known_by_whatever_path_it_is_called() {
        let dir = tempfile::tempdir().unwrap();
        assert!(is_same(dir.path(), &dir.path().join(".")));
        assert!(!is_same(dir.path(), &dir.path().join("none")));
        assert!(!is_same(dir.path(), Path::new("/")));
    }

    #[test]
    fn it_says_what_would_be_lost_and_what_can_be_done() {
        let found = Unreadable {
            log: wal::LogId::random(),
            file: PathBuf::from("d/1.log"),
            offset: 4_096,
            bytes: 1 << 20,
            from: wal::LogId::random().genesis(),
            to: wal::Lsn(9),
            rows_behind: 8,
        };
        let text = words(&found);
        for part in [
            "d/1.log",
            "offset 4096",
            "below LSN 0",
            "to LSN 9",
            "8 rows",
        ] {
            assert!(text.contains(part), "{text}");
        }
        let text = ways(Path::new("data"));
        assert!(text.contains("headwater open data"), "{text}");
    }
}
