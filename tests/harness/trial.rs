//! Numbered rows into a log whose disk stops or fails somewhere, and what is left of them. Must
//! never count a row as acknowledged that was not.

use std::path::Path;
use std::sync::Arc;

use wal::{Config, WalError, compact_now, open_primary};

use crate::crash_disk::CrashDisk;
use crate::workload::{append, numbers};

/// How rows are written.
#[derive(Clone, Debug)]
pub struct Trial {
    /// How the log is opened.
    pub config: Config,
    /// Whether it is compacted on the way and before it is read.
    pub compacts: bool,
    /// Rows in all.
    pub rows: i64,
}

impl Trial {
    /// Where the log lies.
    pub fn dir() -> &'static Path {
        Path::new("data")
    }

    /// A disk on which everything went well.
    ///
    /// # Panics
    /// When it did not.
    pub fn whole(&self) -> CrashDisk {
        let disk = CrashDisk::new();
        assert_eq!(self.run(&disk, 0, self.rows), self.rows);
        disk
    }

    /// Appends rows from `from` on until the disk stops; returns the number of acknowledged ones.
    pub fn run(&self, disk: &CrashDisk, from: i64, to: i64) -> i64 {
        let opened = open_primary(Arc::new(disk.clone()), Self::dir(), &self.config);
        let Ok((committer, _)) = opened else {
            return from;
        };
        let mut appender = committer.appender(Box::new(|_| ()));
        let acknowledged = (from..to)
            .find(|number| {
                if self.compacts && number % 7 == 6 {
                    // Fails where the disk does; what it was at is made again.
                    let _ = compact_now(committer.log());
                }
                append(&mut appender, *number).is_err()
            })
            .unwrap_or(to);
        if self.compacts {
            let _ = compact_now(committer.log());
        }
        drop(appender);
        let _ = committer.stop();
        acknowledged
    }

    /// Opens what is left and checks that it is the rows `0..n` for some n, before and after one
    /// more compaction.
    ///
    /// # Errors
    /// When the log cannot be opened, read or compacted.
    ///
    /// # Panics
    /// When there are other rows.
    pub fn rows_left(&self, disk: &CrashDisk) -> Result<i64, WalError> {
        let (committer, _) = open_primary(Arc::new(disk.clone()), Self::dir(), &self.config)?;
        let found = numbers(committer.log())?;
        let count = i64::try_from(found.len()).expect("few");
        assert!(
            found.iter().copied().eq(0..count),
            "rows out of order: {found:?}"
        );
        if self.compacts {
            compact_now(committer.log())?;
            assert_eq!(numbers(committer.log())?, found, "after compaction");
            assert_eq!(committer.log().verify().faults, []);
        }
        committer.stop()?;
        Ok(count)
    }

    /// What a stop or a failure left: every acknowledged row, and at most the one that was being
    /// written. Returns how many.
    ///
    /// # Panics
    /// When that is not so.
    pub fn survives(&self, disk: &CrashDisk, acknowledged: i64, at: &str) -> i64 {
        let left = self
            .rows_left(disk)
            .unwrap_or_else(|error| panic!("{at}: {error}"));
        assert!(
            (acknowledged..=acknowledged + 1).contains(&left),
            "{at}: {acknowledged} acknowledged, {left} left"
        );
        left
    }

    /// The same, and then all other rows can be written.
    ///
    /// # Panics
    /// When that is not so.
    pub fn survives_and_goes_on(&self, disk: &CrashDisk, acknowledged: i64, at: &str) {
        let left = self.survives(disk, acknowledged, at);
        assert_eq!(self.run(disk, left, self.rows), self.rows, "{at}: goes on");
        assert_eq!(
            self.rows_left(disk).expect("opens"),
            self.rows,
            "{at}: after going on"
        );
    }
}
