//! The names of places in a log: `Lsn`, `Position`, `LogId`, `Epoch`, `TableId`. Values only, no
//! I/O. It must never call two places equal of which one is not known.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::bytes::checksum;

/// Ordinal of a row or control block in the log. A block of n rows advances it by n, a control
/// block by 1. Ranges are half-open: a log "at" an LSN holds everything below it.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Lsn(pub u64);

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Checksum that covers every byte of the log before a place: two logs with the same chain value
/// somewhere are equal up to there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Chain(pub u64);

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Where a log ends *and what it contains*: `chain` covers every byte before `lsn`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Position {
    pub lsn: Lsn,
    pub chain: Chain,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.lsn, self.chain)
    }
}

/// A place in the log of which the chain value may not be known: one at the edge of what cannot be
/// read, or inside a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Boundary {
    pub lsn: Lsn,
    pub chain: Option<Chain>,
}

impl Boundary {
    /// Only the LSN is known.
    pub fn unproven(lsn: Lsn) -> Self {
        Self { lsn, chain: None }
    }

    /// Where a segment begins, by its header: one that was begun behind a lost end has no chain
    /// value to go on from.
    pub(crate) fn of_segment(start: Position) -> Self {
        Self {
            lsn: start.lsn,
            chain: Some(start.chain).filter(|chain| *chain != LOST),
        }
    }

    /// Where the log goes on from here. Behind a lost end that is a chain value which no other log
    /// has there.
    pub(crate) fn go_on(self) -> Position {
        Position {
            lsn: self.lsn,
            chain: self.chain.unwrap_or(LOST),
        }
    }

    /// The position, where all of it is known.
    #[must_use]
    pub fn position(self) -> Option<Position> {
        let lsn = self.lsn;
        self.chain.map(|chain| Position { lsn, chain })
    }

    /// Whether nothing that is known of it contradicts `position`.
    #[must_use]
    pub fn may_be(self, position: Position) -> bool {
        self.lsn == position.lsn && self.chain.is_none_or(|chain| chain == position.chain)
    }

    /// Whether both may be the same place, and the other one is known.
    pub(crate) fn meets(self, known: Self) -> bool {
        known.position().is_some_and(|known| self.may_be(known))
    }
}

impl From<Position> for Boundary {
    fn from(position: Position) -> Self {
        Self {
            lsn: position.lsn,
            chain: Some(position.chain),
        }
    }
}

impl fmt::Display for Boundary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.position() {
            Some(position) => position.fmt(f),
            None => write!(f, "{}:unknown", self.lsn),
        }
    }
}

/// Identity of one history of rows, chosen at random when the log is created.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LogId(pub [u8; 16]);

impl LogId {
    /// A fresh identity.
    pub fn random() -> Self {
        let mut bytes = [0; 16];
        fastrand::fill(&mut bytes);
        Self(bytes)
    }

    /// The position of the empty log of this identity.
    pub fn genesis(&self) -> Position {
        Position {
            lsn: Lsn(0),
            chain: Chain(checksum(&self.0)),
        }
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for LogId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for LogId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// Why a text is no log id.
#[derive(Debug, thiserror::Error)]
#[error("a log id is 32 hexadecimal digits, not {0:?}")]
pub struct LogIdError(String);

impl FromStr for LogId {
    type Err = LogIdError;

    fn from_str(text: &str) -> Result<Self, LogIdError> {
        let refuse = || LogIdError(text.to_owned());
        if text.len() != 32 || !text.is_ascii() {
            return Err(refuse());
        }
        let mut bytes = [0; 16];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| refuse())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| refuse())?;
        }
        Ok(Self(bytes))
    }
}

/// Counts the promotions in a log's history; it never falls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Number of a table within one log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId(pub u32);

/// What a segment header has for the chain value behind an end that is lost.
const LOST: Chain = Chain(0);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_of_which_no_chain_is_known_may_be_any_at_its_lsn() {
        let at = |lsn, chain| Position {
            lsn: Lsn(lsn),
            chain: Chain(chain),
        };
        let lost = Boundary::unproven(Lsn(5));
        assert!(lost.may_be(at(5, 7)) && lost.meets(at(5, 7).into()));
        assert!(!lost.may_be(at(6, 7)) && !lost.meets(lost));
        assert!(Boundary::from(at(5, 7)).may_be(at(5, 7)));
        assert!(!Boundary::from(at(5, 8)).may_be(at(5, 7)));
        assert_eq!(Boundary::of_segment(lost.go_on()), lost);
        assert_eq!(Boundary::of_segment(at(5, 7)), at(5, 7).into());
    }
}
