//! Places of the log that two nodes can compare: block boundaries, spread evenly, and starts of
//! segments. Reads the index, of the blocks only the headers of those chosen; it must never name a
//! place whose chain value is not known.

use bytes::Bytes;

use crate::error::WalError;
use crate::format::block::BlockHeader;
use crate::format::segment::BlockEntry;
use crate::ids::{Boundary, Lsn, Position};
use crate::read::log::Log;
use crate::read::segment_starts;
use crate::read::snapshot::Snapshot;

impl Log {
    /// Up to `most` block boundaries in `[from, to]`, evenly spread, ascending, including the
    /// outermost ones held.
    pub fn boundaries(&self, from: Lsn, to: Lsn, most: usize) -> Vec<Position> {
        let snapshot = self.snapshot();
        let runs = runs(&snapshot, from, to);
        let ends = (from..=to).contains(&snapshot.end.lsn);
        let tail = tail_count(&snapshot, from, to);
        let sealed: usize = runs.iter().map(|run| run.count).sum();
        let wanted = spread(sealed + tail + usize::from(ends), most);
        let mut found = Vec::with_capacity(wanted.len());
        let mut wanted = wanted.into_iter().peekable();
        let mut base = 0;
        for run in &runs {
            let segment = &snapshot.sealed[run.segment];
            while let Some(at) = wanted.next_if(|at| *at < base + run.count) {
                let entry = &segment.entries[run.first + at - base];
                found.extend(start_of(segment.block_header(entry)));
            }
            base += run.count;
        }
        let view = snapshot.tail();
        let inside = view.blocks().filter(|block| within(&block.entry, from, to));
        for (at, block) in inside.enumerate() {
            if wanted.next_if_eq(&(base + at)).is_some() {
                found.extend(start_of(snapshot.tail.header(block)));
            }
        }
        if wanted.next().is_some() {
            found.extend(snapshot.end.position());
        }
        found
    }
}

impl Log {
    /// The newest `most` places where segments of this log began, of those that are gone, too, as
    /// far as they are known, and the log's end; ascending. An older copy of this log has all of
    /// them that are not behind its end.
    pub fn landmarks(&self, most: usize) -> Vec<Position> {
        let snapshot = self.snapshot();
        let mut found = self.known_starts(&snapshot);
        found.drain(..found.len().saturating_sub(most));
        let end = snapshot.end();
        if found.last().is_none_or(|last| last.lsn < end.lsn) {
            found.extend(end.position());
        }
        found
    }

    /// Where the segments of this log began, held or not, as far as it is known: for a peer's
    /// [`Staging::take_segment_starts`](crate::Staging::take_segment_starts).
    pub fn segment_starts(&self) -> Bytes {
        self.segment_starts_and(None)
    }

    /// The same and this end of a block, which was found to be one of this log while it was held.
    pub fn segment_starts_and(&self, also: Option<Position>) -> Bytes {
        let known = self.known_starts(&self.snapshot());
        let also: Vec<Position> = also.into_iter().collect();
        segment_starts::encode(self.id(), &segment_starts::merged(&known, &also)).into()
    }

    /// Every start of a segment that is known, ascending. What is retired meanwhile is in the
    /// snapshot, which must have been taken before.
    fn known_starts(&self, snapshot: &Snapshot) -> Vec<Position> {
        let sealed = snapshot.sealed.iter().map(|segment| segment.start());
        let held: Vec<Boundary> = sealed
            .chain([Boundary::of_segment(snapshot.tail.start)])
            .collect();
        let known =
            segment_starts::merged(&segment_starts::known(&held), &self.state().starts.starts());
        segment_starts::merged(&[self.id().genesis()], &known)
    }
}

/// Blocks of one sealed segment that start in the range.
struct BlockRange {
    segment: usize,
    first: usize,
    count: usize,
}

fn runs(snapshot: &Snapshot, from: Lsn, to: Lsn) -> Vec<BlockRange> {
    let run = |(segment, sealed): (usize, &std::sync::Arc<crate::read::sealed::Sealed>)| {
        let entries = &sealed.entries;
        let first = entries.partition_point(|entry| entry.first_lsn < from);
        let end = entries.partition_point(|entry| entry.first_lsn <= to);
        let count = end.saturating_sub(first);
        (count > 0).then_some(BlockRange {
            segment,
            first,
            count,
        })
    };
    let sealed = snapshot.sealed.iter().enumerate();
    sealed.filter_map(run).collect()
}

fn tail_count(snapshot: &Snapshot, from: Lsn, to: Lsn) -> usize {
    let view = snapshot.tail();
    let inside = view.blocks().filter(|block| within(&block.entry, from, to));
    inside.count()
}

fn within(entry: &BlockEntry, from: Lsn, to: Lsn) -> bool {
    (from..=to).contains(&entry.first_lsn)
}

/// At most `most` of `count` places, evenly spread, the first and the last among them.
fn spread(count: usize, most: usize) -> Vec<usize> {
    let most = most.min(count);
    match most {
        0 => Vec::new(),
        1 => vec![count - 1],
        _ => (0..most)
            .map(|at| {
                let place = at as u128 * (count as u128 - 1) / (most as u128 - 1);
                usize::try_from(place).unwrap_or(usize::MAX)
            })
            .collect(),
    }
}

/// Where the log stood before a block; none when its header is damaged.
fn start_of(header: Result<BlockHeader, WalError>) -> Option<Position> {
    header.ok().map(|header| header.start())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_spread_evenly_and_the_outermost_are_among_them() {
        assert!(spread(0, 5).is_empty() && spread(5, 0).is_empty());
        assert_eq!(spread(3, 5), [0, 1, 2]);
        assert_eq!(spread(100, 2), [0, 99]);
        assert_eq!(spread(101, 5), [0, 25, 50, 75, 100]);
        assert_eq!(spread(9, 1), [8]);
    }
}
