//! How a command ends: its one error on standard error, and the exit code a script sees. Must never
//! print to standard output.

use std::fmt::Display;
use std::process::ExitCode;

use crate::telemetry::{self, LogFormat};

/// Runs a command that logs little and reports its one error.
pub(super) fn quietly<E: Display>(command: impl FnOnce() -> Result<(), E>) -> ExitCode {
    judged(|| command().map(|()| ExitCode::SUCCESS))
}

/// The same for a command whose answer is an exit code too.
pub(super) fn judged<E: Display>(command: impl FnOnce() -> Result<ExitCode, E>) -> ExitCode {
    judged_or(FAILURE, command)
}

/// The same with the exit code of its error.
pub(super) fn judged_or<E: Display>(
    failure: u8,
    command: impl FnOnce() -> Result<ExitCode, E>,
) -> ExitCode {
    if let Err(error) = telemetry::init(LogFormat::Text, telemetry::COMMAND_FILTER) {
        return fail(&error, BAD_INPUT);
    }
    match command() {
        Ok(code) => code,
        Err(error) => fail(&error, failure),
    }
}

pub(super) fn fail(error: &impl Display, code: u8) -> ExitCode {
    error
        .to_string()
        .lines()
        .for_each(|line| telemetry::tell(&format!("headwater: {line}")));
    ExitCode::from(code)
}

pub(super) const FAILURE: u8 = 1;

/// A conf or a command line that cannot be meant.
pub(super) const BAD_INPUT: u8 = 2;

/// Two nodes were not compared; [`FAILURE`] says that they were, and are not alike.
pub(super) const NOT_COMPARED: u8 = 2;
