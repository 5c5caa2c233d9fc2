//! What one secondary costs a primary: the same primary alone and with it. Must never stop counting
//! before the secondary has everything, so that shipping cannot be put off.

use std::time::{Duration, Instant};

use crate::error::BenchError;
use crate::load::generator::{self, Report};
use crate::machine;
use crate::measure::compare::options::{Options, Regime, load_options};
use crate::measure::rounds::{Rounds, order};
use crate::stats::{Table, grouped, median};

/// A primary alone and with one secondary.
pub(crate) fn measure(options: &Options) -> Result<String, BenchError> {
    let mut table = Table::new(&[
        "primary",
        "regime",
        "messages/s",
        "CPU s per million",
        "of alone",
        "p99 ms",
    ]);
    for &regime in &options.regimes {
        let mut all = [Rounds::default(), Rounds::default()];
        for round in 0..options.rounds {
            for index in order(all.len(), round) {
                let (report, cpu) = run(options, regime, index == 1)?;
                eprintln!(
                    "{index} secondaries, {regime}, {cpu:.2} CPU s: {}",
                    report.json()
                );
                all[index].add(&report, cpu);
            }
        }
        let alone = median(&all[0].cpu);
        for (name, rounds) in ["alone", "with 1 secondary"].iter().zip(&all) {
            table.row(&[
                (*name).to_owned(),
                regime.to_string(),
                grouped(median(&rounds.rates)),
                format!("{:.2}", median(&rounds.cpu)),
                format!("{:.2}", median(&rounds.cpu) / alone),
                format!("{:.2}", median(&rounds.p99)),
            ]);
        }
    }
    Ok(format!("{}\n\n{table}", machine::describe()))
}

/// A fresh primary under one load: its CPU seconds per million messages, everything included.
fn run(options: &Options, regime: Regime, ship: bool) -> Result<(Report, f64), BenchError> {
    let headwater = &options.headwater;
    let primary = headwater.shipping_primary()?;
    let secondary = if ship {
        let mut secondary = headwater.secondary(&primary)?;
        secondary.wait_ready()?;
        Some(secondary)
    } else {
        None
    };
    let before = primary.process.cpu_seconds()?;
    let load = load_options(options, regime, primary.mqtt, primary.process.pid());
    let report = generator::run(&load)?;
    let drained = Instant::now();
    if let Some(secondary) = &secondary {
        secondary.wait_lsn(primary.lsn()?, CATCH_UP_POLL, CATCH_UP_LIMIT)?;
        eprintln!(
            "caught up {:.2} s after the last PUBACK",
            drained.elapsed().as_secs_f64()
        );
    }
    let cpu = primary.process.cpu_seconds()? - before;
    Ok((report.clone(), cpu * 1e6 / report.all_messages as f64))
}

/// A secondary that lags more than this when the load ends has failed.
const CATCH_UP_LIMIT: Duration = Duration::from_secs(120);

const CATCH_UP_POLL: Duration = Duration::from_millis(20);
