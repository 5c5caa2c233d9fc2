//! A message taken all the way into a log that is thrown away, and read back from it by SQL: what
//! is said of it is what a node does. Must never touch the node's own log.

use std::io;
use std::sync::Arc;

use futures::StreamExt;
use mqtt::Fate;
use query::{Engine, Format, Output, Params, QueryError, ReplicationRow, Statement};
use serde_json::{Map, Value};
use wal::{ColumnRole, ColumnType, TableSchema, WalError};

use crate::conf;
use crate::node::parts::runtime;
use crate::node::primary::mqtt_config;

/// What becomes of a message.
#[derive(Debug)]
pub(super) enum Outcome {
    Rows {
        table: String,
        rows: Vec<Vec<Column>>,
    },
    DeadLetter {
        reason: String,
    },
    Closed {
        reason: String,
    },
}

/// One value of a row, as it is shown.
#[derive(Debug)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) value: String,
    /// None of the time.
    pub(super) kind: Option<&'static str>,
}

/// Why it cannot be said.
#[derive(Debug, thiserror::Error)]
pub(super) enum RehearsalError {
    #[error("cannot make a directory to try the message in: {0}")]
    Directory(io::Error),
    #[error("cannot try the message: {0}")]
    Log(#[from] WalError),
    #[error("cannot try the message: {0}")]
    Runtime(io::Error),
    #[error("cannot read back what was stored: {0}")]
    Query(#[from] QueryError),
    #[error("cannot read back what was stored: {0}")]
    Strange(#[from] serde_json::Error),
}

/// Sends the message to a primary of this conf whose log is new.
pub(super) fn rehearse(
    conf: &conf::Primary,
    topic: &str,
    payload: &[u8],
) -> Result<Outcome, RehearsalError> {
    let dir = tempfile::tempdir().map_err(RehearsalError::Directory)?;
    let config = wal::Config {
        reserve_disk: 0,
        limits: conf.limits,
        tables: conf.tables.clone(),
        times: conf.ingest.times,
        ..wal::Config::default()
    };
    let (committer, _) = wal::open_primary(wal::OsDisk::new(), dir.path(), &config)?;
    let mut appender = committer.appender(Box::new(|_| ()));
    let now = wal::clock::unix_nanos();
    let outcome = match mqtt::explain(&mqtt_config(conf), &mut appender, topic, payload, now) {
        Fate::Closed { reason } => Outcome::Closed { reason },
        Fate::DeadLetter { reason, .. } => Outcome::DeadLetter { reason },
        Fate::Rows { table, group, .. } => {
            appender.wait(group)?;
            let rows = stored(committer.log(), &table)?;
            Outcome::Rows { table, rows }
        }
    };
    committer.stop()?;
    Ok(outcome)
}

/// All rows of a table.
fn stored(log: &wal::Log, table: &str) -> Result<Vec<Vec<Column>>, RehearsalError> {
    let snapshot = log.snapshot();
    let schema = snapshot
        .catalog()
        .tables()
        .find(|schema| schema.name == table);
    let Some(schema) = schema else {
        return Ok(Vec::new());
    };
    let runtime = runtime().map_err(RehearsalError::Runtime)?;
    let lines = runtime.block_on(lines(log.clone(), table));
    runtime.shutdown_background();
    let lines = lines?;
    let lines = lines
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty());
    lines
        .map(|line| Ok(row(schema, &serde_json::from_slice(line)?)))
        .collect()
}

/// The rows as JSON, a line each.
async fn lines(log: wal::Log, table: &str) -> Result<Vec<u8>, QueryError> {
    let config = query::Config {
        threads: 1,
        ..query::Config::default()
    };
    let engine = Engine::new(&config, Arc::new(OneLog(log)))?;
    let statement = Statement {
        sql: format!("SELECT * FROM \"{}\"", table.replace('"', "\"\"")),
        params: Params::default(),
        as_of: None,
        timeout: None,
        time_zone: None,
    };
    let output = Output {
        format: Format::JsonLines,
        ..Output::default()
    };
    let mut answer = engine.encoded(statement, output);
    answer.head().await?;
    let mut lines = Vec::new();
    while let Some(part) = answer.next().await {
        lines.extend_from_slice(&part?);
    }
    Ok(lines)
}

fn row(schema: &TableSchema, values: &Map<String, Value>) -> Vec<Column> {
    let columns = schema.columns.iter().filter_map(|column| {
        let value = values.get(&*column.name).filter(|value| !value.is_null())?;
        let (value, kind) = match (column.role, kind(column.kind)) {
            (ColumnRole::Time, _) => (value.as_str().unwrap_or_default().to_owned(), None),
            (ColumnRole::Tag, _) => (value.to_string(), Some("tag")),
            (ColumnRole::Field, kind) => (value.to_string(), Some(kind)),
        };
        Some(Column {
            name: column.name.to_string(),
            value,
            kind,
        })
    });
    columns.collect()
}

/// A type as a conf names it.
fn kind(kind: ColumnType) -> &'static str {
    match kind {
        ColumnType::Time => "time",
        ColumnType::Int | ColumnType::OldInt => "int",
        ColumnType::BigInt => "bigint",
        ColumnType::Float => "float",
        ColumnType::Bool => "bool",
        ColumnType::Text => "text",
    }
}

/// What a query is asked of.
struct OneLog(wal::Log);

impl query::Node for OneLog {
    fn log(&self) -> Option<wal::Log> {
        Some(self.0.clone())
    }

    fn lag_ms(&self) -> Option<u64> {
        Some(0)
    }

    fn replication(&self) -> Vec<ReplicationRow> {
        Vec::new()
    }
}
