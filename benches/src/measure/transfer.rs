//! Catch-up by log and snapshot join of a fresh secondary, beside plain quinn and beside TCP +
//! TLS 1.3, on a good line and on bad ones.
//!
//! All four move about as many bytes, which do not compress. QUIC meets loss and delay in a
//! relay (`lossy.rs`), TCP in a socket filter (`tls.rs`) where the loopback device makes that
//! honest. The time of a secondary runs from the start of its process until it is ready and
//! answers at the primary's LSN. A way must never be printed for a line that it did not meet.

use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use tempfile::TempDir;
use wal::Config;

use crate::error::BenchError;
use crate::load::noise::{self, Filled};
use crate::machine;
use crate::measure::args::{mebibytes, milliseconds, percent, rounds, seconds};
use crate::measure::catchup::catch_up;
use crate::measure::rounds::order;
use crate::node::{Headwater, Primary};
use crate::stats::{Table, grouped, median};
use crate::yardstick::bulk::{self, Transfer};
use crate::yardstick::lossy::{Counts, Line, Relay};
use crate::yardstick::tls;

/// Moves the same number of bytes in four ways, on good and bad lines.
#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    headwater: Headwater,
    /// Mebibytes of log.
    #[arg(long = "mib", value_name = "MIB", default_value = "256", value_parser = mebibytes)]
    bytes: u64,
    /// Percent of the packets that are lost in each direction, as often as needed.
    #[arg(
        long = "loss",
        value_name = "LOSS",
        default_values = ["0", "1", "5"],
        value_parser = percent
    )]
    losses: Vec<f64>,
    /// Milliseconds a packet travels each way; for QUIC only.
    #[arg(long = "delay-ms", value_name = "DELAY_MS", default_value = "0", value_parser = milliseconds)]
    delay: Duration,
    /// Chooses bytes and lost packets.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Rounds; medians are printed.
    #[arg(long, default_value = "3", value_parser = rounds)]
    rounds: usize,
    /// Longest time of one transfer; what has arrived by then counts.
    #[arg(
        long = "limit-seconds",
        value_name = "LIMIT_SECONDS",
        default_value = "120",
        value_parser = seconds
    )]
    limit: Duration,
}

/// A way of moving bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Quinn,
    Log,
    Snapshot,
    Tls,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Quinn => "plain quinn, default transport",
            Self::Log => "catch-up by log",
            Self::Snapshot => "snapshot join",
            Self::Tls => "TCP + TLS 1.3",
        }
    }
}

/// A primary over a log that was made for it.
#[derive(Debug)]
struct Source {
    primary: Primary,
    filled: Filled,
    /// Whether the beginning of that log is gone, so that a snapshot takes its place.
    retired: bool,
    _data: TempDir,
}

impl Source {
    /// Bytes that a fresh secondary needs.
    fn moved(&self) -> Result<u64, BenchError> {
        if !self.retired {
            return Ok(self.filled.bytes);
        }
        let files: u64 = self.primary.files("parquet")?.iter().sum();
        Ok(files + self.primary.http.status_number("segment_bytes")?)
    }
}

/// All rounds of one way over one line.
#[derive(Debug, Default)]
struct Rounds {
    speeds: Vec<f64>,
    cpu: Vec<f64>,
    seconds: Vec<f64>,
    bytes: Vec<f64>,
    unfinished: usize,
    counts: Counts,
}

impl Rounds {
    fn add(&mut self, transfer: &Transfer, counts: Counts) {
        self.speeds.push(transfer.megabytes_per_second());
        self.cpu.push(if transfer.bytes > 0 {
            transfer.cpu_per_gigabyte()
        } else {
            0.0
        });
        self.seconds.push(transfer.elapsed.as_secs_f64());
        self.bytes.push(transfer.bytes as f64 / 1e6);
        self.unfinished += usize::from(!transfer.whole);
        self.counts.passed += counts.passed;
        self.counts.lost += counts.lost;
        self.counts.overflowed += counts.overflowed;
    }
}

/// Everything that is measured against everything else.
struct Bench<'a> {
    options: &'a Options,
    log: Source,
    snapshot: Source,
    /// Why TCP cannot lose packets here.
    no_loss: Option<String>,
}

/// Measures every way over every line: a Markdown table.
///
/// # Errors
/// When a node does not start or fails, or a transfer breaks.
pub fn measure(options: &Options) -> Result<String, BenchError> {
    if options.losses.iter().any(|loss| !(0.0..1.0).contains(loss)) {
        return Err(BenchError::Usage("a loss is 0 to 99 percent".to_owned()));
    }
    let bench = Bench {
        options,
        log: log_source(options)?,
        snapshot: snapshot_source(options)?,
        no_loss: tls::why_no_loss()?,
    };
    // Without a relay first: what the relay itself costs is seen beside a relay that loses nothing.
    let lines: Vec<Option<Line>> = std::iter::once(None)
        .chain(options.losses.iter().map(|loss| {
            Some(Line {
                loss: *loss,
                delay: options.delay,
                seed: options.seed,
            })
        }))
        .collect();
    let mut table = Table::new(&[
        "line",
        "what",
        "MB moved",
        "seconds",
        "MB/s",
        "of quinn on this line",
        "CPU s per GB, both sides",
        "packets lost on purpose, by full buffers",
    ]);
    for line in lines {
        bench.rows_of(line, &mut table)?;
    }
    Ok(bench.foot(&table))
}

impl Bench<'_> {
    /// All ways over one line.
    fn rows_of(&self, line: Option<Line>, table: &mut Table) -> Result<(), BenchError> {
        let name = line.map_or_else(|| "direct".to_owned(), |line| line.to_string());
        let mut all: Vec<Rounds> = WAYS.iter().map(|_| Rounds::default()).collect();
        for round in 0..self.options.rounds.max(1) {
            for index in order(WAYS.len(), round) {
                let Some((transfer, counts)) = self.one(WAYS[index], line, round as u64)? else {
                    continue;
                };
                eprintln!("{name}, {}: {transfer:?} {counts:?}", WAYS[index].name());
                all[index].add(&transfer, counts);
            }
        }
        let limit = median(&all[0].speeds);
        for (way, rounds) in WAYS.iter().zip(&all) {
            table.row(&self.cells(&name, *way, rounds, limit));
        }
        Ok(())
    }

    fn cells(&self, line: &str, way: Way, rounds: &Rounds, limit: f64) -> Vec<String> {
        let mut cells = vec![line.to_owned(), way.name().to_owned()];
        if rounds.speeds.is_empty() {
            cells.extend(["-", "not measurable here", "-", "-", "-", "-"].map(str::to_owned));
            return cells;
        }
        let speed = median(&rounds.speeds);
        let seconds = format!("{:.2}", median(&rounds.seconds));
        cells.push(format!("{:.1}", median(&rounds.bytes)));
        cells.push(if rounds.unfinished > 0 {
            format!("{seconds}, {} unfinished", rounds.unfinished)
        } else {
            seconds
        });
        cells.push(format!("{speed:.1}"));
        cells.push(if limit > 0.0 {
            format!("{:.2}", speed / limit)
        } else {
            "-".to_owned()
        });
        let relayed = rounds.counts != Counts::default();
        cells.push(if relayed && way == Way::Quinn {
            // Its two sides live in one process with the relay.
            "-".to_owned()
        } else {
            format!("{:.2}", median(&rounds.cpu))
        });
        cells.push(if relayed {
            let counts = rounds.counts;
            let all = counts.lost + counts.passed;
            format!("{} and {} of {all}", counts.lost, counts.overflowed)
        } else {
            "-".to_owned()
        });
        cells
    }

    /// One transfer; `None` where it would not say what its name says.
    fn one(
        &self,
        way: Way,
        line: Option<Line>,
        round: u64,
    ) -> Result<Option<(Transfer, Counts)>, BenchError> {
        let line = line.map(|line| Line {
            seed: line.seed.wrapping_add(round << 32),
            ..line
        });
        let limit = self.options.limit;
        match way {
            Way::Quinn => bulk::transfer(self.log.filled.bytes, line, limit).map(Some),
            Way::Log => self.secondary(&self.log, line).map(Some),
            Way::Snapshot => self.secondary(&self.snapshot, line).map(Some),
            Way::Tls => {
                let loss = line.map_or(0.0, |line| line.loss);
                let delayed = line.is_some_and(|line| !line.delay.is_zero());
                if delayed || (loss > 0.0 && self.no_loss.is_some()) {
                    return Ok(None);
                }
                let transfer = tls::transfer(self.log.filled.bytes, loss, limit)?;
                Ok(Some((transfer, Counts::default())))
            }
        }
    }

    /// A fresh secondary that gets what `source` has.
    fn secondary(
        &self,
        source: &Source,
        line: Option<Line>,
    ) -> Result<(Transfer, Counts), BenchError> {
        let target = source.primary.replication()?;
        let relay = line.map(|line| Relay::start(target, line)).transpose()?;
        let upstream = relay.as_ref().map(Relay::address);
        let headwater = &self.options.headwater;
        let transfer = catch_up(headwater, &source.primary, upstream, self.options.limit)?;
        // Its disk also holds what it has compacted itself.
        let moved = source.moved()?;
        let bytes = if transfer.whole {
            moved
        } else {
            transfer.bytes.min(moved)
        };
        let transfer = Transfer { bytes, ..transfer };
        let counts = match &relay {
            Some(relay) => relay.counts()?,
            None => Counts::default(),
        };
        Ok((transfer, counts))
    }

    fn foot(&self, table: &Table) -> String {
        let files = self.snapshot.primary.files("parquet").unwrap_or_default();
        let mut text = format!(
            "{}\n\n{table}\n{} bytes of log, {} rows, for quinn, TCP and the log; the snapshot is made \
             of as large a log and has {} files of {} bytes. Seed {}. A line has the loss in both \
             directions; QUIC meets it in a relay, which \"direct\" goes without.",
            machine::describe(),
            grouped(self.log.filled.bytes as f64),
            grouped(self.log.filled.rows as f64),
            files.len(),
            grouped(files.iter().sum::<u64>() as f64),
            self.options.seed
        );
        if let Some(why) = &self.no_loss {
            text.push_str(&format!(" TCP: {why}."));
        }
        if !self.options.delay.is_zero() {
            text.push_str(" TCP: there is no delay for it here.");
        }
        text
    }
}

/// A primary that holds its log from the beginning, and has nothing left to compact.
fn log_source(options: &Options) -> Result<Source, BenchError> {
    let source = source(options, &Config::default(), &LOG_SET, false)?;
    wait(&source.primary, "compact its log", |primary| {
        Ok(primary.http.status_number("backlog_bytes")? == 0)
    })?;
    Ok(source)
}

/// A primary whose log begins in the middle: what came before is in files.
fn snapshot_source(options: &Options) -> Result<Source, BenchError> {
    let config = Config {
        segment_size: SMALL_SEGMENT,
        ..Config::default()
    };
    let source = source(options, &config, &SNAPSHOT_SET, true)?;
    let rows = source.filled.rows;
    wait(&source.primary, "retire its log", |primary| {
        let http = &primary.http;
        // All but the newest segments: the log that follows a snapshot is short.
        Ok(http.status_number("backlog_bytes")? == 0
            && http.status_number("oldest_lsn")? > rows / 2)
    })?;
    Ok(source)
}

fn source(
    options: &Options,
    config: &Config,
    set: &[&str],
    retired: bool,
) -> Result<Source, BenchError> {
    let headwater = options.headwater.with_defaults(set);
    let dir = headwater.data.temp("transfer")?;
    let data = dir.path().join("data");
    let filled = noise::fill(&data, config, options.bytes, options.seed)?;
    eprintln!("{filled:?}");
    Ok(Source {
        primary: headwater.shipping_primary_over(&data)?,
        filled,
        retired,
        _data: dir,
    })
}

fn wait(
    primary: &Primary,
    what: &str,
    done: impl Fn(&Primary) -> Result<bool, BenchError>,
) -> Result<(), BenchError> {
    let limit = Instant::now() + READY_LIMIT;
    while !done(primary)? {
        if Instant::now() >= limit {
            return Err(primary
                .process
                .failure(&format!("the primary did not {what} in time")));
        }
        thread::sleep(POLL);
    }
    Ok(())
}

/// The primary that is asked for its log keeps all of it.
const LOG_SET: [&str; 1] = ["log.keep_segments=1 PiB"];

/// The other one keeps no segment that is in files, and makes files as fast as it can.
const SNAPSHOT_SET: [&str; 3] = [
    "log.segment_size=1 MiB",
    "log.keep_segments=0 B",
    "log.compaction_rate=0 B",
];

/// Bytes of a segment of the log that becomes a snapshot.
const SMALL_SEGMENT: u64 = 1 << 20;

/// A primary must have compacted and retired its log in this time.
const READY_LIMIT: Duration = Duration::from_secs(600);

const POLL: Duration = Duration::from_millis(50);

const WAYS: [Way; 4] = [Way::Quinn, Way::Log, Way::Snapshot, Way::Tls];
