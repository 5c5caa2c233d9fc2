//! Messages of the engine in words that a client can act on. Owns the names of types, the hints of
//! what to type instead, and what is left out; must never decide what kind of failure one is by its
//! words, but for those that the engine takes for its own faults and are the statement's.

/// A message as the client who sent `sql` reads it.
pub(crate) fn reworded(message: &str, sql: &str) -> String {
    if let Some(call) = between(message, "argument types '", "'. You might") {
        return no_such_call(call, message, sql);
    }
    let told = without_boilerplate(message);
    if let Some(what) = told.strip_prefix("Physical plan does not support logical expression ") {
        return misplaced(what).to_owned();
    }
    if told.contains("(Null -->") || told.ends_with("not supported for Null") {
        return format!("{NO_TYPE}: CAST(NULL AS DOUBLE) has one");
    }
    if let Some(name) = between(told, "Invalid function '", "'")
        && WINDOW_FUNCTIONS.contains(&name)
    {
        return format!("{name} is a window function: {name}(...) OVER (...)");
    }
    // Names stay as they are, and so do the types of who asks for Arrow's.
    if told.starts_with("No field named") || told.contains("arrow type") {
        return told.to_owned();
    }
    let mut renamed = in_sql(told);
    if is_mismatch(told) && renamed.contains("text") && !renamed.contains("text in LIKE") {
        renamed.push_str(TEXT_HINT);
    }
    renamed
}

/// Whether what the engine takes for a fault of its own is one of the statement.
pub(crate) fn is_of_statement(message: &str) -> bool {
    without_boilerplate(message).starts_with("Failed to coerce types")
}

/// The message without who says it, and without whom to tell.
fn without_boilerplate(message: &str) -> &str {
    let mut told = message
        .split("\nThis issue was likely caused by a bug")
        .next()
        .unwrap_or(message)
        .trim_end_matches(|c: char| c == '.' || c.is_whitespace());
    while let Some(rest) = SPEAKERS.iter().find_map(|who| told.strip_prefix(who)) {
        told = rest;
    }
    told
}

fn is_mismatch(message: &str) -> bool {
    [
        "Cannot coerce",
        "Cannot infer common",
        "There isn't a common type",
        "Failed to coerce types",
    ]
    .iter()
    .any(|start| message.starts_with(start))
}

/// `avg(Utf8)` and the like.
fn no_such_call(call: &str, message: &str, sql: &str) -> String {
    let shown = in_sql(call);
    let mut told = format!("{shown} does not exist");
    let mut candidates: Vec<String> = message
        .split("Candidate functions:")
        .nth(1)
        .unwrap_or_default()
        .lines()
        .map(|line| in_sql(line.trim()))
        .filter(|line| !line.is_empty() && !line.contains("UserDefined"))
        .take(MOST_CANDIDATES)
        .collect();
    candidates.dedup();
    if !candidates.is_empty() {
        told.push_str(&format!(": there is {}", candidates.join(", ")));
    }
    let Some((name, kinds)) = shown.split_once('(') else {
        return told;
    };
    let kinds = kinds.trim_end_matches(')');
    let takes = |kind: &str| candidates.iter().any(|candidate| candidate.contains(kind));
    let numbers = ["double", "float", "bigint", "decimal", "numeric", "integer"];
    let numeric = numbers.iter().any(|kind| takes(kind));
    match argument(name, sql) {
        Some(argument) if !kinds.contains(',') => {
            let instead = match kinds {
                "text" if numeric => format!("TRY_CAST({argument} AS DOUBLE)"),
                "boolean" if numeric => format!("CAST({argument} AS INT)"),
                "timestamp" | "date" if numeric => format!("extract(epoch FROM {argument})"),
                _ if kinds != "text" && takes("text") => format!("CAST({argument} AS TEXT)"),
                _ => return told,
            };
            told.push_str(&format!("; {argument} is {kinds}: {name}({instead})"));
        }
        _ if kinds.contains("text") && numeric => told.push_str(TEXT_HINT),
        _ => {}
    }
    told
}

/// What the only calls of a function in `sql` are given.
fn argument<'a>(name: &str, sql: &'a str) -> Option<&'a str> {
    let lower = sql.to_ascii_lowercase();
    let mut found: Option<&str> = None;
    for (start, _) in lower.match_indices(&format!("{}(", name.to_ascii_lowercase())) {
        let is_part = lower[..start]
            .chars()
            .next_back()
            .is_some_and(|c| c.is_alphanumeric() || c == '_');
        if is_part {
            continue;
        }
        let inside = closed(&sql[start + name.len() + 1..])?.trim();
        if found.is_some_and(|before| before != inside) {
            return None;
        }
        found = Some(inside);
    }
    found.filter(|argument| !argument.is_empty() && argument.len() <= LONGEST_ARGUMENT)
}

/// The text up to the bracket that closes it.
fn closed(text: &str) -> Option<&str> {
    let mut depth = 0_usize;
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' if depth == 0 => return Some(&text[..at]),
            ')' => depth -= 1,
            _ => {}
        }
    }
    None
}

fn misplaced(what: &str) -> &'static str {
    if what.starts_with("InSubquery") || what.starts_with("Exists") {
        "IN (SELECT ...) and EXISTS are possible in WHERE, HAVING and QUALIFY, not here: \
         a LEFT JOIN tells the same"
    } else if what.starts_with("OuterReferenceColumn") {
        "a column of an outer query is not possible here: write a join"
    } else if what.starts_with("ScalarSubquery") {
        "this subquery depends on rows of the outer query in a way that is not possible: \
         write a join"
    } else {
        "this expression is not possible here"
    }
}

/// A text whose types have their SQL names.
fn in_sql(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let starts_word = shown
            .chars()
            .next_back()
            .is_none_or(|before| !before.is_alphanumeric() && before != '_' && before != '"');
        let found = TYPES.iter().find(|(arrow, _)| {
            starts_word
                && rest.strip_prefix(arrow).is_some_and(|after| {
                    !after.starts_with(|c: char| c.is_alphanumeric() || c == '_' || c == '"')
                })
        });
        if let Some((arrow, sql)) = found {
            shown.push_str(sql);
            rest = &rest[arrow.len()..];
            if matches!(*sql, "timestamp" | "interval") {
                rest = after_parameters(rest);
            }
        } else {
            shown.push(next);
            rest = &rest[next.len_utf8()..];
        }
    }
    shown
}

/// What follows `(ns, "+00:00")`.
fn after_parameters(rest: &str) -> &str {
    rest.strip_prefix('(')
        .and_then(|inside| inside.split_once(')'))
        .map_or(rest, |(_, after)| after)
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    let rest = text.split_once(start)?.1;
    Some(rest.split_once(end)?.0)
}

const SPEAKERS: &[&str] = &[
    "Internal error: ",
    "Error during planning: ",
    "Execution error: ",
    "Arrow error: ",
    "External error: ",
];

/// Arrow's names, and those of SQL.
const TYPES: &[(&str, &str)] = &[
    ("Utf8View", "text"),
    ("LargeUtf8", "text"),
    ("Utf8", "text"),
    ("String", "text"),
    ("Boolean", "boolean"),
    ("Int64", "bigint"),
    ("UInt64", "unsigned bigint"),
    ("Int32", "integer"),
    ("Int16", "smallint"),
    ("Float64", "double"),
    ("Float32", "real"),
    ("Float", "double"),
    ("Decimal", "decimal"),
    ("Numeric", "numeric"),
    ("Timestamp", "timestamp"),
    ("Date32", "date"),
    ("Date", "date"),
    ("Interval", "interval"),
    ("Duration", "interval"),
    ("Null", "NULL"),
];

const WINDOW_FUNCTIONS: &[&str] = &[
    "row_number",
    "rank",
    "dense_rank",
    "percent_rank",
    "cume_dist",
    "ntile",
    "lead",
    "lag",
];

const NO_TYPE: &str = "NULL alone has no type here";
const TEXT_HINT: &str = "; a text counts as a number with TRY_CAST(... AS DOUBLE)";
const MOST_CANDIDATES: usize = 6;
/// Longer ones are not worth repeating.
const LONGEST_ARGUMENT: usize = 80;

#[cfg(test)]
mod tests {
    use super::*;

    const AVG: &str = "Internal error: Function 'avg' failed to match any signature, errors: Error \
        during planning: Function 'avg' requires Decimal, but received String (DataType: Utf8)..\n\
        This issue was likely caused by a bug in DataFusion's code. Please help us to resolve this \
        by filing a bug report in our issue tracker: https://github.com/apache/datafusion/issues. \
        No function matches the given name and argument types 'avg(Utf8)'. You might need to add \
        explicit type casts.\n\tCandidate functions:\n\tavg(Decimal)\n\tavg(Duration)\n\tavg(Float64)";

    #[test]
    fn a_text_is_named_with_what_makes_it_a_number() {
        assert_eq!(
            reworded(AVG, "SELECT avg(value) FROM t"),
            "avg(text) does not exist: there is avg(decimal), avg(interval), avg(double); \
             value is text: avg(TRY_CAST(value AS DOUBLE))"
        );
        assert_eq!(
            reworded(AVG, "SELECT avg(a), avg(b), my_avg(c) FROM t"),
            "avg(text) does not exist: there is avg(decimal), avg(interval), avg(double); \
             a text counts as a number with TRY_CAST(... AS DOUBLE)"
        );
    }

    #[test]
    fn other_types_have_other_hints() {
        let call = |kind: &str| AVG.replace("avg(Utf8)", &format!("avg({kind})"));
        for (kind, end) in [
            ("Boolean", "ok is boolean: avg(CAST(ok AS INT))"),
            (
                "Timestamp(ns, \"+00:00\")",
                "ok is timestamp: avg(extract(epoch FROM ok))",
            ),
        ] {
            let told = reworded(&call(kind), "SELECT AVG(ok) FROM t");
            assert!(told.ends_with(end), "{told}");
        }
    }

    #[test]
    fn nobody_is_sent_to_another_project() {
        let told = reworded(
            "Internal error: odd.\nThis issue was likely caused by a bug in",
            "",
        );
        assert_eq!(told, "odd");
        let nested = "Execution error: Error during planning: bad Int64";
        assert_eq!(reworded(nested, ""), "bad bigint");
    }

    #[test]
    fn types_are_those_of_sql_and_names_stay() {
        assert_eq!(
            reworded(
                "Cannot coerce arithmetic expression Utf8 + Int64 to valid types",
                ""
            ),
            "Cannot coerce arithmetic expression text + bigint to valid types; \
             a text counts as a number with TRY_CAST(... AS DOUBLE)"
        );
        assert_eq!(
            reworded("Invalid function 'lag'.\nDid you mean 'log'?", ""),
            "lag is a window function: lag(...) OVER (...)"
        );
        assert_eq!(
            reworded("No field named \"Int64\".", ""),
            "No field named \"Int64\""
        );
        assert!(is_of_statement(
            "Failed to coerce types Int64 and Boolean in BETWEEN expression"
        ));
    }
}
