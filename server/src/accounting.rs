//! Where every message and every row is: counts that add up, and what would be lost if this node
//! vanished now. Must never show more than is certain: a row counts as shipped once it was, and as
//! safe once another disk holds it.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use wal::Lsn;

/// Counts since the node started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accounting {
    /// On a primary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<MessageCounts>,
    pub rows: RowCounts,
    /// On a primary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_risk: Option<AtRisk>,
}

/// `received = acknowledged + qos0 + duplicates + refused + waiting + dropped`, but for what is on
/// its way at the moment of the count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageCounts {
    pub received: u64,
    /// Acknowledged, each after what it had asked for.
    pub acknowledged: u64,
    /// Stored without acknowledgement: nobody waits for one.
    pub qos0: u64,
    /// QoS 2 messages that came again: acknowledged, stored the first time.
    pub duplicates: u64,
    /// Answered with a refusal, not stored.
    pub refused: u64,
    /// Stored, or about to be, and not acknowledged yet.
    pub waiting: u64,
    /// Their connection ended before they were acknowledged: clients send them again.
    pub dropped: u64,
    /// Of those received: stored in `system.dead_letters`.
    pub dead_lettered: u64,
}

/// `taken + dead_lettered = durable = queryable` here once nothing is on its way, and those are
/// `shipped` and `applied` once a secondary has caught up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowCounts {
    /// Rows made of messages, on a primary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken: Option<u64>,
    /// Rows of `system.dead_letters`, on a primary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_lettered: Option<u64>,
    /// On this node's disk.
    pub durable: u64,
    /// Of those: sent to at least one secondary; absent where none can connect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shipped: Option<u64>,
    /// Of those: queries see them on at least one secondary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<u64>,
    /// Queries see them here.
    pub queryable: u64,
}

/// Durable here and on no other disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AtRisk {
    /// Exact at the borders of segments; within one a control block may count as a row. What is in
    /// Parquet files only is counted in proportion.
    pub rows: u64,
    pub bytes: u64,
    /// Age of the oldest of them.
    pub ms: u64,
}

/// What has been said of rows on secondaries, so that no count ever falls: two positions are never
/// read at quite the same moment, and a secondary can be forgotten.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    shipped: AtomicU64,
    applied: AtomicU64,
}

impl Ledger {
    /// Rows of `log`, and of them those on `secondaries`.
    pub(crate) fn rows(
        &self,
        log: &wal::Log,
        secondaries: Option<&[replica::SecondaryStatus]>,
    ) -> RowCounts {
        let furthest = |lsn: fn(&replica::SecondaryStatus) -> Lsn| {
            let known = secondaries?.iter().filter(|secondary| follows(secondary));
            Some(known.map(lsn).max().unwrap_or_default())
        };
        let (sent, applied) = (furthest(|one| one.sent), furthest(|one| one.applied));
        // After the positions: what is counted from them is never too much.
        let end = log.durable().borrow().lsn;
        let durable = log.stats().rows;
        self.settle(durable, end, sent, applied)
    }

    fn settle(&self, durable: u64, end: Lsn, sent: Option<Lsn>, applied: Option<Lsn>) -> RowCounts {
        let count = |most: &AtomicU64, reached: Lsn| {
            let rows = durable.saturating_sub(end.0.saturating_sub(reached.0));
            most.fetch_max(rows, Ordering::Relaxed)
                .max(rows)
                .min(durable)
        };
        RowCounts {
            taken: None,
            dead_lettered: None,
            durable,
            shipped: sent.map(|reached| count(&self.shipped, reached)),
            applied: applied.map(|reached| count(&self.applied, reached)),
            queryable: durable,
        }
    }
}

impl AtRisk {
    /// What of `log` no secondary has on its disk, at `now_ns` by this machine's clock.
    pub(crate) fn of(
        log: &wal::Log,
        secondaries: &[replica::SecondaryStatus],
        now_ns: i64,
    ) -> Self {
        let connected = log.replicated().borrow().by(1);
        // After the positions, so that only a log that is not this one can reach beyond its end.
        let snapshot = log.snapshot();
        let end = snapshot.position().lsn;
        let safe = secondaries
            .iter()
            .filter_map(kept)
            .chain([connected])
            .filter(|lsn| *lsn <= end)
            .max()
            .unwrap_or_default();
        if safe >= end {
            return Self::default();
        }
        let segments = snapshot.segments();
        let oldest = segments.first().map_or(end, |segment| segment.first);
        let logged = segments.iter().map(|segment| Piece {
            first: segment.first.0,
            end: segment.end.0,
            rows: segment.rows,
            bytes: segment.bytes,
        });
        let logged = logged.map(|piece| piece.beyond(safe.0));
        let (mut rows, mut bytes) = logged.fold((0, 0), add);
        if safe < oldest {
            let files = snapshot.file_infos();
            let only = files.iter().map(|file| Piece {
                first: file.first.0,
                end: file.end.0,
                rows: file.rows,
                bytes: file.bytes,
            });
            let only = only.map(|piece| piece.between(safe.0, oldest.0));
            (rows, bytes) = only.fold((rows, bytes), add);
        }
        let committed = committed_at(log, safe).unwrap_or(now_ns);
        let ms = now_ns.saturating_sub(committed) / 1_000_000;
        Self {
            rows,
            bytes,
            ms: u64::try_from(ms).unwrap_or(0),
        }
    }
}

/// A run of the log: a segment or a file.
#[derive(Clone, Copy, Debug)]
struct Piece {
    first: u64,
    end: u64,
    rows: u64,
    bytes: u64,
}

impl Piece {
    /// Rows and bytes at or behind `lsn`; of rows rather too many than too few.
    fn beyond(self, lsn: u64) -> (u64, u64) {
        let behind = self.end.saturating_sub(self.first.max(lsn));
        (self.rows.min(behind), self.share(self.bytes, behind))
    }

    /// Rows and bytes from `from` to `to`, in proportion.
    fn between(self, from: u64, to: u64) -> (u64, u64) {
        let inside = self.end.min(to).saturating_sub(self.first.max(from));
        (
            self.share(self.rows, inside),
            self.share(self.bytes, inside),
        )
    }

    fn share(self, whole: u64, part: u64) -> u64 {
        let span = u128::from(self.end.saturating_sub(self.first));
        let share = u128::from(whole) * u128::from(part);
        let share = share.checked_div(span).unwrap_or(0);
        u64::try_from(share).unwrap_or(u64::MAX)
    }
}

fn add(a: (u64, u64), b: (u64, u64)) -> (u64, u64) {
    (a.0.saturating_add(b.0), a.1.saturating_add(b.1))
}

/// When the block at `lsn` was committed, or the oldest one that is still held.
fn committed_at(log: &wal::Log, lsn: Lsn) -> Option<i64> {
    let oldest = log.oldest();
    let at = match log.chain_at(lsn) {
        Some(chain) if lsn >= oldest.lsn => wal::Position { lsn, chain },
        _ => oldest,
    };
    let chunk = log.cursor(at).ok()?.next(1).ok()??;
    let header = wal::BlockHeader::decode(chunk.parts.first()?).ok()?;
    Some(header.committed_at)
}

/// What a secondary would still have if this node were gone.
fn kept(secondary: &replica::SecondaryStatus) -> Option<Lsn> {
    if !follows(secondary) {
        return None;
    }
    // One that left while it was joining has blocks on its disk that no query of it ever saw.
    let left = secondary.state == "disconnected";
    let seen = secondary.flushed.min(secondary.applied);
    Some(if left { seen } else { secondary.flushed })
}

/// Whether a secondary's positions are positions of this log. One that was turned away may hold
/// another, and one that joins has not what lies before them.
fn follows(secondary: &replica::SecondaryStatus) -> bool {
    !matches!(secondary.state, "refused" | "joining")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(ledger: &Ledger, durable: u64, end: u64, sent: u64) -> RowCounts {
        let sent = Some(Lsn(sent));
        ledger.settle(durable, Lsn(end), sent, sent)
    }

    #[test]
    fn rows_add_up_once_a_secondary_has_all() {
        let ledger = Ledger::default();
        let counts = rows(&ledger, 100, 1_103, 1_063);
        assert_eq!((counts.durable, counts.shipped), (100, Some(60)));
        let counts = rows(&ledger, 100, 1_103, 1_103);
        assert_eq!(counts.shipped, Some(100));
        assert_eq!(counts.applied, Some(100));
        assert_eq!(counts.queryable, counts.durable);
    }

    #[test]
    fn what_was_shipped_stays_shipped() {
        let ledger = Ledger::default();
        assert_eq!(rows(&ledger, 100, 100, 80).shipped, Some(80));
        assert_eq!(rows(&ledger, 100, 100, 0).shipped, Some(80));
        assert_eq!(rows(&ledger, 100, 100, 0).applied, Some(80));
        // Another log, with less in it.
        assert_eq!(rows(&ledger, 50, 50, 0).shipped, Some(50));
    }

    #[test]
    fn nothing_is_shipped_where_nobody_can_connect() {
        let dir = tempfile::tempdir().unwrap();
        let config = wal::Config::default();
        let (committer, _) = wal::open_primary(wal::OsDisk::new(), dir.path(), &config).unwrap();
        let counts = Ledger::default().rows(committer.log(), None);
        assert_eq!((counts.shipped, counts.applied), (None, None));
        let counts = Ledger::default().rows(committer.log(), Some(&[]));
        assert_eq!((counts.shipped, counts.applied), (Some(0), Some(0)));
        committer.stop().unwrap();
    }

    #[test]
    fn a_piece_is_never_counted_too_small_and_never_twice() {
        let piece = Piece {
            first: 100,
            end: 200,
            rows: 98,
            bytes: 1_000,
        };
        assert_eq!(piece.beyond(0), (98, 1_000));
        assert_eq!(piece.beyond(150), (50, 500));
        assert_eq!(piece.beyond(200), (0, 0));
        assert_eq!(piece.between(0, 150), (49, 500));
        assert_eq!(piece.between(0, 1_000), (98, 1_000));
        assert_eq!(piece.between(200, 1_000), (0, 0));
        let empty = Piece {
            first: 5,
            end: 5,
            rows: 0,
            bytes: 64,
        };
        assert_eq!(empty.beyond(0), (0, 0));
        assert_eq!(empty.between(0, 9), (0, 0));
    }

    #[test]
    fn without_any_secondary_everything_is_at_risk() {
        let dir = tempfile::tempdir().unwrap();
        let config = wal::Config {
            tables: vec![wal::TableDef {
                name: "plant".to_owned(),
                ..wal::TableDef::default()
            }],
            ..wal::Config::default()
        };
        let (committer, _) = wal::open_primary(wal::OsDisk::new(), dir.path(), &config).unwrap();
        let log = committer.log();
        let snapshot = log.snapshot();
        let end = snapshot.position().lsn;
        let rows: u64 = snapshot.segments().iter().map(|segment| segment.rows).sum();
        let later = snapshot.committed_at() + 5_000_000_000;
        let risk = AtRisk::of(log, &[], later);
        assert_eq!(risk.rows, rows);
        assert_eq!(risk.ms >= 5_000, end > Lsn(0));
        log.set_replicated(wal::Replicated::new(1, &mut vec![end]));
        assert_eq!(AtRisk::of(log, &[], later), AtRisk::default());
        committer.stop().unwrap();
    }

    #[test]
    fn only_what_a_secondary_surely_has_counts_as_safe() {
        let of = |state| kept(&secondary(state));
        assert_eq!(of("streaming"), Some(Lsn(9)));
        assert_eq!(of("catching_up"), Some(Lsn(9)));
        assert_eq!(of("disconnected"), Some(Lsn(4)));
        assert_eq!(of("joining"), None);
        assert_eq!(of("refused"), None);
    }

    fn secondary(state: &'static str) -> replica::SecondaryStatus {
        replica::SecondaryStatus {
            name: "s".to_owned(),
            id: "s1".to_owned(),
            address: ([127, 0, 0, 1], 9).into(),
            state,
            protocol: 3,
            serves: String::new(),
            below: Vec::new(),
            files_differ: false,
            sent: Lsn(9),
            received: Lsn(9),
            flushed: Lsn(9),
            applied: Lsn(4),
            lag_rows: 0,
            lag_bytes: 0,
            lag_ms: None,
            connected_at_unix_ms: 0,
            last_seen_unix_ms: 0,
            reason: None,
        }
    }
}
