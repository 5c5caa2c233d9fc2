//! Which row times a table takes. Not those that are older than what it keeps: such a row would be
//! gone at once, without a word. Not those that no clock can mean: one of them in a table, and
//! arithmetic over its times ends beyond what 64 bits hold. Looked at by every appender, set by the
//! committer. It must never take a lock.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use crate::format::row::{Refusal, Row, TimeRange};
use crate::format::schema::DEAD_LETTERS;

/// The times of all tables, and the oldest ones of those whose rows expire.
#[derive(Debug, Default)]
pub(crate) struct TakenTimes {
    all: TimeRange,
    oldest: HashMap<String, AtomicI64>,
    refused: Arc<AtomicU64>,
}

impl TakenTimes {
    /// Of tables that take any time of `all` so far. All others do so for ever.
    /// Refusals are counted in `refused`.
    pub(crate) fn new(
        all: TimeRange,
        tables: impl Iterator<Item = String>,
        refused: Arc<AtomicU64>,
    ) -> Self {
        let oldest = tables.map(|table| (table, AtomicI64::new(i64::MIN)));
        Self {
            all,
            oldest: oldest.collect(),
            refused,
        }
    }

    /// From when on rows are taken; `None`: all.
    pub(crate) fn set_oldest(&self, table: &str, oldest: Option<i64>) {
        if let Some(held) = self.oldest.get(table) {
            held.store(oldest.unwrap_or(i64::MIN), Ordering::Relaxed);
        }
    }

    /// Whether every row has a time that is taken.
    pub(crate) fn check(&self, table: &str, rows: &[Row<'_>]) -> Result<(), Refusal> {
        let refused = self.judge(table, rows);
        if refused.is_err() {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        refused
    }

    fn judge(&self, table: &str, rows: &[Row<'_>]) -> Result<(), Refusal> {
        // Those have this node's own time, and take what is refused elsewhere.
        if table != DEAD_LETTERS
            && let Some(row) = rows.iter().find(|row| !self.all.contains(row.time))
        {
            return Err(Refusal::OutOfRange {
                time: row.time,
                range: self.all,
            });
        }
        let Some(oldest) = self.oldest.get(table) else {
            return Ok(());
        };
        let cut = oldest.load(Ordering::Relaxed);
        match rows.iter().find(|row| row.time < cut) {
            None => Ok(()),
            Some(row) => Err(Refusal::Expired {
                table: table.to_owned(),
                time: row.time,
                cut,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_other_times_are_refused_but_for_dead_letters_and_counted() {
        let refused = Arc::new(AtomicU64::new(0));
        let all = TimeRange { from: -5, to: 5 };
        let tables = ["kept".to_owned()].into_iter();
        let times = TakenTimes::new(all, tables, Arc::clone(&refused));
        let check = |table: &str, of: &[i64]| {
            let row = |time: &i64| Row {
                time: *time,
                tags: &[],
                fields: &[],
            };
            let rows: Vec<Row<'_>> = of.iter().map(row).collect();
            times.check(table, &rows)
        };
        assert_eq!(check("a", &[-5, 0, 5]), Ok(()));
        for time in [i64::MIN, -6, 6, i64::MAX] {
            let range = all;
            let out = Err(Refusal::OutOfRange { time, range });
            assert_eq!(check("a", &[0, time]), out);
            assert_eq!(check("kept", &[time]), out);
            assert_eq!(check(DEAD_LETTERS, &[time]), Ok(()));
        }
        times.set_oldest("kept", Some(2));
        assert!(matches!(
            check("kept", &[1]),
            Err(Refusal::Expired { cut: 2, .. })
        ));
        assert_eq!(check("a", &[1]), Ok(()));
        assert_eq!(refused.load(Ordering::Relaxed), 9);
    }
}
