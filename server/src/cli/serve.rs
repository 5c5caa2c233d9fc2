//! `headwater serve`: one node, from its conf to its exit code. A conf that is refused ends with 2
//! and one line for each problem; a primary's log that has failed ends with 1. Must never end
//! before the node has stopped, but at a second signal.

use std::path::Path;
use std::process::ExitCode;

use tracing::{error, info, warn};

use super::exit::{BAD_INPUT, FAILURE, fail};
use crate::conf::{self, Conf};
use crate::node::parts::runtime;
use crate::node::running::Running;
use crate::signals::Signals;
use crate::telemetry::{self, LogFormat};

/// Runs until a signal, or until a primary's log has failed.
pub(super) fn run(file: &Path, overrides: &[String], format: LogFormat) -> ExitCode {
    let conf = match conf::load(file, overrides) {
        Ok(conf) => conf,
        Err(error) => return fail(&error, BAD_INPUT),
    };
    if let Err(error) = telemetry::init(format, telemetry::NODE_FILTER) {
        return fail(&error, BAD_INPUT);
    }
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error, FAILURE),
    };
    let code = runtime.block_on(serve(&conf));
    // Everything that matters has been awaited; what still blocks must not hold the process.
    runtime.shutdown_background();
    code
}

async fn serve(conf: &Conf) -> ExitCode {
    let mut signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => return fail(&error, FAILURE),
    };
    let running = match Running::start(conf).await {
        Ok(running) => running,
        Err(error) => {
            error!(%error, "the node cannot start");
            return ExitCode::FAILURE;
        }
    };
    let healthy = tokio::select! {
        signal = signals.next() => {
            info!(signal, "stopping");
            true
        }
        reason = running.failed() => {
            error!(%reason, "the log has failed; nothing more is acknowledged");
            false
        }
    };
    tokio::select! {
        stopped = running.stop() => match stopped {
            Ok(()) if healthy => {
                info!("everything acknowledged is on disk");
                ExitCode::SUCCESS
            }
            Ok(()) => ExitCode::FAILURE,
            Err(error) => {
                error!(%error, "stopped");
                ExitCode::FAILURE
            }
        },
        signal = signals.next() => {
            warn!(signal, "asked again; not waiting for the rest");
            ExitCode::FAILURE
        }
    }
}
