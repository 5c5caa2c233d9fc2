//! Versions of the protocol: which a build speaks, and which of them two nodes agree on. Pure; it
//! must never know what a version means.

use std::fmt;

/// Protocol versions that a node speaks, from the oldest to the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// The oldest.
    pub min: u16,
    /// The newest.
    pub max: u16,
}

impl Versions {
    /// Those of this build.
    pub const OWN: Self = Self {
        min: PROTOCOL_MIN,
        max: PROTOCOL_MAX,
    };

    /// The newest that both speak.
    #[must_use]
    pub fn common(self, other: Self) -> Option<u16> {
        let newest = self.max.min(other.max);
        (newest >= self.min.max(other.min)).then_some(newest)
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.min, self.max)
    }
}

/// Oldest and newest protocol version this build speaks.
pub const PROTOCOL_MIN: u16 = 3;

/// See [`PROTOCOL_MIN`].
pub const PROTOCOL_MAX: u16 = 5;

/// From this version on a relay says why it has no way to the primary.
pub const TELLS_CUT_OFF: u16 = 4;

/// From this version on an upstream says where the primary takes rows.
pub const TELLS_PRIMARY_HTTP: u16 = 4;

/// From this version on a node counts as a copy by its own signature, and by nobody else's word.
pub const VOUCHES: u16 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_common_version_counts_whichever_side_asks() {
        let of = |min, max| Versions { min, max };
        for (one, other, common) in [
            (of(3, 3), of(3, 3), Some(3)),
            (of(3, 4), of(2, 3), Some(3)),
            (of(3, 5), of(4, 9), Some(5)),
            (of(3, 3), of(4, 4), None),
            (of(4, 3), of(3, 4), None),
        ] {
            assert_eq!(one.common(other), common, "{one}, {other}");
            assert_eq!(other.common(one), common, "{other}, {one}");
        }
    }
}
