//! What compaction costs a primary under load: the same primary with and without it, in one run.
//!
//! Compaction has no off switch, but it only takes sealed segments: with segments of 1 GiB a short
//! run seals none, with segments of 16 MiB it is at work all the time, unlimited. Sealing itself is
//! thereby in the difference too. Must never count a round in which that did not happen as meant.

use crate::error::BenchError;
use crate::load::generator::{self, Report};
use crate::machine;
use crate::measure::compare::options::{Options, Regime, load_options};
use crate::measure::rounds::{Rounds, order};
use crate::stats::{Table, grouped, median};

/// A primary and what its disk held after the load.
struct Kind {
    name: &'static str,
    set: &'static [&'static str],
    rounds: Rounds,
    segments: Vec<f64>,
    files: Vec<f64>,
    megabytes: Vec<f64>,
}

impl Kind {
    fn new(name: &'static str, set: &'static [&'static str]) -> Self {
        Self {
            name,
            set,
            rounds: Rounds::default(),
            segments: Vec::new(),
            files: Vec::new(),
            megabytes: Vec::new(),
        }
    }

    /// A fresh primary under one load.
    fn run(&mut self, options: &Options, regime: Regime) -> Result<Report, BenchError> {
        let primary = options.headwater.with(self.set).primary()?;
        let report = generator::run(&load_options(
            options,
            regime,
            primary.mqtt,
            primary.process.pid(),
        ))?;
        let (segments, files) = (primary.files("log")?, primary.files("parquet")?);
        self.rounds
            .add(&report, report.server_cpu_per_million().unwrap_or(0.0));
        self.segments.push(segments.len() as f64);
        self.files.push(files.len() as f64);
        self.megabytes.push(files.iter().sum::<u64>() as f64 / 1e6);
        Ok(report)
    }

    /// A round that did not do what its name says measured something else.
    fn check(&self, compacts: bool) -> Result<(), BenchError> {
        let none = |counts: &[f64]| counts.iter().all(|count| *count == 0.0);
        if !compacts && !none(&self.files) {
            return Err(BenchError::Invalid(
                "the primary without compaction sealed a segment: use fewer --seconds".to_owned(),
            ));
        }
        if compacts && none(&self.files) {
            return Err(BenchError::Invalid(
                "the primary with compaction made no file: use more --seconds".to_owned(),
            ));
        }
        Ok(())
    }
}

/// A primary without and with compaction. Fails when compaction ran where it should not, or
/// nowhere.
pub(crate) fn measure(options: &Options) -> Result<String, BenchError> {
    let mut table = Table::new(&[
        "compaction",
        "regime",
        "messages/s",
        "of without",
        "CPU s per million",
        "p99 ms",
        "segments at the end",
        "Parquet files at the end",
        "Parquet MB at the end",
    ]);
    for &regime in &options.regimes {
        let mut kinds = [Kind::new("off", &OFF), Kind::new("on", &ON)];
        for round in 0..options.rounds {
            for index in order(kinds.len(), round) {
                let report = kinds[index].run(options, regime)?;
                eprintln!(
                    "compaction {}, {regime}, round {}: {}",
                    kinds[index].name,
                    round + 1,
                    report.json()
                );
            }
        }
        kinds[0].check(false)?;
        kinds[1].check(true)?;
        let without = median(&kinds[0].rounds.rates);
        for kind in &kinds {
            let rate = median(&kind.rounds.rates);
            table.row(&[
                kind.name.to_owned(),
                regime.to_string(),
                grouped(rate),
                format!("{:.2}", rate / without),
                format!("{:.2}", median(&kind.rounds.cpu)),
                format!("{:.2}", median(&kind.rounds.p99)),
                grouped(median(&kind.segments)),
                grouped(median(&kind.files)),
                grouped(median(&kind.megabytes)),
            ]);
        }
    }
    Ok(format!(
        "{}\n\n{table}\nOff: {}. On: {}.",
        machine::describe(),
        OFF.join(", "),
        ON.join(", ")
    ))
}

/// Given to primaries after what the user set.
const OFF: [&str; 2] = ["log.segment_size=1 GiB", "log.reserve_disk=0 B"];

/// The same, with compaction.
const ON: [&str; 2] = ["log.segment_size=16 MiB", "log.reserve_disk=0 B"];
