//! How far behind a log is, in milliseconds and bytes. It owns the arithmetic and must never read a
//! clock: times come in as arguments, the primary's wall clock only as what heartbeats carried.
//!
//! The answer is the age of the newest moment of the primary that is known to be wholly applied,
//! not the age of the last row: after a quiet hour one new row is milliseconds of lag, not an hour.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use wal::Lsn;

/// What one side knows about the freshness of one secondary's log.
#[derive(Clone, Debug, Default)]
pub(crate) struct Freshness {
    last: Option<Beat>,
    /// Announced and not yet applied, oldest first; both numbers rise.
    pending: VecDeque<(Lsn, i64)>,
    /// Time of the primary up to which everything is applied.
    as_of_ns: Option<i64>,
    applied: Lsn,
}

#[derive(Clone, Copy, Debug)]
struct Beat {
    durable: Lsn,
    now_ns: i64,
    at: Instant,
}

impl Freshness {
    /// The primary said at `at`: my clock shows `now_ns` and my log is durable up to `durable`.
    pub(crate) fn beat(&mut self, durable: Lsn, now_ns: i64, at: Instant) {
        self.follow_clock(now_ns, at);
        self.last = Some(Beat {
            durable,
            now_ns,
            at,
        });
        if durable <= self.applied {
            self.pending.clear();
            self.advance(now_ns);
            return;
        }
        if self.pending.back().is_some_and(|(lsn, _)| *lsn == durable) {
            // A later moment with nothing new in it: applying `durable` covers it too.
            self.pending.pop_back();
        } else if self.pending.len() == PENDING_LIMIT {
            self.pending.pop_back();
        }
        self.pending.push_back((durable, now_ns));
    }

    /// Everything below `applied` can be queried; its last block was committed at `committed_ns`
    /// of the primary's clock (0: unknown).
    pub(crate) fn apply(&mut self, applied: Lsn, committed_ns: i64) {
        self.applied = applied;
        while let Some((lsn, now_ns)) = self.pending.front().copied() {
            if lsn > applied {
                break;
            }
            self.pending.pop_front();
            self.advance(now_ns);
        }
        if let Some(beat) = self.last
            && committed_ns > 0
        {
            // A block stamped before the clock was set back lies in the future of the clock now.
            let latest = beat.now_ns.saturating_add(nanos(RECENT));
            self.advance(committed_ns.min(latest));
        }
    }

    /// Lag at `at`, when `applied` can be queried by then; `None` before the first contact, and
    /// while nothing at all has been applied.
    pub(crate) fn lag_ms(&self, applied: Lsn, at: Instant) -> Option<u64> {
        let beat = self.last?;
        let silence = at.saturating_duration_since(beat.at);
        let mut as_of = self.as_of_ns;
        if applied >= beat.durable {
            if silence <= SETTLED {
                return Some(0);
            }
            as_of = as_of.max(Some(beat.now_ns));
        }
        let now_ns = beat.now_ns.saturating_add(nanos(silence));
        let lag_ns = now_ns.saturating_sub(as_of?);
        Some(u64::try_from(lag_ns / 1_000_000).unwrap_or(0))
    }

    /// The most that the lag can be at `at`: between two words of the primary it may have committed
    /// something else.
    pub(crate) fn bound_ms(&self, applied: Lsn, at: Instant) -> Option<u64> {
        let silence = at.saturating_duration_since(self.last?.at);
        let silence = u64::try_from(silence.as_millis()).unwrap_or(u64::MAX);
        self.lag_ms(applied, at).map(|lag| lag.max(silence))
    }

    /// Whether the primary has ever been heard.
    pub(crate) fn is_known(&self) -> bool {
        self.last.is_some()
    }

    /// When the primary's clock was set, or is another machine's now, what was noted by the old
    /// clock moves along: only differences count.
    fn follow_clock(&mut self, now_ns: i64, at: Instant) {
        let Some(last) = self.last else { return };
        let passed = nanos(at.saturating_duration_since(last.at));
        let jump = now_ns.saturating_sub(last.now_ns.saturating_add(passed));
        if jump.saturating_abs() < nanos(RECENT) {
            return;
        }
        self.as_of_ns = self.as_of_ns.map(|as_of| as_of.saturating_add(jump));
        for (_, noted) in &mut self.pending {
            *noted = noted.saturating_add(jump);
        }
    }

    fn advance(&mut self, now_ns: i64) {
        self.as_of_ns = self.as_of_ns.max(Some(now_ns));
    }
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// Bytes of log between two positions, from pieces `(first, end, bytes)`: exact at their borders,
/// in proportion to rows within one.
pub(crate) fn bytes_between(
    pieces: impl Iterator<Item = (Lsn, Lsn, u64)>,
    from: Lsn,
    to: Lsn,
) -> u64 {
    let part = |(first, end, bytes): (Lsn, Lsn, u64)| {
        let rows = end.0.saturating_sub(first.0);
        let overlap = end.0.min(to.0).saturating_sub(first.0.max(from.0));
        if rows == 0 {
            return 0;
        }
        let share = u128::from(bytes) * u128::from(overlap) / u128::from(rows);
        u64::try_from(share).unwrap_or(u64::MAX)
    };
    pieces.map(part).fold(0, u64::saturating_add)
}

/// Silence of the primary up to which "applied all it had" still means no lag: two heartbeats.
const SETTLED: Duration = Duration::from_millis(400);

/// Smaller differences of clocks are not worth a thought.
const RECENT: Duration = Duration::from_secs(1);

/// Heartbeats remembered while what they announced is not applied yet.
const PENDING_LIMIT: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;

    fn after(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[test]
    fn unknown_before_the_first_contact_and_before_the_first_row() {
        let start = Instant::now();
        let mut fresh = Freshness::default();
        assert_eq!(fresh.lag_ms(Lsn(0), start), None);
        assert!(!fresh.is_known());
        fresh.beat(Lsn(10), 1000 * MS, start);
        assert_eq!(fresh.lag_ms(Lsn(0), start), None);
        assert!(fresh.is_known());
    }

    #[test]
    fn an_empty_log_of_an_empty_primary_does_not_lag() {
        let start = Instant::now();
        let mut fresh = Freshness::default();
        fresh.beat(Lsn(0), 1000 * MS, start);
        assert_eq!(fresh.lag_ms(Lsn(0), after(start, 10)), Some(0));
    }

    #[test]
    fn one_row_after_a_quiet_hour_is_no_hour_of_lag() {
        let start = Instant::now();
        let hour = 3_600_000;
        let mut fresh = Freshness::default();
        fresh.beat(Lsn(5), 1000 * MS, start);
        fresh.apply(Lsn(5), 900 * MS);
        fresh.beat(Lsn(5), (1000 + hour) * MS, after(start, 3_600_000));
        fresh.beat(Lsn(6), (1200 + hour) * MS, after(start, 3_600_200));
        assert_eq!(fresh.lag_ms(Lsn(5), after(start, 3_600_210)), Some(210));
        fresh.apply(Lsn(6), (1199 + hour) * MS);
        assert_eq!(fresh.lag_ms(Lsn(6), after(start, 3_600_220)), Some(0));
    }

    #[test]
    fn while_catching_up_the_last_applied_block_tells_the_age() {
        let start = Instant::now();
        let mut fresh = Freshness::default();
        fresh.beat(Lsn(1_000), 60_000 * MS, start);
        fresh.apply(Lsn(10), 20_000 * MS);
        assert_eq!(fresh.lag_ms(Lsn(10), after(start, 500)), Some(40_500));
        fresh.apply(Lsn(500), 50_000 * MS);
        assert_eq!(fresh.lag_ms(Lsn(500), after(start, 500)), Some(10_500));
        fresh.apply(Lsn(1_000), 60_000 * MS);
        assert_eq!(fresh.lag_ms(Lsn(1_000), after(start, 300)), Some(0));
    }

    #[test]
    fn without_contact_lag_grows_from_the_last_word() {
        let start = Instant::now();
        let mut fresh = Freshness::default();
        fresh.beat(Lsn(7), 1000 * MS, start);
        fresh.apply(Lsn(7), 990 * MS);
        assert_eq!(fresh.lag_ms(Lsn(7), after(start, 400)), Some(0));
        assert_eq!(fresh.bound_ms(Lsn(7), after(start, 400)), Some(400));
        assert_eq!(fresh.lag_ms(Lsn(7), after(start, 900)), Some(900));
        assert_eq!(fresh.lag_ms(Lsn(7), after(start, 5_000)), Some(5_000));
        assert_eq!(fresh.lag_ms(Lsn(7), after(start, 60_000)), Some(60_000));
    }

    #[test]
    fn rows_seen_before_their_announcement_count() {
        let start = Instant::now();
        let mut fresh = Freshness::default();
        fresh.beat(Lsn(5), 1000 * MS, start);
        fresh.apply(Lsn(9), 1100 * MS);
        assert_eq!(fresh.lag_ms(Lsn(9), after(start, 100)), Some(0));
        fresh.beat(Lsn(9), 1200 * MS, after(start, 200));
        assert_eq!(fresh.lag_ms(Lsn(9), after(start, 250)), Some(0));
    }

    #[test]
    fn memory_is_bounded_and_the_answer_stays_honest() {
        let start = Instant::now();
        let mut fresh = Freshness::default();
        for i in 1..10_000_u64 {
            let now_ns = i64::try_from(i).expect("small") * MS;
            fresh.beat(Lsn(i), now_ns, after(start, i));
        }
        assert_eq!(fresh.pending.len(), PENDING_LIMIT);
        fresh.apply(Lsn(100), 0);
        assert_eq!(fresh.lag_ms(Lsn(100), after(start, 9_999)), Some(9_899));
        fresh.apply(Lsn(9_000), 0);
        assert!(fresh.lag_ms(Lsn(9_000), after(start, 9_999)) >= Some(999));
        fresh.apply(Lsn(9_999), 0);
        assert_eq!(fresh.lag_ms(Lsn(9_999), after(start, 9_999)), Some(0));
    }

    #[test]
    fn a_clock_that_is_set_neither_hides_nor_invents_lag() {
        let start = Instant::now();
        for jump in [-3_600_000, 3_600_000] {
            let mut fresh = Freshness::default();
            fresh.beat(Lsn(5), 9_000_000 * MS, start);
            fresh.apply(Lsn(5), 8_999_000 * MS);
            fresh.beat(Lsn(6), (9_000_200 + jump) * MS, after(start, 200));
            assert_eq!(fresh.lag_ms(Lsn(5), after(start, 700)), Some(700));
            assert_eq!(fresh.lag_ms(Lsn(6), after(start, 500)), Some(0));
        }
    }

    #[test]
    fn a_block_from_the_clocks_future_does_not_hide_lag() {
        let start = Instant::now();
        let mut fresh = Freshness::default();
        fresh.beat(Lsn(9), 1_000 * MS, start);
        fresh.apply(Lsn(5), 999_999 * MS);
        assert_eq!(fresh.lag_ms(Lsn(5), after(start, 5_000)), Some(4_000));
    }

    #[test]
    fn bytes_between_sums_whole_pieces_and_shares_of_the_outer_ones() {
        let pieces = [
            (Lsn(0), Lsn(100), 1_000_u64),
            (Lsn(100), Lsn(200), 2_000),
            (Lsn(200), Lsn(200), 64),
            (Lsn(200), Lsn(300), 4_000),
        ];
        let between = |from, to| bytes_between(pieces.into_iter(), Lsn(from), Lsn(to));
        assert_eq!(between(0, 300), 7_000);
        assert_eq!(between(100, 300), 6_000);
        assert_eq!(between(50, 250), 500 + 2_000 + 2_000);
        assert_eq!(between(300, 300), 0);
        assert_eq!(between(300, 200), 0);
        assert_eq!(between(250, 999), 2_000);
    }
}
