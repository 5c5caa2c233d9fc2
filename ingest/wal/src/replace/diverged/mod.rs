//! What a secondary has that its upstream does not: put aside under `diverged/` as segments that
//! can be read alone, durable before anything is cut off the log. It must never delete what was put
//! aside.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::damage::DamageList;
use crate::disk::Disk;
use crate::error::{Operation, WalError};
use crate::format::block::{BlockHeader, BlockKind};
use crate::format::catalog::Catalog;
use crate::format::control::Control;
use crate::format::schema::TableSchema;
use crate::format::segment::{BlockEntry, SegmentFooter};
use crate::ids::{Boundary, LogId, Lsn, Position};
use crate::open::closed::{SegmentContent, SegmentFile, end_of, rows_of, segment_files};
use crate::parquet::manifest::{MANIFEST, Manifest};
use crate::paths::{DIVERGED, DRAFT, FETCHED_NEW, LOG_PREFIX, log_dir, segment_name};
use crate::read::block_ref::BlockRef;
use crate::read::sealed::Sealed;
use crate::read::{fingerprints, segment_starts};

/// A part of another history that was put aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diverged {
    /// Its directory: segments, and of a whole log the manifest and Parquet files.
    pub path: PathBuf,
    /// Where it begins and ends; without chain values where its files do not say.
    pub from: Boundary,
    pub to: Boundary,
    pub rows: u64,
    pub bytes: u64,
}

/// With the log closed: writes what lies behind `at` to files of its own under `diverged/`, each a
/// sealed segment that can be read alone, makes them durable, then cuts the log at `at`. Parquet
/// files stay. A crash leaves the log whole, or shorter with all that is gone put aside.
///
/// # Errors
/// `NotHeld` when `at` is no block boundary of the log, or lies below the compacted position: then
/// nothing has changed. `Io`, `Corrupt`.
pub fn save_diverged(
    disk: &Arc<dyn Disk>,
    data_dir: &Path,
    log: LogId,
    at: Position,
) -> Result<Diverged, WalError> {
    let disk = disk.as_ref();
    let dir = log_dir(data_dir, log);
    let compacted = compacted(disk, &dir, log)?;
    let segment_files = segment_files(disk, &dir)?;
    let Some(tip) = tip(&segment_files) else {
        return Err(WalError::NotHeld(at));
    };
    let diverged = data_dir.join(DIVERGED);
    if at == tip {
        return Ok(Diverged {
            path: diverged,
            from: at.into(),
            to: at.into(),
            rows: 0,
            bytes: 0,
        });
    }
    if at.lsn < compacted.lsn || !is_boundary(disk, &segment_files, at)? {
        return Err(WalError::NotHeld(at));
    }
    let diverged = match known_shelf(disk, &diverged, log, at, tip)? {
        Some(diverged) => diverged,
        None => put_aside(disk, &diverged, log, at, &segment_files, tip)?,
    };
    // What was retired lies below; but nothing may ever vouch for what is cut off.
    segment_starts::truncate(disk, &dir, log, at)?;
    fingerprints::remove(disk, &dir)?;
    truncate(disk, &dir, &segment_files, at)?;
    Ok(diverged)
}

/// Copies segments that cannot be read to their end, as they are, under the name of what follows
/// `range.0` in them; durable once this returns.
pub(crate) fn copy_aside(
    disk: &dyn Disk,
    data_dir: &Path,
    log: LogId,
    range: (Position, Lsn),
    files: &[(String, Bytes)],
) -> Result<PathBuf, WalError> {
    let diverged = data_dir.join(DIVERGED);
    let draft = diverged.join(DRAFT);
    disk.remove_tree(&draft)?;
    for dir in [&diverged, &draft] {
        disk.make_dir(dir)?;
    }
    for (name, bytes) in files {
        write_new(disk, &draft.join(name), std::slice::from_ref(bytes))?;
    }
    disk.sync_names(&draft)?;
    let (from, to) = range;
    let to = Position {
        lsn: to,
        chain: from.chain,
    };
    let path = free_name(disk, &diverged, &tail_name(log, from, to))?;
    disk.rename_to(&draft, &path)?;
    disk.sync_names(&diverged)?;
    Ok(path)
}

/// The position up to which rows are in Parquet files.
fn compacted(disk: &dyn Disk, dir: &Path, log: LogId) -> Result<Position, WalError> {
    let path = dir.join(MANIFEST);
    match disk.read_if_there(&path)? {
        None => Ok(log.genesis()),
        Some(bytes) => {
            let manifest = Manifest::decode(&path.display().to_string(), &bytes)?;
            Ok(manifest.compacted)
        }
    }
}

/// Where the log ends, as far as can be read.
fn tip(segment_files: &[SegmentFile]) -> Option<Position> {
    let content = segment_files
        .iter()
        .rev()
        .find_map(|piece| piece.content.as_ref());
    content.map(|content| content.footer.end)
}

/// Whether the log can be cut here: a block, or a segment, starts or ends there.
fn is_boundary(
    disk: &dyn Disk,
    segment_files: &[SegmentFile],
    at: Position,
) -> Result<bool, WalError> {
    let edge = |content: &SegmentContent| content.header.start == at || content.footer.end == at;
    for piece in segment_files {
        let is_edge = piece.content.as_ref().is_some_and(edge);
        if is_edge || piece.place(disk, at)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Copies what lies behind `at`; durable once this returns.
fn put_aside(
    disk: &dyn Disk,
    diverged: &Path,
    log: LogId,
    at: Position,
    segment_files: &[SegmentFile],
    tip: Position,
) -> Result<Diverged, WalError> {
    let draft = diverged.join(DRAFT);
    disk.remove_tree(&draft)?;
    for dir in [diverged, &draft] {
        disk.make_dir(dir)?;
    }
    let (mut rows, mut bytes) = (0, 0);
    for piece in segment_files {
        if !piece.holds_anything(disk)? {
            continue;
        }
        let Some(copy) = copy_behind(disk, piece, at)? else {
            continue;
        };
        rows += copy.rows;
        bytes += copy.parts.iter().map(|part| part.len() as u64).sum::<u64>();
        write_new(disk, &draft.join(segment_name(copy.first)), &copy.parts)?;
    }
    disk.sync_names(&draft)?;
    let path = free_name(disk, diverged, &tail_name(log, at, tip))?;
    disk.rename_to(&draft, &path)?;
    disk.sync_names(diverged)?;
    Ok(Diverged {
        path,
        from: at.into(),
        to: tip.into(),
        rows,
        bytes,
    })
}

/// What is written of one segment.
struct Copy {
    first: Lsn,
    parts: Vec<Bytes>,
    rows: u64,
}

/// A segment of what a segment holds behind `at`; none when that is nothing. One that cannot be
/// read is copied as it is.
fn copy_behind(
    disk: &dyn Disk,
    piece: &SegmentFile,
    at: Position,
) -> Result<Option<Copy>, WalError> {
    let Some(content) = &piece.content else {
        if piece.first < at.lsn {
            return Ok(None);
        }
        return Ok(Some(Copy {
            first: piece.first,
            parts: vec![disk.read_file(&piece.path)?],
            rows: 0,
        }));
    };
    let footer = &content.footer;
    if footer.end.lsn <= at.lsn {
        return Ok(None);
    }
    if piece.first >= at.lsn {
        let parts = if content.sealed {
            vec![piece.part(disk, 0, piece.len)?]
        } else {
            let blocks = piece.part(disk, 0, content.blocks_end)?;
            vec![blocks, footer.encode(content.blocks_end).into()]
        };
        return Ok(Some(Copy {
            first: piece.first,
            parts,
            rows: content.rows(),
        }));
    }
    let place = piece.place(disk, at)?;
    let (offset, index) = place.ok_or(WalError::NotHeld(at))?;
    let header = piece.header_after(disk, index, at)?.encode();
    let shift = |entry: &BlockEntry| BlockEntry {
        offset: entry.offset - offset + header.len() as u64,
        ..*entry
    };
    let entries: Vec<BlockEntry> = footer.entries.iter().skip(index).map(shift).collect();
    let blocks = piece.part(disk, offset, content.blocks_end)?;
    let rows = rows_of(&entries);
    let footer = SegmentFooter {
        entries,
        ..footer.clone()
    };
    let footer = footer.encode((header.len() + blocks.len()) as u64);
    Ok(Some(Copy {
        first: at.lsn,
        parts: vec![header.into(), blocks, footer.into()],
        rows,
    }))
}

fn write_new(disk: &dyn Disk, path: &Path, parts: &[Bytes]) -> Result<(), WalError> {
    let mut file = disk.create_file(path)?;
    let mut offset = 0;
    for part in parts {
        file.write_at(offset, part)
            .map_err(WalError::io(Operation::Write, path))?;
        offset += part.len() as u64;
    }
    file.sync().map_err(WalError::io(Operation::Fsync, path))
}

/// Cuts the log at `at`: whole segments go newest first, each removal made to last before the next,
/// so that a crash leaves a log without a gap. Files are replaced, never cut: a reader of before
/// may have them open.
fn truncate(
    disk: &dyn Disk,
    dir: &Path,
    segment_files: &[SegmentFile],
    at: Position,
) -> Result<(), WalError> {
    for piece in segment_files
        .iter()
        .rev()
        .filter(|piece| piece.first >= at.lsn)
    {
        disk.remove_file(&piece.path)?;
        disk.sync_names(dir)?;
    }
    for piece in segment_files.iter().filter(|piece| piece.first < at.lsn) {
        let Some((offset, _)) = piece.place(disk, at)? else {
            continue;
        };
        let left = piece.part(disk, 0, offset)?;
        disk.replace(&dir.join(FETCHED_NEW), &piece.path, &left)?;
    }
    Ok(())
}

/// An earlier attempt has put all of this aside, and was interrupted while it cut the log.
fn known_shelf(
    disk: &dyn Disk,
    diverged: &Path,
    log: LogId,
    at: Position,
    tip: Position,
) -> Result<Option<Diverged>, WalError> {
    let prefix = format!("{TAIL_PREFIX}{log}-{}-", at.lsn);
    for name in disk.list_names(diverged)? {
        let path = diverged.join(&name);
        if !name.starts_with(&prefix) {
            continue;
        }
        let copies = segment_files(disk, &path)?;
        let starts = copies.first().and_then(|copy| copy.content.as_ref());
        let starts = starts.is_some_and(|content| content.header.start == at);
        if starts && is_boundary(disk, &copies, tip)? {
            return Ok(Some(summary(path, &copies, at.lsn)));
        }
    }
    Ok(None)
}

/// What was put aside is never written over, not even by what should be the same.
fn free_name(disk: &dyn Disk, diverged: &Path, name: &str) -> Result<PathBuf, WalError> {
    let taken = disk.list_names(diverged)?;
    let numbered = |number: usize| match number {
        1 => name.to_owned(),
        _ => format!("{name}-{number}"),
    };
    let mut names = (1..=MOST_OF_ONE_NAME).map(numbered);
    let free = names.find(|name| !taken.contains(name));
    let free = free.ok_or_else(|| WalError::WrongLog {
        path: diverged.to_owned(),
        reason: format!("holds {MOST_OF_ONE_NAME} of the name {name} already"),
    })?;
    Ok(diverged.join(free))
}

/// A free name for a log that is kept whole.
pub(crate) fn keep_as(disk: &dyn Disk, data_dir: &Path, id: LogId) -> Result<PathBuf, WalError> {
    let diverged = data_dir.join(DIVERGED);
    disk.make_dir(&diverged)?;
    let end = end_of(disk, &log_dir(data_dir, id))?.map_or(Lsn(0), |end| end.lsn);
    free_name(disk, &diverged, &format!("{LOG_PREFIX}{id}-{end}"))
}

fn tail_name(log: LogId, from: Position, to: Position) -> String {
    format!("{TAIL_PREFIX}{log}-{}-{}-{}", from.lsn, to.lsn, to.chain)
}

fn summary(path: PathBuf, segment_files: &[SegmentFile], first: Lsn) -> Diverged {
    let contents = || {
        segment_files
            .iter()
            .filter_map(|piece| piece.content.as_ref())
    };
    let from = contents()
        .next()
        .map_or(Boundary::unproven(first), |content| {
            content.header.start.into()
        });
    let rows = contents().map(SegmentContent::rows).sum();
    Diverged {
        path,
        from,
        to: tip(segment_files).map_or(from, Boundary::from),
        rows,
        bytes: segment_files.iter().map(|piece| piece.len).sum(),
    }
}

/// All that was ever put aside here. Reads names, headers and footers.
///
/// # Errors
/// `Io` when the directory cannot be read, `NewerFormat`.
pub fn list_diverged(disk: &Arc<dyn Disk>, data_dir: &Path) -> Result<Vec<Diverged>, WalError> {
    let disk = disk.as_ref();
    let diverged = data_dir.join(DIVERGED);
    let mut names = disk.list_names(&diverged)?;
    names.sort();
    let mut found = Vec::new();
    for name in names.iter().take(MOST_LISTED) {
        let path = diverged.join(name);
        if name.starts_with(TAIL_PREFIX) {
            let copies = segment_files(disk, &path)?;
            let first = copies.first().map_or(Lsn(0), |copy| copy.first);
            found.push(summary(path, &copies, first));
        } else if name.starts_with(LOG_PREFIX) {
            found.push(whole_log(disk, path)?);
        }
    }
    Ok(found)
}

/// A log that was kept whole: its Parquet files, and the segments behind them.
fn whole_log(disk: &dyn Disk, path: PathBuf) -> Result<Diverged, WalError> {
    let all = segment_files(disk, &path)?;
    let file = path.join(MANIFEST);
    let manifest = match disk.read(&file) {
        Ok(bytes) => Manifest::decode(&file.display().to_string(), &bytes).ok(),
        Err(_) => None,
    };
    let mut found = summary(path, &all, Lsn(0));
    let Some(manifest) = manifest else {
        return Ok(found);
    };
    let behind = all
        .iter()
        .filter(|piece| piece.first >= manifest.compacted.lsn);
    let contents = behind.filter_map(|piece| piece.content.as_ref());
    let files = || manifest.files.iter();
    found.rows = contents.map(SegmentContent::rows).sum::<u64>()
        + files().map(|file| file.rows).sum::<u64>();
    found.bytes += files().map(|file| file.bytes).sum::<u64>();
    found.from = manifest.log.genesis().into();
    if found.to.lsn < manifest.compacted.lsn {
        found.to = manifest.compacted.into();
    }
    Ok(found)
}

/// The data blocks of one segment file, sealed or not, each with the schema it was written under.
/// Needs nothing but the file.
///
/// # Errors
/// `Corrupt` when the file is no readable segment, `NewerFormat`, `Io`.
pub fn segment_blocks(
    disk: &Arc<dyn Disk>,
    file: &Path,
) -> Result<Vec<(Arc<TableSchema>, BlockRef)>, WalError> {
    let name = file.display().to_string();
    let mut bytes = disk.read_file(file)?;
    let content = SegmentContent::of(&name, &bytes)?;
    if !content.sealed {
        let end = usize::try_from(content.blocks_end).unwrap_or(usize::MAX);
        let mut whole = bytes.get(..end).unwrap_or_default().to_vec();
        whole.extend(content.footer.encode(content.blocks_end));
        bytes = whole.into();
    }
    let damage: Arc<DamageList> = Arc::default();
    let segment = Arc::new(Sealed::of(
        bytes,
        file,
        content.header.log,
        &damage,
        &Catalog::default(),
    )?);
    let header = &content.header;
    let known = &segment.catalog;
    let mut catalog = Catalog::of_head(&header.tables, known)?;
    let mut found = Vec::new();
    for entry in &segment.entries {
        let corrupt = |reason: String| WalError::corrupt(&name, entry.offset, reason);
        if entry.kind.controls() {
            let block = segment.block_once(entry)?;
            let control = BlockHeader::decode_block(&block)
                .and_then(|(header, body)| Control::of(&header, body))
                .map_err(|error| corrupt(error.to_string()))?;
            control.map_or(Ok(()), |control| catalog.apply(&control))?;
        }
        if entry.kind == BlockKind::Data {
            let written = catalog.written(entry.table, entry.schema_version);
            let (Some(schema), Some(written)) = (catalog.newest(entry.table), written) else {
                let reason = "rows of a schema that is not in the file";
                return Err(corrupt(reason.to_owned()));
            };
            let block = BlockRef::sealed(*entry, written, &segment, None);
            found.push((Arc::clone(schema), block));
        }
    }
    Ok(found)
}

const TAIL_PREFIX: &str = "tail-";
/// As many directories are looked at, and may differ by a number alone.
const MOST_LISTED: usize = 1000;
const MOST_OF_ONE_NAME: usize = 1000;

#[cfg(test)]
mod tests;
