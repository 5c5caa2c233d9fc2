//! `headwater check-conf`: whether a conf is good, with what it points at, and what a message would
//! become. Must never change anything.

use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

use jiff::Timestamp;

use super::exit::{BAD_INPUT, FAILURE, fail};
use super::surroundings;
use crate::conf;

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
    println!(
        "{} is good: {} {:?}",
        file.display(),
        conf.role.name(),
        conf.node.name
    );
    for note in &found.notes {
        println!("  {note}");
    }
    let Some((topic, payload)) = message else {
        return ExitCode::SUCCESS;
    };
    let now = i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX);
    match mqtt::explain(&topic, payload.as_bytes(), now) {
        Ok(explained) => {
            print!("{}", show(&explained));
            ExitCode::SUCCESS
        }
        Err(reason) => {
            println!("the message would go to {}: {reason}", wal::DEAD_LETTERS);
            ExitCode::from(FAILURE)
        }
    }
}

fn show(explained: &mqtt::Explained) -> String {
    let mut text = format!("table {}\n", explained.table);
    for (time, fields) in &explained.rows {
        // Writing to a String cannot fail.
        let _ = write!(text, "  time = {}", show_time(*time));
        for (tag, value) in &explained.tags {
            let _ = write!(text, ", {tag} = {value:?} (tag)");
        }
        for (field, value) in fields {
            let _ = write!(text, ", {field} = {}", show_value(value));
        }
        text.push('\n');
    }
    text
}

fn show_time(nanos: i64) -> String {
    Timestamp::from_nanosecond(i128::from(nanos))
        .map_or_else(|_| format!("{nanos} ns"), |time| time.to_string())
}

fn show_value(value: &wal::Value<'_>) -> String {
    match value {
        wal::Value::Int(number) => format!("{number} (int)"),
        wal::Value::Float(number) => format!("{number:?} (float)"),
        wal::Value::Bool(flag) => format!("{flag} (bool)"),
        wal::Value::Text(text) => format!("{text:?} (text)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_shown_as_its_row() {
        let explained = mqtt::Explained {
            table: "plant".to_owned(),
            tags: vec![("topic".to_owned(), "plant/a".to_owned())],
            rows: vec![(
                1_700_000_000_000_000_000,
                vec![
                    ("n".to_owned(), wal::Value::Int(1)),
                    ("t".to_owned(), wal::Value::Float(2.0)),
                ],
            )],
        };
        assert_eq!(
            show(&explained),
            "table plant\n  time = 2023-11-14T22:13:20Z, topic = \"plant/a\" (tag), n = 1 (int), \
             t = 2.0 (float)\n"
        );
    }
}
