//! Every way a query can fail. Owns the translation from engine errors to what a client can act
//! on; must never know an HTTP status: that mapping is in `http::error`.

use std::error::Error as StdError;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::parser::ParserError;
use intake::{IntakeError, Written};
use wal::{AsOf, Lsn};

use crate::locate;

/// Why a query, a request or the server failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// The text is no SQL.
    #[error("{message}")]
    Syntax {
        /// What the parser expected and found.
        message: String,
        /// Byte offset in the SQL text, where known.
        position: Option<usize>,
    },
    /// The SQL means nothing here: unknown column or function, wrong types.
    #[error("{0}")]
    Plan(String),
    /// Valid SQL that is not implemented.
    #[error("not supported: {0}")]
    NotSupported(String),
    /// The rows broke the query: overflow, bad cast, division by zero.
    #[error("{0}")]
    Execution(String),
    /// A request parameter is unknown or malformed.
    #[error("{0}")]
    Parameter(String),
    /// The statement writes.
    #[error("{what} is refused: SQL here only reads")]
    ReadOnly {
        /// The statement, such as `INSERT`.
        what: String,
    },
    /// Rows were sent to a node that takes none.
    #[error("this node takes no rows: only a primary does")]
    NotPrimary,
    /// Rows were not written, or not for certain.
    #[error(transparent)]
    Ingest(#[from] IntakeError),
    /// Some lines, or all, were not written.
    #[error(
        "partial write of line protocol occurred: {} of {} lines are stored",
        .0.rows, .0.rows.saturating_add(.0.faulty)
    )]
    PartialWrite(Written),
    /// The statement neither reads nor writes rows, and is not for clients.
    #[error("{0}")]
    NotAllowed(String),
    /// No such table.
    #[error("table {name} does not exist{hint}")]
    UnknownTable {
        /// The table as the query names it.
        name: String,
        /// What may have been meant; empty or starting with a separator.
        hint: String,
    },
    /// No such HTTP path.
    #[error("there is nothing at {0}")]
    UnknownPath(String),
    /// The path exists, the method does not.
    #[error("{path} does not take {method}")]
    Method {
        /// Method of the request.
        method: String,
        /// Path of the request.
        path: String,
    },
    /// The query ran out of time.
    #[error("the query took longer than {} ms", .limit.as_millis())]
    Timeout {
        /// The time it had.
        limit: Duration,
    },
    /// The request is too big.
    #[error("{what} is larger than {limit} bytes")]
    TooLarge {
        /// The part that is too big.
        what: &'static str,
        /// Largest size taken.
        limit: usize,
    },
    /// The memory pool is exhausted.
    #[error("the query needs more memory than `http.memory_limit` leaves: {0}")]
    Memory(String),
    /// As many queries as allowed are running.
    #[error("{limit} queries are running already (http.max_concurrent_queries)")]
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// The node is not as fresh as the request demands.
    #[error("{0}")]
    Lagging(String),
    /// The rows of that LSN cannot be told from later ones any more.
    #[error(
        "the answer as of LSN {lsn} is gone here: the oldest that can be asked for is {oldest}"
    )]
    LsnGone {
        /// What was asked for.
        lsn: u64,
        /// The oldest that this node can answer for.
        oldest: u64,
    },
    /// The files of that mark are not known here, neither now nor lately.
    #[error("the files of that mark are not known here: the newest mark is {newest}")]
    UnknownMark {
        /// What can be asked for.
        newest: Mark,
    },
    /// What a path names is not there.
    #[error("{0}")]
    NotFound(String),
    /// The secondary that is to be forgotten is connected.
    #[error("{name} is connected: a secondary can be forgotten once it is gone")]
    Connected {
        /// Name or id, as asked for.
        name: String,
    },
    /// The node cannot serve yet.
    #[error("{0}")]
    NotReady(String),
    /// A role check asked for the other role.
    #[error("this node is a {role}")]
    WrongRole {
        /// The role it has.
        role: &'static str,
    },
    /// The log could not be read.
    #[error("cannot read the log: {0}")]
    Storage(String),
    /// Nobody waits for the answer any more.
    #[error("the query was cancelled")]
    Cancelled,
    /// The HTTP address cannot be used.
    #[error("cannot listen on http.listen = {address}: {reason}")]
    Listen {
        /// The configured address.
        address: SocketAddr,
        /// What the system said.
        reason: String,
    },
    /// The engine or its threads could not be started.
    #[error("cannot start the query engine: {0}")]
    Start(String),
    /// Something that runs alone is running already.
    #[error("{0}")]
    Busy(&'static str),
    /// A bug.
    #[error("internal error: {0}")]
    Internal(String),
}

/// Which Parquet files a log has: how far it is compacted, the ordinal of its next file, and the
/// digest of its manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Everything below is in files.
    pub compacted: u64,
    /// Ordinal of the next file.
    pub next: u64,
    /// Digest of the manifest's bytes.
    pub digest: u64,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.compacted, self.next)
    }
}

impl QueryError {
    /// What a DataFusion error means to the client who sent `sql`.
    pub(crate) fn from_datafusion(error: &DataFusionError, sql: &str) -> Self {
        let root = error.find_root();
        match root {
            DataFusionError::SQL(parser, _) => Self::from_parser(parser, sql),
            DataFusionError::Plan(message) | DataFusionError::Configuration(message) => {
                Self::Plan(message.clone())
            }
            DataFusionError::SchemaError(schema, _) => Self::Plan(schema.to_string()),
            DataFusionError::NotImplemented(message) => Self::NotSupported(message.clone()),
            DataFusionError::Execution(message) => Self::Execution(message.clone()),
            DataFusionError::ArrowError(arrow, _) => Self::from_arrow(arrow),
            DataFusionError::ResourcesExhausted(message) => Self::Memory(message.clone()),
            DataFusionError::External(external) => Self::from_external(external.as_ref()),
            DataFusionError::Internal(message) => Self::Internal(message.clone()),
            other => Self::Internal(other.strip_backtrace()),
        }
    }

    /// What an Arrow error while computing or encoding rows means.
    pub(crate) fn from_arrow(error: &ArrowError) -> Self {
        match error {
            ArrowError::ExternalError(external) => Self::from_external(external.as_ref()),
            ArrowError::MemoryError(message) => Self::Memory(message.clone()),
            other => Self::Execution(other.to_string()),
        }
    }

    fn from_parser(error: &ParserError, sql: &str) -> Self {
        match error {
            ParserError::TokenizerError(text) | ParserError::ParserError(text) => {
                let (message, position) = locate::split_position(text, sql);
                Self::Syntax { message, position }
            }
            ParserError::RecursionLimitExceeded => Self::Syntax {
                message: "the statement is nested too deeply".to_owned(),
                position: None,
            },
        }
    }

    fn from_external(error: &(dyn StdError + Send + Sync + 'static)) -> Self {
        if let Some(own) = error.downcast_ref::<Self>() {
            return own.clone();
        }
        if let Some(wal) = error.downcast_ref::<wal::WalError>() {
            return Self::Storage(wal.to_string());
        }
        Self::Internal(error.to_string())
    }
}

impl From<QueryError> for DataFusionError {
    fn from(error: QueryError) -> Self {
        Self::External(Box::new(error))
    }
}

/// Why there is no answer as of `lsn`.
pub(crate) fn as_of(lsn: Lsn, refused: &AsOf) -> QueryError {
    match refused {
        AsOf::Ahead { at } => {
            QueryError::Lagging(format!("this node is at LSN {at}, not at {lsn} yet"))
        }
        AsOf::Gone { oldest } => QueryError::LsnGone {
            lsn: lsn.0,
            oldest: oldest.0,
        },
    }
}

/// A node without a log has nothing to answer from.
#[must_use]
pub fn no_log() -> QueryError {
    QueryError::NotReady("this node has no data yet: it never reached its primary".to_owned())
}

/// An error of the log on its way through the engine.
pub(crate) fn storage(error: wal::WalError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_our_own_error_through_the_engine() {
        let limit = Duration::from_millis(5);
        let wrapped = DataFusionError::from(QueryError::Timeout { limit });
        let outer = wrapped.context("while testing");
        let found = QueryError::from_datafusion(&outer, "SELECT 1");
        assert_eq!(found, QueryError::Timeout { limit });
        assert_eq!(found.to_string(), "the query took longer than 5 ms");
    }

    #[test]
    fn an_lsn_that_is_gone_names_the_oldest_and_one_ahead_is_lag() {
        let gone = as_of(Lsn(3), &AsOf::Gone { oldest: Lsn(7) });
        assert_eq!(gone, QueryError::LsnGone { lsn: 3, oldest: 7 });
        assert!(gone.to_string().ends_with("can be asked for is 7"));
        let ahead = as_of(Lsn(9), &AsOf::Ahead { at: Lsn(7) });
        let expected = "this node is at LSN 7, not at 9 yet".to_owned();
        assert_eq!(ahead, QueryError::Lagging(expected));
    }

    #[test]
    fn syntax_errors_carry_the_offset() {
        let parser = ParserError::ParserError(
            "Expected: end of statement, found: FRM at Line: 1, Column: 10".to_owned(),
        );
        let error = DataFusionError::SQL(Box::new(parser), None);
        let QueryError::Syntax { message, position } =
            QueryError::from_datafusion(&error, "SELECT * FRM t")
        else {
            panic!("not a syntax error");
        };
        assert_eq!(message, "Expected: end of statement, found: FRM");
        assert_eq!(position, Some(9));
    }

    #[test]
    fn memory_and_arithmetic_are_told_apart() {
        let memory = DataFusionError::ResourcesExhausted("full".to_owned());
        assert_eq!(
            QueryError::from_datafusion(&memory, ""),
            QueryError::Memory("full".to_owned())
        );
        let divide = DataFusionError::ArrowError(Box::new(ArrowError::DivideByZero), None);
        assert!(matches!(
            QueryError::from_datafusion(&divide, ""),
            QueryError::Execution(_)
        ));
    }
}
