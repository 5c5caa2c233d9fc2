//! What the primary writes into the log by itself: retention cuts, and how much of the log's head
//! need no longer be kept. Decides; the committer writes. Pure but for looking at a snapshot. It
//! must never write.

use std::time::{Duration, Instant};

use crate::format::control::Control;
use crate::ids::Lsn;
use crate::read::snapshot::Snapshot;

/// Whether the wall clock may cut rows. A machine that starts with a wrong clock, before it has
/// asked the network, must not expire everything for ever.
#[derive(Debug)]
pub(crate) struct ClockGuard {
    seen: i64,
    seen_at: Instant,
    believed_from: Option<Instant>,
}

impl ClockGuard {
    /// `newest` is the clock at the log's last commit; 0 in an empty log.
    pub(crate) fn new(newest: i64, now: Instant) -> Self {
        Self {
            seen: newest,
            seen_at: now,
            believed_from: None,
        }
    }

    pub(crate) fn trusts(&mut self, wall: i64, now: Instant) -> bool {
        let nanos = |time: Duration| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
        let expected = self.seen.saturating_add(nanos(now - self.seen_at));
        if self.seen > 0 && wall.saturating_sub(expected) > nanos(JUMP) {
            self.believed_from = Some(now + DOUBT);
        }
        (self.seen, self.seen_at) = (wall, now);
        self.believed_from.is_none_or(|from| now >= from)
    }
}

/// The control blocks that are due at `now`; `None`: rows are not cut.
pub(crate) fn due(snapshot: &Snapshot, now: Option<i64>, keep_segments: u64) -> Vec<Control> {
    let mut controls = Vec::new();
    for schema in snapshot.catalog.tables() {
        let Some(now) = now else { break };
        let retention = snapshot.catalog.options(schema.id).retention_nanos();
        let held = snapshot.catalog.cut(schema.id);
        if let Some(time) = retention.and_then(|retention| cut(now, retention, held)) {
            controls.push(Control::Cut(schema.id, time));
        }
    }
    let segments = snapshot
        .sealed
        .iter()
        .take_while(|segment| segment.end.lsn <= snapshot.compacted().lsn)
        .map(|segment| (segment.end.lsn, segment.bytes.len() as u64))
        .collect::<Vec<_>>();
    if let Some(lsn) = retirement(&segments, keep_segments)
        && lsn > snapshot.catalog.retired()
    {
        controls.push(Control::Retire(lsn));
    }
    controls
}

/// Where the cut goes, if it has far enough to go.
fn cut(now: i64, retention: i64, held: Option<i64>) -> Option<i64> {
    let grain = (retention / GRAINS).clamp(GRAIN_LEAST, GRAIN_MOST);
    let time = now.saturating_sub(retention).div_euclid(grain) * grain;
    (held.is_none_or(|held| time > held)).then_some(time)
}

/// The end of the last segment that need not be kept, of segments given oldest first with their
/// ends and lengths.
fn retirement(segments: &[(Lsn, u64)], keep: u64) -> Option<Lsn> {
    let mut kept = 0_u64;
    for (end, bytes) in segments.iter().rev() {
        kept = kept.saturating_add(*bytes);
        if kept > keep {
            return Some(*end);
        }
    }
    None
}

/// A cut moves on by at least this part of the retention.
const GRAINS: i64 = 100;
/// Shortest and longest step of a cut, nanoseconds.
const GRAIN_LEAST: i64 = 1_000_000_000;
const GRAIN_MOST: i64 = 86_400_000_000_000;
/// A clock that has jumped forward by more than this is not believed at once.
const JUMP: Duration = Duration::from_secs(86_400);
/// How long it must then run on before rows are cut by it.
const DOUBT: Duration = Duration::from_secs(3_600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_moves_in_steps_and_never_back() {
        let day = GRAIN_MOST;
        let (now, retention) = (20_000 * day + 5, 90 * day);
        let first = cut(now, retention, None).expect("due");
        assert!(first <= now - retention && first > now - retention - day);
        assert_eq!(cut(now, retention, Some(first)), None);
        assert_eq!(cut(now - day, retention, Some(first)), None);
        assert!(cut(now + day, retention, Some(first)).is_some_and(|cut| cut > first));
        let second = 1_000_000_000;
        assert_eq!(cut(61 * second + 7, 60 * second, None), Some(second));
    }

    #[test]
    fn a_clock_that_jumps_ahead_cuts_nothing_for_an_hour() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let day = GRAIN_MOST;
        let mut guard = ClockGuard::new(100 * day, start);
        assert!(guard.trusts(100 * day + 5, start), "a restart");
        assert!(!guard.trusts(4_000 * day, start + second), "years ahead");
        assert!(!guard.trusts(4_000 * day, start + 600 * second), "still");
        assert!(
            !guard.trusts(100 * day, start + 900 * second),
            "set right, but who knows"
        );
        assert!(guard.trusts(100 * day, start + 3_700 * second));
        let mut fresh = ClockGuard::new(0, start);
        assert!(
            fresh.trusts(100 * day, start),
            "an empty log has nothing to lose"
        );
    }

    #[test]
    fn segments_are_kept_up_to_their_share() {
        let segments = [(Lsn(10), 40), (Lsn(20), 40), (Lsn(30), 40)];
        assert_eq!(retirement(&segments, 120), None);
        assert_eq!(retirement(&segments, 119), Some(Lsn(10)));
        assert_eq!(retirement(&segments, 79), Some(Lsn(20)));
        assert_eq!(retirement(&segments, 0), Some(Lsn(30)));
        assert_eq!(retirement(&[], 0), None);
    }
}
