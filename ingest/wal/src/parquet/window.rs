//! Time partitions: windows of 1, 8, 64 and 512 days that start at multiples of their width, and
//! one of all time. Pure. It must never know a time zone.

/// One time partition. Ordered by level, then by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Window {
    pub(crate) level: u8,
    pub(crate) index: i64,
}

impl Window {
    pub(crate) const ALL: Self = Self {
        level: ALL_TIME,
        index: 0,
    };

    /// The window of `level` that holds `time`.
    pub(crate) fn of(level: u8, time: i64) -> Self {
        if level >= ALL_TIME {
            return Self::ALL;
        }
        let index = time.div_euclid(width(level));
        Self { level, index }
    }

    /// The smallest window that holds both times.
    pub(crate) fn around(min: i64, max: i64) -> Self {
        (0..ALL_TIME)
            .map(|level| Self::of(level, min))
            .find(|window| *window == Self::of(window.level, max))
            .unwrap_or(Self::ALL)
    }

    /// The next larger window around this one; `None` for all time.
    pub(crate) fn parent(self) -> Option<Self> {
        match self.level {
            level if level >= ALL_TIME => None,
            level if level + 1 == ALL_TIME => Some(Self::ALL),
            level => Some(Self {
                level: level + 1,
                index: self.index.div_euclid(FACTOR),
            }),
        }
    }

    /// Nanoseconds from start to end; `i64::MAX` for all time.
    pub(crate) fn width(self) -> i64 {
        width(self.level)
    }

    /// The first time after it; `i64::MAX` when there is none.
    pub(crate) fn end(self) -> i64 {
        if self.level >= ALL_TIME {
            return i64::MAX;
        }
        self.index.saturating_add(1).saturating_mul(self.width())
    }

    /// Whether all of `other` lies in it.
    pub(crate) fn holds(self, other: Self) -> bool {
        let mut at = other;
        while at.level < self.level {
            let Some(parent) = at.parent() else {
                return false;
            };
            at = parent;
        }
        at == self
    }

    /// How people write it: its first day and its width.
    pub(crate) fn name(self) -> String {
        if self.level >= ALL_TIME {
            return "all".to_owned();
        }
        let days = self.width() / DAY;
        let (year, month, day) = civil(self.index.saturating_mul(days));
        format!("{year:04}-{month:02}-{day:02} {days}d")
    }

    /// How programs write it.
    pub(crate) fn partition(self) -> String {
        match self.name().split_once(' ') {
            Some((day, width)) => format!("{day}T00:00:00Z/{width}"),
            None => self.name(),
        }
    }
}

fn width(level: u8) -> i64 {
    if level >= ALL_TIME {
        return i64::MAX;
    }
    DAY * FACTOR.pow(u32::from(level))
}

/// Year, month and day of a number of days since 1970, in the Gregorian calendar.
fn civil(days: i64) -> (i64, i64, i64) {
    // Counted in eras of 400 years that begin on a 1 March, so that leap days come last.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

/// Nanoseconds of a day.
pub(crate) const DAY: i64 = 86_400_000_000_000;
/// How many windows of one level make one of the next.
const FACTOR: i64 = 8;
/// The level whose one window is all time.
const ALL_TIME: u8 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_nest_and_cover_every_time() {
        for time in [
            i64::MIN,
            -1,
            0,
            1,
            DAY - 1,
            DAY,
            1_763_700_000_000_000_000,
            i64::MAX,
        ] {
            let mut window = Window::of(0, time);
            for level in 1..=ALL_TIME {
                let parent = window.parent().expect("up to all time");
                assert_eq!(parent, Window::of(level, time), "{time} {level}");
                assert!(parent.holds(window) && !window.holds(parent));
                window = parent;
            }
            assert_eq!(window.parent(), None);
        }
    }

    #[test]
    fn the_smallest_window_around_two_times() {
        assert_eq!(Window::around(5, 6).level, 0);
        assert_eq!(Window::around(DAY - 1, DAY).level, 1);
        assert_eq!(Window::around(-1, 0), Window::ALL);
        assert_eq!(Window::around(0, 9 * DAY).level, 2);
        assert_eq!(Window::around(i64::MIN, i64::MAX), Window::ALL);
    }

    #[test]
    fn names_are_dates() {
        assert_eq!(Window::of(0, 0).name(), "1970-01-01 1d");
        assert_eq!(Window::of(0, -1).name(), "1969-12-31 1d");
        assert_eq!(
            Window::of(0, 1_709_164_800_000_000_000).name(),
            "2024-02-29 1d"
        );
        assert_eq!(
            Window::of(0, 1_763_683_200_000_000_000).name(),
            "2025-11-21 1d"
        );
        assert_eq!(Window::ALL.name(), "all");
        assert_eq!(Window::of(1, 0).partition(), "1970-01-01T00:00:00Z/8d");
        assert_eq!(Window::ALL.partition(), "all");
    }
}
