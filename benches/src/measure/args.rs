//! Arguments that several programs share, and the command line they came from. Measures nothing and
//! starts nothing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use crate::error::BenchError;
use crate::load::packet::Version;
use crate::node::Headwater;

/// How nodes are started, and where their data goes.
#[derive(Clone, Debug, Args)]
pub struct NodeArgs {
    /// The released binary; by default the one beside this program.
    #[arg(long)]
    pub headwater: Option<PathBuf>,
    /// Where data goes: a directory on the disk to be measured; by default beside the build.
    #[arg(long)]
    pub dir: Option<PathBuf>,
    /// `section.key=value` for the primary, as often as needed.
    #[arg(long)]
    pub set: Vec<String>,
}

impl NodeArgs {
    /// The binary and the directory these arguments name.
    ///
    /// # Errors
    /// When there is no such binary, or the directory cannot be made.
    pub fn open(self) -> Result<Headwater, BenchError> {
        Headwater::new(self.headwater, self.dir, self.set)
    }
}

/// Which MQTT is spoken.
#[derive(Clone, Copy, Debug, Args)]
pub struct ProtocolArgs {
    /// Speaks MQTT 5 instead of 3.1.1.
    #[arg(long)]
    pub v5: bool,
}

impl ProtocolArgs {
    /// The protocol chosen.
    pub fn version(self) -> Version {
        if self.v5 { Version::V5 } else { Version::V3 }
    }
}

/// A number of seconds as given on the command line.
///
/// # Errors
/// When it is negative, not finite or too large.
pub fn seconds(value: f64) -> Result<Duration, BenchError> {
    Duration::try_from_secs_f64(value)
        .map_err(|error| BenchError::Usage(format!("{value} seconds: {error}")))
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
        assert_eq!(seconds(1.5).unwrap(), Duration::from_millis(1500));
        assert!(seconds(-1.0).is_err());
        assert!(seconds(f64::NAN).is_err());
    }
}
