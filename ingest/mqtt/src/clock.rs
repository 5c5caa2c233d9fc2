//! The wall clock of this crate: the only place here that asks for the time of day.

use std::time::{SystemTime, UNIX_EPOCH};

/// Unix nanoseconds, for rows whose payload has no time.
pub(crate) fn unix_nanos() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
