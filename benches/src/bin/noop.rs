//! `noop`: the do-nothing MQTT server. Prints its port, then serves until it is killed.

use std::io::Read;
use std::process::ExitCode;

use benches::load::conn::loopback;
use benches::yardstick::noop;
use benches::{BenchError, Context, finish, machine};
use clap::Parser;

// The product's allocator, so that a ratio compares servers and not allocators.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Acknowledges every message and keeps none.
#[derive(Debug, Parser)]
struct Args {
    /// Where to listen, a loopback address; port 0: any.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: String,
    /// Worker threads; by default one per core.
    #[arg(long)]
    workers: Option<usize>,
    /// Ends when standard input is closed, so that it cannot outlive the program that started it.
    #[arg(long)]
    until_stdin_closes: bool,
}

fn main() -> ExitCode {
    finish(start(&Args::parse()))
}

fn start(args: &Args) -> Result<(), BenchError> {
    let listener = noop::listen(loopback(&args.listen)?)?;
    let address = listener.local_addr().context("ask for the port")?;
    println!("{}", address.port());
    if args.until_stdin_closes {
        std::thread::spawn(|| {
            let mut sink = [0; 64];
            while std::io::stdin().read(&mut sink).is_ok_and(|len| len > 0) {}
            std::process::exit(0);
        });
    }
    noop::serve(listener, args.workers.unwrap_or_else(machine::cores))
}
