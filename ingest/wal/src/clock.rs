//! The wall clock: the only place in the product that asks for the time of day. It must never be
//! used to measure how long something took.

use std::time::{SystemTime, UNIX_EPOCH};

/// Unix nanoseconds; saturates at the ends of `i64` (1677 to 2262).
pub fn unix_nanos() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |nanos| -nanos),
    }
}

/// Unix milliseconds; 0 before 1970.
pub fn unix_ms() -> u64 {
    u64::try_from(unix_nanos() / 1_000_000).unwrap_or(0)
}
