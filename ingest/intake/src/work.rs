//! What a write costs grows as the write does, in all formats that come over HTTP: CSV and line
//! protocol. The least of some measured times. Tests only; must never fail because others run
//! too.

use std::sync::Arc;
use std::time::{Duration, Instant};

use wal::{AppendError, GroupId, Refusal, Row, TableSchema};

use crate::append::{AppendRows, append_body};
use crate::decoded::MAX_ROWS;
use crate::timestamp::Times;
use crate::write::{Format, Target};

/// Takes everything, or nothing.
struct Fake {
    refuses: bool,
}

impl AppendRows for Fake {
    fn append(&mut self, _: &str, _: &[Row<'_>]) -> Result<GroupId, AppendError> {
        match self.refuses {
            true => Err(Refusal::Empty.into()),
            false => Ok(GroupId(1)),
        }
    }

    fn schema(&self, _: &str) -> Option<Arc<TableSchema>> {
        None
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn table(format: Format, tags: usize) -> Target {
    Target::Table {
        table: "t".to_owned(),
        format,
        tags: (0..tags).map(|n| format!("tag{n}")).collect(),
    }
}

fn time(target: &Target, text: &str) -> u64 {
    let refuses = text.starts_with("refused");
    let begun = Instant::now();
    // Whether it is taken is for other tests.
    let _ = append_body(
        target,
        (Times::default(), MAX_ROWS),
        text,
        1,
        &mut Fake { refuses },
    );
    nanos(begun.elapsed())
}

fn grows_as_its_input(name: &str, target: &Target, n: usize, make: &dyn Fn(usize) -> String) {
    let (small, large) = (make(n), make(4 * n));
    let mut least = f64::INFINITY;
    // Whatever disturbs it makes it take longer; what is quadratic takes 16 times as long each time.
    for _ in 0..20 {
        let of = |text: &str| (0..3).map(|_| time(target, text)).min().unwrap_or(0).max(1);
        least = least.min(of(&large) as f64 / of(&small) as f64);
        if least < 9.0 {
            return;
        }
    }
    panic!("{name}: four times as much takes {least} times as long");
}

fn many(n: usize, between: &str, one: impl Fn(usize) -> String) -> String {
    (0..n).map(one).collect::<Vec<_>>().join(between)
}

type Make = fn(usize) -> String;

#[test]
fn four_times_as_many_lines_take_no_sixteen_times_as_long() {
    let cases: [(&str, usize, Make); 11] = [
        ("lines", 5_000, |n| {
            many(n, "\n", |n| format!("a v={n} {n}"))
        }),
        ("tables", 5_000, |n| many(n, "\n", |n| format!("a{n} v=1"))),
        ("tags", 5_000, |n| {
            format!("a,{} v=1", many(n, ",", |n| format!("t{n}=x")))
        }),
        ("fields", 5_000, |n| {
            format!("a {}", many(n, ",", |n| format!("f{n}=1")))
        }),
        ("escapes", 20_000, |n| {
            format!("a\\ {} v=1", "\\,".repeat(n))
        }),
        ("open quotes", 5_000, |n| {
            many(n, "\n", |_| "a v=\"x".into())
        }),
        ("quotes over lines", 20_000, |n| {
            format!("a v=\"{}\"", "\n".repeat(n))
        }),
        ("lines that cannot be read", 5_000, |n| {
            many(n, "\n", |_| "a v=".into())
        }),
        ("lines that are refused", 2_000, |n| {
            many(n, "\n", |n| format!("refused v={n}"))
        }),
        ("ends of lines", 100_000, |n| "\r\n".repeat(n)),
        ("notes", 20_000, |n| "# \"\n".repeat(n)),
    ];
    for (name, n, make) in cases {
        grows_as_its_input(name, &Target::Lines, n, &make);
    }
}

#[test]
fn four_times_as_many_cells_take_no_sixteen_times_as_long() {
    let cases: [(&str, usize, Make); 7] = [
        ("rows", 5_000, |n| {
            format!("time,v\n{}", many(n, "\n", |n| format!("{n},{n}")))
        }),
        ("columns", 2_000, |n| {
            format!(
                "{}\n{}",
                many(n, ",", |n| format!("c{n}")),
                many(n, ",", |n| n.to_string())
            )
        }),
        ("quotes", 20_000, |n| {
            format!("a,b\n1,\"{}\"", "\"\"".repeat(n))
        }),
        ("a quote that is never closed", 20_000, |n| {
            format!("a,b\n1,\"{}", "x\n".repeat(n))
        }),
        ("blank lines", 50_000, |n| {
            format!("a,b{}1,2", "\n".repeat(n))
        }),
        ("odd times", 3_000, |n| {
            format!(
                "Time,dateTime,v\n{}",
                many(n, "\n", |n| format!("x{n},y{n},{n}"))
            )
        }),
        ("one column twice", 5_000, |n| {
            format!("{},c1\n1", many(n, ",", |n| format!("c{n}")))
        }),
    ];
    for (name, n, make) in cases {
        grows_as_its_input(name, &table(Format::Csv, 64), n, &make);
    }
    let json: [(&str, usize, Make); 2] = [
        ("objects", 5_000, |n| {
            many(n, "\n", |n| format!("{{\"v\":{n},\"tag63\":{n}}}"))
        }),
        ("an object", 2_000, |n| {
            format!("{{{}}}", many(n, ",", |n| format!("\"tag{n}\":{n}")))
        }),
    ];
    for (name, n, make) in json {
        grows_as_its_input(name, &table(Format::Json, 64), n, &make);
    }
}
