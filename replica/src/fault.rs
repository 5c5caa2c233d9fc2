//! Why a certificate is not accepted, typed, with what to do about it. It owns those sentences and
//! must never name a TLS library, nor judge a certificate itself.

use std::fmt;

/// When a certificate is good, in seconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Validity {
    pub(crate) from: i64,
    pub(crate) until: i64,
}

impl Validity {
    /// What is wrong with a certificate of this time at `now`.
    pub(crate) fn fault(self, now: i64) -> Option<CertFault> {
        if now > self.until {
            Some(CertFault::Expired(Some(self.until)))
        } else if now < self.from {
            Some(CertFault::NotYetValid(Some(self.from)))
        } else {
            None
        }
    }
}

/// Why a certificate is not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CertFault {
    /// It is over, since this moment if that is known.
    Expired(Option<i64>),
    /// It begins later, at this moment if that is known.
    NotYetValid(Option<i64>),
    /// One of these two, by the word of a peer.
    OutOfTime,
    /// The same, and by this node's clock it is good.
    ClocksDiffer(Validity),
    Revoked,
    /// It is not of the CA that is trusted.
    UnknownIssuer,
    Other(String),
}

impl CertFault {
    /// What a peer means by this fault of a certificate that is good for `own`.
    pub(crate) fn explained(self, own: Validity, now: i64) -> Self {
        match self {
            Self::OutOfTime => own.fault(now).unwrap_or(Self::ClocksDiffer(own)),
            other => other,
        }
    }

    /// What to do about it.
    pub(crate) fn advice(&self) -> &'static str {
        match self {
            Self::Expired(_) | Self::Revoked => {
                "that node needs a new one from `headwater certs node`"
            }
            Self::NotYetValid(_) | Self::OutOfTime | Self::ClocksDiffer(_) => {
                "compare the clocks of both machines"
            }
            Self::UnknownIssuer | Self::Other(_) => {
                "both nodes need certificates of one cluster CA"
            }
        }
    }
}

impl fmt::Display for CertFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired(Some(at)) => write!(f, "it has expired at {}", Moment(*at)),
            Self::Expired(None) => f.write_str("it has expired"),
            Self::NotYetValid(Some(at)) => {
                write!(f, "it is not valid yet, only from {} on", Moment(*at))
            }
            Self::NotYetValid(None) => f.write_str("it is not valid yet"),
            Self::OutOfTime => f.write_str("it has expired or is not valid yet"),
            Self::ClocksDiffer(own) => write!(
                f,
                "it has expired or is not valid yet by that node's clock; by this node's it is \
                 valid from {} to {}",
                Moment(own.from),
                Moment(own.until)
            ),
            Self::Revoked => f.write_str("it is revoked"),
            Self::UnknownIssuer => f.write_str("it is unknown: not of this cluster's CA"),
            Self::Other(text) => f.write_str(text),
        }
    }
}

/// A moment in UTC, to the second.
pub(crate) struct Moment(pub(crate) i64);

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, s) = (self.0.div_euclid(86_400), self.0.rem_euclid(86_400));
        let (year, month, day) = civil(days);
        let (hour, minute, second) = (s / 3_600, s / 60 % 60, s % 60);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"
        )
    }
}

/// Year, month and day of a number of days since 1970, in the Gregorian calendar: years are taken
/// to begin in March, so that a leap day is their last.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days.saturating_add(719_468);
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march + 2) / 5 + 1;
    let month = if march < 10 { march + 3 } else { march - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_shown_in_utc() {
        for (at, shown) in [
            (0, "1970-01-01T00:00:00Z"),
            (1_700_000_000, "2023-11-14T22:13:20Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
        ] {
            assert_eq!(Moment(at).to_string(), shown);
        }
    }

    #[test]
    fn a_peers_word_about_time_is_held_against_the_own_clock() {
        let own = Validity {
            from: 100,
            until: 200,
        };
        let meant = |now| CertFault::OutOfTime.explained(own, now);
        assert_eq!(meant(201), CertFault::Expired(Some(200)));
        assert_eq!(meant(99), CertFault::NotYetValid(Some(100)));
        assert_eq!(meant(150), CertFault::ClocksDiffer(own));
        assert_eq!(CertFault::Revoked.explained(own, 201), CertFault::Revoked);
    }

    #[test]
    fn the_advice_fits_the_fault() {
        let expired = CertFault::Expired(Some(0));
        assert!(expired.advice().contains("certs node"));
        assert!(CertFault::NotYetValid(None).advice().contains("clocks"));
        assert!(CertFault::UnknownIssuer.advice().contains("CA"));
    }
}
