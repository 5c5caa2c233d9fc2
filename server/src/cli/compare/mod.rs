//! Two nodes' digests side by side: what of them could be compared, and what differs. Pure; must
//! never call something equal that was not compared.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::show::{count, show_bytes};
use crate::api::digest::{Digest, Mark, Partition, Range};

/// What two digests have in common.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Comparison {
    /// End of the log that was compared.
    upto: u64,
    epoch: u64,
    ranges: u64,
    /// Where the first of them begins.
    from: u64,
    partitions: u64,
    rows: u64,
    bytes: u64,
    /// What is in files ends here.
    compacted: u64,
    differences: Vec<Difference>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    First,
    Second,
    Both,
}

/// One thing that is not as it should be.
#[derive(Debug, PartialEq, Eq)]
struct Difference {
    /// Which node is wrong, as far as can be said.
    side: Side,
    place: String,
    what: String,
}

/// Compares what two nodes hold.
pub(super) fn compare(first: &Digest, second: &Digest) -> Comparison {
    let mut found = Comparison {
        upto: first.upto.lsn.min(second.upto.lsn),
        epoch: first.epoch,
        compacted: first.mark.compacted,
        ..Comparison::default()
    };
    if first.log != second.log {
        found.differs("the log", &first.log, &second.log);
        return found;
    }
    if first.epoch != second.epoch {
        found.differs("the epoch", &first.epoch, &second.epoch);
    }
    found.faults(Side::First, first);
    found.faults(Side::Second, second);
    found.log(first, second);
    if (first.mark.compacted, first.mark.next) != (second.mark.compacted, second.mark.next) {
        let shown = |digest: &Digest| {
            let Mark {
                compacted, next, ..
            } = &digest.mark;
            format!("to LSN {compacted} before file {next}")
        };
        found.differs("the set of files", &shown(first), &shown(second));
    } else {
        found.files(first, second);
    }
    found
}

impl Comparison {
    /// Whether nothing differs and nothing is damaged.
    pub(super) fn is_equal(&self) -> bool {
        self.differences.is_empty()
    }

    /// A line for each difference, and one of what was compared.
    pub(super) fn show(&self, first: &str, second: &str) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        for Difference { side, place, what } in &self.differences {
            let _ = match side {
                Side::First => writeln!(text, "{first}: {place}: {what}"),
                Side::Second => writeln!(text, "{second}: {place}: {what}"),
                Side::Both => writeln!(text, "{first} and {second}: {place}: {what}"),
            };
        }
        let _ = write!(text, "at LSN {}, epoch {}: ", self.upto, self.epoch);
        let _ = match self.ranges {
            0 => write!(text, "no range of the log, "),
            ranges => write!(
                text,
                "{} of the log from LSN {}, ",
                count(ranges, "range"),
                self.from
            ),
        };
        let _ = write!(
            text,
            "{} of files to LSN {} with {}, {}: ",
            count(self.partitions, "partition"),
            self.compacted,
            count(self.rows, "row"),
            show_bytes(self.bytes)
        );
        let _ = match self.differences.len() as u64 {
            0 => writeln!(text, "equal"),
            differences => writeln!(text, "{}", count(differences, "difference")),
        };
        text
    }

    fn add(&mut self, side: Side, place: impl Into<String>, what: String) {
        let place = place.into();
        self.differences.push(Difference { side, place, what });
    }

    fn differs(
        &mut self,
        place: impl Into<String>,
        first: &impl std::fmt::Display,
        second: &impl std::fmt::Display,
    ) {
        self.add(Side::Both, place, format!("{first} is not {second}"));
    }

    /// What each node finds wrong on its own.
    fn faults(&mut self, side: Side, digest: &Digest) {
        for range in &digest.ranges {
            if let Some(fault) = &range.fault {
                self.add(side, log_place(range), format!("damaged: {fault}"));
            }
        }
        for partition in &digest.partitions {
            if let Some(fault) = &partition.fault {
                self.add(side, file_place(partition), format!("damaged: {fault}"));
            }
        }
    }

    /// A chain covers all before it, so ranges that end at one LSN can be compared wherever they
    /// begin. A damaged range says nothing of the other node.
    fn log(&mut self, first: &Digest, second: &Digest) {
        let others: BTreeMap<u64, &Range> = sound(second).map(|range| (range.end, range)).collect();
        let both = sound(first).filter_map(|range| Some((range, *others.get(&range.end)?)));
        let (mut parted, mut after, mut end) = (None, 0, None);
        for (range, other) in both {
            if self.ranges == 0 {
                self.from = range.first.max(other.first);
            }
            self.ranges += 1;
            end = Some(range.end);
            if range.chain != other.chain {
                after += u64::from(parted.is_some());
                parted = parted.or(Some((range, other)));
            }
        }
        if let Some((range, other)) = parted {
            let mut what = format!("chain {} is not {}", range.chain, other.chain);
            if after > 0 {
                // One that differs makes all that follow differ.
                let ranges = count(after, "range");
                what.push_str(&format!(", and so in {ranges} behind it"));
            }
            self.add(Side::Both, log_place(range), what);
        }
        let (a, b) = (&first.upto, &second.upto);
        if a.lsn != b.lsn {
            self.differs("the end of the log", &a.lsn, &b.lsn);
        } else if end != Some(a.lsn) && a.chain != b.chain && whole(first) && whole(second) {
            let place = format!("log at LSN {}", a.lsn);
            self.add(
                Side::Both,
                place,
                format!("chain {} is not {}", a.chain, b.chain),
            );
        }
    }

    fn files(&mut self, first: &Digest, second: &Digest) {
        let (a, b) = (&first.mark.digest, &second.mark.digest);
        if a != b {
            self.differs("the list of files", a, b);
        }
        let key = |partition: &Partition| (partition.table.clone(), partition.partition.clone());
        let mut all: BTreeMap<_, (Option<&Partition>, Option<&Partition>)> = BTreeMap::new();
        for partition in &first.partitions {
            all.entry(key(partition)).or_default().0 = Some(partition);
        }
        for partition in &second.partitions {
            all.entry(key(partition)).or_default().1 = Some(partition);
        }
        for pair in all.into_values() {
            match pair {
                (Some(a), Some(b)) => self.partition(a, b),
                (Some(a), None) => self.lacks(Side::Second, a),
                (None, Some(b)) => self.lacks(Side::First, b),
                (None, None) => {}
            }
        }
    }

    fn lacks(&mut self, side: Side, there: &Partition) {
        let what = format!(
            "not there; the other node has {} in {}",
            count(there.rows, "row"),
            count(there.files, "file")
        );
        self.add(side, file_place(there), what);
    }

    fn partition(&mut self, a: &Partition, b: &Partition) {
        if a.fault.is_some() || b.fault.is_some() {
            return;
        }
        self.partitions += 1;
        self.rows = self.rows.saturating_add(a.rows);
        self.bytes = self.bytes.saturating_add(a.bytes);
        let mut what = Vec::new();
        for (name, a, b) in [
            ("files", a.files, b.files),
            ("rows", a.rows, b.rows),
            ("bytes", a.bytes, b.bytes),
        ] {
            if a != b {
                what.push(format!("{a} {name} are not {b}"));
            }
        }
        if a.digest != b.digest {
            what.push(format!("digest {} is not {}", a.digest, b.digest));
        }
        if !what.is_empty() {
            self.add(Side::Both, file_place(a), what.join(", "));
        }
    }
}

fn sound(digest: &Digest) -> impl Iterator<Item = &Range> {
    digest.ranges.iter().filter(|range| range.fault.is_none())
}

/// Whether the chain at its end is that of what was written.
fn whole(digest: &Digest) -> bool {
    digest.ranges.last().is_none_or(|last| last.fault.is_none())
}

fn log_place(range: &Range) -> String {
    format!("log from LSN {} to {}", range.first, range.end)
}

fn file_place(partition: &Partition) -> String {
    format!("files of {} {}", partition.table, partition.partition)
}

#[cfg(test)]
mod tests;
