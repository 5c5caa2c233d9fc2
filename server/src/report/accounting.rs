//! Where every message and every row is: counts that add up, positions that can be held against
//! those of other nodes, and what would be lost if this node vanished now. Must never show more
//! than is certain: a row counts as shipped once it was, and as safe once another disk holds it.

use intake::IntakeStats;
use replica::{Member, SecondaryState, SecondaryStatus};
use serde::{Deserialize, Serialize};
use wal::{Chain, Lsn};

use crate::report::view::View;

/// Counts since the node started, and how far its log has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accounting {
    /// On a primary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<MessageCounts>,
    /// On a primary: what came in by HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writes: Option<WriteCounts>,
    /// On a primary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<RowCounts>,
    pub lsn: Stages,
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

/// Requests that bring rows by HTTP: `received = written + refused + failed + waiting + dropped`,
/// but for what is on its way at the moment of the count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteCounts {
    pub received: u64,
    /// Answered after their rows were durable; lines that were refused are not among these.
    pub written: u64,
    /// Refused for what they hold: nothing of them is stored.
    pub refused: u64,
    /// Answered without it being certain that their rows are durable.
    pub failed: u64,
    /// Not answered yet.
    pub waiting: u64,
    /// Their connection ended before they were answered.
    pub dropped: u64,
    /// Rows that they brought.
    pub rows: u64,
}

impl From<IntakeStats> for WriteCounts {
    fn from(stats: IntakeStats) -> Self {
        Self {
            received: stats.received,
            written: stats.written,
            refused: stats.refused,
            failed: stats.failed,
            waiting: stats.waiting,
            dropped: stats.dropped,
            rows: stats.rows,
        }
    }
}

/// `taken + dead_lettered = durable` and what waits to be, but for what is on its way at the moment
/// of the count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowCounts {
    /// Rows made of messages and writes; absent while MQTT does not listen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken: Option<u64>,
    /// Rows of `system.dead_letters`; absent likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_lettered: Option<u64>,
    /// On this node's disk.
    pub durable: u64,
}

/// How far the log has come: everything below each LSN. They mean the same on every node, and after
/// a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stages {
    /// On this node's disk.
    pub durable: u64,
    /// Sent to the connected secondary that is furthest, 0 without one; absent where none can
    /// connect. Those that join do not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shipped: Option<u64>,
    /// Queries see it on the secondary that is furthest, connected or not; absent likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<u64>,
    /// Queries see it here. Null while a table is damaged, of which no query gets an answer: the
    /// status lists what is.
    #[serde(default)]
    pub queryable: Option<u64>,
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

impl Stages {
    /// `secondaries` are those heard of before the view was taken; none where nobody can connect.
    pub(crate) fn of(view: &View, secondaries: Option<&[SecondaryStatus]>) -> Self {
        let durable = view.durable();
        let furthest = |counts: fn(&SecondaryStatus) -> bool, lsn: fn(&SecondaryStatus) -> Lsn| {
            let known = secondaries?.iter().filter(|secondary| counts(secondary));
            // Who is beyond the end has another log.
            let here = known.map(lsn).filter(|lsn| *lsn <= durable);
            Some(here.max().unwrap_or_default().0)
        };
        Self {
            durable: durable.0,
            shipped: furthest(is_sent_to, |secondary| secondary.sent),
            applied: furthest(
                |secondary| secondary.state.follows(),
                |secondary| secondary.applied,
            ),
            queryable: view.is_whole().then(|| view.snapshot().end().lsn.0),
        }
    }
}

/// What is known of the copies of a primary's log. Comes before the [`View`] that it is held
/// against: then only a log that is not this one can reach beyond its end.
#[derive(Debug, Default)]
pub(crate) struct Copies {
    /// On the disk of at least one that is connected, those behind relays included. Replication has
    /// held its chain against the log.
    pub(crate) connected: Lsn,
    /// None where nobody can connect.
    pub(crate) secondaries: Option<Vec<SecondaryStatus>>,
    /// The same with the chain values at what is on their disks.
    pub(crate) members: Vec<Member>,
}

impl Copies {
    /// Everything below is surely on another disk.
    fn safe(&self, view: &View) -> Lsn {
        let end = view.snapshot().end().lsn;
        let secondaries = self.secondaries.iter().flatten();
        let told = secondaries.filter_map(|secondary| {
            let mut members = self.members.iter();
            let position = members.find(|one| one.id == secondary.id)?.position;
            let own = view.log().chain_at(position.lsn);
            let sure = kept(secondary)?.min(position.lsn);
            (position.lsn <= end && agrees(own, position.chain)).then_some(sure)
        });
        let known = told.chain([self.connected]).filter(|lsn| *lsn <= end);
        known.max().unwrap_or_default()
    }
}

impl AtRisk {
    /// What of a primary's log no secondary has on its disk, at `now_ns` by this machine's clock.
    pub(crate) fn of(view: &View, copies: &Copies, now_ns: i64) -> Self {
        let end = view.snapshot().end().lsn;
        let safe = copies.safe(view);
        if safe >= end {
            return Self::default();
        }
        let segments = view.segments();
        let oldest = segments.first().map_or(end, |segment| segment.first);
        let logged = segments.iter().map(|segment| Span {
            first: segment.first.0,
            end: segment.end.0,
            rows: segment.rows,
            bytes: segment.bytes,
        });
        let logged = logged.map(|span| span.beyond(safe.0));
        let (mut rows, mut bytes) = logged.fold((0, 0), add);
        if safe < oldest {
            let files = view.snapshot().file_infos();
            let only = files.iter().map(|file| Span {
                first: file.first.0,
                end: file.end.0,
                rows: file.rows,
                bytes: file.bytes,
            });
            let only = only.map(|span| span.between(safe.0, oldest.0));
            (rows, bytes) = only.fold((rows, bytes), add);
        }
        let committed = committed_at(view.log(), safe).unwrap_or(now_ns);
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
struct Span {
    first: u64,
    end: u64,
    rows: u64,
    bytes: u64,
}

impl Span {
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
        let length = u128::from(self.end.saturating_sub(self.first));
        let share = u128::from(whole) * u128::from(part);
        let share = share.checked_div(length).unwrap_or(0);
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
        _ => oldest.position()?,
    };
    let chunk = log.cursor(at).ok()?.next(1).ok()??;
    let header = wal::BlockHeader::decode(chunk.parts.first()?).ok()?;
    Some(header.committed_at)
}

/// What a secondary would still have if this node were gone.
fn kept(secondary: &SecondaryStatus) -> Option<Lsn> {
    if !secondary.state.follows() {
        return None;
    }
    // One that left while it was bootstrapping has blocks on its disk that no query of it ever saw.
    let sure = if secondary.state == SecondaryState::Disconnected {
        secondary.applied
    } else {
        // One that has come back says first where it stands, then what of it is on its disk.
        secondary.received
    };
    Some(secondary.flushed.min(sure))
}

/// Whether a copy with this chain value at its end is a beginning of the log that has `own` there;
/// what is not known contradicts nothing.
fn agrees(own: Option<Chain>, chain: Chain) -> bool {
    own.is_none_or(|own| own == chain)
}

/// Whether a secondary is connected and gets the log.
fn is_sent_to(secondary: &SecondaryStatus) -> bool {
    secondary.state.follows() && secondary.state.is_connected()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log with a row.
    fn open(dir: &tempfile::TempDir) -> wal::Committer {
        let config = wal::Config::default();
        let (committer, _) = wal::open_primary(wal::OsDisk::new(), dir.path(), &config).unwrap();
        let mut appender = committer.appender(Box::new(|_| ()));
        let row = wal::Row {
            time: 1,
            tags: &[("site", "a")],
            fields: &[(std::borrow::Cow::Borrowed("v"), wal::Value::Int(1))],
        };
        let group = appender.append("plant", &[row]).unwrap();
        appender.wait(group).unwrap();
        committer
    }

    #[test]
    fn nothing_is_shipped_where_nobody_can_connect() {
        let dir = tempfile::tempdir().unwrap();
        let committer = open(&dir);
        let view = View::of(committer.log().clone());
        let alone = Stages::of(&view, None);
        assert_eq!((alone.shipped, alone.applied), (None, None));
        let end = view.durable().0;
        assert_eq!((alone.durable, alone.queryable), (end, Some(end)));
        let unheard = Stages::of(&view, Some(&[]));
        assert_eq!((unheard.shipped, unheard.applied), (Some(0), Some(0)));
        committer.stop().unwrap();
    }

    #[test]
    fn the_furthest_secondary_of_this_log_tells_how_far_it_has_come() {
        let dir = tempfile::tempdir().unwrap();
        let committer = open(&dir);
        let view = View::of(committer.log().clone());
        let end = view.durable().0;
        assert!(end > 0);
        let at = |state, lsn| SecondaryStatus {
            sent: Lsn(lsn),
            applied: Lsn(lsn),
            ..secondary(state)
        };
        let told = |all: &[SecondaryStatus]| {
            let stages = Stages::of(&view, Some(all));
            (stages.shipped, stages.applied)
        };
        assert_eq!(
            told(&[at(SecondaryState::Streaming, end)]),
            (Some(end), Some(end))
        );
        let behind = [
            at(SecondaryState::CatchingUp, end - 1),
            at(SecondaryState::Disconnected, end),
        ];
        assert_eq!(told(&behind), (Some(end - 1), Some(end)));
        let others = [
            at(SecondaryState::Disconnected, end + 1),
            at(SecondaryState::Bootstrapping, end),
            at(SecondaryState::Refused, end),
        ];
        assert_eq!(told(&others), (Some(0), Some(0)));
        committer.stop().unwrap();
    }

    #[test]
    fn a_span_is_never_counted_too_small_and_never_twice() {
        let span = Span {
            first: 100,
            end: 200,
            rows: 98,
            bytes: 1_000,
        };
        assert_eq!(span.beyond(0), (98, 1_000));
        assert_eq!(span.beyond(150), (50, 500));
        assert_eq!(span.beyond(200), (0, 0));
        assert_eq!(span.between(0, 150), (49, 500));
        assert_eq!(span.between(0, 1_000), (98, 1_000));
        assert_eq!(span.between(200, 1_000), (0, 0));
        let empty = Span {
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
        let committer = open(&dir);
        let view = View::of(committer.log().clone());
        let (end, later) = (view.snapshot().end().lsn, later(&view));
        let risk = AtRisk::of(&view, &Copies::default(), later);
        assert_eq!(risk.rows, 1);
        assert!(risk.bytes > 0 && risk.ms >= 5_000);
        let copies = Copies {
            connected: end,
            ..Copies::default()
        };
        assert_eq!(AtRisk::of(&view, &copies, later), AtRisk::default());
        committer.stop().unwrap();
    }

    #[test]
    fn a_copy_with_another_chain_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let committer = open(&dir);
        let view = View::of(committer.log().clone());
        let (end, later) = (view.log().end(), later(&view));
        let risk = |state, lsn, chain| {
            let position = wal::Position { lsn, chain };
            let known = SecondaryStatus {
                received: lsn,
                flushed: lsn,
                applied: lsn,
                ..secondary(state)
            };
            let copies = Copies {
                connected: Lsn(0),
                members: vec![Member {
                    id: known.id.clone(),
                    name: known.name.clone(),
                    address: known.address,
                    position,
                    first_seen_unix_ms: 0,
                    last_seen_unix_ms: 0,
                }],
                secondaries: Some(vec![known]),
            };
            AtRisk::of(&view, &copies, later)
        };
        let all = AtRisk::of(&view, &Copies::default(), later);
        assert_ne!(all, AtRisk::default());
        for state in [SecondaryState::Streaming, SecondaryState::Disconnected] {
            assert_eq!(risk(state, end.lsn, end.chain), AtRisk::default());
            assert_eq!(risk(state, end.lsn, Chain(end.chain.0 ^ 1)), all);
            assert_eq!(risk(state, Lsn(end.lsn.0 + 1), end.chain), all);
        }
        committer.stop().unwrap();
    }

    /// Five seconds after the last commit.
    fn later(view: &View) -> i64 {
        view.snapshot().committed_at() + 5_000_000_000
    }

    #[test]
    fn only_what_a_secondary_surely_has_counts_as_safe() {
        let of = |state| kept(&secondary(state));
        assert_eq!(of(SecondaryState::Streaming), Some(Lsn(9)));
        assert_eq!(of(SecondaryState::CatchingUp), Some(Lsn(9)));
        assert_eq!(of(SecondaryState::Disconnected), Some(Lsn(4)));
        assert_eq!(of(SecondaryState::Bootstrapping), None);
        assert_eq!(of(SecondaryState::Refused), None);
    }

    fn secondary(state: SecondaryState) -> SecondaryStatus {
        SecondaryStatus {
            name: "s".to_owned(),
            id: "s1".to_owned(),
            address: ([127, 0, 0, 1], 9).into(),
            state,
            protocol: 3,
            serves: String::new(),
            descendants: Vec::new(),
            files_differ: false,
            sent: Lsn(9),
            received: Lsn(9),
            flushed: Lsn(9),
            applied: Lsn(4),
            lag_rows: Some(0),
            lag_bytes: Some(0),
            lag_ms: None,
            connected_at_unix_ms: 0,
            last_seen_unix_ms: 0,
            reason: None,
        }
    }
}
