//! Why certificates cannot be made. It owns the sentences that people read about it and must never
//! hold a key.

use std::io;
use std::path::{Path, PathBuf};

/// Why certificates cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertsError {
    /// A file that would be written is there already.
    #[error("{} exists already and is not overwritten", .path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A file or directory cannot be read or written.
    #[error("cannot {action} {}: {source}", .path.display())]
    Io {
        /// "read", "write" or "create".
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The node name cannot be a directory and a common name.
    #[error(
        "node name {name:?}: 1 to 64 of the characters a-z A-Z 0-9 . _ - are allowed, beginning with a letter or digit"
    )]
    Name {
        /// The name given.
        name: String,
    },
    /// A subject alternative name is neither an address nor a DNS name.
    #[error("--san {san:?} is neither an IP address nor a DNS name")]
    San {
        /// The value given.
        san: String,
    },
    /// The CA's files do not hold a CA.
    #[error("{}: {reason}", .path.display())]
    Ca {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A revocation would hit other nodes too.
    #[error(
        "{name} cannot be revoked alone: its certificate has the serial number of those of {others}; \
         make certificates with numbers of their own for them first (move each directory away, then `headwater certs node`)"
    )]
    SameSerial {
        /// The node to revoke.
        name: String,
        /// The nodes that would be revoked with it.
        others: String,
    },
    /// The crypto library failed.
    #[error("cannot make a certificate: {0}")]
    Make(String),
}

impl CertsError {
    /// That this file or directory cannot be read, written or created.
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io {
            action,
            path: path.to_owned(),
            source,
        }
    }
}
