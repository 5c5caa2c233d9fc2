//! Arguments that several measures share, what their texts mean, and the command line they came
//! from. Must never measure or start anything.

use std::path::Path;
use std::time::Duration;

use clap::Args;

use crate::load::packet::Version;

/// Which MQTT is spoken.
#[derive(Clone, Copy, Debug, Args)]
pub struct ProtocolArgs {
    /// Speaks MQTT 5 instead of 3.1.1.
    #[arg(long)]
    v5: bool,
}

impl ProtocolArgs {
    /// The protocol chosen.
    pub fn version(self) -> Version {
        if self.v5 { Version::V5 } else { Version::V3 }
    }
}

/// A number of seconds.
///
/// # Errors
/// When it is negative, not finite or too large.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = parse(text)?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

/// A number of milliseconds.
///
/// # Errors
/// When it is no whole number up to 65,535.
pub fn milliseconds(text: &str) -> Result<Duration, String> {
    parse::<u16>(text).map(|number| Duration::from_millis(number.into()))
}

/// A number of microseconds.
///
/// # Errors
/// When it is no whole number.
pub fn microseconds(text: &str) -> Result<Duration, String> {
    parse::<u32>(text).map(|number| Duration::from_micros(number.into()))
}

/// Mebibytes in bytes, at least one of them.
///
/// # Errors
/// When it is no whole number.
pub fn mebibytes(text: &str) -> Result<u64, String> {
    parse::<u32>(text).map(|number| u64::from(number.max(1)) << 20)
}

/// Gibibytes in bytes.
///
/// # Errors
/// When it is no number.
pub fn gibibytes(text: &str) -> Result<u64, String> {
    parse::<f64>(text).map(|number| (number * f64::from(1 << 30)) as u64)
}

/// Percent as a part of 1.
///
/// # Errors
/// When it is no number.
pub fn percent(text: &str) -> Result<f64, String> {
    parse::<f64>(text).map(|number| number / 100.0)
}

/// A number of rounds, at least one.
///
/// # Errors
/// When it is no whole number.
pub fn rounds(text: &str) -> Result<usize, String> {
    parse::<usize>(text).map(|number| number.max(1))
}

fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}

/// How this program was called, for the foot of a table: a number belongs to its command.
pub fn command() -> String {
    let mut words = std::env::args_os();
    let program = words.next().unwrap_or_default();
    let program = Path::new(&program).file_name().unwrap_or_default();
    std::iter::once(program.to_string_lossy().into_owned())
        .chain(words.map(|word| quoted(&word.to_string_lossy())))
        .collect::<Vec<_>>()
        .join(" ")
}

/// A word as a shell reads it back.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=.,:/+%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_with_spaces_come_back_whole_from_a_shell() {
        assert_eq!(quoted("--rate"), "--rate");
        assert_eq!(quoted("log.segment_size=1 MiB"), "'log.segment_size=1 MiB'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn seconds_are_refused_when_they_are_none() {
        assert_eq!(seconds("1.5").unwrap(), Duration::from_millis(1500));
        assert!(seconds("-1").is_err());
        assert!(seconds("NaN").is_err());
        assert!(seconds("soon").is_err());
    }

    #[test]
    fn sizes_and_counts_begin_at_one() {
        assert_eq!(mebibytes("0").unwrap(), 1 << 20);
        assert_eq!(rounds("0").unwrap(), 1);
        assert_eq!(gibibytes("0.5").unwrap(), 1 << 29);
        assert!((percent("5").unwrap() - 0.05).abs() < 1e-12);
    }
}
