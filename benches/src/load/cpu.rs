//! The `cpu` table of TSBS: hosts with ten tags and ten usages, each a clamped random walk.
//!
//! The same seed must never give other rows. Written as CSV, they can be loaded into other
//! databases.

use std::borrow::Cow;
use std::io::{self, Write};

use wal::{Row, Value};

/// One row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usage {
    /// Unix nanoseconds.
    pub time: i64,
    /// Number of the host.
    pub host: usize,
    /// Values of `FIELDS`, with two decimals.
    pub values: [f64; FIELDS.len()],
}

/// The rows of a fleet of hosts in the order of time, without an end.
#[derive(Debug)]
pub struct Fleet {
    tags: Vec<[String; TAGS.len()]>,
    walks: Vec<[i64; FIELDS.len()]>,
    random: fastrand::Rng,
    time: i64,
    next: usize,
}

impl Fleet {
    /// At least one host, whose first row is at `time`.
    pub fn new(hosts: usize, seed: u64, time: i64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let hosts = hosts.max(1);
        Self {
            tags: (0..hosts).map(|host| tags(host, &mut random)).collect(),
            walks: (0..hosts)
                .map(|_| std::array::from_fn(|_| random.i64(0..=HUNDRED_PERCENT)))
                .collect(),
            random,
            time,
            next: 0,
        }
    }

    /// Names and values of a host's tags.
    pub fn tags(&self, host: usize) -> [(&'static str, &str); TAGS.len()] {
        std::array::from_fn(|tag| (TAGS[tag], self.tags[host][tag].as_str()))
    }

    /// The next `count` rows.
    pub fn take(&mut self, count: usize) -> Vec<Usage> {
        (0..count).map(|_| self.step()).collect()
    }

    fn step(&mut self) -> Usage {
        let (host, time) = (self.next, self.time);
        let walk = &mut self.walks[host];
        let values = std::array::from_fn(|field| walk[field] as f64 / 100.0);
        for value in walk {
            let step = (normal(&mut self.random) * 100.0).round() as i64;
            *value = (*value + step).clamp(0, HUNDRED_PERCENT);
        }
        self.next += 1;
        if self.next == self.walks.len() {
            self.next = 0;
            self.time += INTERVAL;
        }
        Usage { time, host, values }
    }
}

/// Fields of a row as the log takes them.
pub fn fields(usage: &Usage) -> [(Cow<'static, str>, Value<'static>); FIELDS.len()] {
    std::array::from_fn(|field| {
        (
            Cow::Borrowed(FIELDS[field]),
            Value::Float(usage.values[field]),
        )
    })
}

/// Calls `use_rows` with `rows` as the log takes them.
pub fn with_rows<T>(fleet: &Fleet, rows: &[Usage], use_rows: impl FnOnce(&[Row<'_>]) -> T) -> T {
    let tags: Vec<_> = rows.iter().map(|row| fleet.tags(row.host)).collect();
    let fields: Vec<_> = rows.iter().map(fields).collect();
    let rows: Vec<Row<'_>> = rows
        .iter()
        .zip(tags.iter().zip(&fields))
        .map(|(row, (tags, fields))| Row {
            time: row.time,
            tags,
            fields,
        })
        .collect();
    use_rows(&rows)
}

/// The names of the columns: the first line of a CSV file.
///
/// # Errors
/// When the writer fails.
pub fn csv_header(out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "time,{},{}", TAGS.join(","), FIELDS.join(","))
}

/// Rows as lines of CSV, times in nanoseconds. No value needs a quote.
///
/// # Errors
/// When the writer fails.
pub fn csv_rows(out: &mut impl Write, fleet: &Fleet, rows: &[Usage]) -> io::Result<()> {
    for row in rows {
        write!(out, "{},{}", row.time, fleet.tags[row.host].join(","))?;
        for value in row.values {
            write!(out, ",{value:.2}")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

fn tags(host: usize, random: &mut fastrand::Rng) -> [String; TAGS.len()] {
    let mut pick = |from: &[&str]| from[random.usize(0..from.len())].to_owned();
    let region = pick(&REGIONS);
    let (zone, os, arch) = (
        pick(&["a", "b", "c"]),
        pick(&SYSTEMS),
        pick(&["x64", "x86"]),
    );
    let (team, environment) = (pick(&TEAMS), pick(&ENVIRONMENTS));
    [
        format!("host_{host}"),
        region.clone(),
        format!("{region}{zone}"),
        random.u8(0..100).to_string(),
        os,
        arch,
        team,
        random.u8(0..20).to_string(),
        random.u8(0..2).to_string(),
        environment,
    ]
}

/// A number with mean 0 and deviation 1, by Box and Muller.
fn normal(random: &mut fastrand::Rng) -> f64 {
    // A logarithm of 0 would be a step without an end.
    let radius = (-2.0 * (1.0 - random.f64()).ln()).sqrt();
    radius * (std::f64::consts::TAU * random.f64()).cos()
}

/// The table all rows go to.
pub const TABLE: &str = "cpu";

/// The tags of every host.
pub const TAGS: [&str; 10] = [
    "hostname",
    "region",
    "datacenter",
    "rack",
    "os",
    "arch",
    "team",
    "service",
    "service_version",
    "service_environment",
];

/// The fields of every row.
pub const FIELDS: [&str; 10] = [
    "usage_user",
    "usage_system",
    "usage_idle",
    "usage_nice",
    "usage_iowait",
    "usage_irq",
    "usage_softirq",
    "usage_steal",
    "usage_guest",
    "usage_guest_nice",
];

/// Nanoseconds between two rows of one host.
pub const INTERVAL: i64 = 10_000_000_000;

const REGIONS: [&str; 9] = [
    "us-east-1",
    "us-west-1",
    "us-west-2",
    "eu-west-1",
    "eu-central-1",
    "ap-southeast-1",
    "ap-southeast-2",
    "ap-northeast-1",
    "sa-east-1",
];

const SYSTEMS: [&str; 3] = ["Ubuntu16.10", "Ubuntu16.04LTS", "Ubuntu15.10"];

const TEAMS: [&str; 4] = ["SF", "NYC", "LON", "CHI"];

const ENVIRONMENTS: [&str; 3] = ["production", "staging", "test"];

/// Usages are walked in hundredths of a percent, so that a rounded step stays rounded.
const HUNDRED_PERCENT: i64 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_those_of_the_seed_in_the_order_of_time() {
        let mut fleet = Fleet::new(3, 7, 1_000);
        let rows = fleet.take(300);
        assert_eq!(rows, Fleet::new(3, 7, 1_000).take(300));
        assert_ne!(rows, Fleet::new(3, 8, 1_000).take(300));
        assert!(rows.iter().all(|row| {
            row.values.iter().all(|value| {
                (0.0..=100.0).contains(value) && (value * 100.0).round() / 100.0 == *value
            })
        }));
        assert_eq!(
            (rows[2].host, rows[3].host, rows[3].time - rows[2].time),
            (2, 0, INTERVAL)
        );
    }

    #[test]
    fn a_line_of_csv_has_every_column() {
        let mut fleet = Fleet::new(2, 1, 0);
        let rows = fleet.take(2);
        let mut text = Vec::new();
        csv_header(&mut text).unwrap();
        csv_rows(&mut text, &fleet, &rows).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert_eq!(text.lines().count(), 3);
        let columns = 1 + TAGS.len() + FIELDS.len();
        assert!(text.lines().all(|line| line.split(',').count() == columns));
        assert!(text.lines().nth(2).unwrap().starts_with("0,host_1,"));
    }
}
