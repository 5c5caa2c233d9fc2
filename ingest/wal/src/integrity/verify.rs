//! Checks every block, footer, manifest and Parquet file, and says what is wrong, where, and what
//! it covers. Reads everything, changes nothing. It must never change a byte.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};

use crate::damage::DamageList;
use crate::disk::Disk;
use crate::error::WalError;
use crate::format::catalog::Catalog;
use crate::format::segment::SegmentHeader;
use crate::ids::{LogId, Lsn, Position};
use crate::open::recovery::{OnDamage, TornTail, footer_of, scan_active};
use crate::parquet::manifest::{MANIFEST, Manifest};
use crate::parquet::{DataFile, FileMeta};
use crate::paths::{find_log, log_dir, segment_name, segments};
use crate::read::log::Log;
use crate::read::sealed::Sealed;
use crate::share::Share;
use crate::stored::{Cache, Home};

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyReport {
    /// None: the directory holds no log.
    pub log: Option<LogId>,
    /// Where the log ends. In JSON only the LSN is told.
    #[serde(rename = "lsn", serialize_with = "lsn_alone", skip_deserializing)]
    pub position: Position,
    pub segments: u64,
    pub blocks: u64,
    /// Rows in segments; those of compacted ones are in files too.
    pub rows: u64,
    pub files: u64,
    pub file_rows: u64,
    /// Bytes read.
    pub bytes: u64,
    /// An unfinished write at the end: no fault, cut when the log is opened.
    pub torn_tail: Option<TornTail>,
    pub faults: Vec<Fault>,
}

/// Something that is not what was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    pub file: String,
    pub offset: u64,
    pub reason: String,
    /// Which rows it concerns.
    pub covers: String,
}

fn lsn_alone<S: Serializer>(position: &Position, serializer: S) -> Result<S::Ok, S::Error> {
    position.lsn.serialize(serializer)
}

impl Log {
    /// Checks everything this open log holds; what is damaged is put on the list of
    /// [`Log::damage`]. Reads every byte: slow.
    pub fn verify(&self) -> VerifyReport {
        let snapshot = self.snapshot();
        let mut report = VerifyReport {
            log: Some(self.id()),
            position: self.end(),
            ..VerifyReport::default()
        };
        for segment in snapshot.sealed.iter() {
            if let Some(error) = report.segment(segment) {
                segment.blame(&error);
            }
        }
        // The tail is in memory and was checked when it was read or written.
        let tail = snapshot.segments().pop();
        report.segments += 1;
        if let Some(tail) = tail {
            report.blocks += tail.blocks;
            report.rows += tail.rows;
            report.bytes += tail.bytes;
        }
        let catalog = snapshot.catalog();
        for file in snapshot.files.all() {
            let name = |meta: &FileMeta| catalog.newest(meta.table).map(|table| table.name.clone());
            report.file(file, name(&file.meta).unwrap_or_default());
        }
        report
    }
}

/// Checks the data directory of a stopped node.
///
/// # Errors
/// When a directory or file cannot be read at all, or was written by a newer version.
pub fn verify_dir(disk: &Arc<dyn Disk>, data_dir: &Path) -> Result<VerifyReport, WalError> {
    let mut report = VerifyReport::default();
    let Some(id) = find_log(disk.as_ref(), data_dir)? else {
        return Ok(report);
    };
    report.log = Some(id);
    report.position = id.genesis();
    let dir = log_dir(data_dir, id);
    let manifest = report.manifest(disk.as_ref(), &dir)?;
    let firsts = segments(disk.as_ref(), &dir)?;
    for (at, first) in firsts.iter().enumerate() {
        let next = firsts.get(at + 1).copied();
        report.segment_file(disk.as_ref(), &dir, id, *first, next)?;
    }
    let damage = Arc::default();
    // Nothing is asked for twice.
    let cache = Cache::new(Share::new("cache", 0));
    let home = Home::new(disk, &dir, &cache);
    for meta in manifest.iter().flat_map(|manifest| &manifest.files) {
        let file = DataFile::open(&home, meta.clone(), &damage);
        let table = manifest
            .as_ref()
            .and_then(|manifest| manifest.catalog.newest(meta.table));
        report.file(
            &file,
            table.map_or_else(String::new, |table| table.name.clone()),
        );
    }
    Ok(report)
}

impl VerifyReport {
    fn fault(&mut self, error: &WalError, covers: String) {
        let (file, offset, reason) = match error {
            WalError::Corrupt {
                file,
                offset,
                reason,
            } => (file.clone(), *offset, reason.clone()),
            other => (String::new(), 0, other.to_string()),
        };
        self.faults.push(Fault {
            file,
            offset,
            reason,
            covers,
        });
    }

    /// A sealed segment; its first fault, if it has one.
    fn segment(&mut self, segment: &Sealed) -> Option<WalError> {
        self.segments += 1;
        self.bytes += segment.len();
        self.blocks += segment.entries.len() as u64;
        self.rows += segment
            .entries
            .iter()
            .map(|entry| u64::from(entry.rows))
            .sum::<u64>();
        let error = segment.check()?;
        self.fault(&error, range(segment.start().lsn, segment.end.lsn));
        Some(error)
    }

    fn segment_file(
        &mut self,
        disk: &dyn Disk,
        dir: &Path,
        id: LogId,
        first: Lsn,
        next: Option<Lsn>,
    ) -> Result<(), WalError> {
        let path = dir.join(segment_name(first));
        let file = path.display().to_string();
        let bytes = disk.read_file(&path)?;
        let sealed = next.is_some() || footer_of(&file, &bytes).is_some();
        if sealed {
            let damage: Arc<DamageList> = Arc::default();
            match Sealed::of(bytes, &path, id, &damage, &Catalog::default()) {
                Err(error @ WalError::NewerFormat { .. }) => return Err(error),
                Err(error) => {
                    self.segments += 1;
                    self.fault(&error, range(first, next.unwrap_or(first)));
                }
                Ok(segment) => {
                    if self.segments > 0 && segment.start() != self.position.into() {
                        let reason =
                            format!("continues {}, not {}", segment.start(), self.position);
                        let error = WalError::corrupt(&file, 0, reason);
                        self.fault(&error, range(first, segment.end.lsn));
                    }
                    self.position = segment.end.position().unwrap_or_default();
                    self.segment(&segment);
                }
            }
            return Ok(());
        }
        self.active(&file, &bytes)
    }

    fn active(&mut self, file: &str, bytes: &bytes::Bytes) -> Result<(), WalError> {
        self.segments += 1;
        self.bytes += bytes.len() as u64;
        let (header, len) = match SegmentHeader::decode(file, bytes) {
            Ok(decoded) => decoded,
            Err(error @ WalError::NewerFormat { .. }) => return Err(error),
            Err(error) => {
                self.fault(&error, format!("LSN {} and after", self.position.lsn));
                return Ok(());
            }
        };
        let mut catalog = Catalog::of_head(&header.tables, &Catalog::default())?;
        let scanned = scan_active(file, bytes, len, header.start, &mut catalog, OnDamage::Keep);
        let scanned = match scanned {
            Err(error @ WalError::Corrupt { .. }) => {
                self.fault(&error, "what follows in the newest segment".to_owned());
                return Ok(());
            }
            scanned => scanned?,
        };
        let mut at = header.start.lsn;
        for block in &scanned.blocks {
            if block.entry.first_lsn != at {
                let reason = "blocks in the middle of the log cannot be read";
                let error = WalError::corrupt(file, block.entry.offset, reason);
                self.fault(&error, range(at, block.entry.first_lsn));
            }
            at = block.entry.end_lsn();
            self.blocks += 1;
            self.rows += u64::from(block.entry.rows);
        }
        self.position = scanned.tip;
        if !scanned.sealed {
            self.torn_tail = scanned.torn;
        }
        Ok(())
    }

    fn manifest(&mut self, disk: &dyn Disk, dir: &Path) -> Result<Option<Manifest>, WalError> {
        let path = dir.join(MANIFEST);
        let Some(bytes) = disk.read_if_there(&path)? else {
            return Ok(None);
        };
        self.bytes += bytes.len() as u64;
        match Manifest::decode(&path.display().to_string(), &bytes) {
            Ok(manifest) => Ok(Some(manifest)),
            Err(error @ WalError::NewerFormat { .. }) => Err(error),
            Err(error) => {
                self.fault(&error, "all Parquet files".to_owned());
                Ok(None)
            }
        }
    }

    fn file(&mut self, file: &DataFile, table: String) {
        self.files += 1;
        self.bytes += file.meta.bytes;
        self.file_rows += file.meta.rows;
        if let Err(error) = file.check_all() {
            let info = file.meta.info(table);
            let covers = format!(
                "{} rows of table {:?} in {}, of LSN {} to {}",
                info.rows, info.table, info.window, info.first, info.end
            );
            self.fault(&error, covers);
        }
    }
}

fn range(from: Lsn, to: Lsn) -> String {
    format!("LSN {from} to {to}")
}
