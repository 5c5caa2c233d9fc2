//! `bench`: one program, one subcommand for each measure. Must never measure anything itself.

use std::process::ExitCode;

use benches::BenchError;
use benches::measure::args::command;
#[cfg(feature = "scan")]
use benches::measure::scan;
use benches::measure::{
    catchup, compare, fanout, filesize, lag, load, logsize, noop, recovery, sensors, transfer,
    visible,
};
use clap::{Parser, Subcommand};

/// What BENCHMARKS.md is measured with. Prints Markdown tables, each with its command.
#[derive(Debug, Parser)]
#[command(name = "bench")]
struct Cli {
    #[command(subcommand)]
    measure: Measure,
}

#[derive(Debug, Subcommand)]
enum Measure {
    Compare(compare::Options),
    Visible(visible::Options),
    Catchup(catchup::Options),
    #[cfg(feature = "scan")]
    Scan(scan::Options),
    Logsize(logsize::Options),
    Filesize(filesize::Options),
    Sensors(sensors::Options),
    Recovery(recovery::Options),
    Fanout(fanout::Options),
    Lag(lag::Options),
    Transfer(transfer::Options),
    Load(load::Options),
    Noop(noop::Options),
}

fn main() -> ExitCode {
    match run(&Cli::parse().measure) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(measure: &Measure) -> Result<(), BenchError> {
    let tables = match measure {
        Measure::Compare(options) => compare::measure(options)?,
        Measure::Visible(options) => visible::measure(options)?,
        Measure::Catchup(options) => catchup::measure(options)?,
        #[cfg(feature = "scan")]
        Measure::Scan(options) => scan::measure(options)?,
        Measure::Logsize(options) => logsize::measure(options)?,
        Measure::Filesize(options) => filesize::measure(options)?,
        Measure::Sensors(options) => sensors::measure(options)?,
        Measure::Recovery(options) => recovery::measure(options)?,
        Measure::Fanout(options) => fanout::measure(options)?,
        Measure::Lag(options) => lag::measure(options)?,
        Measure::Transfer(options) => transfer::measure(options)?,
        Measure::Load(options) => {
            println!("{}", load::measure(options)?);
            return Ok(());
        }
        Measure::Noop(options) => return noop::serve(options),
    };
    println!("{}\n\n    {}", tables.trim_end(), command());
    Ok(())
}

/// The product's allocator, so that ratios compare servers and not allocators.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
