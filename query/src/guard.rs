//! Which statements are let in. Owns the refusals: too long, too deep, more than one, writing, or
//! not for clients. Must never execute anything, nor rely on planning to notice a write.
//!
//! The depth bound is what makes parsing safe: parsers and planners walk a statement recursively,
//! and dropping a tree does too, so a long chain such as `1+1+1...` would overflow any stack.

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{SetExpr, Statement as SqlStatement};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer, Word};

use crate::error::QueryError;
use crate::locate;

/// Refuses a text before it is parsed.
pub(crate) fn inspect(sql: &str) -> Result<(), QueryError> {
    if sql.len() > MAX_SQL_BYTES {
        return Err(QueryError::TooLarge {
            limit: MAX_SQL_BYTES,
        });
    }
    let dialect = GenericDialect;
    let tokens = Tokenizer::new(&dialect, sql)
        .tokenize()
        .map_err(|error| QueryError::Syntax {
            position: locate::byte_offset(sql, error.location.line, error.location.column),
            message: error.message,
        })?;
    check_verb(&tokens)?;
    check_single(&tokens)?;
    check_depth(&tokens)
}

/// Refuses a parsed statement unless it is known to read only.
pub(crate) fn check(statement: &Statement) -> Result<(), QueryError> {
    match statement {
        Statement::Statement(inner) => check_sql(inner),
        Statement::Explain(explain) => check(&explain.statement),
        Statement::CreateExternalTable(_) => Err(writes("CREATE EXTERNAL TABLE")),
        Statement::CopyTo(_) => Err(writes("COPY")),
        Statement::Reset(_) => Err(not_for_clients("RESET")),
    }
}

fn check_sql(statement: &SqlStatement) -> Result<(), QueryError> {
    match statement {
        SqlStatement::Query(query) if body_writes(&query.body) => {
            Err(writes("a query that writes"))
        }
        SqlStatement::Query(_)
        | SqlStatement::ShowTables { .. }
        | SqlStatement::ShowColumns { .. }
        | SqlStatement::ShowVariable { .. }
        | SqlStatement::ShowFunctions { .. }
        | SqlStatement::ExplainTable { .. } => Ok(()),
        SqlStatement::Explain { statement, .. } => check_sql(statement),
        SqlStatement::Insert { .. }
        | SqlStatement::Update { .. }
        | SqlStatement::Delete { .. }
        | SqlStatement::Merge { .. }
        | SqlStatement::Truncate { .. }
        | SqlStatement::Copy { .. }
        | SqlStatement::CreateTable { .. }
        | SqlStatement::CreateView { .. }
        | SqlStatement::AlterTable { .. }
        | SqlStatement::Drop { .. } => Err(writes("a statement that writes")),
        _ => Err(not_for_clients("this statement")),
    }
}

fn body_writes(body: &SetExpr) -> bool {
    match body {
        SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => true,
        SetExpr::Select(select) => select.into.is_some(),
        SetExpr::Query(query) => body_writes(&query.body),
        SetExpr::SetOperation { left, right, .. } => body_writes(left) || body_writes(right),
        SetExpr::Values(_) | SetExpr::Table(_) => false,
    }
}

/// Judges by the first word, so that a write is called a write even where it does not parse.
fn check_verb(tokens: &[Token]) -> Result<(), QueryError> {
    let mut explains = 0;
    for token in tokens {
        let word = match token {
            Token::Whitespace(_) | Token::LParen | Token::SemiColon => continue,
            Token::Word(word) if word.quote_style.is_none() => word.value.to_ascii_uppercase(),
            _ => return Ok(()),
        };
        match word.as_str() {
            "EXPLAIN" if explains > 0 => return Err(not_for_clients("EXPLAIN of EXPLAIN")),
            "EXPLAIN" => explains += 1,
            "ANALYZE" | "VERBOSE" if explains > 0 => {}
            verb if WRITING_VERBS.contains(&verb) => return Err(writes(verb)),
            verb if REFUSED_VERBS.contains(&verb) => return Err(not_for_clients(verb)),
            _ => return Ok(()),
        }
    }
    let message = "the statement is empty".to_owned();
    Err(QueryError::Syntax {
        message,
        position: None,
    })
}

fn check_single(tokens: &[Token]) -> Result<(), QueryError> {
    let blank = |token: &&Token| matches!(token, Token::Whitespace(_) | Token::SemiColon);
    let mut rest = tokens.iter().skip_while(blank);
    let ended = rest.any(|token| matches!(token, Token::SemiColon));
    if ended && rest.any(|token| !blank(&token) && !matches!(token, Token::EOF)) {
        return Err(QueryError::NotAllowed(
            "only one statement may be sent at a time".to_owned(),
        ));
    }
    Ok(())
}

/// Depth of what a parser can build: per bracket level the tokens since the last comma, because
/// each may wrap what is left of it, and joins and set operations, which chain across commas.
#[derive(Default)]
struct Level {
    run: usize,
    in_from: bool,
}

fn check_depth(tokens: &[Token]) -> Result<(), QueryError> {
    let mut levels = vec![Level::default()];
    let (mut depth, mut joins, mut set_operations) = (0_usize, 0_usize, 0_usize);
    for token in tokens {
        match token {
            Token::Whitespace(_) | Token::EOF => continue,
            Token::LParen | Token::LBracket | Token::LBrace => levels.push(Level::default()),
            Token::RParen | Token::RBracket | Token::RBrace if levels.len() > 1 => {
                depth -= levels.pop().map_or(0, |level| level.run);
            }
            Token::Comma => {
                if let Some(level) = levels.last_mut() {
                    depth -= std::mem::take(&mut level.run);
                    joins += usize::from(level.in_from);
                }
            }
            other => {
                if let Some(level) = levels.last_mut() {
                    level.run += 1;
                    depth += 1;
                    if let Token::Word(word) = other {
                        joins += usize::from(note_word(word, level));
                        set_operations += usize::from(is_set_operation(word));
                    }
                }
            }
        }
        let nesting = depth + levels.len() + set_operations;
        if nesting > MAX_DEPTH || set_operations > MAX_SET_OPERATIONS || joins > MAX_JOINS {
            return Err(too_complex());
        }
    }
    Ok(())
}

/// Follows where a FROM clause starts and ends; true for a join.
fn note_word(word: &Word, level: &mut Level) -> bool {
    if word.quote_style.is_some() {
        return false;
    }
    match word.value.to_ascii_uppercase().as_str() {
        "FROM" => level.in_from = true,
        "SELECT" | "WHERE" | "GROUP" | "HAVING" | "ORDER" | "LIMIT" | "WINDOW" | "QUALIFY" => {
            level.in_from = false;
        }
        "JOIN" => return true,
        _ => {}
    }
    false
}

fn is_set_operation(word: &Word) -> bool {
    word.quote_style.is_none()
        && ["UNION", "EXCEPT", "INTERSECT", "MINUS"]
            .iter()
            .any(|operation| word.value.eq_ignore_ascii_case(operation))
}

fn too_complex() -> QueryError {
    QueryError::Syntax {
        message: format!(
            "the statement is too complex: at most {MAX_DEPTH} tokens in one expression, \
             {MAX_JOINS} joins and {MAX_SET_OPERATIONS} set operations"
        ),
        position: None,
    }
}

fn writes(what: &str) -> QueryError {
    QueryError::ReadOnly {
        what: what.to_owned(),
    }
}

fn not_for_clients(what: &str) -> QueryError {
    QueryError::NotAllowed(format!(
        "{what} is not allowed: SELECT, EXPLAIN, DESCRIBE and SHOW are"
    ))
}

/// Longest SQL text taken.
pub(crate) const MAX_SQL_BYTES: usize = 256 << 10;
/// Deepest tree a statement may become; the query threads' stacks are sized for it.
const MAX_DEPTH: usize = 5_000;
/// Each join copies the schema of all tables to its left, so their number is held low.
const MAX_JOINS: usize = 64;
const MAX_SET_OPERATIONS: usize = 256;

const WRITING_VERBS: &[&str] = &[
    "INSERT", "UPDATE", "DELETE", "MERGE", "UPSERT", "REPLACE", "TRUNCATE", "CREATE", "DROP",
    "ALTER", "COPY", "RENAME", "COMMENT",
];

const REFUSED_VERBS: &[&str] = &[
    "SET",
    "RESET",
    "PREPARE",
    "EXECUTE",
    "DEALLOCATE",
    "BEGIN",
    "START",
    "COMMIT",
    "ROLLBACK",
    "SAVEPOINT",
    "RELEASE",
    "USE",
    "GRANT",
    "REVOKE",
    "DENY",
    "VACUUM",
    "OPTIMIZE",
    "ANALYZE",
    "CALL",
    "LOAD",
    "UNLOAD",
    "INSTALL",
    "ATTACH",
    "DETACH",
    "PRAGMA",
    "KILL",
    "LOCK",
    "UNLOCK",
    "LISTEN",
    "UNLISTEN",
    "NOTIFY",
    "DECLARE",
    "FETCH",
    "OPEN",
    "CLOSE",
    "CACHE",
    "UNCACHE",
    "FLUSH",
    "DISCARD",
    "MSCK",
    "EXPORT",
    "IMPORT",
    "REFRESH",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn refused_as_write(sql: &str) -> bool {
        matches!(inspect(sql), Err(QueryError::ReadOnly { .. }))
    }

    fn refused_as_not_allowed(sql: &str) -> bool {
        matches!(inspect(sql), Err(QueryError::NotAllowed(_)))
    }

    fn refused_as_syntax(sql: &str) -> bool {
        matches!(inspect(sql), Err(QueryError::Syntax { .. }))
    }

    #[test]
    fn reads_are_let_in() {
        for sql in [
            "SELECT 1",
            "  -- a comment\n select * from t;",
            "(SELECT 1) UNION ALL (SELECT 2)",
            "WITH a AS (SELECT 1) SELECT * FROM a",
            "EXPLAIN ANALYZE SELECT 1",
            "SHOW TABLES",
            "DESCRIBE t",
            "SELECT \"delete\", 'drop; table' FROM \"insert\"",
        ] {
            assert_eq!(inspect(sql), Ok(()), "{sql}");
        }
    }

    #[test]
    fn writes_are_called_writes() {
        for sql in [
            "INSERT INTO t VALUES (1)",
            "insert nonsense",
            "/* x */ DROP TABLE t",
            "EXPLAIN ANALYZE INSERT INTO t VALUES (1)",
            "COPY t TO '/tmp/x.csv'",
            "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
            "((DELETE FROM t))",
        ] {
            assert!(refused_as_write(sql), "{sql}");
        }
    }

    #[test]
    fn settings_sessions_and_scripts_are_not_allowed() {
        for sql in [
            "SET datafusion.execution.batch_size = 1",
            "RESET x",
            "PREPARE p AS SELECT 1",
            "EXPLAIN EXPLAIN SELECT 1",
            "SELECT 1; SELECT 2",
            "SELECT 1; DROP TABLE t",
        ] {
            assert!(refused_as_not_allowed(sql), "{sql}");
        }
        assert_eq!(inspect("SELECT 1;;  -- end"), Ok(()));
    }

    #[test]
    fn empty_and_broken_texts_are_syntax_errors() {
        assert!(refused_as_syntax(""));
        assert!(refused_as_syntax("  ; -- nothing"));
        assert!(refused_as_syntax("SELECT 'never closed"));
    }

    #[test]
    fn long_chains_and_deep_brackets_are_refused_before_parsing() {
        assert!(refused_as_syntax(&format!(
            "SELECT {}1",
            "(".repeat(100_000)
        )));
        assert!(refused_as_syntax(&format!(
            "SELECT 1{}",
            "+1".repeat(100_000)
        )));
        assert!(refused_as_syntax(&format!(
            "SELECT {} true",
            "NOT ".repeat(50_000)
        )));
        assert!(refused_as_syntax(&format!(
            "SELECT 1{}",
            " UNION ALL SELECT 1".repeat(1_000)
        )));
        assert!(refused_as_syntax(&format!(
            "SELECT 1 FROM t{}",
            ", t".repeat(100)
        )));
        assert!(refused_as_syntax(&format!(
            "SELECT 1 FROM t{}",
            " JOIN t ON true".repeat(100)
        )));
    }

    #[test]
    fn long_lists_are_not_deep() {
        let list = vec!["1"; 40_000].join(", ");
        assert_eq!(
            inspect(&format!("SELECT * FROM t WHERE a IN ({list})")),
            Ok(())
        );
        assert_eq!(
            inspect(&format!("SELECT {list} FROM t ORDER BY {list}")),
            Ok(())
        );
        let terms = vec!["device = 'a'"; 1_000].join(" OR ");
        assert_eq!(inspect(&format!("SELECT * FROM t WHERE {terms}")), Ok(()));
    }

    #[test]
    fn oversized_text_is_refused() {
        let sql = format!("SELECT '{}'", "x".repeat(MAX_SQL_BYTES));
        assert!(matches!(inspect(&sql), Err(QueryError::TooLarge { .. })));
    }
}
