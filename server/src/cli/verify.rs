//! `headwater verify`: reads every block and file of a stopped node, or asks a running one to, and
//! lists what is wrong. Must never change or repair anything.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use wal::VerifyReport;

use super::exit::FAILURE;
use super::output;
use super::show::{count, show_bytes};
use crate::cli::client::{Client, ClientError};
use crate::node::data_dir::{DataDirError, DirLock};

/// Why nothing could be verified.
#[derive(Debug, thiserror::Error)]
pub(super) enum VerifyError {
    #[error("{} is no directory", .0.display())]
    NoDirectory(PathBuf),
    #[error("{} holds no log", .0.display())]
    NoLog(PathBuf),
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error("the log cannot be verified: {0}")]
    Log(#[from] wal::WalError),
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// Verifies the data directory of a stopped node, and prints.
pub(super) fn directory(path: &Path) -> Result<ExitCode, VerifyError> {
    let found = read(path)?;
    Ok(print(&found))
}

/// Lets a running node verify what it holds, and prints.
pub(super) fn node(url: &str) -> Result<ExitCode, VerifyError> {
    let found = Client::new(url)?.verify()?;
    Ok(print(&found))
}

fn read(path: &Path) -> Result<VerifyReport, VerifyError> {
    if !path.is_dir() {
        return Err(VerifyError::NoDirectory(path.to_owned()));
    }
    // Looked for before the lock, which would leave a file in a directory that is none of ours.
    if wal::find_log(&wal::OsDisk, path)?.is_none() {
        return Err(VerifyError::NoLog(path.to_owned()));
    }
    let _held = DirLock::take(path)?;
    Ok(wal::verify_dir(&wal::OsDisk::new(), path)?)
}

fn print(found: &VerifyReport) -> ExitCode {
    output::text(&show(found));
    if found.faults.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(FAILURE)
    }
}

/// One line for each fault, or one that says that there are none.
fn show(found: &VerifyReport) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    if let Some(torn) = &found.torn_tail {
        let _ = writeln!(
            text,
            "{} at offset {}: an unfinished write of {} bytes, cut at the next start; nothing \
             acknowledged is in it ({})",
            torn.file, torn.offset, torn.bytes, torn.reason
        );
    }
    for fault in &found.faults {
        let _ = write!(
            text,
            "{} at offset {}: {}",
            fault.file, fault.offset, fault.reason
        );
        let _ = match fault.covers.as_str() {
            "" => writeln!(text),
            covers => writeln!(text, " (covers {covers})"),
        };
    }
    if found.faults.is_empty() {
        let _ = writeln!(
            text,
            "{}, {}, {}, {}, {}: all good",
            count(found.segments, "segment"),
            count(found.blocks, "block"),
            count(found.rows, "row"),
            count(found.files, "file"),
            show_bytes(found.bytes)
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::data_dir::DataDir;
    use wal::Fault;

    const BODY: &str = r#"{"log": "00000000000000000000000000000000", "lsn": 9, "segments": 1, "blocks": 3, "rows": 8,
        "files": 2, "file_rows": 5, "bytes": 3145728, "torn_tail": null, "faults": []}"#;

    fn body() -> VerifyReport {
        serde_json::from_str(BODY).unwrap()
    }

    #[test]
    fn sound_data_is_one_line() {
        assert_eq!(
            show(&body()),
            "1 segment, 3 blocks, 8 rows, 2 files, 3.0 MiB: all good\n"
        );
    }

    #[test]
    fn a_torn_tail_is_told_and_is_no_fault() {
        let json = BODY.replace(
            "\"torn_tail\": null",
            r#""torn_tail": {"file": "a.log", "offset": 7, "bytes": 3, "reason": "short"}"#,
        );
        let found: VerifyReport = serde_json::from_str(&json).unwrap();
        let text = show(&found);
        assert!(text.starts_with("a.log at offset 7: an unfinished write of 3 bytes"));
        assert!(
            text.ends_with("(short)\n1 segment, 3 blocks, 8 rows, 2 files, 3.0 MiB: all good\n")
        );
        assert_eq!(print(&found), ExitCode::SUCCESS);
    }

    #[test]
    fn faults_are_listed_with_their_place() {
        let fault = |file: &str, covers: &str| Fault {
            file: file.to_owned(),
            offset: 88,
            reason: "the checksum differs".to_owned(),
            covers: covers.to_owned(),
        };
        let found = VerifyReport {
            faults: vec![fault("a.log", "LSN 10 to 90"), fault("b.parquet", "")],
            ..body()
        };
        assert_eq!(
            show(&found),
            "a.log at offset 88: the checksum differs (covers LSN 10 to 90)\n\
             b.parquet at offset 88: the checksum differs\n"
        );
        assert_eq!(print(&found), ExitCode::from(FAILURE));
    }

    #[test]
    fn what_holds_no_log_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let nowhere = dir.path().join("nowhere");
        let error = read(&nowhere).unwrap_err().to_string();
        assert!(error.ends_with("nowhere is no directory"), "{error}");
        assert!(!nowhere.exists());
        let error = read(dir.path()).unwrap_err().to_string();
        assert!(error.ends_with(" holds no log"), "{error}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_running_node_is_named_and_a_stopped_one_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let running = DataDir::open(dir.path(), crate::conf::Create::Auto).unwrap();
        let config = wal::Config::default();
        let (committer, _) = wal::open_primary(wal::OsDisk::new(), dir.path(), &config).unwrap();
        let error = read(dir.path()).unwrap_err().to_string();
        let holder = format!("in use by process {}", std::process::id());
        assert!(error.contains(&holder), "{error}");
        committer.stop().unwrap();
        drop(running);
        let found = read(dir.path()).unwrap();
        assert!(found.faults.is_empty(), "{found:?}");
    }
}
