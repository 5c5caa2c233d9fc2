//! `headwater serve`: one node, from its conf to its exit code. A conf that is refused ends with 2
//! and one line for each problem; a log that has failed, or a task that a node cannot do without, ends
//! with 1. Must never end
//! before the node has stopped, but at a second signal.

use std::path::Path;
use std::pin::pin;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use tracing::{error, info, warn};

use super::exit::{BAD_INPUT, FAILURE, fail};
use crate::conf::{self, Conf};
use crate::node::error::{StartError, StopError};
use crate::node::kept::TaskTeller;
use crate::node::parts::runtime;
use crate::node::process;
use crate::node::running::Running;
use crate::signals::{Request, Signals};
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
    telemetry::tell_of_panics();
    for ignored in &conf.ignored {
        warn!("{ignored}");
    }
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error, FAILURE),
    };
    process::is_one_node();
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
    let running = match start(conf, &mut signals).await {
        Some(Ok(running)) => running,
        Some(Err(error)) => {
            error!(%error, "the node cannot start");
            return ExitCode::FAILURE;
        }
        None => return ExitCode::SUCCESS,
    };
    let healthy = run_until_asked(&running, &mut signals).await;
    let (begun, mut stopping) = (Instant::now(), pin!(running.stop()));
    loop {
        tokio::select! {
            stopped = &mut stopping => return exit_code(&stopped, healthy),
            request = signals.next() => if let Request::Stop(signal) = request
                && begun.elapsed() > ONE_REQUEST
            {
                warn!(signal, "asked again; not waiting for the rest");
                return ExitCode::FAILURE;
            },
        }
    }
}

/// Starts the node, which may have to wait for others; none when it is asked to stop before.
async fn start(conf: &Conf, signals: &mut Signals) -> Option<Result<Running, StartError>> {
    let mut starting = pin!(Running::start(conf));
    loop {
        let request = tokio::select! {
            started = &mut starting => return Some(started),
            request = signals.next() => request,
        };
        match request {
            Request::Stop(signal) => {
                info!(signal, "stopping before the node was up; nothing was taken");
                return None;
            }
            Request::Reload(signal) | Request::Nothing(signal) => {
                info!(signal, "the node is not up yet; going on");
            }
        }
    }
}

/// True once the node is asked to stop, false once it can only end.
async fn run_until_asked(running: &Running, signals: &mut Signals) -> bool {
    let mut teller = TaskTeller::of(running.tasks());
    loop {
        let request = tokio::select! {
            request = signals.next() => request,
            // First: what a node ends of is told before it does.
            () = teller.run() => continue,
            reason = running.failed() => {
                error!(%reason, "the node can only end; nothing more is acknowledged");
                return false;
            }
        };
        match request {
            Request::Stop(signal) => {
                info!(signal, "stopping");
                return true;
            }
            Request::Reload(signal) if running.reload() => info!(
                signal,
                "certificates are looked at again; the conf is read at the next start only"
            ),
            Request::Reload(signal) => {
                info!(
                    signal,
                    "nothing to reload: the conf is read at the next start only"
                );
            }
            Request::Nothing(signal) => info!(signal, "this signal means nothing here; going on"),
        }
    }
}

fn exit_code(stopped: &Result<(), StopError>, healthy: bool) -> ExitCode {
    match stopped {
        Ok(()) if healthy => {
            info!("everything acknowledged is on disk");
            ExitCode::SUCCESS
        }
        Ok(()) => ExitCode::FAILURE,
        Err(error) => {
            error!(%error, "stopped; what the log had not taken is not on disk");
            ExitCode::FAILURE
        }
    }
}

/// Who stops a process often tells its group, too: signals this close together are one request.
const ONE_REQUEST: Duration = Duration::from_secs(1);
