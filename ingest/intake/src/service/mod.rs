//! The way into the log for whoever has no session: a write is answered once its rows are on disk.
//! Owns one appender; must never answer before that, nor wait without a bound.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout_at};
use wal::clock::unix_nanos;
use wal::{
    AppendError, Appender, Appenders, ColumnRole, ColumnType, Durable, GroupId, Log, Lsn, Refusal,
    Row, TableId, TableSchema,
};

use crate::append::{AppendRows, Appended, append_body};
use crate::error::IntakeError;
use crate::payload::Reading;
use crate::stats::{Counters, End, IntakeStats};
use crate::timestamp::Times;
use crate::unpack;
use crate::write::{Write, Written};

/// A log that takes writes.
#[derive(Debug)]
pub struct Intake {
    log: Log,
    appenders: Appenders,
    appender: Mutex<Appender>,
    /// The newest group of the appender that is on disk.
    durable: watch::Receiver<Option<Durable>>,
    parsers: Arc<Semaphore>,
    counters: Counters,
    reading: Reading,
    max_wait: Duration,
}

impl Intake {
    /// A way into this log.
    #[must_use]
    pub fn new(appenders: &Appenders, log: Log, reading: Reading) -> Self {
        let (sender, durable) = watch::channel(None);
        let appender = appenders.appender(Box::new(move |group| {
            sender.send_replace(Some(group));
        }));
        Self {
            log,
            appenders: appenders.clone(),
            appender: Mutex::new(appender),
            durable,
            parsers: Arc::new(Semaphore::new(PARSERS)),
            counters: Counters::default(),
            reading,
            max_wait: MAX_WAIT,
        }
    }

    /// Writes rows and waits until they are on disk. Whoever drops the future does not know whether
    /// they are. `permit` is kept for as long as the rows take memory of their own.
    ///
    /// # Errors
    /// Why nothing was written, or not for certain.
    pub async fn write(
        self: &Arc<Self>,
        write: Write,
        permit: impl Send + 'static,
    ) -> Result<Written, IntakeError> {
        let begun = self.counters.begin(write.body.len());
        let result = self
            .attempt(write, permit, Instant::now() + self.max_wait)
            .await;
        begun.ended(match &result {
            Ok(written) if written.rows > 0 || written.faulty == 0 => End::Written,
            Ok(_)
            | Err(
                IntakeError::Payload(_) | IntakeError::Refused(_) | IntakeError::Misfit { .. },
            ) => End::Refused,
            Err(_) => End::Failed,
        });
        result
    }

    /// Gives a column another name, for all rows that are there, and waits until that is on disk;
    /// returns an LSN above it. Rows that come with the old name make a column of their own.
    ///
    /// # Errors
    /// Why it has the old name, or does not have the new one for certain.
    pub async fn rename_column(
        &self,
        table: &str,
        from: &str,
        to: &str,
    ) -> Result<Lsn, IntakeError> {
        self.change(|appenders| appenders.rename_column(table, from, to))
            .await
    }

    /// Gives a table another name, with all rows that are there, and waits until that is on disk;
    /// returns an LSN above it. Rows that come under the old name make a table of their own.
    ///
    /// # Errors
    /// Why it has the old name, or does not have the new one for certain.
    pub async fn rename_table(&self, from: &str, to: &str) -> Result<Lsn, IntakeError> {
        self.change(|appenders| appenders.rename_table(from, to))
            .await
    }

    /// Takes a table away, with all its rows, and waits until that is on disk; returns an LSN from
    /// which on it is gone. Rows that come under its name make a table of their own.
    ///
    /// # Errors
    /// Why it is there, or not gone for certain.
    pub async fn drop_table(&self, table: &str) -> Result<Lsn, IntakeError> {
        self.check_open()?;
        let deadline = Instant::now() + MAX_WAIT;
        // Before it is asked for: a group that ends after it is news.
        let mut durable = self.log.durable();
        let mut going = None;
        loop {
            let snapshot = self.log.snapshot();
            let holds = |id| snapshot.catalog().newest(id).is_some();
            match (going, self.appenders.schema(table)) {
                (Some(id), _) if !holds(id) => return Ok(snapshot.end().lsn),
                (Some(_), _) => {}
                // Rows of a table that the log does not have yet are on their way.
                (None, Some(schema)) if !holds(schema.id) => {}
                (None, schema) => {
                    let id = schema.map_or_else(TableId::default, |schema| schema.id);
                    if self.appenders.drop_table(table, id)? {
                        going = Some(id);
                    }
                    continue;
                }
            }
            let changed = self.unless_failed(durable.changed(), deadline).await?;
            changed.map_err(|_| IntakeError::Closed("it is closed".to_owned()))?;
        }
    }

    /// Gives a column another type, also for all rows that are there, and waits until that is on
    /// disk; returns an LSN above it.
    ///
    /// # Errors
    /// Why it has the old type, or does not have the new one for certain.
    pub async fn change_type(
        &self,
        table: &str,
        column: &str,
        kind: ColumnType,
    ) -> Result<Lsn, IntakeError> {
        self.change(|appenders| appenders.change_type(table, column, kind))
            .await
    }

    /// Makes a field of text a tag, or a tag a field, also for all rows that are there, and waits
    /// until that is on disk; returns an LSN above it.
    ///
    /// # Errors
    /// Why it has the old role, or does not have the new one for certain.
    pub async fn change_role(
        &self,
        table: &str,
        column: &str,
        role: ColumnRole,
    ) -> Result<Lsn, IntakeError> {
        self.change(|appenders| appenders.change_role(table, column, role))
            .await
    }

    /// Changes a schema as an operator asks, and waits until that is on disk.
    async fn change(
        &self,
        ask: impl FnOnce(&Appenders) -> Result<Arc<TableSchema>, Refusal>,
    ) -> Result<Lsn, IntakeError> {
        self.check_open()?;
        let deadline = Instant::now() + self.max_wait;
        // Before it is asked for: a group that ends after it is news.
        let mut durable = self.log.durable();
        let schema = ask(&self.appenders)?;
        let written = || {
            let snapshot = self.log.snapshot();
            let newest = snapshot.catalog().newest(schema.id);
            let written = newest.is_some_and(|newest| newest.version >= schema.version);
            written.then(|| snapshot.end().lsn)
        };
        loop {
            if let Some(lsn) = written() {
                return Ok(lsn);
            }
            let changed = self.unless_failed(durable.changed(), deadline).await?;
            changed.map_err(|_| IntakeError::Closed("it is closed".to_owned()))?;
        }
    }

    /// What has come in this way.
    #[must_use]
    pub fn stats(&self) -> IntakeStats {
        self.counters.stats()
    }

    async fn attempt(
        self: &Arc<Self>,
        write: Write,
        permit: impl Send + 'static,
        deadline: Instant,
    ) -> Result<Written, IntakeError> {
        self.check_open()?;
        let parser = timeout_at(deadline, Arc::clone(&self.parsers).acquire_owned())
            .await
            .map_err(|_| IntakeError::Stalled("too many rows are on their way in".to_owned()))?;
        let (intake, runtime) = (Arc::clone(self), Handle::current());
        let appended = spawn_blocking(move || {
            let appended = intake.append(&write, runtime, deadline);
            drop((write, permit, parser));
            appended
        })
        .await
        .map_err(|error| IntakeError::Internal(error.to_string()))??;
        let lsn = match appended.group {
            Some(group) => self.durable_lsn(group, deadline).await?,
            None => Lsn(0),
        };
        Ok(Written {
            rows: appended.rows,
            lsn,
            faults: appended.faults,
            faulty: appended.faulty,
        })
    }

    /// Whether the log takes rows now: better refused than kept waiting for a disk that is full.
    fn check_open(&self) -> Result<(), IntakeError> {
        if let Some(reason) = self.log.failed().borrow().clone() {
            return Err(IntakeError::Closed(reason));
        }
        match self.log.stalled().borrow().clone() {
            Some(reason) => Err(IntakeError::Stalled(reason)),
            None => Ok(()),
        }
    }

    fn append(
        &self,
        write: &Write,
        runtime: Handle,
        deadline: Instant,
    ) -> Result<Appended, IntakeError> {
        let arrival = unix_nanos();
        let mut log = WaitingAppender {
            intake: self,
            client: &write.client,
            runtime,
            deadline,
            gave_up: None,
            handed: 0,
        };
        let times = Times {
            unit: write.unit,
            zone: self.reading.zone,
        };
        let reading = (times, self.reading.max_rows);
        let text = unpack::text(&write.body, write.encoding, write.max_bytes)?;
        match append_body(&write.target, reading, &text, arrival, &mut log) {
            Err(IntakeError::Closed(closed)) => {
                Err(log.gave_up.unwrap_or(IntakeError::Closed(closed)))
            }
            appended => appended,
        }
    }

    /// The LSN above the rows of this group, once they are on disk.
    async fn durable_lsn(&self, group: GroupId, deadline: Instant) -> Result<Lsn, IntakeError> {
        let mut durable = self.durable.clone();
        let covered = async {
            let covers = |newest: &Option<Durable>| newest.is_some_and(|one| one.group >= group);
            let newest = durable.wait_for(covers).await;
            newest.ok().and_then(|newest| *newest)
        };
        match self.unless_failed(covered, deadline).await? {
            Some(newest) => Ok(newest.lsn),
            None => Err(IntakeError::Closed("it is closed".to_owned())),
        }
    }

    /// What `wanted` resolves to, unless the log fails or time is up before.
    async fn unless_failed<T>(
        &self,
        wanted: impl Future<Output = T>,
        deadline: Instant,
    ) -> Result<T, IntakeError> {
        tokio::select! {
            biased;
            value = wanted => Ok(value),
            reason = self.log.until_failed() => Err(IntakeError::Closed(reason)),
            () = tokio::time::sleep_until(deadline) => {
                Err(IntakeError::NotDurable {
                    limit: self.max_wait,
                })
            }
        }
    }
}

/// Waits until the log takes rows again where it is full, on a thread that may wait.
struct WaitingAppender<'a> {
    intake: &'a Intake,
    client: &'a str,
    runtime: Handle,
    deadline: Instant,
    /// Why it gave up.
    gave_up: Option<IntakeError>,
    /// Rows that the log has taken.
    handed: usize,
}

impl WaitingAppender<'_> {
    /// Time is up. What has been handed over cannot be taken back: whether there is any is what a
    /// client must know before it sends all of it again.
    fn late(&self) -> IntakeError {
        let limit = self.intake.max_wait;
        match self.handed {
            0 => IntakeError::Stalled(format!(
                "the log took none of it within {} s: nothing of it is stored, send it again",
                limit.as_secs()
            )),
            _ => IntakeError::NotDurable { limit },
        }
    }
}

impl AppendRows for WaitingAppender<'_> {
    fn append(&mut self, table: &str, rows: &[Row<'_>]) -> Result<GroupId, AppendError> {
        loop {
            if Instant::now() >= self.deadline {
                self.gave_up = Some(self.late());
                return Err(AppendError::Closed);
            }
            // Before the attempt: a group that ends after it is news.
            let mut durable = self.intake.durable.clone();
            durable.mark_unchanged();
            let appended = {
                let appender = self.intake.appender.lock();
                let mut appender = appender.unwrap_or_else(PoisonError::into_inner);
                appender.append_from(self.client, table, rows)
            };
            match appended {
                Err(AppendError::Full) => {
                    let free = self.intake.unless_failed(durable.changed(), self.deadline);
                    // A group came, or the log is closed, as the next attempt will find.
                    if let Err(why) = self.runtime.block_on(free) {
                        let is_late = matches!(why, IntakeError::NotDurable { .. });
                        self.gave_up = Some(if is_late { self.late() } else { why });
                        return Err(AppendError::Closed);
                    }
                }
                Ok(group) => {
                    self.intake.counters.took(rows.len());
                    self.handed += rows.len();
                    return Ok(group);
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn schema(&self, table: &str) -> Option<Arc<TableSchema>> {
        let appender = self.intake.appender.lock();
        let appender = appender.unwrap_or_else(PoisonError::into_inner);
        appender.schema(table)
    }
}

/// How long rows may take from their arrival until they are on disk.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// Writes that are parsed at once.
const PARSERS: usize = 2;

#[cfg(test)]
mod tests;
