//! Headwater beside the do-nothing server and, where it is installed, Mosquitto. Must never give
//! one of them a disk that another does not have.

use crate::error::BenchError;
use crate::load::generator::{self, Report};
use crate::machine;
use crate::measure::compare::options::{Options, Regime, load_options};
use crate::measure::rounds::{Rounds, order};
use crate::stats::{Table, grouped, median};
use crate::yardstick::servers::{Server, start_mosquitto, start_noop};

/// Every server in every regime.
pub(crate) fn measure(options: &Options) -> Result<String, BenchError> {
    let mut kinds = vec![Kind::Noop, Kind::Headwater];
    if start_mosquitto(&options.headwater.data)?.is_some() {
        kinds.push(Kind::Mosquitto);
    }
    let mut table = Table::new(&[
        "server",
        "regime",
        "messages/s",
        "of do-nothing",
        "CPU s per million",
        "p50 ms",
        "p99 ms",
        "generator CPU s per million",
    ]);
    for &regime in &options.regimes {
        let mut all: Vec<Rounds> = kinds.iter().map(|_| Rounds::default()).collect();
        for round in 0..options.rounds {
            for index in order(kinds.len(), round) {
                let report = run(options, kinds[index], regime)?;
                eprintln!(
                    "{} {regime} round {}: {}",
                    kinds[index].name(),
                    round + 1,
                    report.json()
                );
                let cpu = report.server_cpu_per_million().unwrap_or(0.0);
                all[index].add(&report, cpu);
            }
        }
        let limit = median(&all[0].rates);
        for (kind, rounds) in kinds.iter().zip(&all) {
            table.row(&[
                kind.name().to_owned(),
                regime.to_string(),
                grouped(median(&rounds.rates)),
                format!("{:.2}", median(&rounds.rates) / limit),
                format!("{:.2}", median(&rounds.cpu)),
                format!("{:.2}", median(&rounds.p50)),
                format!("{:.2}", median(&rounds.p99)),
                format!("{:.2}", median(&rounds.own_cpu)),
            ]);
        }
    }
    Ok(format!("{}\n\n{table}", machine::describe()))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Noop,
    Headwater,
    Mosquitto,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Noop => "do-nothing",
            Self::Headwater => "Headwater",
            Self::Mosquitto => "Mosquitto, nothing durable",
        }
    }
}

/// A fresh server under one load.
fn run(options: &Options, kind: Kind, regime: Regime) -> Result<Report, BenchError> {
    let dir = &options.headwater.data;
    let server: Server = match kind {
        Kind::Noop => start_noop(dir, options.workers)?,
        Kind::Mosquitto => start_mosquitto(dir)?
            .ok_or_else(|| BenchError::Usage("mosquitto is gone from PATH".to_owned()))?,
        Kind::Headwater => {
            let primary = options.headwater.primary()?;
            return generator::run(&load_options(
                options,
                regime,
                primary.mqtt,
                primary.process.pid(),
            ));
        }
    };
    generator::run(&load_options(
        options,
        regime,
        server.mqtt,
        server.process.pid(),
    ))
}
