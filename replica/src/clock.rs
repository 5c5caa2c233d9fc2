//! The wall clock of this crate. It owns the only reads of it and must never decide anything: times
//! travel to the other side and into statuses, never into what is shipped or kept.

use std::time::{SystemTime, UNIX_EPOCH};

/// Nanoseconds since 1970; 0 when the clock stands before that.
pub(crate) fn unix_ns() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// Milliseconds since 1970; 0 when the clock stands before that.
pub(crate) fn unix_ms() -> u64 {
    u64::try_from(unix_ns() / 1_000_000).unwrap_or(0)
}
