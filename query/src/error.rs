//! Every way a query can fail. Owns the translation from engine errors to what a client can act
//! on; must never know what a failure is on a protocol, such as an HTTP status.

use std::error::Error as StdError;
use std::time::Duration;

use arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::parser::ParserError;
use wal::{AsOf, Lsn};

use crate::locate;
use crate::wording;

/// Why a query failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// The text is no SQL; `position` is a byte offset in it, where known.
    #[error("{message}")]
    Syntax {
        message: String,
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
    /// The values for placeholders are malformed.
    #[error("{0}")]
    Parameter(String),
    /// The statement, such as `INSERT`, writes.
    #[error("{what} is refused: SQL here only reads")]
    ReadOnly { what: String },
    /// The statement neither reads nor writes rows, and is not for clients.
    #[error("{0}")]
    NotAllowed(String),
    /// `hint` is what may have been meant; empty, or it starts with a separator.
    #[error("table {name} does not exist{hint}")]
    UnknownTable { name: String, hint: String },
    #[error("the query took longer than {} ms", .limit.as_millis())]
    Timeout { limit: Duration },
    #[error(
        "the SQL text is larger than {limit} bytes: send values as params, or ask for less at a \
         time"
    )]
    TooLarge { limit: usize },
    /// The plan would be too large to be made.
    #[error(
        "the statement is too complex: it has {wanted} {what}, and may have {limit}; ask for less \
         at a time"
    )]
    TooComplex {
        wanted: u64,
        limit: u64,
        what: &'static str,
    },
    /// What a function would make is refused before it is made.
    #[error("{function} would make {of} of {wanted} {unit}: at most {limit} are made")]
    ValueTooLarge {
        function: String,
        wanted: u64,
        limit: u64,
        /// Such as bytes.
        unit: &'static str,
        /// Such as one value.
        of: String,
    },
    /// The memory pool is exhausted.
    #[error("the query needs more memory than `http.memory_limit` leaves: {0}")]
    Memory(String),
    #[error(
        "{limit} queries run and {waiting} wait already (http.max_concurrent_queries and \
         http.max_queued_queries)"
    )]
    TooMany { limit: usize, waiting: usize },
    #[error(
        "none of {limit} running queries ended within {} ms (http.max_concurrent_queries and \
         http.query_queue_timeout)", .waited.as_millis()
    )]
    NoTurn { limit: usize, waited: Duration },
    /// Others needed what the query held.
    #[error(
        "nothing of the answer was read for {} ms (http.reader_timeout), and other queries needed \
         its place or its memory", .limit.as_millis()
    )]
    Stalled { limit: Duration },
    /// The answer as of that LSN cannot be given yet.
    #[error("this node is at LSN {at}, not at {lsn} yet")]
    LsnAhead { lsn: u64, at: u64 },
    /// The rows of that LSN cannot be told from later ones any more.
    #[error(
        "the answer as of LSN {lsn} is gone here: the oldest that can be asked for is {oldest}"
    )]
    LsnGone { lsn: u64, oldest: u64 },
    /// There is nothing to answer from.
    #[error("this node has no log to answer from yet: GET /ready says what it waits for")]
    NoLog,
    #[error("cannot read the log: {0}")]
    Storage(String),
    /// The machine had run out of something for a moment: descriptors, memory.
    #[error("cannot read the log now: {0}; nothing is damaged, ask again in a moment")]
    Exhausted(String),
    /// Nobody waits for the answer any more.
    #[error("the query was cancelled")]
    Cancelled,
    #[error("cannot start the query engine: {0}")]
    Start(String),
    /// A bug.
    #[error("internal error, not a fault of the statement: {0}")]
    Internal(String),
}

impl QueryError {
    /// What a DataFusion error means to the client who sent `sql`.
    pub(crate) fn from_datafusion(error: &DataFusionError, sql: &str) -> Self {
        let root = error.find_root();
        match root {
            DataFusionError::SQL(parser, _) => Self::from_parser(parser, sql),
            DataFusionError::Plan(message) | DataFusionError::Configuration(message) => {
                Self::Plan(for_clients(&wording::reworded(message, sql)))
            }
            DataFusionError::SchemaError(schema, _) => {
                Self::Plan(for_clients(&wording::reworded(&schema.to_string(), sql)))
            }
            DataFusionError::NotImplemented(message) => {
                Self::NotSupported(for_clients(&wording::reworded(message, sql)))
            }
            DataFusionError::Execution(message) => {
                Self::Execution(for_clients(&wording::reworded(message, sql)))
            }
            DataFusionError::ArrowError(arrow, _) => Self::from_arrow(arrow),
            DataFusionError::ResourcesExhausted(message) => Self::Memory(message.clone()),
            DataFusionError::External(external) => Self::from_external(external.as_ref()),
            DataFusionError::Internal(message) if wording::is_of_statement(message) => {
                Self::Plan(wording::reworded(message, sql))
            }
            DataFusionError::Internal(message) => Self::Internal(wording::reworded(message, sql)),
            other => Self::Internal(wording::reworded(&other.strip_backtrace(), sql)),
        }
    }

    /// What an Arrow error while computing or encoding rows means.
    pub(crate) fn from_arrow(error: &ArrowError) -> Self {
        match error {
            ArrowError::ExternalError(external) => Self::from_external(external.as_ref()),
            ArrowError::MemoryError(message) => Self::Memory(message.clone()),
            other => Self::Execution(wording::reworded(&other.to_string(), "")),
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
            return match wal.may_pass() {
                true => Self::Exhausted(wal.to_string()),
                false => Self::Storage(wal.to_string()),
            };
        }
        // A function's own, such as that of a pattern which is none.
        Self::Execution(error.to_string())
    }
}

impl From<QueryError> for DataFusionError {
    fn from(error: QueryError) -> Self {
        Self::External(Box::new(error))
    }
}

/// A message without advice that only whoever builds the engine can follow.
fn for_clients(message: &str) -> String {
    let message = message.replace(SETTING_ADVICE, "");
    // The engine's own notation of an expression is cut off: `Cast(Cast { expr: Alias(...`.
    let Some(inside) = message.find(" { ") else {
        return message;
    };
    let (before, after) = message.split_at(inside);
    let name = before.rsplit(['(', ' ', ':']).next().unwrap_or_default();
    let field = after.trim_start_matches([' ', '{']).split(':').next();
    let is_name = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    if !name.starts_with(|c: char| c.is_ascii_uppercase()) || !field.is_some_and(is_name) {
        return message;
    }
    let told = before.rsplit_once(' ').map_or("", |(told, _)| told);
    format!("{told} ...")
}

/// Why there is no answer as of `lsn`.
pub(crate) fn as_of(lsn: Lsn, refused: &AsOf) -> QueryError {
    match refused {
        AsOf::Ahead { at } => QueryError::LsnAhead {
            lsn: lsn.0,
            at: at.0,
        },
        AsOf::Gone { oldest } => QueryError::LsnGone {
            lsn: lsn.0,
            oldest: oldest.0,
        },
        AsOf::Unread => QueryError::Storage(refused.to_string()),
    }
}

/// An error of the log on its way through the engine.
pub(crate) fn storage(error: wal::WalError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

const SETTING_ADVICE: &str =
    " or disable the datafusion.sql_parser.enable_ident_normalization configuration";

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
        assert_eq!(ahead.to_string(), "this node is at LSN 7, not at 9 yet");
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

    #[test]
    fn what_has_run_out_for_a_moment_is_no_damage() {
        let failed = |errno: i32| {
            let error = wal::WalError::Io {
                operation: wal::Operation::Read,
                path: "a.parquet".into(),
                source: std::io::Error::from_raw_os_error(errno),
            };
            QueryError::from_datafusion(&storage(error), "")
        };
        let (eio, enomem, enfile, emfile) = (5, 12, 23, 24);
        for errno in [enomem, enfile, emfile] {
            let error = failed(errno);
            assert!(matches!(error, QueryError::Exhausted(_)), "{error:?}");
            assert!(error.to_string().contains("ask again"), "{error}");
        }
        assert!(matches!(failed(eio), QueryError::Storage(_)));
    }

    #[test]
    fn messages_are_for_clients_and_not_for_the_engines_builders() {
        let text = format!("Names are folded{SETTING_ADVICE}.");
        assert_eq!(for_clients(&text), "Names are folded.");
        let text = "Unsupported LIMIT: Some(Cast(Cast { expr: Alias(Alias { x: 1";
        assert_eq!(for_clients(text), "Unsupported LIMIT: ...");
        for plain in ["no such { thing: x }", "JSON {\"a\": 1}", "Invalid { 7 }"] {
            assert_eq!(for_clients(plain), plain);
        }
    }
}
