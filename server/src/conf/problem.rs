//! Everything that can be wrong with a conf, each as one line that names where it was written,
//! the key, its value and what is allowed. Must never be raised without all of these.

use std::fmt;

/// The two things a node can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoleName {
    Primary,
    Secondary,
}

impl fmt::Display for RoleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Primary => "primary",
            Self::Secondary => "secondary",
        })
    }
}

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    File(String),
    Env(String),
    Set,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => f.write_str(file),
            Self::Env(variable) => f.write_str(variable),
            Self::Set => f.write_str("--set"),
        }
    }
}

/// One thing that is wrong with a conf.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("{file}: cannot be read: {reason}")]
    Unreadable { file: String, reason: String },
    #[error("{file}:{line}: is not TOML: {reason}")]
    Syntax {
        file: String,
        line: usize,
        reason: String,
    },
    #[error("--set {text}: must be section.key=value")]
    Override { text: String },
    #[error("{origin}: {key} = {value}: {rule}")]
    Refused {
        origin: Origin,
        key: String,
        value: String,
        rule: String,
    },
    #[error("{file}: {key} is missing: {rule}")]
    Missing {
        file: String,
        key: String,
        rule: String,
    },
    #[error("{origin}: {key} belongs to a {owner}, and node.role is \"{role}\"")]
    OtherRole {
        origin: Origin,
        key: String,
        owner: RoleName,
        role: RoleName,
    },
    #[error("{origin}: {key} is not supported by this version yet")]
    NotYet { origin: Origin, key: String },
    #[error("{origin}: {key} is unknown; the nearest known key is {nearest}")]
    Unknown {
        origin: Origin,
        key: String,
        nearest: &'static str,
    },
}

/// A conf that was refused: every problem found, in the order of the file's keys.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", lines(.0))]
pub struct ConfError(pub Vec<Problem>);

fn lines(problems: &[Problem]) -> String {
    problems
        .iter()
        .map(Problem::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}
