//! A statement from its text to what the planner gets. Owns the order of the steps: what clients of
//! other databases type, the guard, the parser, standard SQL in the planner's words. Must never plan
//! anything, nor let a text reach the parser that the guard has not seen.

use std::borrow::Cow;

use datafusion::execution::SessionState;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::Statement as SqlStatement;

use crate::columns::{self, ColumnNames};
use crate::dialect;
use crate::error::QueryError;
use crate::guard;
use crate::params::Params;
use crate::rewrite;
use crate::shadow::{self, Shadow};
use crate::show;
use crate::weight;

/// A statement that the planner understands.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) statement: Statement,
    /// A table that has to be there, though the planner does not read it.
    pub(crate) table: Option<String>,
}

/// What the names in a statement mean for its answer.
#[derive(Debug, Default)]
pub(crate) struct Titles {
    /// Of the answer's columns.
    pub(crate) names: Option<ColumnNames>,
    /// Names in GROUP BY that may not mean what they seem to.
    pub(crate) shadows: Vec<Shadow>,
}

/// Prepares the statement that `sql` is.
///
/// # Errors
/// When it is none, or none for clients.
pub(crate) fn prepare(
    state: &SessionState,
    sql: &str,
    params: &Params,
) -> Result<Prepared, QueryError> {
    if sql.len() > guard::MAX_SQL_BYTES {
        let limit = guard::MAX_SQL_BYTES;
        return Err(QueryError::TooLarge { limit });
    }
    let mut text = Cow::Borrowed(sql);
    if sql.trim_start().starts_with('\\') {
        text = Cow::Owned(show::command(sql)?);
    } else if let Some(spelled_out) = dialect::spelled_out(sql) {
        text = Cow::Owned(spelled_out);
    }
    let prepared = prepare_text(state, &text).map_err(|error| match (error, &text) {
        // What was parsed is not what was sent: better no position than a wrong one.
        (QueryError::Syntax { message, .. }, Cow::Owned(_)) => QueryError::Syntax {
            message,
            position: None,
        },
        (error, _) => error,
    })?;
    weight::weigh(&prepared.statement, params.longest())?;
    Ok(prepared)
}

/// The names of a statement's answer, once tables and columns are named as they are spelled. The
/// planner is given names that it can tell apart.
pub(crate) fn titles(statement: &mut Statement) -> Titles {
    match statement {
        Statement::Statement(inner) => {
            let SqlStatement::Query(query) = inner.as_mut() else {
                return Titles::default();
            };
            let titles = Titles {
                names: ColumnNames::of(query),
                shadows: shadow::shadows(query),
            };
            columns::tell_apart(query);
            titles
        }
        Statement::Explain(explain) => {
            titles(&mut explain.statement);
            Titles::default()
        }
        _ => Titles::default(),
    }
}

fn prepare_text(state: &SessionState, text: &str) -> Result<Prepared, QueryError> {
    guard::inspect(text)?;
    let mut statement = parse(state, text)?;
    let zone = state.config_options().execution.time_zone.as_deref();
    let zone = zone.unwrap_or("+00:00");
    let mut table = None;
    if let Statement::Statement(inner) = &statement
        && let Some(shown) = show::query(inner, zone)?
    {
        statement = parse(state, &shown.sql)?;
        table = shown.table;
    }
    guard::check(&statement)?;
    rewrite::regroup(&mut statement);
    rewrite::standardize(&mut statement)?;
    respeak(&mut statement)?;
    Ok(Prepared { statement, table })
}

fn parse(state: &SessionState, text: &str) -> Result<Statement, QueryError> {
    let dialect = state.config_options().sql_parser.dialect;
    state
        .sql_to_statement(text, &dialect)
        .map_err(|error| QueryError::from_datafusion(&error, text))
}

/// Puts what clients of other databases type in the planner's words.
fn respeak(statement: &mut Statement) -> Result<(), QueryError> {
    match statement {
        Statement::Statement(inner) => dialect::rewrite(inner),
        Statement::Explain(explain) => respeak(&mut explain.statement),
        _ => Ok(()),
    }
}
