//! Catch-up of a fresh secondary, beside a bulk transfer of as many bytes over plain quinn.
//!
//! The log is filled through the product's write path before a primary opens it. A secondary
//! counts as caught up when its answers are for the primary's LSN: everything received, checked
//! and on its disk; it must never count sooner.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use clap::Args;

use crate::error::BenchError;
use crate::load::rows::{Filler, log_bytes};
use crate::machine;
use crate::measure::args::{mebibytes, rounds};
use crate::node::{Follow, Headwater, Primary};
use crate::stats::{Table, grouped, median};
use crate::yardstick::bulk::{self, Transfer};

/// Fills a log, starts a primary on it, and times secondaries that start with an empty disk.
#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    headwater: Headwater,
    /// Mebibytes of log.
    #[arg(long = "mib", value_name = "MIB", default_value = "1024", value_parser = mebibytes)]
    bytes: u64,
    /// Rows per group commit.
    #[arg(long, default_value_t = 1000)]
    group: usize,
    /// Devices the rows come from.
    #[arg(long, default_value_t = 1000)]
    devices: usize,
    /// Rounds; medians are printed.
    #[arg(long, default_value = "3", value_parser = rounds)]
    rounds: usize,
}

/// One way of moving the bytes, over all rounds.
#[derive(Debug, Default)]
struct Rounds {
    speeds: Vec<f64>,
    cpu: Vec<f64>,
}

impl Rounds {
    fn add(&mut self, name: &str, transfer: &Transfer) {
        let speed = transfer.megabytes_per_second();
        let cpu = transfer.cpu_per_gigabyte();
        eprintln!("{name}: {speed:.0} MB/s, {cpu:.2} CPU s per GB");
        self.speeds.push(speed);
        self.cpu.push(cpu);
    }
}

/// Fills a log and lets one fresh secondary per round catch up: a Markdown table.
///
/// # Errors
/// When a node does not start, fails, or does not catch up.
pub fn measure(options: &Options) -> Result<String, BenchError> {
    let headwater = &options.headwater;
    let dir = headwater.data.temp("catchup")?;
    let data = dir.path().join("data");
    let mut filler = Filler::create(&data, options.devices)?;
    filler.bytes(options.bytes, options.group)?;
    let (bytes, rows) = (log_bytes(&filler.log()), filler.len());
    filler.close()?;
    eprintln!("{bytes} bytes of log, {rows} rows");

    let primary = headwater.shipping_primary_over(&data)?;
    let [mut quinn, mut secondary, mut file] =
        [Rounds::default(), Rounds::default(), Rounds::default()];
    for _ in 0..options.rounds {
        quinn.add("quinn", &bulk::transfer(bytes, None, CATCH_UP_LIMIT)?.0);
        let transfer = catch_up(headwater, &primary, None, CATCH_UP_LIMIT)?;
        if !transfer.whole || transfer.bytes < bytes {
            return Err(BenchError::Invalid(format!(
                "the secondary holds {} of {bytes} bytes",
                transfer.bytes
            )));
        }
        secondary.add("secondary", &Transfer { bytes, ..transfer });
        let scratch = headwater.data.temp("file")?;
        file.add("file", &bulk::write_file(scratch.path(), bytes)?);
    }
    let mut table = Table::new(&["what", "MB/s", "of quinn", "CPU s per GB, both sides"]);
    let limit = median(&quinn.speeds);
    for (name, rounds) in [
        ("plain quinn, default transport", &quinn),
        ("catch-up of a fresh secondary", &secondary),
        ("a plain file, fdatasync every 8 MiB", &file),
    ] {
        let speed = median(&rounds.speeds);
        table.row(&[
            name.to_owned(),
            grouped(speed),
            format!("{:.2}", speed / limit),
            format!("{:.2}", median(&rounds.cpu)),
        ]);
    }
    Ok(format!(
        "{}\n\n{table}\n{} bytes of log, {} rows in groups of {}.",
        machine::describe(),
        grouped(bytes as f64),
        grouped(rows as f64),
        options.group
    ))
}

/// One fresh secondary, at `upstream` instead of the primary itself if that is given, from the
/// start of its process to its first answer at the primary's LSN, or for as long as `limit`. The
/// bytes are those on its disk.
pub(crate) fn catch_up(
    headwater: &Headwater,
    primary: &Primary,
    upstream: Option<SocketAddr>,
    limit: Duration,
) -> Result<Transfer, BenchError> {
    let lsn = primary.lsn()?;
    let cpu = primary.process.cpu_seconds()?;
    let follow = Follow {
        name: "secondary",
        upstream,
        relays: false,
    };
    let started = Instant::now();
    let secondary = headwater.follow(primary, &follow)?;
    let whole = secondary.reaches(lsn, POLL, limit) && secondary.http.status("/ready") == Some(200);
    let elapsed = started.elapsed();
    let cpu = primary.process.cpu_seconds()? - cpu + secondary.process.cpu_seconds()?;
    Ok(Transfer {
        bytes: secondary.bytes()?,
        whole,
        elapsed,
        cpu,
    })
}

const POLL: Duration = Duration::from_millis(5);

const CATCH_UP_LIMIT: Duration = Duration::from_secs(600);
