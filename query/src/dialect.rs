//! Standard SQL that the planner does not know, or takes for something else, in words that it
//! understands. Owns `FETCH FIRST` and `TABLE t`; must never change what a statement means.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, LimitClause, Query, Statement, Value, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer, Word};

use crate::at_zone;
use crate::error::QueryError;

/// A text with words that the parser does not know spelled out: `TABLE t` is `SELECT * FROM t`, and
/// `DESCRIBE TABLE t` is `DESCRIBE t`. `None` where there are none.
pub(crate) fn spelled_out(sql: &str) -> Option<String> {
    let (first, rest) = first_word(sql)?;
    if ["DESCRIBE", "DESC"]
        .iter()
        .any(|verb| first.eq_ignore_ascii_case(verb))
    {
        let (second, table) = first_word(rest)?;
        let is_table = second.eq_ignore_ascii_case("TABLE");
        return is_table.then(|| format!("DESCRIBE {table}"));
    }
    let tokens = Tokenizer::new(&GenericDialect, sql).tokenize().ok()?;
    let mut found = false;
    let mut text = String::with_capacity(sql.len());
    let mut before: Option<&Token> = None;
    for (at, token) in tokens.iter().enumerate() {
        let rest = tokens.get(at + 1..).unwrap_or_default();
        if is_word(token, "TABLE") && may_begin(before) && names_table(rest) {
            found = true;
            text.push_str("SELECT * FROM");
        } else {
            text.push_str(&token.to_string());
        }
        if !matches!(token, Token::Whitespace(_)) {
            before = Some(token);
        }
    }
    found.then_some(text)
}

/// Whether a query may begin after `before`.
fn may_begin(before: Option<&Token>) -> bool {
    const BEFORE: [&str; 8] = [
        "UNION",
        "EXCEPT",
        "INTERSECT",
        "ALL",
        "DISTINCT",
        "EXPLAIN",
        "ANALYZE",
        "VERBOSE",
    ];
    match before {
        None | Some(Token::LParen) => true,
        Some(token) => BEFORE.iter().any(|word| is_word(token, word)),
    }
}

fn names_table(rest: &[Token]) -> bool {
    let next = rest
        .iter()
        .find(|token| !matches!(token, Token::Whitespace(_)));
    matches!(next, Some(Token::Word(_)))
}

fn is_word(token: &Token, word: &str) -> bool {
    let plain =
        |given: &Word| given.quote_style.is_none() && given.value.eq_ignore_ascii_case(word);
    matches!(token, Token::Word(given) if plain(given))
}

/// A word and what follows it, which is something.
fn first_word(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start();
    let end = text.find(|next: char| next.is_whitespace() || next == '"')?;
    let (word, rest) = text.split_at(end);
    let rest = rest.trim_start();
    (!rest.is_empty()).then_some((word, rest))
}

/// Rewrites every query in `statement`.
///
/// # Errors
/// When one asks for what cannot be rewritten.
pub(crate) fn rewrite(statement: &mut Statement) -> Result<(), QueryError> {
    match statement.visit(&mut Rewriter) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(refusal) => Err(QueryError::NotSupported(refusal.to_owned())),
    }
}

struct Rewriter;

impl VisitorMut for Rewriter {
    type Break = &'static str;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Self::Break> {
        if let Some(refusal) = fetch(query) {
            return ControlFlow::Break(refusal);
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Self::Break> {
        at_zone::rewrite(expr);
        ControlFlow::Continue(())
    }
}

/// `FETCH FIRST n ROWS ONLY` is `LIMIT n`. Gives why it is not.
fn fetch(query: &mut Query) -> Option<&'static str> {
    let fetch = query.fetch.take()?;
    if fetch.with_ties {
        return Some("FETCH ... WITH TIES: type ROWS ONLY");
    }
    if fetch.percent {
        return Some("FETCH ... PERCENT: type a number of rows");
    }
    let one = || Expr::Value(Value::Number("1".to_owned(), false).with_empty_span());
    let wanted = Some(fetch.quantity.unwrap_or_else(one));
    match &mut query.limit_clause {
        Some(LimitClause::LimitOffset { limit, .. }) if limit.is_none() => *limit = wanted,
        Some(_) => return Some("LIMIT and FETCH in one query: type one of them"),
        none => {
            *none = Some(LimitClause::LimitOffset {
                limit: wanted,
                offset: None,
                limit_by: Vec::new(),
            });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::parser::Parser;

    use super::*;

    fn rewritten(sql: &str) -> Result<String, QueryError> {
        let text = spelled_out(sql).unwrap_or_else(|| sql.to_owned());
        let mut statements = Parser::parse_sql(&GenericDialect, &text).expect(sql);
        rewrite(&mut statements[0])?;
        Ok(statements[0].to_string())
    }

    #[test]
    fn fetch_is_a_limit_and_table_a_selection() {
        for (sql, expected) in [
            (
                "SELECT v FROM t FETCH FIRST 3 ROWS ONLY",
                "SELECT v FROM t LIMIT 3",
            ),
            (
                "SELECT v FROM t FETCH NEXT ROW ONLY",
                "SELECT v FROM t LIMIT 1",
            ),
            (
                "SELECT v FROM t OFFSET 2 ROWS FETCH NEXT 3 ROWS ONLY",
                "SELECT v FROM t LIMIT 3 OFFSET 2 ROWS",
            ),
            (
                "SELECT * FROM (SELECT v FROM t FETCH FIRST 3 ROWS ONLY) AS x",
                "SELECT * FROM (SELECT v FROM t LIMIT 3) AS x",
            ),
            ("TABLE plant", "SELECT * FROM plant"),
            (
                "table \"My Plant\" LIMIT 2",
                "SELECT * FROM \"My Plant\" LIMIT 2",
            ),
            (
                "SELECT 1 UNION ALL (TABLE plant) UNION TABLE x",
                "SELECT 1 UNION ALL (SELECT * FROM plant) UNION SELECT * FROM x",
            ),
            (
                "SELECT x.n FROM (TABLE plant) AS x",
                "SELECT x.n FROM (SELECT * FROM plant) AS x",
            ),
        ] {
            assert_eq!(rewritten(sql).expect(sql), expected);
        }
        for sql in [
            "SELECT v FROM t FETCH FIRST 3 ROWS WITH TIES",
            "SELECT v FROM t FETCH FIRST 3 PERCENT ROWS ONLY",
            "SELECT v FROM t LIMIT 1 FETCH FIRST 3 ROWS ONLY",
        ] {
            assert!(
                matches!(rewritten(sql), Err(QueryError::NotSupported(_))),
                "{sql}"
            );
        }
        let explained = spelled_out("EXPLAIN TABLE t");
        assert_eq!(explained.as_deref(), Some("EXPLAIN SELECT * FROM t"));
        let described = spelled_out(" desc table \"My Plant\"");
        assert_eq!(described.as_deref(), Some("DESCRIBE \"My Plant\""));
        assert_eq!(spelled_out("DESCRIBE plant"), None);
        assert_eq!(spelled_out("SELECT 'TABLE x', \"TABLE\" FROM t"), None);
        assert_eq!(spelled_out("DROP TABLE t"), None);
        assert_eq!(spelled_out("tablex"), None);
        assert_eq!(spelled_out("SELECT 1"), None);
    }
}
