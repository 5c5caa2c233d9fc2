//! One write as it is asked for and as it is answered. Owns the shapes only; must never do anything
//! with them.

use bytes::Bytes;
use wal::Lsn;

use crate::timestamp::Unit;

/// Rows to be written, as they came in.
#[derive(Clone, Debug)]
pub struct Write {
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
    /// JSON if it begins as JSON does, else CSV.
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
    #[default]
    Plain,
    Gzip,
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
