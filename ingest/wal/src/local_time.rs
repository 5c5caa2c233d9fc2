//! What a local time means: how far its zone is ahead of UTC then. The one rule for messages and for
//! SQL, so that both mean the same instant; must never take the zone of the machine it runs on.

use chrono::{LocalResult, NaiveDateTime, Offset, TimeDelta, TimeZone};

/// How many seconds `zone` is ahead of UTC at a local time. Of one that comes twice, as clocks go
/// back, the later instant is meant; one that clocks leave out is counted on from before the gap:
/// as in `PostgreSQL`. None where that ends the calendar.
pub fn ahead_of_utc<Z: TimeZone>(zone: &Z, local: NaiveDateTime) -> Option<i32> {
    let seconds = |offset: &Z::Offset| offset.fix().local_minus_utc();
    for step in 0..=LONGEST_GAP {
        let before = local.checked_sub_signed(STEP * step)?;
        match zone.offset_from_local_datetime(&before) {
            LocalResult::Single(offset) => return Some(seconds(&offset)),
            LocalResult::Ambiguous(one, two) => return Some(seconds(&one).min(seconds(&two))),
            LocalResult::None => {}
        }
    }
    None
}

const STEP: TimeDelta = TimeDelta::minutes(15);

/// In steps: a day has been left out where a date line was moved.
const LONGEST_GAP: i32 = 100;
