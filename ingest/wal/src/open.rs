//! Opens or creates a log's directory: loads sealed segments, recovers the active one, starts the
//! writer's thread. What was cut is reported in `Recovery`, never silent.

use std::path::Path;
use std::sync::Arc;

use crate::active::{Active, Writer};
use crate::catalog::Catalog;
use crate::committer::Committer;
use crate::config::Config;
use crate::disk::Disk;
use crate::error::WalError;
use crate::follower::Follower;
use crate::ids::{Epoch, LogId, Lsn, Position};
use crate::layout::{find_log, log_dir, segment_name, segments};
use crate::recovery::{OnDamage, Recovery, Scanned, TornTail, holds_blocks, scan_active};
use crate::sealed::Sealed;
use crate::segment::{SegmentFooter, SegmentHeader};
use crate::snapshot::Tail;

/// The epoch of a log that has seen no promotion.
const FIRST_EPOCH: Epoch = Epoch(1);

/// Opens the log in `data_dir` for a primary, or begins one.
///
/// # Errors
/// `Corrupt` naming file and offset when something that had been durable is damaged.
pub fn open_primary(
    disk: Arc<dyn Disk>,
    data_dir: &Path,
    config: &Config,
) -> Result<(Committer, Recovery), WalError> {
    let id = find_log(disk.as_ref(), data_dir)?.unwrap_or_else(LogId::random);
    let (writer, recovery) = open(disk, data_dir, id, FIRST_EPOCH, OnDamage::Refuse)?;
    Ok((Committer::start(writer, config)?, recovery))
}

/// Opens a secondary's copy of log `id`, or begins one.
///
/// # Errors
/// `Corrupt` naming file and offset when a sealed segment is damaged; `WrongLog` when the
/// directory holds another log.
pub fn open_follower(
    disk: Arc<dyn Disk>,
    data_dir: &Path,
    id: LogId,
    epoch: Epoch,
) -> Result<(Follower, Recovery), WalError> {
    if let Some(found) = find_log(disk.as_ref(), data_dir)?
        && found != id
    {
        return Err(WalError::foreign(data_dir, id, found));
    }
    let (writer, recovery) = open(disk, data_dir, id, epoch, OnDamage::Cut)?;
    Ok((Follower::start(writer)?, recovery))
}

/// What has been loaded so far, oldest segment first.
struct Loading {
    disk: Arc<dyn Disk>,
    dir: std::path::PathBuf,
    id: LogId,
    epoch: Epoch,
    catalog: Catalog,
    sealed: Vec<Arc<Sealed>>,
    tip: Position,
    committed_at: i64,
}

fn open(
    disk: Arc<dyn Disk>,
    data_dir: &Path,
    id: LogId,
    epoch: Epoch,
    on_damage: OnDamage,
) -> Result<(Writer, Recovery), WalError> {
    let dir = log_dir(data_dir, id);
    disk.create_dir(&dir)
        .map_err(WalError::io("create directory", &dir))?;
    let firsts = segments(disk.as_ref(), &dir)?;
    let (catalog, sealed) = (Catalog::default(), Vec::new());
    let tip = id.genesis();
    let mut loading = Loading {
        disk,
        dir,
        id,
        epoch,
        catalog,
        sealed,
        tip,
        committed_at: 0,
    };
    let Some((last, earlier)) = firsts.split_last() else {
        return loading.begin(None);
    };
    for first in earlier {
        loading.sealed(*first)?;
    }
    loading.last(*last, on_damage)
}

impl Loading {
    fn sealed(&mut self, first: Lsn) -> Result<(), WalError> {
        let path = self.dir.join(segment_name(first));
        let segment = Sealed::open(self.disk.as_ref(), &path, self.id)?;
        self.check_header(&segment.path, &segment.header)?;
        for schema in &segment.header.schemas {
            self.catalog.insert(Arc::clone(schema))?;
        }
        for entry in &segment.entries {
            if entry.kind == crate::block::BlockKind::Schema {
                let block = segment.block(entry);
                let (_, body) =
                    crate::block::BlockHeader::decode_block(&block).map_err(|error| {
                        WalError::corrupt(&segment.path, entry.offset, error.to_string())
                    })?;
                self.catalog
                    .insert(Arc::new(crate::schema::TableSchema::decode(body)?))?;
            }
        }
        self.tip = segment.end;
        self.committed_at = segment.committed_at;
        self.epoch = segment.header.epoch;
        self.sealed.push(Arc::new(segment));
        Ok(())
    }

    /// A segment must begin where the one before it ended; the oldest held may begin anywhere.
    fn check_header(&self, file: &str, header: &SegmentHeader) -> Result<(), WalError> {
        if header.log != self.id {
            return Err(WalError::foreign(Path::new(file), self.id, header.log));
        }
        let oldest = self.sealed.is_empty() && self.tip.lsn == Lsn(0);
        if header.start != self.tip && !(oldest && header.start.lsn > Lsn(0)) {
            let reason = format!("starts at {}, the log ends at {}", header.start, self.tip);
            return Err(WalError::corrupt(file, 0, reason));
        }
        Ok(())
    }

    /// The newest segment: sealed, active, or cut short while it was created.
    fn last(mut self, first: Lsn, on_damage: OnDamage) -> Result<(Writer, Recovery), WalError> {
        let path = self.dir.join(segment_name(first));
        let file = path.display().to_string();
        let bytes = self.disk.read(&path).map_err(WalError::io("read", &path))?;
        if SegmentFooter::is_claimed(&bytes) && SegmentFooter::decode(&file, &bytes).is_ok() {
            self.sealed(first)?;
            return self.begin(None);
        }
        let (header, header_len) = match SegmentHeader::decode(&file, &bytes) {
            Ok(decoded) => decoded,
            Err(error @ WalError::Corrupt { .. }) if !holds_blocks(&bytes) => {
                let reason = error.to_string();
                return self.recreate(&path, bytes.len() as u64, reason);
            }
            Err(error) => return Err(error),
        };
        self.check_header(&file, &header)?;
        self.epoch = header.epoch;
        for schema in &header.schemas {
            self.catalog.insert(Arc::clone(schema))?;
        }
        let start = header.start;
        let scanned = scan_active(
            &file,
            &bytes,
            header_len,
            start,
            &mut self.catalog,
            on_damage,
        )?;
        self.resume(&path, start, scanned)
    }

    /// The crash came while the segment's file was being made: no block was ever in it.
    fn recreate(
        self,
        path: &Path,
        bytes: u64,
        reason: String,
    ) -> Result<(Writer, Recovery), WalError> {
        self.disk
            .remove(path)
            .map_err(WalError::io("remove", path))?;
        let file = path.display().to_string();
        self.begin((bytes > 0).then_some(TornTail {
            file,
            offset: 0,
            bytes,
            reason,
        }))
    }

    /// Begins a new active segment at the tip.
    fn begin(self, torn: Option<TornTail>) -> Result<(Writer, Recovery), WalError> {
        let header = SegmentHeader {
            log: self.id,
            epoch: self.epoch,
            start: self.tip,
            schemas: self.catalog.tables().map(Arc::clone).collect(),
        };
        let active = Active::create(self.disk.as_ref(), &self.dir, &header)?;
        Ok(self.finish(active, torn))
    }

    /// Goes on in the segment that was active, after cutting what is not a whole block.
    fn resume(
        mut self,
        path: &Path,
        start: Position,
        scanned: Scanned,
    ) -> Result<(Writer, Recovery), WalError> {
        let mut file = self.disk.open(path).map_err(WalError::io("open", path))?;
        if scanned.torn.is_some() || scanned.sealed {
            file.truncate(scanned.end)
                .map_err(WalError::io("truncate", path))?;
        }
        // What is about to be served as durable may never have been fsynced.
        file.sync().map_err(WalError::io("fsync", path))?;
        let tail = Arc::new(Tail::new(path.display().to_string(), start));
        let entries = scanned.blocks.iter().map(|block| block.entry).collect();
        tail.push(scanned.blocks.into_iter());
        self.tip = scanned.tip;
        self.committed_at = scanned.committed_at.unwrap_or(self.committed_at);
        let active = Active {
            path: path.to_owned(),
            file,
            offset: scanned.end,
            entries,
            tail,
        };
        let sealed = scanned.sealed;
        let (mut writer, mut recovery) = self.finish(active, scanned.torn);
        if sealed {
            writer.rotate()?;
            recovery.segments += 1;
        }
        Ok((writer, recovery))
    }

    fn finish(self, active: Active, torn_tail: Option<TornTail>) -> (Writer, Recovery) {
        let recovery = Recovery {
            torn_tail,
            segments: self.sealed.len() + 1,
            position: self.tip,
        };
        let writer = Writer {
            disk: self.disk,
            dir: self.dir,
            log: self.id,
            epoch: self.epoch,
            catalog: Arc::new(self.catalog),
            sealed: Arc::new(self.sealed),
            active,
            tip: self.tip,
            committed_at: self.committed_at,
        };
        (writer, recovery)
    }
}
