//! The first place where a closed log cannot be read, what lies behind it, and what an operator may
//! give up so that the log is whole again: all from there on, or only what cannot be read. It must
//! never give up anything that has not been put aside first.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::bytes::{checksum, put};
use crate::disk::Disk;
use crate::error::WalError;
use crate::format::block::{BLOCK_HEADER_LEN, BlockHeader, BlockKind};
use crate::format::catalog::Catalog;
use crate::format::chain::BlockScan;
use crate::format::control::Control;
use crate::format::segment::SegmentHeader;
use crate::ids::{Epoch, LogId, Lsn, Position};
use crate::open::flipped::flipped_headers;
use crate::open::recovery::{footer_of, segment_seed};
use crate::open::settle::settle;
use crate::parquet::manifest::{MANIFEST, Manifest};
use crate::paths::{FETCHED_NEW, find_log, log_dir, segment_name, segments};
use crate::read::segment_starts;
use crate::replace::diverged::copy_aside;

/// A closed log that is not whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokenLog {
    /// Where it cannot be read on.
    pub file: PathBuf,
    pub offset: u64,
    pub reason: String,
    /// Everything below is sound.
    pub from: Position,
    /// Where the log ended, as far as its last blocks say.
    pub to: Lsn,
    /// Everything below had been acknowledged, as far as they say.
    pub acknowledged: Lsn,
    /// Lost when the log is cut there, and when what can be read behind is kept.
    pub tail: Loss,
    pub hole: Loss,
}

/// Rows that an operator may give up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loss {
    /// Rows and control blocks.
    pub lsns: u64,
    /// Rows of which that much can be told, by table.
    pub tables: BTreeMap<String, u64>,
    /// Smallest and largest time of these, unix nanoseconds.
    pub times: Option<(i64, i64)>,
}

/// What is to be given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GiveUp {
    /// Everything from the first place that cannot be read on.
    Tail,
    /// What cannot be read, and rows that cannot be understood without it.
    Hole,
}

/// Looks for the first place where the log of a stopped node cannot be read; none: there is none. An
/// unfinished write at its end is no such place.
///
/// # Errors
/// When the directory or a file cannot be read, or was written by a newer version.
pub fn find_broken(disk: &Arc<dyn Disk>, data_dir: &Path) -> Result<Option<BrokenLog>, WalError> {
    Ok(Walk::of(disk, data_dir)?.and_then(|walk| walk.broken()))
}

/// Gives up a part of the log, so that it is whole again: rows that are kept behind the place get
/// other LSNs. Says what is lost, and where the files are as they were; none: nothing was to be done.
///
/// # Errors
/// As [`find_broken`]. A crash leaves the log as it was, or without a part of what was put aside.
pub fn give_up(
    disk: &Arc<dyn Disk>,
    data_dir: &Path,
    what: GiveUp,
) -> Result<Option<(BrokenLog, PathBuf)>, WalError> {
    let Some(walk) = Walk::of(disk, data_dir)? else {
        return Ok(None);
    };
    let Some(broken) = walk.broken() else {
        return Ok(None);
    };
    let disk = disk.as_ref();
    let files: Vec<(String, Bytes)> = walk.files[walk.at..]
        .iter()
        .map(|file| (segment_name(file.first), file.bytes.clone()))
        .collect();
    let kept = copy_aside(disk, data_dir, walk.log, (broken.from, broken.to), &files)?;
    segment_starts::truncate(disk, &walk.dir, walk.log, broken.from)?;
    let mut content = walk.sound.clone();
    if what == GiveUp::Hole {
        content.extend(walk.rechained().bytes);
    }
    let place = walk.dir.join(segment_name(walk.segment));
    // Newest first, so that a crash leaves a log without a gap.
    for file in walk.files[walk.at..].iter().rev() {
        if file.first != walk.segment {
            disk.remove_file(&walk.dir.join(segment_name(file.first)))?;
            disk.sync_names(&walk.dir)?;
        }
    }
    disk.replace(&walk.dir.join(FETCHED_NEW), &place, &content)?;
    Ok(Some((broken, kept)))
}

/// One segment file.
struct File {
    first: Lsn,
    bytes: Bytes,
}

/// A walk over a log up to the first place where it cannot be read.
struct Walk {
    log: LogId,
    dir: PathBuf,
    files: Vec<File>,
    /// The file of that place, where in it, and what is wrong; none when all can be read.
    at: usize,
    fault: Option<(u64, String)>,
    tip: Position,
    catalog: Catalog,
    epoch: Epoch,
    /// The segment that would end there, up to there.
    segment: Lsn,
    sound: Vec<u8>,
    seed: u64,
}

/// Blocks behind, as they would follow what is sound.
struct Rechained {
    bytes: Vec<u8>,
    /// LSNs that they take, in their old places, too.
    lsns: u64,
    /// Headers of all blocks that are there; whether their rows are kept.
    found: Vec<(BlockHeader, bool)>,
}

impl Walk {
    /// None: there is no log.
    fn of(disk: &Arc<dyn Disk>, data_dir: &Path) -> Result<Option<Self>, WalError> {
        settle(disk, data_dir)?;
        let disk = disk.as_ref();
        let Some(log) = find_log(disk, data_dir)? else {
            return Ok(None);
        };
        let dir = log_dir(data_dir, log);
        let mut walk = Self {
            log,
            files: Vec::new(),
            at: 0,
            fault: None,
            tip: log.genesis(),
            catalog: Catalog::default(),
            epoch: Epoch(1),
            segment: Lsn(0),
            sound: Vec::new(),
            seed: 0,
            dir,
        };
        walk.begin(disk)?;
        for first in segments(disk, &walk.dir)? {
            let bytes = disk.read_file(&walk.dir.join(segment_name(first)))?;
            walk.files.push(File { first, bytes });
        }
        walk.run()?;
        Ok(Some(walk))
    }

    /// Goes on from what is in files.
    fn begin(&mut self, disk: &dyn Disk) -> Result<(), WalError> {
        let path = self.dir.join(MANIFEST);
        if let Some(bytes) = disk.read_if_there(&path)? {
            let manifest = Manifest::decode(&path.display().to_string(), &bytes)?;
            self.tip = manifest.compacted;
            self.epoch = manifest.epoch;
            self.catalog = Catalog::clone(&manifest.catalog);
        }
        self.segment = self.tip.lsn;
        Ok(())
    }

    fn run(&mut self) -> Result<(), WalError> {
        let count = self.files.len();
        // What lies below is in files, and no reason for anything.
        let below = self.files.partition_point(|file| file.first < self.tip.lsn);
        self.at = below;
        while self.at < count && self.fault.is_none() {
            self.segment(self.at + 1 == count)?;
            if self.fault.is_none() {
                self.at += 1;
            }
        }
        Ok(())
    }

    /// Walks the segment in this place, which should begin where the one before ended.
    fn segment(&mut self, is_newest: bool) -> Result<(), WalError> {
        let File { first, bytes } = &self.files[self.at];
        let (first, bytes) = (*first, bytes.clone());
        let file = self.dir.join(segment_name(first)).display().to_string();
        let (header, header_len) = match SegmentHeader::decode(&file, &bytes) {
            Ok((header, _)) if header.start != self.tip => {
                let reason = format!("it begins at {}, not {}", header.start, self.tip);
                return self.stop_before((0, reason));
            }
            Ok(decoded) => decoded,
            Err(WalError::Corrupt { reason, .. }) => {
                // What opening the log makes again.
                let goes_on = || {
                    let known = self.next_header().encode();
                    let behind = bytes.get(known.len()..).unwrap_or_default();
                    let block = BlockHeader::decode(behind).ok();
                    block.is_none_or(|block| block.start() == self.tip)
                };
                return match is_newest && goes_on() {
                    true => Ok(()),
                    false => self.stop_before((0, reason)),
                };
            }
            Err(error) => return Err(error),
        };
        self.epoch = header.epoch;
        self.catalog = Catalog::of_head(&header.tables, &self.catalog)?;
        let mut bytes = bytes.to_vec();
        if is_newest {
            let blocks = bytes.get(header_len..).unwrap_or_default();
            for (at, mended) in flipped_headers(blocks, header.start) {
                put(&mut bytes, header_len + at, &mended);
            }
        }
        let end = match footer_of(&file, &bytes) {
            Some(footer) => usize::try_from(footer.offset_in(bytes.len())).unwrap_or(0),
            None => bytes.len(),
        };
        self.seed = segment_seed(&bytes).unwrap_or(0);
        let mut scan = BlockScan::new(bytes.get(header_len..end).unwrap_or_default(), self.tip);
        let mut sealed = false;
        let fault = loop {
            match scan.next() {
                Ok(Some((header, _, body))) => {
                    if let Some(control) = Control::of(&header, body)? {
                        self.catalog.apply(&control)?;
                    }
                    sealed = header.kind == BlockKind::Seal;
                    if sealed {
                        break None;
                    }
                }
                Ok(None) => break (!is_newest).then(|| "it ends without a seal".to_owned()),
                Err(error @ WalError::NewerFormat { .. }) => return Err(error),
                Err(_) if is_newest && !scan.was_durable() => break None,
                Err(error) => break Some(error.to_string()),
            }
        };
        self.tip = scan.tip();
        let at = header_len + scan.offset();
        if let Some(reason) = fault {
            self.fault = Some((at as u64, reason));
            self.segment = first;
            bytes.truncate(at);
            self.sound = bytes;
        }
        debug_assert!(sealed || is_newest || self.fault.is_some());
        Ok(())
    }

    /// The log ends before the segment in this place.
    fn stop_before(&mut self, fault: (u64, String)) -> Result<(), WalError> {
        self.fault = Some(fault);
        self.segment = self.tip.lsn;
        self.sound = self.next_header().encode();
        self.seed = 0;
        Ok(())
    }

    fn next_header(&self) -> SegmentHeader {
        SegmentHeader {
            log: self.log,
            epoch: self.epoch,
            start: self.tip,
            tables: self.catalog.head(),
        }
    }

    /// Whole blocks behind the place, as they would follow what is sound. Those of which the schema
    /// is not known any more cannot be read.
    fn rechained(&self) -> Rechained {
        let mut done = Rechained {
            bytes: Vec::new(),
            lsns: 0,
            found: Vec::new(),
        };
        let (mut catalog, mut tip, mut seen) = (self.catalog.clone(), self.tip, self.tip.lsn);
        for (index, file) in self.files.iter().enumerate().skip(self.at) {
            let from = self.fault.as_ref().filter(|_| index == self.at);
            let from = from.map_or(0, |(at, _)| usize::try_from(*at).unwrap_or(0));
            let seed = segment_seed(&file.bytes);
            let mut at = from.next_multiple_of(8);
            while let Some(rest) = file.bytes.get(at..).filter(|rest| !rest.is_empty()) {
                at += 8;
                let Some(header) = BlockHeader::genuine(rest, seed) else {
                    continue;
                };
                if header.first_lsn < seen {
                    continue;
                }
                seen = header.end().lsn;
                if let Ok((_, body)) = BlockHeader::decode_block(rest) {
                    at += header.total_len() - 8;
                    if matches!(header.kind, BlockKind::Seal | BlockKind::Secret) {
                        // Each belongs to a segment that is no more; nothing is lost with it.
                        done.lsns += 1;
                        done.found.push((header, true));
                        continue;
                    }
                    if takes(&mut catalog, &header, body) {
                        let body = rest.get(BLOCK_HEADER_LEN..header.total_len());
                        tip = self.rechain(&mut done, &header, body.unwrap_or_default(), tip);
                        done.found.push((header, true));
                        continue;
                    }
                }
                done.found.push((header, false));
            }
        }
        done
    }

    /// Appends a block as the one that follows `tip`; its end.
    fn rechain(
        &self,
        done: &mut Rechained,
        header: &BlockHeader,
        body: &[u8],
        tip: Position,
    ) -> Position {
        let mut new = BlockHeader {
            first_lsn: tip.lsn,
            group_lsn: self.tip.lsn,
            prev: tip.chain,
            ..*header
        };
        let mut body = body.to_vec();
        if new.mark_len() > 0 {
            let mark = new.mark(self.seed);
            put(&mut body, 0, &mark.to_le_bytes());
        }
        new.body_hash = checksum(&body);
        let (bytes, chain) = new.encode();
        new.chain = chain;
        done.bytes.extend_from_slice(&bytes);
        done.bytes.extend_from_slice(&body);
        done.lsns += new.end().lsn.0 - tip.lsn.0;
        new.end()
    }

    fn broken(&self) -> Option<BrokenLog> {
        let (offset, reason) = self.fault.clone()?;
        let behind = self.rechained();
        let ends = behind.found.iter().map(|(header, _)| header.end().lsn);
        let to = ends.max().unwrap_or(self.tip.lsn).max(self.tip.lsn);
        let groups = behind.found.iter().map(|(header, _)| header.group_lsn);
        let all = to.0 - self.tip.lsn.0;
        let loss = |lsns, is_lost: &dyn Fn(bool) -> bool| {
            let lost = behind.found.iter().filter(|(_, kept)| is_lost(*kept));
            self.loss(lsns, lost.map(|(header, _)| header))
        };
        let file = self.files.get(self.at)?;
        Some(BrokenLog {
            file: self.dir.join(segment_name(file.first)),
            offset,
            reason,
            from: self.tip,
            to,
            acknowledged: groups.max().unwrap_or(self.tip.lsn).max(self.tip.lsn),
            tail: loss(all, &|_| true),
            hole: loss(all.saturating_sub(behind.lsns), &|kept| !kept),
        })
    }

    fn loss<'a>(&self, lsns: u64, lost: impl Iterator<Item = &'a BlockHeader>) -> Loss {
        let mut loss = Loss {
            lsns,
            ..Loss::default()
        };
        for header in lost.filter(|header| header.kind == BlockKind::Data) {
            let name = self.catalog.newest(header.table);
            let name = name.map_or_else(
                || format!("table number {}", header.table.0),
                |table| table.name.clone(),
            );
            *loss.tables.entry(name).or_default() += u64::from(header.rows);
            let (from, to) = loss.times.unwrap_or((header.min_time, header.max_time));
            loss.times = Some((from.min(header.min_time), to.max(header.max_time)));
        }
        loss
    }
}

/// Whether a block behind a place that cannot be read still means what it did; a control block is
/// taken in.
fn takes(catalog: &mut Catalog, header: &BlockHeader, body: &[u8]) -> bool {
    match header.kind {
        BlockKind::Data => catalog.knows(header.table, header.schema_version),
        _ => match Control::of(header, body) {
            Ok(Some(control)) => catalog.apply(&control).is_ok(),
            _ => false,
        },
    }
}
