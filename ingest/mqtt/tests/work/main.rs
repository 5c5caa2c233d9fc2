//! What a message costs grows as the message does, whatever is in it: from its bytes to rows handed
//! to a log, or to a dead letter. The least of some measured times; must never fail because
//! others run too.

#![expect(clippy::expect_used, reason = "a test that cannot go on ends")]

use std::time::{Duration, Instant};

use mqtt::{Config, Fate, explain};

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A log, and who hands messages to it.
struct Bench {
    committer: Option<wal::Committer>,
    appender: wal::Appender,
    config: Config,
    tables: u64,
    _dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let log = wal::Config::default();
        let opened = wal::open_primary(wal::OsDisk::new(), dir.path(), &log);
        let (committer, _) = opened.expect("a log");
        Self {
            appender: committer.appender(Box::new(|_| ())),
            committer: Some(committer),
            config: Config {
                max_packet: 16 << 20,
                ..Config::default()
            },
            tables: 0,
            _dir: dir,
        }
    }

    /// The time that one message takes whose table is new.
    fn time(&mut self, payload: &[u8]) -> u64 {
        self.tables += 1;
        let topic = format!("t{}/x", self.tables);
        let begun = Instant::now();
        let fate = explain(&self.config, &mut self.appender, &topic, payload, 1);
        let took = begun.elapsed();
        match fate {
            Fate::Rows { group, .. } | Fate::DeadLetter { group, .. } => {
                self.appender.wait(group).expect("durable");
            }
            Fate::Closed { reason } => panic!("{reason}"),
        }
        nanos(took)
    }

    /// How much more one four times as large takes. Whatever disturbs it makes it take longer, so
    /// the least of some is what it takes.
    fn ratio(&mut self, make: &dyn Fn(usize) -> Vec<u8>, n: usize) -> f64 {
        let (small, large) = (make(n), make(4 * n));
        let mut least = |payload: &[u8]| {
            let times = (0..3).map(|_| self.time(payload));
            times.min().unwrap_or_default().max(1)
        };
        let (small, large) = (least(&small), least(&large));
        large as f64 / small as f64
    }

    fn grows_as_its_input(&mut self, name: &str, n: usize, make: &dyn Fn(usize) -> Vec<u8>) {
        let mut least = f64::INFINITY;
        // What is quadratic takes 16 times as long, each time.
        for _ in 0..20 {
            least = least.min(self.ratio(make, n));
            if least < 9.0 {
                return;
            }
        }
        panic!("{name}: four times as much takes {least} times as long");
    }
}

/// So many of them, told apart by their numbers.
fn many(n: usize, between: &str, one: impl Fn(usize) -> String) -> String {
    (0..n).map(one).collect::<Vec<_>>().join(between)
}

type Make = Box<dyn Fn(usize) -> Vec<u8>>;

fn texts(make: impl Fn(usize) -> String + 'static) -> Make {
    Box::new(move |n| make(n).into_bytes())
}

type Case = (&'static str, usize, Make);

fn all(cases: &[Case]) {
    let mut bench = Bench::new();
    for (name, n, make) in cases {
        bench.grows_as_its_input(name, *n, make);
    }
    if let Some(committer) = bench.committer.take() {
        committer.stop().expect("stops");
    }
}

#[test]
fn rows_take_as_long_as_there_are_many() {
    all(&[
        (
            "empty objects",
            20_000,
            texts(|n| many(n, "\n", |_| "{}".into())),
        ),
        (
            "lines",
            10_000,
            texts(|n| many(n, "\n", |n| format!("{{\"v\":{n}}}"))),
        ),
        (
            "objects without ends",
            10_000,
            texts(|n| many(n, "", |n| format!("{{\"v\":{n}}}"))),
        ),
        (
            "blanks",
            200_000,
            texts(|n| format!("{{\"v\":1}}{}{{\"v\":2}}", "\n".repeat(n))),
        ),
        (
            "an array of rows",
            10_000,
            texts(|n| format!("[{}]", many(n, ",", |n| format!("{{\"v\":{n}}}")))),
        ),
    ]);
}

#[test]
fn fields_take_as_long_as_there_are_many() {
    all(&[
        (
            "fields",
            250,
            texts(|n| format!("{{{}}}", many(n, ",", |n| format!("\"f{n}\":{n}")))),
        ),
        (
            "more fields than there may be",
            20_000,
            texts(|n| format!("{{{}}}", many(n, ",", |n| format!("\"f{n}\":{n}")))),
        ),
        (
            "one field again and again",
            20_000,
            texts(|n| format!("{{{}}}", many(n, ",", |_| "\"f\":1".into()))),
        ),
        (
            "times again and again",
            5_000,
            texts(|n| {
                format!(
                    "{{\"v\":1,{}}}",
                    many(n, ",", |n| format!("\"Time\":\"x{n}\""))
                )
            }),
        ),
        (
            "the topic again and again",
            10_000,
            texts(|n| many(n, "\n", |_| "{\"topic\":\"x\",\"v\":1}".into())),
        ),
    ]);
}

#[test]
fn nesting_takes_as_long_as_it_is_deep() {
    all(&[
        (
            "objects in objects",
            5_000,
            texts(|n| {
                format!(
                    "{{{}}}",
                    many(n, ",", |n| format!("\"o{n}\":{{\"a\":{{\"b\":1}}}}"))
                )
            }),
        ),
        (
            "deep",
            30,
            texts(|n| format!("{}1{}", "{\"a\":".repeat(n), "}".repeat(n))),
        ),
        (
            "deeper than it may be",
            20_000,
            texts(|n| format!("{}1{}", "{\"a\":".repeat(n), "}".repeat(n))),
        ),
        (
            "arrays in arrays",
            20_000,
            texts(|n| format!("{}{}", "[".repeat(n), "]".repeat(n))),
        ),
        (
            "a long array",
            50_000,
            texts(|n| format!("{{\"v\":[{}]}}", many(n, ", ", |n| n.to_string()))),
        ),
    ]);
}

#[test]
fn what_is_refused_takes_no_longer_than_what_is_taken() {
    all(&[
        (
            "escapes",
            50_000,
            texts(|n| format!("{{\"v\":\"{}\"}}", "\\u00e9\\n".repeat(n))),
        ),
        (
            "rows of many shapes",
            300,
            texts(|n| many(n, "\n", |n| format!("{{\"f{n}\":{n}}}"))),
        ),
        (
            "a fault at the end",
            20_000,
            texts(|n| {
                format!(
                    "{}\n{{\"v\":x}}",
                    many(n, "\n", |n| format!("{{\"v\":{n}}}"))
                )
            }),
        ),
        (
            "a misfit at the end",
            10_000,
            texts(|n| {
                format!(
                    "{}\n{{\"v\":\"x\"}}",
                    many(n, "\n", |n| format!("{{\"v\":{n}}}"))
                )
            }),
        ),
        ("no text", 200_000, Box::new(|n| vec![0xff; n])),
    ]);
}
