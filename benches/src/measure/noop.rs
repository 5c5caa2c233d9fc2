//! The do-nothing server by hand, and as `compare` starts it. Must never listen beyond loopback.

use std::io::Read;
use std::net::SocketAddr;

use clap::Args;

use crate::error::{BenchError, Context};
use crate::load::conn::loopback;
use crate::machine;
use crate::yardstick::noop;

/// Acknowledges every MQTT message and keeps none; prints its port and serves until it is killed.
#[derive(Debug, Args)]
pub struct Options {
    /// Where to listen, a loopback address; port 0: any.
    #[arg(long, default_value = "127.0.0.1:0", value_parser = loopback)]
    listen: SocketAddr,
    /// Worker threads; by default one per core.
    #[arg(long, default_value_t = machine::cores(), hide_default_value = true)]
    workers: usize,
    /// Ends when standard input is closed, so that it cannot outlive the program that started it.
    #[arg(long)]
    until_stdin_closes: bool,
}

/// Serves until the process ends.
///
/// # Errors
/// When it cannot listen there.
pub fn serve(options: &Options) -> Result<(), BenchError> {
    let listener = noop::listen(options.listen)?;
    println!(
        "{}",
        listener.local_addr().context("ask for the port")?.port()
    );
    if options.until_stdin_closes {
        std::thread::spawn(|| {
            let mut sink = [0; 64];
            while std::io::stdin().read(&mut sink).is_ok_and(|len| len > 0) {}
            std::process::exit(0);
        });
    }
    noop::serve(listener, options.workers)
}
