//! `headwater check-conf`: whether a conf is good, with what it points at, and what would become of
//! a message. Must never change anything of the node's.

mod rehearsal;

use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

use super::exit::{BAD_INPUT, FAILURE, fail};
use super::output::{self, say};
use super::surroundings;
use crate::conf::{self, Conf, Role};
use rehearsal::{Column, Outcome, rehearse};

/// Checks, and prints what was found. `message` is a topic and a payload.
pub(super) fn run(
    file: &Path,
    overrides: &[String],
    message: Option<(String, String)>,
) -> ExitCode {
    let conf = match conf::load(file, overrides) {
        Ok(conf) => conf,
        Err(error) => return fail(&error, BAD_INPUT),
    };
    let found = surroundings::look(&conf);
    if !found.problems.is_empty() {
        let file = file.display();
        let problems = found.problems.iter();
        let problems: Vec<String> = problems.map(|one| format!("{file}: {one}")).collect();
        return fail(&problems.join("\n"), FAILURE);
    }
    say!(
        "{} is good: {} {:?}",
        file.display(),
        conf.role.name(),
        conf.node.name
    );
    for note in &found.notes {
        say!("  {note}");
    }
    match message {
        None => ExitCode::SUCCESS,
        Some((topic, payload)) => explain(&conf, &topic, &payload),
    }
}

fn explain(conf: &Conf, topic: &str, payload: &str) -> ExitCode {
    let Role::Primary(primary) = &conf.role else {
        say!("the message would not be stored: a secondary takes none");
        return ExitCode::from(FAILURE);
    };
    let outcome = match rehearse(primary, topic, payload.as_bytes()) {
        Ok(outcome) => outcome,
        Err(error) => return fail(&error, FAILURE),
    };
    let text = show(&outcome);
    output::text(&text);
    match outcome {
        Outcome::Rows { .. } => ExitCode::SUCCESS,
        Outcome::DeadLetter { .. } | Outcome::Closed { .. } => ExitCode::from(FAILURE),
    }
}

fn show(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Rows { table, rows } => show_rows(table, rows),
        Outcome::DeadLetter { reason } => {
            format!("the message would go to {}: {reason}\n", wal::DEAD_LETTERS)
        }
        Outcome::Closed { reason } => {
            format!("the message would not be stored, its connection would be closed: {reason}\n")
        }
    }
}

fn show_rows(table: &str, rows: &[Vec<Column>]) -> String {
    let mut text = format!("table {table}\n");
    for row in rows {
        let columns: Vec<String> = row
            .iter()
            .map(|column| match column.kind {
                None => format!("{} = {}", column.name, column.value),
                Some(kind) => format!("{} = {} ({kind})", column.name, column.value),
            })
            .collect();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {}", columns.join(", "));
    }
    text + "so it is on a new log; what a table holds already may have other types\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conf::parse;

    const CONF: &str = "[node]\nrole = \"primary\"\n[mqtt]\nmax_packet = \"1 KiB\"\n\
                        [[table]]\nname = \"plant\"\ntags = [\"site\"]\n\
                        columns = { heat = \"float\", ok = \"bool\" }\nstrict = true\n";

    fn shown(topic: &str, payload: &str) -> String {
        let Role::Primary(primary) = parse("node.toml", CONF, [], &[]).unwrap().role else {
            panic!("a secondary");
        };
        show(&rehearse(&primary, topic, payload.as_bytes()).unwrap())
    }

    #[test]
    fn a_message_is_shown_as_the_rows_that_are_stored() {
        let payload =
            r#"[{"ts":1700000000,"site":"a","heat":2,"ok":true},{"ts":1700000001,"heat":0.5}]"#;
        assert_eq!(
            shown("/plant/a", payload),
            "table plant\n  \
             time = 2023-11-14T22:13:20Z, site = \"a\" (tag), heat = 2.0 (float), ok = true (bool), \
             topic = \"/plant/a\" (tag)\n  \
             time = 2023-11-14T22:13:21Z, heat = 0.5 (float), topic = \"/plant/a\" (tag)\n\
             so it is on a new log; what a table holds already may have other types\n"
        );
        let other = shown(
            "new\"/x",
            r#"{"time":1700000000,"n":9007199254740993,"i":1,"s":"x"}"#,
        );
        let row = "time = 2023-11-14T22:13:20Z, topic = \"new\\\"/x\" (tag), \
                   n = 9007199254740993 (bigint), i = 1 (int), s = \"x\" (text)\n";
        assert!(other.contains(row), "{other}");
    }

    #[test]
    fn nothing_that_the_server_refuses_is_called_good() {
        for (topic, payload, reason) in [
            (
                "plant/a",
                r#"{"heat":"warm"}"#,
                "holds a float, the value is text",
            ),
            ("plant/a", r#"{"x":1}"#, "is strict"),
            ("plant/a", r#"{"topic":"x"}"#, "topic"),
            ("x/a", r#"[{"v":1},{"v":"y"}]"#, "v"),
            ("x/a", r#"{"v":1,"v":2}"#, "v"),
            ("system.x/a", r#"{"v":1}"#, "is reserved"),
            ("a\u{1}b", r#"{"v":1}"#, "control"),
            ("//", r#"{"v":1}"#, "only empty levels"),
            ("x", "{", "JSON"),
        ] {
            let told = shown(topic, payload);
            assert!(
                told.starts_with("the message would go to system.dead_letters: "),
                "{told}"
            );
            assert!(told.contains(reason), "{told}");
        }
        let long = format!(r#"{{"v":"{}"}}"#, "x".repeat(1_024));
        for (topic, payload) in [("a/+", "{}"), ("", "{}"), ("a", long.as_str())] {
            assert!(
                shown(topic, payload).contains("connection would be closed: "),
                "{topic}"
            );
        }
    }
}
