//! Which row of a payload a refusal is for: the log knows the column alone. Pure; must never say
//! more than can be seen in the payload.

use wal::{Refusal, Value};

use crate::decoded::Decoded;
use crate::json;
use crate::number::clipped;
use crate::record::Field;

/// The row of a payload, and the value in it, that a refusal is for; none where that is all of
/// them. `arrival` is the time of rows that have none.
#[must_use]
pub fn place_of(
    decoded: &Decoded<'_>,
    arrival: i64,
    text: &str,
    refusal: &Refusal,
) -> Option<String> {
    let rows = decoded.rows(&[], arrival);
    let rows: Vec<_> = rows.map(|row| (0, row.time, row.fields)).collect();
    place(rows.into_iter(), text, refusal)
}

/// The same for rows that begin in known lines, 0 where only their number is known, with their
/// times.
pub(crate) fn place<'r, 'a: 'r>(
    rows: impl Iterator<Item = (usize, i64, &'r [Field<'a>])>,
    text: &str,
    refusal: &Refusal,
) -> Option<String> {
    match refusal {
        Refusal::OutOfRange { time, .. } | Refusal::Expired { time, .. } => {
            let mut timed = rows.zip(1..);
            let of = |((line, own, _), row): ((usize, i64, _), usize)| {
                (own == *time).then(|| label(line, row))
            };
            timed.find_map(of)
        }
        Refusal::Twice { column } => {
            let (row, [first, second]) = json::clash(text, column)?;
            Some(if first == second {
                format!("row {row}")
            } else {
                format!("row {row}: {first} and {second} are one column")
            })
        }
        Refusal::Strict { column, .. } => first(rows, column, |_| true).map(|(at, _)| at),
        refusal => {
            let (column, is_it) = misfit(refusal)?;
            let mut before = None;
            let (at, value) = first(rows, column, |value| is_it(value, &mut before))?;
            Some(format!("{at}, value {}", shown(value)))
        }
    }
}

/// Tells the value that a refusal is for, given the kind of the column's first.
type IsIt<'r> = Box<dyn Fn(&Value<'_>, &mut Option<bool>) -> bool + 'r>;

/// The column that a refusal is for, and what tells the value in it.
fn misfit(refusal: &Refusal) -> Option<(&str, IsIt<'_>)> {
    Some(match refusal {
        Refusal::Type { column, value, .. } => (
            column,
            Box::new(move |held, _| held.kind().name() == *value),
        ),
        Refusal::Rounds { column, value, .. } => {
            (column, Box::new(move |held, _| *held == Value::Int(*value)))
        }
        Refusal::BothNumbers {
            column, integer, ..
        } => (
            column,
            Box::new(move |held, _| *held == Value::Int(*integer)),
        ),
        Refusal::NotWhole { column, value, .. } => (
            column,
            Box::new(
                move |held, _| matches!(held, Value::Float(held) if held.to_string() == *value),
            ),
        ),
        Refusal::Mixed { column, other, .. } => (
            column,
            // The first that is not as the first of all.
            Box::new(move |held, before| {
                let is_other = held.kind().name() == *other;
                *before.get_or_insert(is_other) != is_other
            }),
        ),
        _ => return None,
    })
}

/// The first row with such a value in a column, and the value.
fn first<'r, 'a: 'r>(
    rows: impl Iterator<Item = (usize, i64, &'r [Field<'a>])>,
    column: &str,
    mut is_it: impl FnMut(&Value<'a>) -> bool,
) -> Option<(String, &'r Value<'a>)> {
    let mut found = rows.zip(1..).filter_map(|((line, _, fields), row)| {
        let mut named = fields.iter().filter(|(name, _)| name == column);
        let (_, value) = named.find(|(_, value)| is_it(value))?;
        Some((label(line, row), value))
    });
    found.next()
}

fn label(line: usize, row: usize) -> String {
    match line {
        0 => format!("row {row}"),
        line => format!("line {line}"),
    }
}

fn shown(value: &Value<'_>) -> String {
    match value {
        Value::Int(number) => number.to_string(),
        Value::Float(number) => format!("{number:?}"),
        Value::Bool(truth) => truth.to_string(),
        Value::Text(text) => format!("{:?}", clipped(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::{Reading, decode};

    #[test]
    fn the_row_and_its_value_are_told() {
        let refusal = |value| Refusal::Type {
            table: "t".to_owned(),
            column: "v".to_owned(),
            holds: "a float",
            value,
        };
        let told = |text: &str, refusal: &Refusal| {
            place_of(
                &decode(text, Reading::default()).expect("decodes"),
                7,
                text,
                refusal,
            )
        };
        let text = r#"[{"v":1},{"w":true},{"v":"warm"},{"v":"x"}]"#;
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(told(text, &refusal("text")), some("row 3, value \"warm\""));
        assert_eq!(told(text, &refusal("an integer")), some("row 1, value 1"));
        assert_eq!(told(text, &refusal("a boolean")), None);
        let mixed = Refusal::Mixed {
            table: "t".to_owned(),
            column: "v".to_owned(),
            one: "an integer",
            other: "text",
        };
        assert_eq!(told(text, &mixed), some("row 3, value \"warm\""));
        let late = r#"[{"v":"a"},{"v":"b"},{"v":2.5}]"#;
        assert_eq!(told(late, &mixed), some("row 3, value 2.5"));
        let (table, column) = ("t".to_owned(), "v".to_owned());
        let rounds = Refusal::Rounds {
            table,
            column,
            value: 9_007_199_254_740_993,
        };
        let large = r#"[{"v":1},{"v":9007199254740993}]"#;
        assert_eq!(told(large, &rounds), some("row 2, value 9007199254740993"));
        let column = |column: &str| Refusal::Twice {
            column: column.to_owned(),
        };
        let twice = r#"[{"v":1},{"c":{"x":1},"c_x":2},{"v":1,"v":2}]"#;
        assert_eq!(told(twice, &column("v")), some("row 3"));
        assert_eq!(
            told(twice, &column("c_x")),
            some("row 2: c.x and c_x are one column")
        );
        assert_eq!(told(r#"{"v":1}"#, &column("topic")), None);
        let (table, column) = ("t".to_owned(), "w".to_owned());
        let strict = Refusal::Strict { table, column };
        assert_eq!(told(text, &strict), some("row 2"));
        let out = |time| Refusal::OutOfRange {
            time,
            range: wal::TimeRange::default(),
        };
        let timed = r#"[{"v":1},{"v":2,"time":-3}]"#;
        assert_eq!(told(timed, &out(-3_000_000_000)), some("row 2"));
        assert_eq!(told(timed, &out(7)), some("row 1"));
    }
}
