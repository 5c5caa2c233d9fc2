//! One step of compaction: a sealed segment into files, or files into larger ones, and then the
//! manifest that says so. Files are durable before the manifest names them, and are deleted only
//! after one that does not. It must never name a file before it is durable.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::compact::distribute::{Distributor, Target};
use crate::compact::merge::{Key, Merger, Run, internal};
use crate::compact::plan::{self, Merge};
use crate::compact::rows::{
    BATCH_ROWS, batch_rows, blocks_of, columns_of, narrow, read_all, read_run, runs_of, times,
    with_columns,
};
use crate::compact::split::{Days, SPLIT_ROWS, Split, count_days};
use crate::error::WalError;
use crate::format::block::BlockKind;
use crate::format::catalog::Catalog;
use crate::format::options::Dedup;
use crate::format::schema::TableSchema;
use crate::format::segment::BlockEntry;
use crate::ids::TableId;
use crate::parquet::manifest::{MANIFEST, MANIFEST_NEW};
use crate::parquet::{
    DataFile, FILES_DIR, FileMeta, FileRef, FileSet, Layout, Throttle, Window, WriteError,
    sort_columns,
};
use crate::read::log::LogState;
use crate::read::sealed::Sealed;
use crate::room::{FILE_IN_MANIFEST, FILE_OVERHEAD};

/// What is to be done next.
#[derive(Debug)]
pub(crate) enum Job {
    Segment(Arc<Sealed>),
    Merge(TableId, Merge),
}

/// The next step; `None` when all is done, or a damaged segment must be repaired first.
pub(crate) fn next(state: &LogState) -> Option<Job> {
    if state.maintenance.is_in_doubt() {
        return None;
    }
    let snapshot = state.snapshot();
    let files = &snapshot.files;
    let mut tables: Vec<TableId> = files.all().map(|file| file.meta.table).collect();
    tables.dedup();
    for table in tables {
        let metas: Vec<&FileMeta> = files.of(table).map(|file| &file.meta).collect();
        let options = files.catalog.options(table);
        if let Some(merge) = plan::due(&metas, options, files.clock) {
            return Some(Job::Merge(table, merge));
        }
    }
    let segment = snapshot.pending().next()?;
    segment
        .fault
        .is_none()
        .then(|| Job::Segment(Arc::clone(segment)))
}

/// What a step did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StepTotals {
    pub(crate) rows: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
}

/// Does steps.
pub(crate) struct Stepper<'a> {
    pub(crate) state: &'a LogState,
    pub(crate) throttle: &'a Throttle,
    /// Gives the step up; what it wrote is made again.
    pub(crate) stop: &'a AtomicBool,
}

impl Stepper<'_> {
    pub(crate) fn step(&self, work: &Job) -> Result<StepTotals, WalError> {
        let (path, bytes) = (self.state.dir.join(FILES_DIR), self.takes(work));
        let is_merge = matches!(work, Job::Merge(..));
        self.state.room.merges(if is_merge { bytes } else { 0 });
        // Before anything is written: what cannot be finished would only be in the way.
        self.state.make_room(&path, bytes)?;
        let result = match work {
            Job::Segment(segment) => self.segment(segment),
            Job::Merge(table, merge) => self.merge(*table, merge),
        };
        if result.is_err() && !self.state.maintenance.is_in_doubt() {
            self.clean();
        }
        result
    }

    /// Bytes that a step writes before it gives any back, about.
    fn takes(&self, work: &Job) -> u64 {
        let snapshot = self.state.snapshot();
        let (bytes, tables) = match work {
            Job::Segment(segment) => {
                let data = segment.entries.iter();
                let data = data.filter(|entry| entry.kind == BlockKind::Data);
                let tables: HashSet<TableId> = data.clone().map(|entry| entry.table).collect();
                (data.map(|entry| u64::from(entry.len)).sum(), tables.len())
            }
            Job::Merge(table, merge) => {
                let files = snapshot.files.of(*table);
                let inputs = files.filter(|file| merge.inputs.contains(&file.meta.ordinal));
                (inputs.map(|file| file.meta.bytes).sum::<u64>(), 1)
            }
        };
        let manifest = snapshot.files.all().count() as u64 * FILE_IN_MANIFEST;
        bytes.saturating_add(manifest + tables as u64 * FILE_OVERHEAD)
    }

    fn go_on(&self) -> Result<(), WalError> {
        if self.stop.load(Ordering::Relaxed) || self.state.maintenance.is_dismissed() {
            return Err(WalError::Closed);
        }
        Ok(())
    }

    /// Waits until so much more may be read.
    fn charge(&self, bytes: u64) -> Result<(), WalError> {
        let mut left = usize::try_from(bytes).unwrap_or(usize::MAX);
        while left > 0 {
            self.go_on()?;
            let part = left.min(CHARGE);
            self.throttle.spend(part).map_err(|_| WalError::Closed)?;
            left -= part;
        }
        self.go_on()
    }

    fn segment(&self, segment: &Arc<Sealed>) -> Result<StepTotals, WalError> {
        let Some(end) = segment.end.position() else {
            return Err(WalError::corrupt(&segment.path, 0, "its end is not known"));
        };
        let catalog = &segment.catalog;
        let before = self.state.snapshot();
        let mut set = FileSet::clone(&before.files);
        set.compacted = end;
        set.clock = set.clock.max(segment.committed_at);
        set.catalog = Arc::clone(catalog);
        let mut tables: BTreeMap<TableId, Vec<BlockEntry>> = BTreeMap::new();
        for entry in segment
            .entries
            .iter()
            .filter(|entry| entry.kind == BlockKind::Data)
        {
            tables.entry(entry.table).or_default().push(*entry);
        }
        let mut done = StepTotals::default();
        let mut new = Vec::new();
        for (table, entries) in tables {
            let Some(schema) = catalog.newest(table) else {
                if catalog.has_dropped(table) {
                    continue;
                }
                return Err(WalError::corrupt(
                    &segment.path,
                    0,
                    "rows of a table without schema",
                ));
            };
            for run in runs_of(&entries) {
                self.charge(run.iter().map(|entry| u64::from(entry.len)).sum())?;
                let metas = self.fresh(segment, catalog, schema, run, set.next)?;
                set.next += metas.len() as u64;
                done.bytes_in += run.iter().map(|entry| u64::from(entry.len)).sum::<u64>();
                new.extend(metas);
            }
        }
        let expired = catalog.tables().flat_map(|schema| {
            let metas: Vec<&FileMeta> = set.of(schema.id).map(|file| &file.meta).collect();
            plan::expired(&metas, catalog.purged(schema.id))
        });
        // Its last readers keep them.
        let dropped = set.all().map(|file| &file.meta);
        let dropped = dropped.filter(|meta| catalog.newest(meta.table).is_none());
        let out: Vec<u64> = expired.chain(dropped.map(|meta| meta.ordinal)).collect();
        self.swap(&set, &out, new, done)
    }

    /// Sorts one run of a segment's rows into files.
    fn fresh(
        &self,
        segment: &Arc<Sealed>,
        catalog: &Catalog,
        schema: &TableSchema,
        entries: &[BlockEntry],
        next: u64,
    ) -> Result<Vec<FileMeta>, WalError> {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
            return Ok(Vec::new());
        };
        let blocks = blocks_of(segment, catalog, entries)?;
        let present = columns_of(schema, &blocks)?;
        let narrow = with_columns(schema, &present);
        let batch = read_run(schema, &present, &narrow, &blocks)?;
        let schema = &narrow;
        if batch.num_rows() == 0 {
            return Ok(Vec::new());
        }
        let mut days = Days::new();
        count_days(&mut days, times(&batch));
        let split = Split::of(&days, Window::ALL, 0);
        let layout = Arc::new(Layout::of_rows(schema, &batch));
        let target = Target {
            disk: self.state.disk.as_ref(),
            dir: self.state.dir.clone(),
            schema,
            first: first.first_lsn,
            end: last.end_lsn(),
            made_at: segment.committed_at,
            throttle: self.throttle,
            room: &self.state.room,
        };
        let mut files = Distributor::new(&target, &split, layout, next);
        let written = match catalog.options(schema.id).dedup {
            Dedup::None => files.write(&batch),
            Dedup::Key => {
                let run: Run = Box::new(std::iter::once(Ok(batch)));
                self.write_merged(schema, (true, 0), vec![run], &mut files)
            }
        };
        written.map_err(|error| misfit(schema, error))?;
        files.finish()
    }

    /// `price` is what a row has cost to read and is not waited for yet, in bytes.
    fn write_merged(
        &self,
        schema: &TableSchema,
        (unique, price): (bool, u64),
        runs: Vec<Run>,
        files: &mut Distributor<'_>,
    ) -> Result<(), WriteError> {
        let key = Key {
            columns: sort_columns(schema),
            unique,
        };
        let merger = Merger::new(schema.arrow(), &key, runs, BATCH_ROWS).map_err(internal)?;
        for batch in merger {
            self.go_on()?;
            let batch = batch?;
            self.charge(price.saturating_mul(batch.num_rows() as u64))?;
            files.write(&batch)?;
        }
        Ok(())
    }

    fn merge(&self, table: TableId, merge: &Merge) -> Result<StepTotals, WalError> {
        let snapshot = self.state.snapshot();
        let set = &snapshot.files;
        let cut = set.catalog.purged(table);
        let chosen = |file: &&Arc<DataFile>| merge.inputs.contains(&file.meta.ordinal);
        let mut inputs: Vec<FileRef> = set
            .of(table)
            .filter(chosen)
            .map(|file| FileRef::straight(Arc::clone(file), cut))
            .collect();
        inputs.sort_by_key(|file| (file.meta().first, file.meta().ordinal));
        let Some(schema) = set.catalog.newest(table) else {
            return Err(WalError::InvalidBlock(
                "files of a table without schema".to_owned(),
            ));
        };
        let (schema, layout) = narrow(schema, &inputs)?;
        let split = self.split(&schema, &inputs, merge)?;
        let metas = inputs.iter().map(FileRef::meta);
        let target = Target {
            disk: self.state.disk.as_ref(),
            dir: self.state.dir.clone(),
            schema: &schema,
            first: metas
                .clone()
                .map(|meta| meta.first)
                .min()
                .unwrap_or_default(),
            end: metas.clone().map(|meta| meta.end).max().unwrap_or_default(),
            made_at: metas.clone().map(|meta| meta.made_at).max().unwrap_or(0),
            throttle: self.throttle,
            room: &self.state.room,
        };
        let done = StepTotals {
            bytes_in: metas.map(|meta| meta.bytes).sum(),
            ..StepTotals::default()
        };
        let unique = set.catalog.options(table).dedup == Dedup::Key;
        let new = self.rewrite(&inputs, &target, &split, layout, (set.next, unique))?;
        let mut after = FileSet::clone(set);
        after.next += new.len() as u64;
        self.swap(&after, &merge.inputs, new, done)
    }

    /// Where the merged rows go; reads their times where that decides.
    fn split(
        &self,
        schema: &TableSchema,
        inputs: &[FileRef],
        merge: &Merge,
    ) -> Result<Split, WalError> {
        if merge.join || merge.hull.level == 0 {
            return Ok(Split::whole(merge.hull));
        }
        let mut days = Days::new();
        for file in inputs {
            for batch in read_all(file, schema, &[0], BATCH_ROWS)? {
                self.go_on()?;
                count_days(&mut days, times(&batch?));
            }
        }
        Ok(Split::of(&days, merge.hull, SPLIT_ROWS))
    }

    /// Writes the merged files; again, with a wider form of a column, when its values do not fit.
    fn rewrite(
        &self,
        inputs: &[FileRef],
        target: &Target<'_>,
        split: &Split,
        mut layout: Layout,
        (next, unique): (u64, bool),
    ) -> Result<Vec<FileMeta>, WalError> {
        let metas = inputs.iter().map(FileRef::meta);
        let stored: u64 = metas.clone().map(|meta| meta.rows).sum();
        let price = metas
            .map(|meta| meta.bytes)
            .sum::<u64>()
            .div_ceil(stored.max(1));

        let columns: Vec<usize> = (0..target.schema.columns.len()).collect();
        let rows = batch_rows(inputs, columns.len())?;
        loop {
            let mut runs: Vec<Run> = Vec::new();
            for file in inputs {
                runs.push(read_all(file, target.schema, &columns, rows)?);
            }
            let mut files = Distributor::new(target, split, Arc::new(layout.clone()), next);
            match self.write_merged(target.schema, (unique, price), runs, &mut files) {
                Ok(()) => return files.finish(),
                Err(WriteError::Misfit(column)) => {
                    let wider = layout.widened(column);
                    let misfits = || misfit(target.schema, WriteError::Misfit(column));
                    layout = wider.ok_or_else(misfits)?;
                }
                Err(error) => return Err(misfit(target.schema, error)),
            }
        }
    }

    /// Makes the new files and the new state durable, in force, and known; then deletes what is no
    /// longer named.
    fn swap(
        &self,
        after: &FileSet,
        out: &[u64],
        new: Vec<FileMeta>,
        done: StepTotals,
    ) -> Result<StepTotals, WalError> {
        let state = self.state;
        let files_dir = state.dir.join(FILES_DIR);
        if !new.is_empty() {
            state.disk.sync_names(&files_dir)?;
        }
        let done = StepTotals {
            rows: new.iter().map(|meta| meta.rows).sum(),
            bytes_out: new.iter().map(|meta| meta.bytes).sum(),
            ..done
        };
        let exchange = state.maintenance.exchange();
        // Files as they are now: one may have been repaired since the step began.
        let now = state.snapshot();
        let mut set = FileSet::clone(&now.files);
        set.compacted = after.compacted;
        set.clock = after.clock;
        set.next = after.next;
        set.catalog = Arc::clone(&after.catalog);
        let gone: Vec<Arc<DataFile>> = set
            .all()
            .filter(|file| out.contains(&file.meta.ordinal))
            .map(Arc::clone)
            .collect();
        let open = |meta| Arc::new(DataFile::open(&state.home, meta, &state.damage));
        set.exchange(out, new.into_iter().map(open).collect());
        if let Err(error) = write_manifest(state, &set) {
            state.maintenance.manifest_failed(&error);
            return Err(error);
        }
        state.set_files(Arc::new(set));
        drop(exchange);
        for file in &gone {
            // One that stays is deleted when the log is opened next.
            let _ = file.remove();
            state.damage.clear(&file.meta.name(), false);
        }
        state.kept.keep_replaced(gone);
        Ok(done)
    }

    /// Deletes what a failed step has left, best effort: the next one writes over it anyway.
    fn clean(&self) {
        let snapshot = self.state.snapshot();
        let _ = remove_unnamed(self.state.disk.as_ref(), &self.state.dir, &snapshot.files);
    }
}

/// Writes and swaps in the manifest of `set`; durable once this returns.
fn write_manifest(state: &LogState, set: &FileSet) -> Result<(), WalError> {
    let snapshot = state.snapshot();
    let manifest = set.manifest(snapshot.log, snapshot.epoch);
    let (draft, path) = (state.dir.join(MANIFEST_NEW), state.dir.join(MANIFEST));
    let bytes = manifest.encode();
    state.make_room(&draft, bytes.len() as u64)?;
    state.disk.replace(&draft, &path, &bytes)
}

/// Deletes Parquet files that the manifest does not name.
pub(crate) fn remove_unnamed(
    disk: &dyn crate::disk::Disk,
    dir: &std::path::Path,
    set: &FileSet,
) -> Result<(), WalError> {
    let files = dir.join(FILES_DIR);
    let named: HashSet<String> = set.all().map(|file| file.meta.name()).collect();
    for name in disk.list_names(&files)? {
        if !named.contains(&format!("{FILES_DIR}/{name}")) {
            let path = files.join(name);
            disk.remove_file(&path)?;
        }
    }
    Ok(())
}

/// A form that cannot hold its column even as floats would be a slip of ours.
fn misfit(schema: &TableSchema, error: WriteError) -> WalError {
    match error {
        WriteError::Wal(error) => error,
        WriteError::Misfit(column) => {
            let name = schema.columns.get(column).map_or("", |column| &column.name);
            WalError::InvalidBlock(format!("column {name:?} does not fit its file"))
        }
    }
}

/// Bytes that are waited for at a time.
const CHARGE: usize = 1 << 20;
