//! `[ingest]` and `[dead_letters]`: how messages and writes are read, and what is kept of those that
//! no table takes. Must never let a time through that 64 bits of nanoseconds do not hold.

use std::time::Duration;

use super::reader::Reader;
use super::table::{MAX_RETENTION, MIN_RETENTION};
use super::units::parse_duration;

/// What is kept of messages that no table takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetters {
    /// For how long; None: for ever. A `[[table]]` of theirs wins.
    pub retention: Option<Duration>,
    /// Bytes that they may take on the disk, about; 0: no limit.
    pub max_size: u64,
    /// Bytes per second that one client may fill; 0: no limit.
    pub max_rate_per_client: u64,
}

impl Default for DeadLetters {
    fn default() -> Self {
        Self {
            retention: Some(Duration::from_secs(30 * 86_400)),
            max_size: 1 << 30,
            max_rate_per_client: 64 << 10,
        }
    }
}

/// How messages and writes are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ingest {
    pub reading: intake::Reading,
    /// Times that rows may have.
    pub times: wal::TimeRange,
}

impl Default for Ingest {
    fn default() -> Self {
        Self {
            reading: intake::Reading::default(),
            times: wal::TimeRange {
                from: MIN_TIME,
                to: MAX_TIME,
            },
        }
    }
}

pub(super) fn dead_letters(reader: &mut Reader<'_>) -> DeadLetters {
    let default = DeadLetters::default();
    DeadLetters {
        retention: reader.parsed(
            "dead_letters.retention",
            default.retention,
            RETENTION_RULE,
            retention,
        ),
        max_size: reader.size("dead_letters.max_size", default.max_size, 0..=1 << 50),
        max_rate_per_client: reader.rate(
            "dead_letters.max_rate_per_client",
            default.max_rate_per_client,
            1 << 40,
        ),
    }
}

pub(super) fn limits(reader: &mut Reader<'_>) -> wal::Limits {
    let default = wal::Limits::default();
    let (tables, columns) = (wal::MAX_TABLES as u64, wal::MAX_COLUMNS as u64);
    wal::Limits {
        max_tables: reader.int("ingest.max_tables", default.max_tables, 1..=tables),
        max_columns: reader.int("ingest.max_columns", default.max_columns, 2..=columns),
        new_tables_per_minute: reader.int(
            "ingest.new_tables_per_minute",
            default.new_tables_per_minute,
            0..=MOST_NEW,
        ),
        new_columns_per_minute: reader.int(
            "ingest.new_columns_per_minute",
            default.new_columns_per_minute,
            0..=MOST_NEW,
        ),
    }
}

pub(super) fn ingest(reader: &mut Reader<'_>) -> Ingest {
    let default = Ingest::default().times;
    let times = wal::TimeRange {
        from: reader.parsed("ingest.min_time", default.from, TIME_RULE, time),
        to: reader.parsed("ingest.max_time", default.to, TIME_RULE, time),
    };
    if times.from >= times.to {
        reader.refuse("ingest.max_time", "must be later than ingest.min_time");
    }
    Ingest {
        reading: intake::Reading {
            zone: time_zone(reader),
            max_rows: reader.int(
                "ingest.max_rows",
                intake::Reading::default().max_rows,
                1..=MOST_ROWS,
            ),
        },
        times,
    }
}

fn retention(text: &str) -> Option<Option<Duration>> {
    if text.is_empty() {
        return Some(None);
    }
    let time = parse_duration(text)?;
    (MIN_RETENTION..=MAX_RETENTION)
        .contains(&time)
        .then_some(Some(time))
}

/// Unix nanoseconds of a day's beginning, or of an RFC 3339 time.
fn time(text: &str) -> Option<i64> {
    let day = text
        .parse::<jiff::civil::Date>()
        .ok()
        .filter(|_| text.len() == DAY_LEN);
    let time = match day {
        Some(day) => day.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp(),
        None => text.parse().ok()?,
    };
    i64::try_from(time.as_nanosecond()).ok()
}

fn time_zone(reader: &mut Reader<'_>) -> Option<intake::Zone> {
    let zone = |name: &str| match name {
        "" => Some(None),
        name => intake::Zone::parse(name).map(Some),
    };
    reader.parsed("ingest.time_zone", None, ZONE_RULE, zone)
}

/// Most new tables or columns in a minute that can be allowed, but for no limit.
const MOST_NEW: u64 = 10_000_000;

/// 1700-01-01 and 2250-01-01: what clocks mean, and a stretch of years to what 64 bits of
/// nanoseconds hold, for statements to count in.
const MIN_TIME: i64 = -8_520_336_000_000_000_000;
const MAX_TIME: i64 = 8_835_955_200_000_000_000;

pub(super) const TIME_RULE: &str = "must be a day or an RFC 3339 time from 1677-09-22 to 2262-04-11, such as \
                         \"1700-01-01\" or \"2250-01-01T00:00:00Z\"";

/// Most rows of one message: what they take while they are read is bounded by that.
const MOST_ROWS: u64 = 200_000;

/// Of `1700-01-01`.
const DAY_LEN: usize = 10;

pub(super) const ZONE_RULE: &str = "must be a time zone by its name, such as \"Europe/Berlin\" or \"UTC\", by \
                         its offset, such as \"+01:00\", or empty";

const RETENTION_RULE: &str =
    "must be a time with its unit, from \"1 min\" to \"36500 days\", or empty";
