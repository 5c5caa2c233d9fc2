//! A primary's log that a benchmark writes to, through the product's own write path. Must never
//! know what the rows are.

use std::path::Path;

use wal::{Appender, Committer, Config, Log, Lsn, OsDisk, Row};

use crate::error::{BenchError, Context};

/// An open log and one producer.
#[derive(Debug)]
pub struct Writer {
    committer: Committer,
    appender: Appender,
}

impl Writer {
    /// Opens the log in `data_dir`, or begins one.
    ///
    /// # Errors
    /// When the log cannot be opened.
    pub fn open(data_dir: &Path, config: &Config) -> Result<Self, BenchError> {
        let (committer, _) = wal::open_primary(OsDisk::new(), data_dir, config)
            .context(format!("open a log in {}", data_dir.display()))?;
        let appender = committer.appender(Box::new(|_| {}));
        Ok(Self {
            committer,
            appender,
        })
    }

    /// Appends rows as one group and waits until it is durable.
    ///
    /// # Errors
    /// When the log refuses or fails.
    pub fn group(&mut self, table: &str, rows: &[Row<'_>]) -> Result<Lsn, BenchError> {
        let group = self.appender.append(table, rows).context("append rows")?;
        self.appender.wait(group).context("wait for a group commit")
    }

    /// The read side of this log.
    pub fn log(&self) -> Log {
        self.committer.log().clone()
    }

    /// Closes the log, so that it can be opened again.
    ///
    /// # Errors
    /// When the last write failed.
    pub fn close(self) -> Result<(), BenchError> {
        drop(self.appender);
        self.committer.stop().map(drop).context("close the log")
    }
}
