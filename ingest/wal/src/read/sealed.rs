//! A sealed segment: its block index, and its blocks, which are read and checked when they are
//! asked for. Immutable. One that cannot be read stands as a hole between its neighbours until it
//! is repaired. It must never serve a block that its index does not name.

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::damage::DamageList;
use crate::disk::Disk;
use crate::error::WalError;
use crate::format::block::{BLOCK_HEADER_LEN, BlockHeader, BlockKind};
use crate::format::catalog::Catalog;
use crate::format::chain::{Walked, walk_index};
use crate::format::control::Control;
use crate::format::segment::{BlockEntry, SegmentFooter, SegmentHeader};
use crate::ids::{Boundary, LogId, Lsn, Position};
use crate::paths::segment_name;
use crate::read::frame::{read_footer, read_header};
use crate::read::lost::{Lost, gap, headers};
use crate::stored::{Content, Home, StoredFile};

/// A segment that will not change any more.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) path: String,
    /// Without its schemas and settings. None: it cannot be read.
    pub(crate) header: Option<SegmentHeader>,
    start: Boundary,
    pub(crate) end: Boundary,
    pub(crate) committed_at: i64,
    content: Content,
    pub(crate) entries: Vec<BlockEntry>,
    /// After this segment: all that reading its blocks needs.
    pub(crate) catalog: Arc<Catalog>,
    /// Why its rows are not whole: it cannot be read at all, or blocks are missing in it.
    pub(crate) fault: Option<String>,
    /// Which rows these are; none are of a segment that is whole.
    pub(crate) lost: Vec<Lost>,
    damage: Arc<DamageList>,
}

impl Sealed {
    /// Reads and checks header, footer and what its blocks follow, which shares schemas with
    /// `known`; blocks are checked when they are read.
    pub(crate) fn open(
        home: &Arc<Home>,
        first: Lsn,
        log: LogId,
        damage: &Arc<DamageList>,
        known: &Catalog,
    ) -> Result<Self, WalError> {
        let file = StoredFile::new(home, segment_name(first));
        let len = file.size()?;
        let content = Content::File(Arc::new(file), len);
        Self::of_content(content, log, damage, known)
    }

    /// The segment in these bytes.
    pub(crate) fn of(
        bytes: Bytes,
        path: &Path,
        log: LogId,
        damage: &Arc<DamageList>,
        known: &Catalog,
    ) -> Result<Self, WalError> {
        let content = Content::Bytes(bytes, path.display().to_string());
        Self::of_content(content, log, damage, known)
    }

    fn of_content(
        content: Content,
        log: LogId,
        damage: &Arc<DamageList>,
        known: &Catalog,
    ) -> Result<Self, WalError> {
        let (file, len) = (content.path(), content.len());
        let read = |offset, len| content.read(offset, len);
        let (header, header_len) = read_header(&file, len, &read)?;
        if header.log != log {
            return Err(WalError::foreign(Path::new(&file), log, header.log));
        }
        let footer = read_footer(&file, len, &read)?;
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
            content,
            entries,
            catalog: Arc::default(),
            fault: None,
            lost: Vec::new(),
            damage: Arc::clone(damage),
        };
        segment.load(known, None)?;
        Ok(segment)
    }

    /// One whose index cannot be read, though its header can: `end` is where the next one begins.
    /// Serves the blocks that are found from one to the next.
    pub(crate) fn without_index(
        home: &Arc<Home>,
        first: Lsn,
        (log, end): (LogId, Boundary),
        damage: &Arc<DamageList>,
        (known, reason): (&Catalog, &str),
    ) -> Result<Self, WalError> {
        let file = StoredFile::new(home, segment_name(first));
        let len = file.size()?;
        let content = Content::File(Arc::new(file), len);
        let path = content.path();
        let read = |offset, len| content.read(offset, len);
        let (header, header_len) = read_header(&path, len, &read)?;
        if header.log != log {
            return Err(WalError::foreign(Path::new(&path), log, header.log));
        }
        let lsns = (header.start.lsn, end.lsn);
        let (entries, _) = headers(&content, lsns, header_len as u64, len);
        let last = entries
            .last()
            .map(|entry| content.read(entry.offset, BLOCK_HEADER_LEN));
        let last = last.and_then(|bytes| BlockHeader::decode(&bytes.ok()?).ok());
        let mut segment = Self {
            path,
            start: Boundary::of_segment(header.start),
            header: Some(header),
            end,
            committed_at: last.map_or(0, |header| header.committed_at),
            content,
            entries,
            catalog: Arc::default(),
            fault: None,
            lost: Vec::new(),
            damage: Arc::clone(damage),
        };
        segment.load(known, Some(reason))?;
        Ok(segment)
    }

    /// One that has just been written to the end: nothing of it is read. `catalog` is what its
    /// header and its control blocks say.
    pub(crate) fn written(
        file: &Arc<StoredFile>,
        len: u64,
        (header, footer): (SegmentHeader, SegmentFooter),
        catalog: Arc<Catalog>,
        damage: &Arc<DamageList>,
    ) -> Self {
        let content = Content::File(Arc::clone(file), len);
        let mut segment = Self {
            path: content.path(),
            start: Boundary::of_segment(header.start),
            header: Some(header),
            end: footer.end.into(),
            committed_at: footer.committed_at,
            content,
            entries: footer.entries,
            catalog,
            fault: None,
            lost: Vec::new(),
            damage: Arc::clone(damage),
        };
        let fault = segment.index_fault();
        segment.note(fault);
        segment
    }

    /// Reads what its blocks follow, and says what is missing: `reason`, if that is known already.
    fn load(&mut self, known: &Catalog, reason: Option<&str>) -> Result<(), WalError> {
        let fault = match self.header.take() {
            Some(header) => {
                let (catalog, fault) = self.readable_catalog(&header, known)?;
                self.catalog = Arc::new(catalog);
                self.header = Some(header.bare());
                fault
            }
            None => None,
        };
        let reason = reason.map(str::to_owned).or(fault);
        self.note(reason.or_else(|| self.index_fault()));
        Ok(())
    }

    /// Takes note of what is missing in it.
    fn note(&mut self, fault: Option<String>) {
        let Some(reason) = fault else { return };
        self.report(&reason);
        let blocks_at = self.content.read(0, SegmentHeader::FIXED_LEN);
        let blocks_at = blocks_at.map_or(0, |bytes| SegmentHeader::claimed_len(&bytes) as u64);
        self.lost = Lost::beside(
            &self.content,
            (self.start.lsn, self.end.lsn),
            blocks_at,
            &self.entries,
            &self.catalog,
        );
        self.fault = Some(reason);
    }

    /// What its header and those of its control blocks say that can be read, and why the others
    /// cannot: blocks of their tables that came later cannot be understood.
    fn readable_catalog(
        &self,
        header: &SegmentHeader,
        known: &Catalog,
    ) -> Result<(Catalog, Option<String>), WalError> {
        let mut catalog = Catalog::of_head(&header.tables, known)?;
        let mut fault = None;
        for entry in self.entries.iter().filter(|entry| entry.kind.controls()) {
            let applied = self.control(entry).and_then(|control| match control {
                Some(control) => catalog.apply(&control),
                None => Ok(()),
            });
            match applied {
                Err(error) if error.may_pass() => return Err(error),
                Err(error) => fault = fault.or(Some(error.to_string())),
                Ok(()) => {}
            }
        }
        Ok((catalog, fault))
    }

    /// What is missing in it.
    fn index_fault(&self) -> Option<String> {
        let unknown = |entry: &&BlockEntry| {
            let known = self.catalog.knows(entry.table, entry.schema_version);
            entry.kind == BlockKind::Data && !known
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
            content: Content::Bytes(Bytes::new(), path.display().to_string()),
            entries: Vec::new(),
            catalog: Arc::default(),
            fault: Some(reason),
            lost: Lost::unknown(start.lsn, end.lsn),
            damage: Arc::clone(damage),
        }
    }

    /// The same where its index can be read though its header cannot.
    pub(crate) fn with_index(mut self, disk: &dyn Disk) -> Self {
        let path = Path::new(&self.path);
        let Ok(len) = disk.size_of(path) else {
            return self;
        };
        let read = |offset, len| disk.read_part(path, offset, len);
        let Ok(footer) = read_footer(&self.path, len, &read) else {
            return self;
        };
        let lsns = (self.start.lsn, self.end.lsn);
        if gap(lsns.0, &footer.entries, lsns.1).is_none() {
            self.lost = Lost::of(footer.entries.iter());
        }
        self
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

    /// Length of the file.
    pub(crate) fn len(&self) -> u64 {
        self.content.len()
    }

    /// The bytes of one block, checked.
    pub(crate) fn block(&self, entry: &BlockEntry) -> Result<Bytes, WalError> {
        let len = entry.len as usize;
        let check = |bytes: &Bytes| self.check_block(entry, bytes);
        let found = self.content.piece(entry.offset, len, check);
        found.inspect_err(|error| self.blame(error))
    }

    /// The same for who will not ask again.
    pub(crate) fn block_once(&self, entry: &BlockEntry) -> Result<Bytes, WalError> {
        let read = self.content.read(entry.offset, entry.len as usize);
        let checked = read.and_then(|bytes| self.check_block(entry, &bytes).map(|()| bytes));
        checked.inspect_err(|error| self.blame(error))
    }

    fn check_block(&self, entry: &BlockEntry, bytes: &[u8]) -> Result<(), WalError> {
        let checked = entry.check(bytes).map(|_| ());
        checked.map_err(|reason| WalError::corrupt(&self.path, entry.offset, reason))
    }

    /// The header of one block; its body is not looked at.
    pub(crate) fn block_header(&self, entry: &BlockEntry) -> Result<BlockHeader, WalError> {
        let bytes = self.content.read(entry.offset, BLOCK_HEADER_LEN)?;
        BlockHeader::decode(&bytes)
            .map_err(|error| WalError::corrupt(&self.path, entry.offset, error.to_string()))
    }

    /// Bytes of the file as they are, unchecked.
    pub(crate) fn bytes(&self, offset: u64, len: usize) -> Result<Bytes, WalError> {
        let found = self.content.read(offset, len);
        found.inspect_err(|error| self.blame(error))
    }

    /// What its control blocks below this LSN say, in order.
    fn controls_before(&self, lsn: Lsn) -> Result<Vec<Control>, WalError> {
        let mut found = Vec::new();
        let controls = self.entries.iter().filter(|entry| entry.kind.controls());
        for entry in controls.take_while(|entry| entry.first_lsn < lsn) {
            found.extend(self.control(entry)?);
        }
        Ok(found)
    }

    fn control(&self, entry: &BlockEntry) -> Result<Option<Control>, WalError> {
        let block = self.content.read(entry.offset, entry.len as usize)?;
        self.check_block(entry, &block)?;
        let decoded =
            BlockHeader::decode_block(&block).and_then(|(header, body)| Control::of(&header, body));
        decoded.map_err(|error| WalError::corrupt(&self.path, entry.offset, error.to_string()))
    }

    /// Schemas and settings at `lsn`, which lies in it; `None` when it is damaged.
    pub(crate) fn catalog_at(&self, lsn: Lsn) -> Result<Option<Catalog>, WalError> {
        if self.header.is_none() {
            return Ok(None);
        }
        let read = |offset, len| self.content.read(offset, len);
        let header = read_header(&self.path, self.len(), &read);
        let found = header.and_then(|(header, _)| self.read_catalog(&header, lsn, &self.catalog));
        match found {
            Err(error) if error.may_pass() => Err(error),
            found => Ok(found.ok()),
        }
    }

    /// Schemas and settings at `lsn`, shared with `known` where they are the same.
    fn read_catalog(
        &self,
        header: &SegmentHeader,
        lsn: Lsn,
        known: &Catalog,
    ) -> Result<Catalog, WalError> {
        let mut catalog = Catalog::of_head(&header.tables, known)?;
        for control in self.controls_before(lsn)? {
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
            Some(start) if self.fault.is_none() => {
                walk_index(&mut self.content.straight(), entries, start, go_on)
            }
            start => Walked::upto(start.unwrap_or_default()),
        };
        let mut walked = walked;
        if let Some(error) = walked.unread.take() {
            return (walked, Some(error));
        }
        let error = match (&self.fault, &walked.fault) {
            (Some(reason), _) => Some(WalError::corrupt(&self.path, 0, reason.clone())),
            (None, Some((at, reason))) => Some(WalError::corrupt(&self.path, *at, reason.clone())),
            (None, None) if walked.stopped => None,
            (None, None) => self.frame_fault(upto, walked.tip),
        };
        (walked, error)
    }

    /// What is wrong around the blocks.
    fn frame_fault(&self, upto: Lsn, tip: Position) -> Option<WalError> {
        let read = |offset, len| self.content.read(offset, len);
        let wrong = |at, reason: &str| Some(WalError::corrupt(&self.path, at, reason));
        match read_header(&self.path, self.len(), &read) {
            Ok((header, _)) if self.is_mine(&header) => {}
            Ok(_) => return wrong(0, "its header is another segment's"),
            Err(error) => return Some(error),
        }
        match read_footer(&self.path, self.len(), &read) {
            Ok(footer) if footer.entries == self.entries => {}
            Ok(_) => return wrong(self.len(), "its block index has changed"),
            Err(error) => return Some(error),
        }
        (upto >= self.end.lsn && !self.end.may_be(tip)).then(|| {
            let reason = format!("ends at {tip}, the footer says {}", self.end);
            WalError::corrupt(&self.path, self.len(), reason)
        })
    }

    fn is_mine(&self, found: &SegmentHeader) -> bool {
        let place = |header: &SegmentHeader| (header.log, header.epoch, header.start);
        self.header.as_ref().map(place) == Some(place(found))
    }

    /// It is not held any more: it goes from the disk, with its last reader. Whether it is kept for
    /// readers, under another name.
    pub(crate) fn remove(self: &Arc<Self>) -> io::Result<bool> {
        let Content::File(file, _) = &self.content else {
            return Ok(false);
        };
        match file.leave(Arc::strong_count(self) > 1) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            left => left,
        }
    }

    /// Keeps its file open: its name is about to lead elsewhere.
    pub(crate) fn pin(&self) {
        if let Content::File(file, _) = &self.content {
            file.pin();
        }
    }

    /// Puts this segment on the list if that is what the error says; what only could not be read
    /// for a while is no damage.
    pub(crate) fn blame(&self, error: &WalError) {
        if matches!(error, WalError::Corrupt { .. }) {
            self.report(&error.to_string());
        }
    }

    /// Puts this segment on the list of damaged files.
    pub(crate) fn report(&self, reason: &str) {
        self.damage.report(&self.name(), self.len(), reason);
    }
}
