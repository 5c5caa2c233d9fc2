//! What clients of other databases type to look around: `SHOW`, `DESCRIBE` and psql's `\d`. Owns
//! the query that each of them is; must never answer one of them with something else.

use datafusion::sql::sqlparser::ast::{
    ObjectName, ShowCreateObject, ShowStatementFilter, ShowStatementFilterPosition,
    ShowStatementOptions, Statement,
};

use crate::error::QueryError;

/// A query in place of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) sql: String,
    /// The table it is about, which has to be there.
    pub(crate) table: Option<String>,
}

/// The statement that a backslash command of psql stands for.
///
/// # Errors
/// When there is none.
pub(crate) fn command(text: &str) -> Result<String, QueryError> {
    let text = text.trim().trim_end_matches(';').trim_end();
    let (command, name) = text
        .split_once(char::is_whitespace)
        .map_or((text, ""), |(command, name)| (command, name.trim()));
    match (command.trim_end_matches('+'), name) {
        ("\\d" | "\\dt", "") => Ok("SHOW TABLES".to_owned()),
        ("\\d" | "\\dt", table) => Ok(format!("DESCRIBE {table}")),
        ("\\dn", "") => Ok("SHOW SCHEMAS".to_owned()),
        ("\\l", "") => Ok("SHOW DATABASES".to_owned()),
        ("\\df", "") => Ok("SHOW FUNCTIONS".to_owned()),
        _ => Err(QueryError::NotAllowed(format!(
            "{command} is a command of psql, not SQL: \\d, \\dt, \\d TABLE, \\dn, \\df and \\l are \
             answered; SHOW TABLES and SHOW COLUMNS FROM t are SQL"
        ))),
    }
}

/// The query that a parsed statement stands for in a session of `zone`; `None` where it is one
/// itself.
///
/// # Errors
/// When it asks for what is not there.
pub(crate) fn query(statement: &Statement, zone: &str) -> Result<Option<Shown>, QueryError> {
    let shown = match statement {
        Statement::ShowTables { show_options, .. } => tables(show_options)?,
        Statement::ShowViews { .. } => plain(
            "SELECT table_schema, table_name FROM information_schema.views \
             WHERE table_schema <> 'information_schema'",
        ),
        Statement::ShowColumns { show_options, .. } => {
            let table = show_options.show_in.as_ref();
            match table.and_then(|table| table.parent_name.as_ref()) {
                Some(table) => columns(table, &condition("column_name", show_options)?),
                None => return Err(typo("SHOW COLUMNS FROM t")),
            }
        }
        Statement::ExplainTable { table_name, .. } => columns(table_name, ""),
        Statement::ShowDatabases { show_options, .. }
        | Statement::ShowCatalogs { show_options, .. } => {
            let which = condition("catalog_name", show_options)?;
            plain(&format!(
                "SELECT DISTINCT catalog_name AS database FROM information_schema.schemata \
                 WHERE true{which}"
            ))
        }
        Statement::ShowSchemas { show_options, .. } => {
            let which = condition("schema_name", show_options)?;
            plain(&format!(
                "SELECT schema_name FROM information_schema.schemata WHERE true{which} ORDER BY 1"
            ))
        }
        Statement::ShowCreate { obj_type, obj_name } => {
            if *obj_type != ShowCreateObject::Table {
                return Err(typo("SHOW CREATE TABLE t"));
            }
            create(obj_name)
        }
        Statement::ShowProcessList { .. } => plain("SELECT * FROM system.queries"),
        Statement::ShowVariable { variable } => {
            let words = variable.iter().map(|word| word.value.to_ascii_lowercase());
            variable_of(&words.collect::<Vec<_>>(), zone)?
        }
        Statement::ShowVariables { .. }
        | Statement::ShowStatus { .. }
        | Statement::ShowCharset(_)
        | Statement::ShowObjects(_)
        | Statement::ShowCollation { .. } => return Err(unknown(&statement.to_string())),
        _ => return Ok(None),
    };
    Ok(Some(shown))
}

fn tables(options: &ShowStatementOptions) -> Result<Shown, QueryError> {
    let within = options.show_in.as_ref();
    let schema = match within.and_then(|within| within.parent_name.as_ref()) {
        Some(schema) => format!(" AND table_schema = {}", literal(&last(schema))),
        None => String::new(),
    };
    let which = condition("table_name", options)?;
    Ok(plain(&format!(
        "SELECT table_catalog, table_schema, table_name, table_type \
         FROM information_schema.tables WHERE true{schema}{which} ORDER BY 2, 3"
    )))
}

fn columns(table: &ObjectName, which: &str) -> Shown {
    let from = of_table(table);
    Shown {
        sql: format!(
            "SELECT table_catalog, table_schema, table_name, column_name, data_type, is_nullable \
             FROM information_schema.columns WHERE {from}{which} ORDER BY ordinal_position"
        ),
        table: Some(table.to_string()),
    }
}

fn create(table: &ObjectName) -> Shown {
    let from = of_table(table);
    Shown {
        sql: format!(
            "SELECT table_name, 'CREATE TABLE ' || table_name || ' (' || string_agg( \
               column_name || ' ' || data_type || \
               CASE is_nullable WHEN 'NO' THEN ' NOT NULL' ELSE '' END, \
               ', ' ORDER BY ordinal_position) || ')' AS create_table \
             FROM information_schema.columns WHERE {from} GROUP BY table_name"
        ),
        table: Some(table.to_string()),
    }
}

/// The rows of `information_schema` that are about `table`.
fn of_table(table: &ObjectName) -> String {
    let parts: Vec<String> = table
        .0
        .iter()
        .map(|part| unquoted(&part.to_string()))
        .collect();
    let name = parts.last().map_or("", String::as_str);
    let name = format!("lower(table_name) = lower({})", literal(name));
    match parts.len().checked_sub(2).and_then(|at| parts.get(at)) {
        Some(schema) => format!("table_schema = {} AND {name}", literal(schema)),
        None => format!("table_schema = 'public' AND {name}"),
    }
}

fn variable_of(words: &[String], zone: &str) -> Result<Shown, QueryError> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (name, value) = match words.as_slice() {
        ["timezone" | "time_zone"] | ["time", "zone"] => {
            let zone = if zone == "+00:00" { "UTC" } else { zone };
            let zone = literal(zone);
            return Ok(plain(&format!("SELECT {zone} AS \"TimeZone\"")));
        }
        ["server_version"] => ("server_version", env!("CARGO_PKG_VERSION")),
        ["transaction_isolation"] | ["transaction", "isolation", "level"] => {
            ("transaction_isolation", "repeatable read")
        }
        ["server_encoding"] => ("server_encoding", "UTF8"),
        ["client_encoding"] => ("client_encoding", "UTF8"),
        ["search_path"] => ("search_path", "public"),
        ["transaction_read_only" | "default_transaction_read_only"] => {
            ("transaction_read_only", "on")
        }
        ["measurements"] => {
            return Ok(plain(
                "SELECT table_name AS name \
             FROM information_schema.tables WHERE table_schema = 'public' ORDER BY 1",
            ));
        }
        other => return Err(unknown(&format!("SHOW {}", other.join(" ")))),
    };
    Ok(plain(&format!("SELECT {} AS {name}", literal(value))))
}

/// What `LIKE` or `WHERE` asks of the rows, to be put after a condition.
fn condition(column: &str, options: &ShowStatementOptions) -> Result<String, QueryError> {
    let Some(
        ShowStatementFilterPosition::Infix(filter) | ShowStatementFilterPosition::Suffix(filter),
    ) = &options.filter_position
    else {
        return Ok(String::new());
    };
    match filter {
        ShowStatementFilter::Like(pattern) => {
            Ok(format!(" AND {column} LIKE {}", literal(pattern)))
        }
        ShowStatementFilter::ILike(pattern) => {
            Ok(format!(" AND {column} ILIKE {}", literal(pattern)))
        }
        ShowStatementFilter::Where(expr) => Ok(format!(" AND ({expr})")),
        ShowStatementFilter::NoKeyword(_) => Err(typo("SHOW ... LIKE 'pattern'")),
    }
}

fn last(name: &ObjectName) -> String {
    name.0
        .last()
        .map_or_else(String::new, |part| unquoted(&part.to_string()))
}

/// A name as it is looked for: quotes are taken off.
fn unquoted(name: &str) -> String {
    let inner = ['"', '`']
        .into_iter()
        .find_map(|quote| name.strip_prefix(quote)?.strip_suffix(quote));
    inner.unwrap_or(name).replace("\"\"", "\"")
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn plain(sql: &str) -> Shown {
    Shown {
        sql: sql.to_owned(),
        table: None,
    }
}

fn typo(right: &str) -> QueryError {
    QueryError::NotAllowed(format!("this form of SHOW is not known: type {right}"))
}

fn unknown(statement: &str) -> QueryError {
    QueryError::NotAllowed(format!(
        "{statement} is not known here: there are SHOW TABLES, SHOW COLUMNS FROM t, SHOW CREATE \
         TABLE t, SHOW SCHEMAS, SHOW DATABASES, SHOW FUNCTIONS, SHOW TIME ZONE and DESCRIBE t"
    ))
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::dialect::GenericDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    use super::*;

    fn shown(sql: &str) -> Result<Option<Shown>, QueryError> {
        let statements = Parser::parse_sql(&GenericDialect, sql).expect(sql);
        query(&statements[0], "+00:00")
    }

    #[test]
    fn every_way_to_look_around_is_a_query_or_says_what_to_type() {
        for (sql, part) in [
            ("SHOW TABLES", "information_schema.tables WHERE true ORDER"),
            ("SHOW TABLES FROM system", "table_schema = 'system'"),
            ("SHOW TABLES IN system LIKE 'd%'", "table_name LIKE 'd%'"),
            ("SHOW TABLES LIKE 'it''s%'", "LIKE 'it''s%'"),
            ("SHOW TABLES WHERE table_name <> 'x'", "(table_name <> 'x')"),
            ("SHOW FULL COLUMNS FROM plant", "lower('plant')"),
            (
                "SHOW COLUMNS IN system.files LIKE 'm%'",
                "table_schema = 'system'",
            ),
            ("DESCRIBE \"My Plant\"", "lower('My Plant')"),
            ("DESC plant", "lower('plant')"),
            ("SHOW DATABASES", "AS database"),
            ("SHOW SCHEMAS LIKE 'p%'", "schema_name LIKE 'p%'"),
            ("SHOW CREATE TABLE plant", "CREATE TABLE"),
            ("SHOW server_version", "server_version"),
            ("SHOW TRANSACTION ISOLATION LEVEL", "repeatable read"),
            ("SHOW PROCESSLIST", "system.queries"),
            ("SHOW MEASUREMENTS", "AS name"),
        ] {
            let shown = shown(sql).expect(sql).expect(sql);
            assert!(shown.sql.contains(part), "{sql}: {}", shown.sql);
            Parser::parse_sql(&GenericDialect, &shown.sql).expect(&shown.sql);
        }
        assert_eq!(shown("SELECT 1"), Ok(None));
        for sql in [
            "SHOW ALL",
            "SHOW CREATE VIEW v",
            "SHOW FIELD KEYS",
            "SHOW datafusion.x",
        ] {
            let refused = shown(sql).expect_err(sql).to_string();
            assert!(refused.contains("SHOW "), "{sql}: {refused}");
        }
    }

    #[test]
    fn commands_of_psql_are_statements_or_say_what_to_type() {
        for (text, statement) in [
            ("\\d", "SHOW TABLES"),
            ("\\dt;", "SHOW TABLES"),
            (" \\d+ plant ;", "DESCRIBE plant"),
            ("\\dn", "SHOW SCHEMAS"),
            ("\\l", "SHOW DATABASES"),
        ] {
            assert_eq!(command(text).expect(text), statement);
        }
        let refused = command("\\q").expect_err("no such command").to_string();
        assert!(refused.contains("SHOW TABLES"), "{refused}");
    }
}
