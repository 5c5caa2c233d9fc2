//! The newest segment of a log that is opened: goes on in it, cuts what is torn off its end, or
//! begins the next. It must never cut a block that may have been acknowledged.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::compact::remove_unnamed;
use crate::disk::Disk;
use crate::error::{Operation, WalError};
use crate::format::block::BlockHeader;
use crate::format::catalog::Catalog;
use crate::format::segment::SegmentHeader;
use crate::ids::{Boundary, Lsn, Position};
use crate::open::flipped::flipped_headers;
use crate::open::loading::{Loading, Opening};
use crate::open::recovery::{
    OnDamage, Recovery, Scanned, TornTail, footer_of, holds_blocks, scan_active,
};
use crate::parquet::manifest::MANIFEST;
use crate::paths::segment_name;
use crate::read::log::{LogState, Opened};
use crate::read::segment_starts::SegmentStarts;
use crate::read::snapshot::Snapshot;
use crate::read::tail::{Tail, TailBlock};
use crate::write::writer::{Active, Writer};

impl Loading {
    /// The newest segment: sealed, active, or cut short while it was created.
    pub(super) fn last(mut self, first: Lsn, on_damage: OnDamage) -> Result<Opening, WalError> {
        let path = self.dir.join(segment_name(first));
        let file = path.display().to_string();
        let mut bytes = self.disk.read_file(&path)?;
        if let Some(footer) = footer_of(&file, &bytes) {
            write_again(self.disk.as_ref(), &path, &bytes)?;
            self.sealed(first, footer.end.into())?;
            self.newest_gone = Some(format!("{file} is sealed, and none follows it"));
            return self.begin(None);
        }
        let (header, header_len) = match SegmentHeader::decode(&file, &bytes) {
            Ok(decoded) => decoded,
            Err(error @ WalError::Corrupt { .. }) => {
                let known = self.known_header(first);
                let only_header = known.as_ref();
                let only_header = only_header.is_some_and(|(_, known)| bytes.len() <= known.len());
                if only_header || !holds_blocks(&bytes) {
                    let reason = error.to_string();
                    return self.recreate(&path, bytes.len() as u64, reason);
                }
                let rewritten = self.rewrite_header(&path, known, &bytes)?;
                bytes = self.disk.read_file(&path)?;
                rewritten.ok_or(error)?
            }
            Err(error) => return Err(error),
        };
        self.check_start(&file, &header)?;
        self.epoch = header.epoch;
        self.adopt(&header)?;
        let start = header.start;
        let bytes = self.mend(&path, bytes, header_len, start)?;
        let scanned = scan_active(
            &file,
            &bytes,
            header_len,
            start,
            &mut self.catalog,
            on_damage,
        )?;
        self.resume(&path, header, scanned, &bytes)
    }

    /// Turns back the bits that have flipped in headers of blocks, in the file too.
    fn mend(
        &mut self,
        path: &Path,
        bytes: Bytes,
        header_len: usize,
        start: Position,
    ) -> Result<Bytes, WalError> {
        let flipped = flipped_headers(bytes.get(header_len..).unwrap_or_default(), start);
        if flipped.is_empty() {
            return Ok(bytes);
        }
        let mut file = self.disk.open_file(path)?;
        for (at, header) in &flipped {
            file.write_at((header_len + at) as u64, header)
                .map_err(WalError::io(Operation::Write, path))?;
        }
        file.sync().map_err(WalError::io(Operation::Fsync, path))?;
        self.mended += flipped.len();
        self.disk.read_file(path)
    }

    /// The header of the newest segment and its bytes, where they follow from the segments before.
    pub(super) fn known_header(&self, first: Lsn) -> Option<(SegmentHeader, Vec<u8>)> {
        let whole = self
            .sealed
            .last()
            .is_none_or(|before| before.fault.is_none());
        if !whole || self.tip.lsn != first || (self.sealed.is_empty() && first != Lsn(0)) {
            return None;
        }
        let header = self.next_header();
        let encoded = header.encode();
        Some((header, encoded))
    }

    /// Writes the header of the newest segment again. None when it is not known, or the blocks
    /// behind it do not say that it is the right one.
    fn rewrite_header(
        &self,
        path: &Path,
        known: Option<(SegmentHeader, Vec<u8>)>,
        bytes: &Bytes,
    ) -> Result<Option<(SegmentHeader, usize)>, WalError> {
        let Some((header, encoded)) = known else {
            return Ok(None);
        };
        let behind = bytes.get(encoded.len()..).unwrap_or_default();
        if !BlockHeader::decode(behind).is_ok_and(|block| self.tip == block.start().into()) {
            return Ok(None);
        }
        let mut file = self.disk.open_file(path)?;
        file.write_at(0, &encoded)
            .map_err(WalError::io(Operation::Write, path))?;
        file.sync().map_err(WalError::io(Operation::Fsync, path))?;
        Ok(Some((header, encoded.len())))
    }

    fn next_header(&self) -> SegmentHeader {
        SegmentHeader {
            log: self.id,
            epoch: self.epoch,
            start: self.tip.go_on(),
            tables: self.catalog.head(),
        }
    }

    /// The crash came while the segment's file was being made: no block was ever in it.
    fn recreate(mut self, path: &Path, bytes: u64, reason: String) -> Result<Opening, WalError> {
        self.disk.remove_file(path)?;
        if self.sealed.is_empty() {
            self.catalog = Catalog::clone(&self.files.catalog);
            self.tip = self.files.compacted.into();
        }
        let file = path.display().to_string();
        self.newest_gone = Some(format!("{file} holds no block: {reason}"));
        self.begin((bytes > 0).then_some(TornTail {
            file,
            offset: 0,
            bytes,
            reason,
        }))
    }

    /// Begins a new active segment at the tip.
    pub(super) fn begin(mut self, torn: Option<TornTail>) -> Result<Opening, WalError> {
        self.catalog = self.catalog.at_segment_start();
        let header = self.next_header();
        let active = Active::create(&self.home, &self.dir, header)?;
        self.finish(active, torn)
    }

    /// Goes on in the segment that was active, after cutting what is not a whole block.
    fn resume(
        mut self,
        path: &Path,
        header: SegmentHeader,
        scanned: Scanned,
        bytes: &Bytes,
    ) -> Result<Opening, WalError> {
        let start = header.start;
        let mut file = self.disk.open_file(path)?;
        if scanned.torn.is_some() || scanned.sealed {
            file.truncate(scanned.end)
                .map_err(WalError::io(Operation::Truncate, path))?;
        }
        let end = usize::try_from(scanned.end).unwrap_or(usize::MAX);
        write_again(self.disk.as_ref(), path, bytes.get(..end).unwrap_or(bytes))?;
        let tail = Arc::new(Tail::of_file(&self.home, start));
        let entries = scanned.blocks.iter().map(|block| block.entry).collect();
        let first = scanned.blocks.first().map(|block| tail.header(block));
        let first = first.transpose()?;
        // They are in the file, which was read whole: nothing of it stays in memory.
        tail.push(scanned.blocks.into_iter().map(|block| TailBlock {
            bytes: None,
            ..block
        }));
        self.tip = scanned.tip.into();
        self.committed_at = scanned.committed_at.unwrap_or(self.committed_at);
        if scanned.hole {
            self.damage.report(&segment_name(start.lsn), 0, HOLE);
        }
        let active = Active {
            path: path.to_owned(),
            file,
            offset: scanned.end,
            entries,
            tail,
            begun_at: first.map(|header| header.committed_at),
            has_hole: scanned.hole,
            seed: scanned.seed.unwrap_or(0),
            spilled: scanned.end,
            header: header.bare(),
        };
        let (mut writer, state, mut recovery) = self.finish(active, scanned.torn)?;
        if scanned.sealed {
            let sealed = writer.rotate()?;
            state.published.publish(writer.committed(Some(sealed)));
            recovery.segments += 1;
        }
        Ok((writer, state, recovery))
    }

    fn finish(mut self, active: Active, torn_tail: Option<TornTail>) -> Result<Opening, WalError> {
        self.check_files()?;
        // Only now is it sure that the manifest is the one of this log.
        if !self.files_pending {
            remove_unnamed(self.disk.as_ref(), &self.dir, &self.files)?;
        }
        let tip = self.tip.go_on();
        let recovery = Recovery {
            segments: self.sealed.len() + 1,
            position: tip,
            damaged: self.damage.watch().borrow().len(),
            mended: self.mended,
            newest_gone: self.newest_gone,
            torn_tail,
        };
        let sealed = self.sealed.iter().map(|segment| segment.start());
        let starts: Vec<Boundary> = sealed
            .chain([Boundary::of_segment(active.tail.start)])
            .collect();
        let opened = Opened {
            position: tip,
            starts: SegmentStarts::load(self.disk.as_ref(), &self.dir, self.id, &starts),
            snapshot: Snapshot {
                log: self.id,
                epoch: self.epoch,
                end: tip.into(),
                committed_at: self.committed_at,
                catalog: Arc::new(self.catalog.clone()),
                sealed: Arc::new(self.sealed),
                files: Arc::new(self.files),
                tail: Arc::clone(&active.tail),
                tail_len: active.entries.len(),
                tail_bytes: active.offset,
            },
            damage: Arc::clone(&self.damage),
            torn_tails: u64::from(recovery.torn_tail.is_some()),
        };
        let state = LogState::new(&self.home, self.dir.clone(), opened);
        let writer = Writer {
            dir: self.dir,
            home: self.home,
            log: self.id,
            epoch: self.epoch,
            catalog: Arc::new(self.catalog),
            damage: self.damage,
            active,
            tip,
            committed_at: self.committed_at,
        };
        Ok((writer, state, recovery))
    }

    /// Files and log must meet: the files end where a segment does, and not behind the log's end.
    fn check_files(&mut self) -> Result<(), WalError> {
        let compacted = self.files.compacted;
        if compacted.lsn <= self.tip.lsn {
            return Ok(());
        }
        let reason = format!("reaches to {compacted}, the log ends at {}", self.tip);
        let path = self.dir.join(MANIFEST);
        Err(WalError::corrupt(&path.display().to_string(), 0, reason))
    }
}

/// Writes and fsyncs a file's bytes that are about to be served as durable. They may never have been
/// fsynced; and after an fsync that failed the operating system may hold as clean what is not on
/// the disk, so that another fsync alone would do nothing.
fn write_again(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<(), WalError> {
    let mut file = disk.open_file(path)?;
    file.write_at(0, bytes)
        .map_err(WalError::io(Operation::Write, path))?;
    file.sync().map_err(WalError::io(Operation::Fsync, path))
}

const HOLE: &str = "blocks in the middle of it cannot be read";

#[cfg(test)]
mod tests {
    use std::fs;

    use crate::paths::{log_dir, segment_name, segments};
    use crate::{Config, OsDisk, Row, Value, open_primary};

    #[test]
    fn a_log_goes_on_behind_a_sealed_segment_that_cannot_be_read() {
        let dir = tempfile::tempdir().expect("dir");
        let disk = OsDisk::new();
        let config = Config {
            segment_size: 2_000,
            ..Config::default()
        };
        let (primary, _) = open_primary(OsDisk::new(), dir.path(), &config).expect("opens");
        let id = primary.log().id();
        let mut appender = primary.appender(Box::new(|_| ()));
        let just_sealed = || {
            let segments = primary.log().snapshot().segments();
            segments.len() > 1 && segments.last().is_some_and(|active| active.blocks == 0)
        };
        for number in 0.. {
            let row = Row {
                time: number,
                tags: &[("t", "a")],
                fields: &[("v".into(), Value::Int(number))],
            };
            let group = appender.append("one", &[row]).expect("fits");
            appender.wait(group).expect("durable");
            if just_sealed() {
                break;
            }
        }
        drop(appender);
        let end = primary.stop().expect("stops");
        // A crash before the next segment had its name, and a byte of the header rots.
        let log = log_dir(dir.path(), id);
        let firsts = segments(disk.as_ref(), &log).expect("lists");
        let [.., damaged, newest] = firsts[..] else {
            panic!("{firsts:?}");
        };
        fs::remove_file(log.join(segment_name(newest))).expect("removes");
        let path = log.join(segment_name(damaged));
        let mut bytes = fs::read(&path).expect("reads");
        // Neither its header, nor what that would follow from.
        bytes[20..900].fill(0);
        fs::write(&path, bytes).expect("writes");

        let (primary, recovery) = open_primary(OsDisk::new(), dir.path(), &config).expect("opens");
        assert_eq!((recovery.position, recovery.damaged), (end, 1));
        assert_eq!(
            *primary.log().durable().borrow(),
            end,
            "the footer knows it"
        );
    }
    #[test]
    fn a_newest_segment_that_is_gone_or_empty_is_told_and_a_log_of_nothing_is_none() {
        let dir = tempfile::tempdir().expect("dir");
        let config = Config {
            segment_size: 1,
            ..Config::default()
        };
        let open = || open_primary(OsDisk::new(), dir.path(), &config).expect("opens");
        let (primary, recovery) = open();
        assert_eq!(recovery.newest_gone, None, "it is new");
        let log = log_dir(dir.path(), primary.log().id());
        let newest = || {
            let firsts = segments(OsDisk::new().as_ref(), &log).expect("lists");
            log.join(segment_name(*firsts.last().expect("a segment")))
        };
        let write = |primary: &crate::Committer| {
            let mut appender = primary.appender(Box::new(|_| ()));
            let row = Row {
                time: 1,
                tags: &[],
                fields: &[("v".into(), Value::Int(1))],
            };
            let group = appender.append("one", &[row]).expect("fits");
            appender.wait(group).expect("durable");
        };
        write(&primary);
        let end = primary.stop().expect("stops");
        let (primary, recovery) = open();
        assert_eq!((recovery.position, recovery.newest_gone), (end, None));
        primary.stop().expect("stops");

        fs::remove_file(newest()).expect("removes");
        let (primary, recovery) = open();
        let found = recovery.newest_gone.expect("told");
        assert!(found.contains("is sealed, and none follows it"), "{found}");
        primary.stop().expect("stops");
        fs::write(newest(), []).expect("empties");
        let (primary, recovery) = open();
        let found = recovery.newest_gone.expect("told");
        assert!(found.contains("holds no block"), "{found}");
        primary.stop().expect("stops");

        let holds = || crate::holds_log(&OsDisk, dir.path()).expect("looks");
        assert!(holds());
        for first in segments(OsDisk::new().as_ref(), &log).expect("lists") {
            fs::write(log.join(segment_name(first)), []).expect("empties");
        }
        assert!(!holds(), "no byte is left");
        for name in fs::read_dir(&log).expect("lists").flatten() {
            let _directories_stay = fs::remove_file(name.path());
        }
        assert!(!holds());
    }
}
