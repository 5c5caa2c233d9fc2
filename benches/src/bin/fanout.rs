//! `fanout`: what secondaries, light followers and one that stalls cost a primary.

use std::process::ExitCode;

use benches::load::lights::MOST_FOLLOWERS;
use benches::measure::args::{NodeArgs, ProtocolArgs, command};
use benches::measure::fanout::{Crowd, Load, MOST_SECONDARIES, Options, measure};
use benches::{BenchError, finish};
use clap::Parser;

/// Publishes the same rows to a primary that nobody follows and to one that many follow, and prints
/// Markdown tables. Real secondaries are processes, light followers live in this one.
#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    nodes: NodeArgs,
    #[command(flatten)]
    protocol: ProtocolArgs,
    /// Real secondaries, as often as needed; without any crowd: 0, 1, 2, 4, 8, 16 and 32.
    #[arg(long = "secondaries")]
    secondaries: Vec<usize>,
    /// Light followers of the primary itself, as often as needed.
    #[arg(long = "light")]
    light: Vec<usize>,
    /// Measures each number of light followers over so many relays too.
    #[arg(long, default_value_t = 0, requires = "light")]
    relays: usize,
    /// Measures one light follower that reads, and one that stops reading after the handshake.
    #[arg(long)]
    stalled: bool,
    /// Rows published at a fixed rate; 0: none.
    #[arg(long, default_value_t = 200_000)]
    rows: u64,
    /// Rows per second of these.
    #[arg(long, default_value_t = 10_000.0)]
    rate: f64,
    /// Rounds with them; medians are printed.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Rows published as fast as they are acknowledged; 0: none.
    #[arg(long, default_value_t = 1_000_000)]
    flood_rows: u64,
    /// Rounds with these.
    #[arg(long, default_value_t = 1)]
    flood_rounds: usize,
    /// Rows of each message.
    #[arg(long, default_value_t = 10)]
    per_message: u16,
    /// Connections of the generator.
    #[arg(long, default_value_t = 50)]
    connections: usize,
    /// Messages in flight on each connection.
    #[arg(long, default_value_t = 64)]
    window: u16,
}

fn main() -> ExitCode {
    finish(start(Args::parse()))
}

fn start(args: Args) -> Result<(), BenchError> {
    let crowds = crowds(&args)?;
    let loads = [
        (args.rows, Some(args.rate), args.rounds),
        (args.flood_rows, None, args.flood_rounds),
    ];
    let loads = loads
        .into_iter()
        .filter(|(rows, _, _)| *rows > 0)
        .map(|(rows, rate, rounds)| {
            let per_message = args.per_message;
            let load = Load {
                rows,
                rate,
                per_message,
            };
            (load, rounds.max(1))
        })
        .collect();
    let tables = measure(&Options {
        headwater: args.nodes.open()?,
        crowds,
        loads,
        connections: args.connections,
        window: args.window,
        version: args.protocol.version(),
    })?;
    println!("{tables}\n\n    {}", command());
    Ok(())
}

/// Nobody first: what all others are compared with.
fn crowds(args: &Args) -> Result<Vec<Crowd>, BenchError> {
    let mut secondaries = args.secondaries.clone();
    if secondaries.is_empty() && args.light.is_empty() && !args.stalled {
        secondaries = vec![1, 2, 4, 8, 16, 32];
    }
    if secondaries.iter().any(|count| *count > MOST_SECONDARIES)
        || args.light.iter().any(|count| *count > MOST_FOLLOWERS)
        || args.relays > MOST_SECONDARIES
    {
        return Err(BenchError::Usage(format!(
            "at most {MOST_SECONDARIES} secondaries or relays and {MOST_FOLLOWERS} light followers"
        )));
    }
    let mut crowds = vec![Crowd::Secondaries(0)];
    crowds.extend(secondaries.into_iter().map(Crowd::Secondaries));
    for &followers in &args.light {
        crowds.push(Crowd::Light {
            followers,
            relays: 0,
        });
        if args.relays > 0 {
            crowds.push(Crowd::Light {
                followers,
                relays: args.relays,
            });
        }
    }
    if args.stalled {
        crowds.push(Crowd::Light {
            followers: 1,
            relays: 0,
        });
        crowds.push(Crowd::Stalled);
    }
    let mut distinct = Vec::with_capacity(crowds.len());
    for crowd in crowds {
        if !distinct.contains(&crowd) {
            distinct.push(crowd);
        }
    }
    Ok(distinct)
}
