//! What must be true at any moment: every block on any node is, byte for byte, one that a
//! primary has made durable at that place; every row is where it belongs, once. Remembers what
//! primaries have made durable; must never change a log.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use bytes::Bytes;
use tests::crash_disk::CrashDisk;
use tests::workload::numbers;
use wal::{
    BlockHeader, BlockKind, Disk, Epoch, FollowerConfig, Log, LogId, Lsn, Position, WalError,
    list_diverged, open_follower, segment_blocks,
};

/// Whether a promise holds; else which one does not, and how.
pub(crate) type Check = Result<(), String>;

/// Why something did not go on.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The node's disk has stopped: it crashes.
    Disk,
    /// The connection ends; what for.
    Closed(&'static str),
    /// A promise is broken.
    Broken(String),
}

/// Whether the node's disk has stopped, or its log because of that.
pub(crate) fn has_stopped(error: &WalError) -> bool {
    matches!(
        error,
        WalError::Io { .. } | WalError::Poisoned(_) | WalError::Closed
    )
}

impl From<String> for Fault {
    fn from(what: String) -> Self {
        Self::Broken(what)
    }
}

pub(crate) fn text(error: impl Display) -> String {
    error.to_string()
}

/// Where every node keeps its data, on a disk of its own.
pub(crate) fn dir() -> &'static Path {
    Path::new("data")
}

/// What primaries have made durable.
pub(crate) struct Oracle {
    genesis: Position,
    /// By the position at their end.
    known: HashMap<(Lsn, u64), Known>,
    /// Of the primary's log, all before is known.
    upto: Position,
    /// Rows of the primary's log.
    rows: BTreeSet<i64>,
}

struct Known {
    bytes: Bytes,
    row: Option<i64>,
}

/// What the primary was at a time that it may be put back to.
#[derive(Clone)]
pub(crate) struct Was {
    upto: Position,
    rows: BTreeSet<i64>,
}

fn key(position: Position) -> (Lsn, u64) {
    (position.lsn, position.chain.0)
}

/// Where a log begins that has no hole there.
fn start(log: &Log) -> Result<Position, String> {
    let oldest = log.oldest();
    oldest
        .position()
        .ok_or_else(|| format!("it begins at {oldest}, where nothing is proven"))
}

impl Oracle {
    pub(crate) fn new(log: LogId) -> Self {
        Self {
            genesis: log.genesis(),
            known: HashMap::new(),
            upto: log.genesis(),
            rows: BTreeSet::new(),
        }
    }

    pub(crate) fn upto(&self) -> Position {
        self.upto
    }

    pub(crate) fn rows(&self) -> &BTreeSet<i64> {
        &self.rows
    }

    pub(crate) fn was(&self) -> Was {
        Was {
            upto: self.upto,
            rows: self.rows.clone(),
        }
    }

    /// The primary was put back to what it was then. What it has made durable since stays known: it
    /// is on secondaries.
    pub(crate) fn put_back(&mut self, was: &Was) {
        self.upto = was.upto;
        self.rows = was.rows.clone();
    }

    /// Learns what the primary has made durable since; `row` is the only one that may be in it.
    /// Returns it when it is not.
    pub(crate) fn learn(&mut self, log: &Log, mut row: Option<i64>) -> Result<Option<i64>, String> {
        for (header, bytes) in blocks_from(log, self.upto)? {
            let mut known = Known { bytes, row: None };
            if header.kind == BlockKind::Data {
                let at = header.first_lsn;
                let unknown = || format!("the primary has a row at LSN {at} that nobody wrote");
                let number = row.take().ok_or_else(unknown)?;
                known.row = Some(number);
                self.rows.insert(number);
            }
            self.upto = header.end();
            self.known.insert(key(self.upto), known);
        }
        Ok(row)
    }

    /// The primary still has all that it made durable.
    pub(crate) fn check_kept(&self, log: &Log) -> Check {
        if log.chain_at(self.upto.lsn) == Some(self.upto.chain) {
            return Ok(());
        }
        let durable = *log.durable().borrow();
        Err(format!(
            "the primary acknowledged up to {}, and now ends at {durable}",
            self.upto
        ))
    }

    /// Of what a node has put aside as another history, the primary has nothing.
    pub(crate) fn check_parted(&self, who: &str, parted: &BTreeSet<i64>) -> Check {
        if parted.is_disjoint(&self.rows) {
            return Ok(());
        }
        Err(format!(
            "{who} puts the primary's own rows aside: {parted:?}"
        ))
    }

    /// A log has the primary's rows, all of them and once.
    pub(crate) fn check_rows(&self, who: &str, log: &Log) -> Check {
        let found = numbers(log).map_err(text)?;
        if found.iter().eq(self.rows.iter()) {
            return Ok(());
        }
        let unique: BTreeSet<i64> = found.iter().copied().collect();
        let missing: Vec<_> = self.rows.difference(&unique).collect();
        let more: Vec<_> = unique.difference(&self.rows).collect();
        let twice = found.len() - unique.len();
        Err(format!(
            "rows of {who}: missing {missing:?}, not the primary's {more:?}, {twice} twice"
        ))
    }

    /// Every block behind `checked` is one that a primary has made durable there. The rows that are
    /// found are added to `seen`.
    pub(crate) fn check_blocks(
        &self,
        who: &str,
        log: &Log,
        checked: &mut Option<Position>,
        seen: &mut BTreeSet<i64>,
    ) -> Check {
        let durable = *log.durable().borrow();
        if *checked == Some(durable) {
            return Ok(());
        }
        let oldest = start(log)?;
        // A log knows of places that it no longer holds.
        let held = oldest.lsn..=durable.lsn;
        let holds =
            |at: &Position| held.contains(&at.lsn) && log.chain_at(at.lsn) == Some(at.chain);
        let from = checked.filter(holds).unwrap_or(oldest);
        if from != self.genesis && !self.known.contains_key(&key(from)) {
            return Err(format!("{who} begins at {from}, where no primary ever was"));
        }
        for (header, bytes) in blocks_from(log, from)? {
            let end = header.end();
            let Some(known) = self.known.get(&key(end)) else {
                return Err(format!("{who} has a block up to {end} that no primary had"));
            };
            if known.bytes != bytes {
                return Err(format!(
                    "{who} has other bytes than the primary before {end}"
                ));
            }
            seen.extend(known.row);
        }
        *checked = Some(durable);
        Ok(())
    }
}

/// The blocks from a position to the durable end.
fn blocks_from(log: &Log, from: Position) -> Result<Vec<(BlockHeader, Bytes)>, String> {
    let cursor = log.cursor(from);
    let mut cursor = cursor.map_err(|error| format!("not to be checked: {error}"))?;
    let mut found = Vec::new();
    while let Some(chunk) = cursor.next(CHUNK).map_err(text)? {
        let mut bytes = Bytes::from(chunk.parts.concat());
        while !bytes.is_empty() {
            let header = BlockHeader::decode(&bytes).map_err(text)?;
            let length = header.total_len().min(bytes.len());
            found.push((header, bytes.split_to(length)));
        }
    }
    Ok(found)
}

/// The bytes of both logs are the same over all that both hold, and end at the same place.
pub(crate) fn check_equal(who: &str, log: &Log, primary: &Log) -> Check {
    let (here, there) = (*log.durable().borrow(), *primary.durable().borrow());
    if here != there {
        return Err(format!("{who} ends at {here}, the primary at {there}"));
    }
    let (own, other) = (start(log)?, start(primary)?);
    let from = if own.lsn > other.lsn { own } else { other };
    let bytes = |log: &Log| -> Result<Vec<u8>, String> {
        let blocks = blocks_from(log, from)?;
        Ok(blocks.into_iter().flat_map(|(_, bytes)| bytes).collect())
    };
    if bytes(log)? != bytes(primary)? {
        return Err(format!(
            "{who} has other bytes than the primary from {from} on"
        ));
    }
    Ok(())
}

/// Both logs have come equally far with their Parquet files, and these are the same.
pub(crate) fn check_files(who: &str, log: &Log, primary: &Log) -> Check {
    let (here, there) = (log.files_mark(), primary.files_mark());
    if here != there {
        return Err(format!(
            "files of {who} stand at {here:?}, the primary's at {there:?}"
        ));
    }
    let (ours, theirs) = (log.snapshot().file_infos(), primary.snapshot().file_infos());
    if ours != theirs {
        return Err(format!("{who} has other files than the primary"));
    }
    for file in &theirs {
        if log.export(&file.name) != primary.export(&file.name) {
            return Err(format!(
                "{} of {who} has other bytes than the primary's",
                file.name
            ));
        }
    }
    Ok(())
}

/// Everything this log has can be read.
pub(crate) fn check_whole(who: &str, log: &Log) -> Check {
    let faults = log.verify().faults;
    if faults.is_empty() {
        return Ok(());
    }
    Err(format!("{who} is damaged: {faults:?}"))
}

/// Rows of one directory of what was put aside.
pub(crate) async fn rows_aside(disk: &CrashDisk, path: &Path) -> Result<BTreeSet<i64>, String> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if let Some(kept) = name.strip_prefix("log-") {
        let id = kept
            .get(..32)
            .ok_or_else(|| format!("{name} names no log"))?;
        return rows_of_log(disk, path, id.parse().map_err(text)?).await;
    }
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let mut rows = BTreeSet::new();
    for name in disk.list(path).map_err(text)? {
        for (schema, block) in segment_blocks(&shared, &path.join(name)).map_err(text)? {
            let n = schema.column("n").ok_or("a table without numbers")?;
            let batch = block.read(&schema, &[n]).map_err(text)?;
            let numbers = batch.column(0).as_primitive::<Int64Type>().values();
            rows.extend(numbers.iter().copied());
        }
    }
    Ok(rows)
}

/// Rows of a log that was kept whole: it can be opened like any other under its old name.
async fn rows_of_log(disk: &CrashDisk, path: &Path, id: LogId) -> Result<BTreeSet<i64>, String> {
    let (disk, dir) = (disk.copy(), Path::new("kept"));
    disk.rename(path, &dir.join(format!("log-{id}")))
        .map_err(text)?;
    let config = FollowerConfig::default();
    let opened = open_follower(Arc::new(disk), dir, id, Epoch(1), &config);
    let (follower, _) = opened.map_err(text)?;
    let rows = numbers(follower.log()).map_err(text)?;
    follower.stop().await.map_err(text)?;
    Ok(rows.into_iter().collect())
}

/// Rows of everything that was put aside on this disk.
pub(crate) async fn all_rows_aside(disk: &CrashDisk) -> Result<BTreeSet<i64>, String> {
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let mut rows = BTreeSet::new();
    for found in list_diverged(&shared, dir()).map_err(text)? {
        rows.extend(rows_aside(disk, &found.path).await?);
    }
    Ok(rows)
}

/// Bytes read from a log at a time.
const CHUNK: usize = 1 << 20;
