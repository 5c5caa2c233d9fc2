//! One write as it is asked for and as it is answered. Owns the shapes only; must never do anything
//! with them.

use bytes::Bytes;
use wal::Lsn;

use crate::timestamp::Unit;

/// Rows to be written, as they came in.
#[derive(Clone, Debug)]
pub struct Write {
    /// Who sends them, for its quota of new tables and columns.
    pub client: String,
    pub target: Target,
    pub unit: Unit,
    pub encoding: Encoding,
    pub body: Bytes,
    /// Most bytes that the body may have once it is unpacked.
    pub max_bytes: usize,
}

/// Where the rows go, and with that what they look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// All to one table, or none of them.
    Table {
        table: String,
        format: Format,
        /// Fields that say who or where.
        tags: Vec<String>,
    },
    /// Line protocol: each line to the table that it names; one that cannot be stored does not hold
    /// up the others.
    Lines,
}

/// What rows of one table can be written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// JSON if it begins as JSON does, else CSV where that is unmistakable.
    #[default]
    Auto,
    /// An object, an array of objects, or JSON lines.
    Json,
    /// The first line names the columns.
    Csv,
}

/// How the body is packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// Not, unless its first bytes say so.
    #[default]
    Plain,
    Gzip,
    Zstd,
}

impl Encoding {
    /// What the first bytes say.
    #[must_use]
    pub fn of(body: &[u8]) -> Self {
        match body {
            [0x1f, 0x8b, 8, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            _ => Self::Plain,
        }
    }

    /// Most bytes that a body of this length may have once it is unpacked, whatever it holds.
    #[must_use]
    pub fn room(self, length: usize) -> usize {
        match self {
            Self::Plain => length,
            Self::Gzip | Self::Zstd => length.saturating_mul(MOST_PACKED).max(LEAST_UNPACKED),
        }
    }
}

/// Rows that are on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    pub rows: usize,
    /// Above all of them: whoever asks for `min_lsn` of it sees them. 0 when there are none.
    pub lsn: Lsn,
    /// Lines that are not among them; the first `MAX_FAULTS`.
    pub faults: Vec<Fault>,
    /// How many there are.
    pub faulty: usize,
}

/// A line that was not stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// From 1.
    pub line: usize,
    /// Its beginning.
    pub text: String,
    pub reason: String,
}

/// How many times its length a packed body may have, beyond the least.
const MOST_PACKED: usize = 64;
const LEAST_UNPACKED: usize = 1 << 20;
