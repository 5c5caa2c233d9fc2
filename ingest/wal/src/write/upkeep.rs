//! What the primary writes into the log by itself: how far rows have expired, and how much of the
//! log's head need no longer be kept. Decides; the committer writes. Pure but for looking at a
//! snapshot. It must never write.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use crate::config::Config;
use crate::format::block::BlockKind;
use crate::format::control::Control;
use crate::format::options::TableOptions;
use crate::format::schema::TableSchema;
use crate::ids::{Lsn, TableId};
use crate::read::snapshot::Snapshot;
use crate::read::waiting_cuts::WaitingCut;
use crate::write::expiry::{Clocks, Guard, Waiting};
use crate::write::oldest_taken::OldestTaken;

/// Expires the rows of all tables that are not kept for ever.
#[derive(Debug, Default)]
pub(crate) struct Expiring {
    guards: HashMap<TableId, Guard>,
}

impl Expiring {
    /// Somebody says that the cut of a table is right, which waits.
    pub(crate) fn approve(&mut self, table: TableId) {
        self.guards.entry(table).or_default().approve();
    }

    /// How far the rows of `tables` expire with these options, where that is news, and the cuts that
    /// wait. Appenders take no row that would be gone at once.
    pub(crate) fn look<'a>(
        &mut self,
        snapshot: &Snapshot,
        tables: impl Iterator<Item = (&'a TableSchema, TableOptions)>,
        clocks: Clocks,
        oldest: &OldestTaken,
    ) -> (Vec<Control>, Vec<WaitingCut>) {
        let (mut controls, mut waiting) = (Vec::new(), Vec::new());
        for (schema, options) in tables {
            let held = snapshot.catalog.expiry(schema.id);
            let retention = options.retention_nanos();
            let guard = self.guards.entry(schema.id).or_default();
            let holds = |times| holds(snapshot, schema.id, times);
            let decision = guard.decide(retention, held, clocks, holds);
            oldest.set(&schema.name, decision.expiry.seen_from());
            if decision.expiry != held {
                controls.push(Control::Expiry(schema.id, decision.expiry));
            }
            if let Some((waits, retention)) = decision.waiting.zip(options.retention) {
                let seen_from = held.seen_from().unwrap_or(i64::MIN);
                let Waiting { cut, left } = waits;
                let ahead = held.cut.map(|held| cut.saturating_sub(held).unsigned_abs());
                waiting.push(WaitingCut {
                    table: schema.name.clone(),
                    retention_s: retention.as_secs(),
                    cut_unix_ms: cut.div_euclid(1_000_000),
                    ahead_s: ahead.map(|ahead| ahead / 1_000_000_000),
                    rows: rows(snapshot, schema.id, seen_from..cut),
                    of_rows: rows(snapshot, schema.id, seen_from..i64::MAX),
                    left_s: left.as_secs(),
                });
            }
        }
        (controls, waiting)
    }
}

/// Smallest and largest time and the number of rows of all that is stored of a table. Its rows that
/// are in files and still in segments are seen once.
fn pieces(snapshot: &Snapshot, table: TableId) -> impl Iterator<Item = (i64, i64, u64)> {
    let files = snapshot.files.of(table).map(|file| &file.meta);
    let files = files.map(|meta| (meta.min_time, meta.max_time, meta.rows));
    let sealed = snapshot.pending().flat_map(|segment| &segment.entries);
    let tail = snapshot
        .tail()
        .blocks()
        .map(|block| block.entry)
        .collect::<Vec<_>>();
    let entries = sealed.copied().chain(tail);
    let data = entries.filter(move |entry| entry.kind == BlockKind::Data && entry.table == table);
    files.chain(data.map(|entry| (entry.min_time, entry.max_time, u64::from(entry.rows))))
}

/// Whether rows of these times may be stored.
fn holds(snapshot: &Snapshot, table: TableId, times: Range<i64>) -> bool {
    pieces(snapshot, table).any(|(min, max, _)| max >= times.start && min < times.end)
}

/// How many rows of these times are stored, about: within a piece they are taken to be spread
/// evenly.
fn rows(snapshot: &Snapshot, table: TableId, times: Range<i64>) -> u64 {
    let share = |(min, max, rows): (i64, i64, u64)| {
        let (from, to) = (min.max(times.start), max.min(times.end.saturating_sub(1)));
        if from > to {
            return 0;
        }
        let part = u128::from(to.abs_diff(from)) + 1;
        let whole = u128::from(max.abs_diff(min)) + 1;
        u64::try_from(u128::from(rows) * part / whole)
            .unwrap_or(rows)
            .max(1)
    };
    pieces(snapshot, table).map(share).sum()
}

/// The retirement that is due, if one is.
pub(crate) fn retirement_due(snapshot: &Snapshot, keep_segments: u64) -> Option<Control> {
    let segments = snapshot
        .sealed
        .iter()
        .take_while(|segment| segment.end.lsn <= snapshot.compacted().lsn)
        .map(|segment| (segment.end.lsn, segment.len()))
        .collect::<Vec<_>>();
    let lsn = retirement(&segments, keep_segments)?;
    (lsn > snapshot.catalog.retired()).then_some(Control::Retire(lsn))
}

/// Options of the tables of the conf.
pub(crate) fn options_of(config: &Config) -> HashMap<String, TableOptions> {
    let tables = config.tables.iter();
    tables
        .map(|table| (table.name.clone(), table.options))
        .collect()
}

/// A table's options by the conf.
pub(crate) fn wanted(
    options: &HashMap<String, TableOptions>,
    schema: &TableSchema,
) -> TableOptions {
    options.get(&schema.name).copied().unwrap_or_default()
}

/// The tables among the changes.
pub(crate) fn schemas(controls: &[Control]) -> impl Iterator<Item = &Arc<TableSchema>> {
    controls.iter().filter_map(|control| match control {
        Control::Schema(schema) => Some(schema),
        _ => None,
    })
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
    fn segments_are_kept_up_to_their_share() {
        let segments = [(Lsn(10), 40), (Lsn(20), 40), (Lsn(30), 40)];
        assert_eq!(retirement(&segments, 120), None);
        assert_eq!(retirement(&segments, 119), Some(Lsn(10)));
        assert_eq!(retirement(&segments, 79), Some(Lsn(20)));
        assert_eq!(retirement(&segments, 0), Some(Lsn(30)));
        assert_eq!(retirement(&[], 0), None);
    }
}
