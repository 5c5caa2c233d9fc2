//! The statements of `InfluxQL` that clients send before they write. Pure; must never take a
//! statement for another one: what it does not know is refused by name.

use crate::http::error::ApiError;

/// What can be answered without a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Statement {
    CreateDatabase,
    ShowDatabases,
    ShowRetentionPolicies,
}

/// All statements of a text; at least one.
pub(super) fn parse(text: &str) -> Result<Vec<Statement>, ApiError> {
    let statements: Vec<Vec<String>> = split(text)?;
    if statements.is_empty() {
        return Err(ApiError::Parameter("q holds no statement".to_owned()));
    }
    statements.iter().map(|words| one(words)).collect()
}

fn one(words: &[String]) -> Result<Statement, ApiError> {
    let upper: Vec<String> = words.iter().map(|word| word.to_ascii_uppercase()).collect();
    let upper: Vec<&str> = upper.iter().map(String::as_str).collect();
    match upper.as_slice() {
        ["CREATE", "DATABASE", _] => Ok(Statement::CreateDatabase),
        ["SHOW", "DATABASES"] => Ok(Statement::ShowDatabases),
        ["SHOW", "RETENTION", "POLICIES"] | ["SHOW", "RETENTION", "POLICIES", "ON", _] => {
            Ok(Statement::ShowRetentionPolicies)
        }
        ["CREATE", "DATABASE", _, "WITH", ..] | ["CREATE" | "ALTER" | "DROP", "RETENTION", ..] => {
            Err(ApiError::NotSupported(
                "retention policies: the primary's conf says how long a table is kept, as \
                 [[table]] name, retention"
                    .to_owned(),
            ))
        }
        _ => {
            let known = words.iter().take(2).cloned().collect::<Vec<_>>().join(" ");
            let known: String = known.chars().take(MOST_SHOWN).collect();
            Err(ApiError::NotSupported(format!(
                "InfluxQL ({known} ...): {ASK_SQL}"
            )))
        }
    }
}

/// The words of each statement; what is quoted is one word.
fn split(text: &str) -> Result<Vec<Vec<String>>, ApiError> {
    let (mut statements, mut words, mut word) = (Vec::new(), Vec::new(), None::<String>);
    let mut chars = text.chars();
    while let Some(next) = chars.next() {
        match next {
            ';' | ' ' | '\t' | '\r' | '\n' => {
                words.extend(word.take());
                if next == ';' && !words.is_empty() {
                    statements.push(std::mem::take(&mut words));
                }
            }
            '"' | '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some(end) if end == next => break,
                        Some('\\') => word.extend(chars.next()),
                        Some(inside) => word.push(inside),
                        None => {
                            let what = "a quote in q does not end".to_owned();
                            return Err(ApiError::Parameter(what));
                        }
                    }
                }
            }
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    if !words.is_empty() {
        statements.push(words);
    }
    Ok(statements)
}

/// What to do about a language that is not spoken here.
pub(super) const ASK_SQL: &str = "ask SQL at /api/v3/query_sql";

/// Most characters of a refused statement that an answer repeats.
const MOST_SHOWN: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        parse(text).expect_err(text).to_string()
    }

    #[test]
    fn statements_about_databases_are_known_however_they_are_written() {
        for text in [
            "CREATE DATABASE telegraf",
            "create database \"my db;x\"",
            " CREATE\n DATABASE 'a' ;",
        ] {
            assert_eq!(parse(text), Ok(vec![Statement::CreateDatabase]), "{text}");
        }
        let both = parse("SHOW DATABASES;show retention policies on \"x\"");
        let expected = vec![Statement::ShowDatabases, Statement::ShowRetentionPolicies];
        assert_eq!(both, Ok(expected));
    }

    #[test]
    fn whatever_else_is_asked_is_refused_with_what_to_do() {
        for text in [
            "CREATE DATABASE x WITH DURATION 1d",
            "CREATE RETENTION POLICY a ON b DURATION 1d REPLICATION 1",
        ] {
            assert!(refusal(text).contains("[[table]]"), "{text}");
        }
        for text in [
            "SELECT * FROM cpu",
            "DROP DATABASE x",
            "SHOW DATABASES; DROP SERIES",
        ] {
            assert!(refusal(text).contains("/api/v3/query_sql"), "{text}");
        }
        assert!(refusal("SHOW \"x").contains("does not end"));
        assert!(refusal(" ; ;").contains("no statement"));
    }
}
