//! Logs to standard error, as text or JSON lines. Must never write to standard output, and nothing
//! here may be given a secret.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    #[default]
    Text,
    Json,
}

/// A log filter that cannot be parsed.
#[derive(Debug, thiserror::Error)]
#[error("HEADWATER_LOG = {text:?} is no log filter: {source}")]
pub(crate) struct TelemetryError {
    text: String,
    source: ParseError,
}

/// Sends the process's log to standard error. The first call in a process wins.
///
/// # Errors
/// When `HEADWATER_LOG` is set to something that is no filter.
pub(crate) fn init(format: LogFormat, default_filter: &str) -> Result<(), TelemetryError> {
    let text = std::env::var(FILTER_VARIABLE).unwrap_or_else(|_| default_filter.to_owned());
    let filter = EnvFilter::builder()
        .parse(&text)
        .map_err(|source| TelemetryError { text, source })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    // An error means that the process logs already, which is what was asked for.
    let _ = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    Ok(())
}

/// What a running node logs unless told otherwise.
pub(crate) const NODE_FILTER: &str = "info,ntex=warn";

/// What a short-lived command logs unless told otherwise.
pub(crate) const COMMAND_FILTER: &str = "warn";

const FILTER_VARIABLE: &str = "HEADWATER_LOG";
