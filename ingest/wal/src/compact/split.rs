//! Into which time partitions the rows of one run go. Pure. It must never depend on the order of
//! the rows.

use std::collections::BTreeMap;

use crate::parquet::{DAY, Window};

/// Rows per day.
pub(crate) type Days = BTreeMap<i64, u64>;

/// Counts the rows of each day.
pub(crate) fn count_days(days: &mut Days, times: &[i64]) {
    for time in times {
        *days.entry(time.div_euclid(DAY)).or_default() += 1;
    }
}

/// Which window each day's rows go to; every window gets one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Split {
    windows: Vec<Window>,
    /// By day, ascending.
    days: Vec<(i64, usize)>,
}

impl Split {
    /// All rows into one window.
    pub(crate) fn whole(window: Window) -> Self {
        Self {
            windows: vec![window],
            days: Vec::new(),
        }
    }

    /// Days with enough rows get a file each, then windows of 8 days, and so on up to `hull`; what
    /// is left goes into one file, of the smallest window around it. So a few rows that are weeks
    /// late do not make a file for each of their days.
    pub(crate) fn of(days: &Days, hull: Window, least: u64) -> Self {
        let total: u64 = days.values().sum();
        let least = least.max(total.div_ceil(SHARES)).max(1);
        let mut left: BTreeMap<i64, u64> = days.clone();
        let mut split = Self {
            windows: Vec::new(),
            days: Vec::new(),
        };
        for level in 0..hull.level {
            let mut rows: BTreeMap<Window, u64> = BTreeMap::new();
            for (day, count) in &left {
                *rows.entry(window_of(level, *day)).or_default() += count;
            }
            for (window, _) in rows.into_iter().filter(|(_, rows)| *rows >= least) {
                split.take(window, &mut left);
            }
        }
        if let Some((first, _)) = left.first_key_value()
            && let Some((last, _)) = left.last_key_value()
        {
            let rest = Window::around(start_of(*first), start_of(*last));
            split.take(if hull.holds(rest) { rest } else { hull }, &mut left);
        }
        split.days.sort_unstable();
        split
    }

    /// Gives the days of `window` that are left to it.
    fn take(&mut self, window: Window, left: &mut BTreeMap<i64, u64>) {
        let at = self.windows.len();
        let inside = |day: &i64| window.holds(window_of(0, *day));
        let days: Vec<i64> = left.keys().copied().filter(inside).collect();
        for day in days {
            left.remove(&day);
            self.days.push((day, at));
        }
        self.windows.push(window);
    }

    pub(crate) fn windows(&self) -> &[Window] {
        &self.windows
    }

    /// Index of the window that a row of this time goes to.
    pub(crate) fn place(&self, time: i64) -> usize {
        let day = time.div_euclid(DAY);
        let found = self.days.binary_search_by_key(&day, |(day, _)| *day);
        found.map_or(0, |at| self.days[at].1)
    }
}

fn start_of(day: i64) -> i64 {
    day.saturating_mul(DAY)
}

fn window_of(level: u8, day: i64) -> Window {
    Window::of(level, start_of(day))
}

/// A run of fresh rows is cut into at most this many shares that are worth a file of their own.
const SHARES: u64 = 8;
/// Rows that are worth a file of a smaller window when files of a large window are merged.
pub(crate) const SPLIT_ROWS: u64 = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    fn days(rows: &[(i64, u64)]) -> Days {
        rows.iter().copied().collect()
    }

    #[test]
    fn rows_of_one_day_stay_in_one_file() {
        let split = Split::of(&days(&[(20_000, 500)]), Window::ALL, 0);
        assert_eq!(split.windows(), [window_of(0, 20_000)]);
    }

    #[test]
    fn late_rows_of_many_days_share_one_file() {
        let late = (19_950..19_990).map(|day| (day, 2));
        let all: Vec<(i64, u64)> = late.chain([(20_000, 1_000)]).collect();
        let split = Split::of(&days(&all), Window::ALL, 0);
        assert_eq!(split.windows().len(), 2, "{split:?}");
        assert_eq!(split.windows()[0], window_of(0, 20_000));
        assert_eq!(split.place(start_of(20_000) + 5), 0);
        assert_eq!(split.place(start_of(19_960)), 1);
    }

    #[test]
    fn every_day_has_a_place_and_it_holds_the_day() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..300 {
            let rows: Vec<(i64, u64)> = (0..random.usize(1..60))
                .map(|_| (random.i64(-800..800), random.u64(1..1_000)))
                .collect();
            let days = days(&rows);
            let split = Split::of(&days, Window::ALL, random.u64(0..2_000));
            assert!(split.windows().len() <= 9, "{split:?}");
            for day in days.keys() {
                let place = split.place(start_of(*day));
                assert!(split.windows()[place].holds(window_of(0, *day)));
            }
        }
    }
}
