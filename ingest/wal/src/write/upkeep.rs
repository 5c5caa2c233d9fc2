//! What the primary writes into the log by itself: how far rows have expired, and how much of the
//! log's head need no longer be kept. Decides; the committer writes. Pure but for looking at a
//! snapshot. It must never write.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use crate::config::Config;
use crate::format::block::BlockKind;
use crate::format::control::Control;
use crate::format::options::{Expiry, TableOptions};
use crate::format::schema::{DEAD_LETTERS, TableSchema};
use crate::ids::{Lsn, TableId};
use crate::read::snapshot::Snapshot;
use crate::read::waiting_cuts::WaitingCut;
use crate::write::expiry::{Clocks, Guard, Waiting};
use crate::write::size_cap;
use crate::write::taken_times::TakenTimes;

/// Expires the rows of all tables that are not kept for ever.
#[derive(Debug, Default)]
pub(crate) struct Expiring {
    guards: HashMap<TableId, Guard>,
    /// Bytes that the dead letters may take.
    dead_letter_bytes: Option<u64>,
    /// How often it was looked since their size was.
    looks: u32,
    /// Dead letters that have gone because they were too many, about.
    given_up: u64,
}

impl Expiring {
    pub(crate) fn new(dead_letter_bytes: Option<u64>) -> Self {
        Self {
            dead_letter_bytes,
            ..Self::default()
        }
    }

    /// Dead letters that have gone because they were too many, about.
    pub(crate) fn given_up(&self) -> u64 {
        self.given_up
    }

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
        times: &TakenTimes,
    ) -> (Vec<Control>, Vec<WaitingCut>) {
        let (mut controls, mut waiting) = (Vec::new(), Vec::new());
        for (schema, options) in tables {
            let held = snapshot.catalog.expiry(schema.id);
            let retention = options.retention_nanos();
            let holds = |span| holds(snapshot, schema.id, span);
            let guard = self.guards.entry(schema.id).or_default();
            let mut decision = guard.decide(retention, held, clocks, holds);
            if schema.name == DEAD_LETTERS
                && let Some(cut) = self.size_cut(snapshot, schema.id, held)
            {
                // What is purged is seen by nobody, and never comes back.
                decision.expiry.purged = decision.expiry.purged.max(Some(cut));
            }
            times.set_oldest(&schema.name, decision.expiry.seen_from());
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

impl Expiring {
    /// The time before which the dead letters go because they are too many.
    fn size_cut(&mut self, snapshot: &Snapshot, table: TableId, held: Expiry) -> Option<i64> {
        let limit = self.dead_letter_bytes?;
        self.looks = (self.looks + 1) % LOOKS_PER_SIZE;
        if self.looks != 1 {
            return None;
        }
        let seen_from = held.seen_from().unwrap_or(i64::MIN);
        let all = pieces(snapshot, table).filter(|piece| piece.max_time >= seen_from);
        let all = all.map(|piece| size_cap::Piece {
            newest: piece.max_time,
            bytes: piece.bytes,
        });
        let cut = size_cap::cut(all.collect(), limit)?;
        let gone = rows(snapshot, table, seen_from..cut);
        self.given_up = self.given_up.saturating_add(gone);
        Some(cut)
    }
}

/// A file, or a block that is in none yet.
struct Piece {
    min_time: i64,
    max_time: i64,
    rows: u64,
    bytes: u64,
}

/// All that is stored of a table. Its rows that are in files and still in segments are seen once.
fn pieces(snapshot: &Snapshot, table: TableId) -> impl Iterator<Item = Piece> {
    let files = snapshot.files.of(table).map(|file| &file.meta);
    let files = files.map(|meta| Piece {
        min_time: meta.min_time,
        max_time: meta.max_time,
        rows: meta.rows,
        bytes: meta.bytes,
    });
    let sealed = snapshot.pending().flat_map(|segment| &segment.entries);
    let tail = snapshot
        .tail()
        .blocks()
        .map(|block| block.entry)
        .collect::<Vec<_>>();
    let entries = sealed.copied().chain(tail);
    let data = entries.filter(move |entry| entry.kind == BlockKind::Data && entry.table == table);
    files.chain(data.map(|entry| Piece {
        min_time: entry.min_time,
        max_time: entry.max_time,
        rows: u64::from(entry.rows),
        bytes: u64::from(entry.len),
    }))
}

/// Whether rows of these times may be stored.
fn holds(snapshot: &Snapshot, table: TableId, times: Range<i64>) -> bool {
    let holds = |piece: Piece| piece.max_time >= times.start && piece.min_time < times.end;
    pieces(snapshot, table).any(holds)
}

/// How many rows of these times are stored, about: within a piece they are taken to be spread
/// evenly.
fn rows(snapshot: &Snapshot, table: TableId, times: Range<i64>) -> u64 {
    let share = |piece: Piece| {
        let (min, max, rows) = (piece.min_time, piece.max_time, piece.rows);
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

/// Options of the tables of the conf, and of the dead letters.
pub(crate) fn options_of(config: &Config) -> HashMap<String, TableOptions> {
    let letters = TableOptions {
        retention: config.dead_letter_retention,
        ..TableOptions::default()
    };
    let letters = (DEAD_LETTERS.to_owned(), letters);
    let tables = config.tables.iter();
    let tables = tables.map(|table| (table.name.clone(), table.options));
    std::iter::once(letters).chain(tables).collect()
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

/// The size of the dead letters is looked at once in so many looks.
const LOOKS_PER_SIZE: u32 = 10;

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
