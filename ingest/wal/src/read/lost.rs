//! Rows that a segment which is not whole cannot show: of which tables and times, as far as headers
//! of blocks or the index of the segment say so. It must never leave out a row that may be missing.

use std::path::Path;

use crate::error::WalError;
use crate::format::block::{BLOCK_HEADER_LEN, BlockHeader, BlockKind};
use crate::format::catalog::Catalog;
use crate::format::segment::BlockEntry;
use crate::ids::{Lsn, TableId};
use crate::parquet::Wanted;
use crate::stored::Content;

/// Some of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lost {
    pub(crate) first: Lsn,
    pub(crate) end: Lsn,
    /// Of which table, with their smallest and largest time; none: nothing can be told of them.
    pub(crate) rows: Option<(TableId, i64, i64)>,
}

impl Lost {
    /// All rows between two LSNs, of which nothing can be told.
    pub(crate) fn unknown(first: Lsn, end: Lsn) -> Vec<Self> {
        let rows = None;
        let lost = (first < end).then_some(Self { first, end, rows });
        lost.into_iter().collect()
    }

    /// The rows of these blocks.
    pub(crate) fn of<'a>(entries: impl Iterator<Item = &'a BlockEntry>) -> Vec<Self> {
        let data = entries.filter(|entry| entry.kind == BlockKind::Data);
        let lost = data.map(|entry| Self {
            first: entry.first_lsn,
            end: entry.end_lsn(),
            rows: Some((entry.table, entry.min_time, entry.max_time)),
        });
        lost.collect()
    }

    /// What a segment from `first` to `end` lacks whose index names these blocks, and whose blocks
    /// follow what `catalog` knows.
    pub(crate) fn beside(
        content: &Content,
        (first, end): (Lsn, Lsn),
        blocks_at: u64,
        entries: &[BlockEntry],
        catalog: &Catalog,
    ) -> Vec<Self> {
        let unknown = |entry: &&BlockEntry| !catalog.knows(entry.table, entry.schema_version);
        let mut lost = Self::of(entries.iter().filter(unknown));
        let (mut lsn, mut offset) = (first, blocks_at);
        for entry in entries {
            if entry.first_lsn > lsn {
                let (found, left) = headers(content, (lsn, entry.first_lsn), offset, entry.offset);
                lost.extend(Self::of(found.iter()));
                lost.extend(Self::unknown(left, entry.first_lsn));
            }
            lsn = lsn.max(entry.end_lsn());
            offset = entry.offset + u64::from(entry.len);
        }
        let (found, left) = headers(content, (lsn, end), offset, content.len());
        lost.extend(Self::of(found.iter()));
        lost.extend(Self::unknown(left, end));
        lost
    }

    /// Whether rows of this table that somebody wants may be among them. `begun` is where the table
    /// was, if that is in the log still; rows with a time below `cut` are gone in any case.
    pub(crate) fn may_hold(
        &self,
        table: TableId,
        begun: Option<Lsn>,
        cut: Option<i64>,
        wanted: &Wanted,
    ) -> bool {
        match self.rows {
            Some((of, min, max)) => {
                of == table
                    && min <= wanted.max_time
                    && max >= wanted.min_time
                    && cut.is_none_or(|cut| max >= cut)
            }
            None => begun.is_none_or(|begun| begun < self.first),
        }
    }

    /// Why they cannot be read, where this is wrong with the segment, and what can be done.
    pub(crate) fn explained(&self, path: &str, fault: &str) -> WalError {
        let what = match self.rows {
            Some(_) => "rows of this table are",
            None => {
                "of which tables and times its rows are cannot be told, so that rows of this table \
                 may be"
            }
        };
        let dir = Path::new(path).parent().and_then(Path::parent);
        let (first, end) = (self.first, self.end);
        let reason = format!(
            "{fault}; {what} among LSN {first} to {end}. It is fetched again from a node that has \
             it; where none has, stop this one and see what can be given up: headwater open {}",
            dir.unwrap_or(Path::new("DATA_DIR")).display()
        );
        WalError::corrupt(path, 0, reason)
    }
}

/// Blocks that an index leaves out: they were damaged when it was written.
pub(crate) fn gap(start: Lsn, entries: &[BlockEntry], end: Lsn) -> Option<String> {
    let mut at = start;
    for entry in entries {
        if entry.first_lsn != at {
            return Some(format!("LSN {at} to {} cannot be read", entry.first_lsn));
        }
        at = entry.end_lsn();
    }
    (at != end).then(|| format!("LSN {at} to {end} cannot be read"))
}

/// Blocks between two LSNs as their headers say, from one to the next; where that ends. Their bodies
/// are not looked at.
pub(crate) fn headers(
    content: &Content,
    (mut lsn, end): (Lsn, Lsn),
    mut offset: u64,
    until: u64,
) -> (Vec<BlockEntry>, Lsn) {
    let mut found = Vec::new();
    while lsn < end && offset < until {
        let Ok(bytes) = content.read(offset, BLOCK_HEADER_LEN) else {
            break;
        };
        let Ok(header) = BlockHeader::decode(&bytes) else {
            break;
        };
        let entry = BlockEntry::of(&header, offset);
        let after = offset + u64::from(entry.len);
        if header.first_lsn != lsn || entry.end_lsn() > end || after > until {
            break;
        }
        (lsn, offset) = (entry.end_lsn(), after);
        found.push(entry);
    }
    (found, lsn)
}
