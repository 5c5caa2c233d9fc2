//! Every way a query can fail. Owns the translation from engine errors to what a client can act
//! on; must never know an HTTP status: that mapping is in `http::error`.

use std::error::Error as StdError;
use std::net::SocketAddr;
use std::time::Duration;

use arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::parser::ParserError;

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
