//! What the primary writes into the log by itself: retention cuts, and how much of the log's head
//! need no longer be kept. Decides; the committer writes. Pure but for looking at a snapshot.

use crate::control::Control;
use crate::ids::Lsn;
use crate::snapshot::Snapshot;

/// A cut moves on by at least this part of the retention.
const GRAINS: i64 = 100;
/// Shortest and longest step of a cut, nanoseconds.
const GRAIN_LEAST: i64 = 1_000_000_000;
const GRAIN_MOST: i64 = 86_400_000_000_000;

/// The control blocks that are due at `now`.
pub(crate) fn due(snapshot: &Snapshot, now: i64, keep_segments: u64) -> Vec<Control> {
    let mut controls = Vec::new();
    for schema in snapshot.catalog.tables() {
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
    fn segments_are_kept_up_to_their_share() {
        let segments = [(Lsn(10), 40), (Lsn(20), 40), (Lsn(30), 40)];
        assert_eq!(retirement(&segments, 120), None);
        assert_eq!(retirement(&segments, 119), Some(Lsn(10)));
        assert_eq!(retirement(&segments, 79), Some(Lsn(20)));
        assert_eq!(retirement(&segments, 0), Some(Lsn(30)));
        assert_eq!(retirement(&[], 0), None);
    }
}
