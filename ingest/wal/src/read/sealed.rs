//! A sealed segment: mapped bytes and their block index. Immutable. One that cannot be read stands
//! as a hole between its neighbours until it is repaired. It must never serve a block that its
//! index does not name.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::damage::DamageList;
use crate::disk::Disk;
use crate::error::WalError;
use crate::format::block::{BlockHeader, BlockKind};
use crate::format::catalog::Catalog;
use crate::format::chain::{Walked, walk_index};
use crate::format::control::Control;
use crate::format::segment::{BlockEntry, SegmentFooter, SegmentHeader};
use crate::ids::{Boundary, LogId, Lsn, Position};
use crate::paths::segment_name;

/// A segment that will not change any more.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) path: String,
    /// None: it cannot be read.
    pub(crate) header: Option<SegmentHeader>,
    start: Boundary,
    pub(crate) end: Boundary,
    pub(crate) committed_at: i64,
    pub(crate) bytes: Bytes,
    pub(crate) entries: Vec<BlockEntry>,
    /// After this segment: all that reading its blocks needs.
    pub(crate) catalog: Catalog,
    /// Why its rows are not whole: it cannot be read at all, or blocks are missing in it.
    pub(crate) fault: Option<String>,
    damage: Arc<DamageList>,
}

impl Sealed {
    /// Maps and checks header and footer; blocks are checked when they are read.
    pub(crate) fn open(
        disk: &dyn Disk,
        path: &Path,
        log: LogId,
        damage: &Arc<DamageList>,
    ) -> Result<Self, WalError> {
        let bytes = disk.map_file(path)?;
        Self::of(bytes, path, log, damage)
    }

    /// The segment in these bytes.
    pub(crate) fn of(
        bytes: Bytes,
        path: &Path,
        log: LogId,
        damage: &Arc<DamageList>,
    ) -> Result<Self, WalError> {
        let file = path.display().to_string();
        let (header, header_len) = SegmentHeader::decode(&file, &bytes)?;
        if header.log != log {
            return Err(WalError::foreign(path, log, header.log));
        }
        let footer = SegmentFooter::decode(&file, &bytes)?;
        let first = footer.entries.first();
        let starts = first.is_none_or(|entry| {
            entry.offset >= header_len as u64 && entry.first_lsn >= header.start.lsn
        });
        if !starts {
            return Err(WalError::corrupt(
                &file,
                0,
                "header and block index contradict each other",
            ));
        }
        let SegmentFooter {
            end,
            committed_at,
            entries,
        } = footer;
        let mut segment = Self {
            path: file,
            start: Boundary::of_segment(header.start),
            header: Some(header),
            end: end.into(),
            committed_at,
            bytes,
            entries,
            catalog: Catalog::default(),
            fault: None,
            damage: Arc::clone(damage),
        };
        segment.fault = segment.load_catalog();
        if let Some(reason) = &segment.fault {
            segment.report(reason);
        }
        Ok(segment)
    }

    /// Reads what its blocks follow; why it cannot be served, if it cannot.
    fn load_catalog(&mut self) -> Option<String> {
        match self.read_catalog() {
            Ok(catalog) => self.catalog = catalog,
            Err(error) => return Some(error.to_string()),
        }
        let unknown = |entry: &&BlockEntry| {
            let version = self.catalog.version(entry.table, entry.schema_version);
            entry.kind == BlockKind::Data && version.is_none()
        };
        if let Some(entry) = self.entries.iter().find(unknown) {
            return Some(format!("LSN {} follows an unknown schema", entry.first_lsn));
        }
        gap(self.start().lsn, &self.entries, self.end.lsn)
    }

    /// A place holder for a segment that cannot be read.
    pub(crate) fn hole(
        path: &Path,
        start: Boundary,
        end: Boundary,
        reason: String,
        damage: &Arc<DamageList>,
    ) -> Self {
        damage.report(&segment_name(start.lsn), 0, &reason);
        Self {
            path: path.display().to_string(),
            header: None,
            start,
            end,
            committed_at: 0,
            bytes: Bytes::new(),
            entries: Vec::new(),
            catalog: Catalog::default(),
            fault: Some(reason),
            damage: Arc::clone(damage),
        }
    }

    pub(crate) fn start(&self) -> Boundary {
        self.start
    }

    /// The file's name in the log's directory.
    pub(crate) fn name(&self) -> String {
        segment_name(self.start().lsn)
    }

    /// Index of the block that starts at `lsn`.
    pub(crate) fn block_at(&self, lsn: Lsn) -> Option<usize> {
        self.entries
            .binary_search_by_key(&lsn, |entry| entry.first_lsn)
            .ok()
    }

    /// The bytes of one block.
    pub(crate) fn block(&self, entry: &BlockEntry) -> Bytes {
        let from = usize::try_from(entry.offset).unwrap_or(usize::MAX);
        self.bytes.slice(from..from + entry.len as usize)
    }

    /// What its control blocks say, in order.
    pub(crate) fn controls(&self) -> Result<Vec<Control>, WalError> {
        let mut found = Vec::new();
        for entry in self.entries.iter().filter(|entry| entry.kind.controls()) {
            let block = self.block(entry);
            let decoded = BlockHeader::decode_block(&block)
                .and_then(|(header, body)| Control::of(&header, body));
            found.extend(
                decoded.map_err(|error| {
                    WalError::corrupt(&self.path, entry.offset, error.to_string())
                })?,
            );
        }
        Ok(found)
    }

    /// Schemas and settings at `lsn`, which lies in it; `None` when it is damaged.
    pub(crate) fn catalog_at(&self, lsn: Lsn) -> Option<Catalog> {
        let header = self.header.as_ref()?;
        let mut catalog = Catalog::default();
        catalog.adopt(&header.schemas, &header.settings).ok()?;
        let controls = self.entries.iter().filter(|entry| entry.kind.controls());
        for entry in controls.take_while(|entry| entry.first_lsn < lsn) {
            let block = self.block(entry);
            let (header, body) = BlockHeader::decode_block(&block).ok()?;
            let control = Control::of(&header, body).ok()?;
            catalog.apply(&control?).ok()?;
        }
        Some(catalog)
    }

    fn read_catalog(&self) -> Result<Catalog, WalError> {
        let mut catalog = Catalog::default();
        if let Some(header) = &self.header {
            catalog.adopt(&header.schemas, &header.settings)?;
        }
        for control in self.controls()? {
            catalog.apply(&control)?;
        }
        Ok(catalog)
    }

    /// Checks every byte: header, footer, each block against its checksums and the chain; `None`
    /// when all is well, else the first fault.
    pub(crate) fn check(&self) -> Option<WalError> {
        self.walk(self.end.lsn, &mut |_| true).1
    }

    /// The same of the blocks that end at or below `upto`. `go_on` hears of bytes before they are
    /// read, and says whether to read them.
    pub(crate) fn walk(
        &self,
        upto: Lsn,
        go_on: &mut dyn FnMut(usize) -> bool,
    ) -> (Walked, Option<WalError>) {
        let whole = self.entries.iter();
        let entries = whole.take_while(|entry| entry.end_lsn() <= upto);
        let walked = match self.start.position() {
            Some(start) if self.fault.is_none() => walk_index(&self.bytes, entries, start, go_on),
            start => Walked {
                tip: start.unwrap_or_default(),
                fault: None,
                stopped: false,
            },
        };
        let fault = match (&self.fault, &walked.fault) {
            (Some(reason), _) => Some((0, reason.clone())),
            (None, Some(fault)) => Some(fault.clone()),
            (None, None) if walked.stopped => None,
            (None, None) => self.frame_fault(upto, walked.tip),
        };
        let error = fault.map(|(at, reason)| WalError::corrupt(&self.path, at, reason));
        (walked, error)
    }

    /// What is wrong around the blocks.
    fn frame_fault(&self, upto: Lsn, tip: Position) -> Option<(u64, String)> {
        match SegmentHeader::decode(&self.path, &self.bytes) {
            Ok((header, _)) if Some(&header) == self.header.as_ref() => {}
            Ok(_) => return Some((0, "its header is another segment's".to_owned())),
            Err(error) => return Some((0, error.to_string())),
        }
        let end = self.bytes.len() as u64;
        match SegmentFooter::decode(&self.path, &self.bytes) {
            Ok(footer) if footer.entries == self.entries => {}
            Ok(_) => return Some((end, "its block index has changed".to_owned())),
            Err(error) => return Some((end, error.to_string())),
        }
        (upto >= self.end.lsn && !self.end.may_be(tip)).then(|| {
            let reason = format!("ends at {tip}, the footer says {}", self.end);
            (end, reason)
        })
    }

    /// Puts this segment on the list of damaged files.
    pub(crate) fn report(&self, reason: &str) {
        self.damage
            .report(&self.name(), self.bytes.len() as u64, reason);
    }
}

/// Blocks that an index leaves out: they were damaged when it was written.
fn gap(start: Lsn, entries: &[BlockEntry], end: Lsn) -> Option<String> {
    let mut at = start;
    for entry in entries {
        if entry.first_lsn != at {
            return Some(format!("LSN {at} to {} cannot be read", entry.first_lsn));
        }
        at = entry.end_lsn();
    }
    (at != end).then(|| format!("LSN {at} to {end} cannot be read"))
}
