//! The Parquet files of a log up to one position: what a manifest names, opened. Immutable; what
//! compaction does makes a new one. It must never open a file that the manifest does not name.

use std::sync::Arc;

use crate::damage::DamageList;
use crate::format::catalog::Catalog;
use crate::ids::{Epoch, LogId, Position, TableId};
use crate::parquet::manifest::Manifest;
use crate::parquet::{DataFile, FileMeta};
use crate::stored::Home;

/// All Parquet files at one position.
#[derive(Clone, Debug)]
pub(crate) struct FileSet {
    /// Everything below is in the files.
    pub(crate) compacted: Position,
    /// The primary's clock when the last row below was committed, unix nanoseconds.
    pub(crate) clock: i64,
    /// The ordinal of the next file.
    pub(crate) next: u64,
    /// Schemas and settings at that position.
    pub(crate) catalog: Arc<Catalog>,
    /// In the order of tables, then of ordinals.
    files: Vec<Arc<DataFile>>,
}

impl FileSet {
    /// No files: everything is in the log from `start` on.
    pub(crate) fn empty(start: Position) -> Self {
        Self {
            compacted: start,
            clock: 0,
            next: 0,
            catalog: Arc::default(),
            files: Vec::new(),
        }
    }

    /// Every file.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<DataFile>> {
        self.files.iter()
    }

    /// The files of one table.
    pub(crate) fn of(&self, table: TableId) -> impl Iterator<Item = &Arc<DataFile>> {
        let from = self.files.partition_point(|file| file.meta.table < table);
        self.files[from..]
            .iter()
            .take_while(move |file| file.meta.table == table)
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Arc<DataFile>> {
        let place = FileMeta::named(name)?;
        let key = |file: &Arc<DataFile>| (file.meta.table, file.meta.ordinal);
        let at = self.files.binary_search_by_key(&place, key).ok()?;
        self.files.get(at).filter(|file| file.meta.name() == name)
    }

    /// What says on disk that these files are in force.
    pub(crate) fn manifest(&self, log: LogId, epoch: Epoch) -> Manifest {
        Manifest {
            log,
            epoch,
            compacted: self.compacted,
            clock: self.clock,
            next: self.next,
            catalog: Arc::clone(&self.catalog),
            files: self.files.iter().map(|file| file.meta.clone()).collect(),
        }
    }

    /// Takes files out and puts new ones in.
    pub(crate) fn exchange(&mut self, out: &[u64], new: Vec<Arc<DataFile>>) {
        self.files.retain(|file| !out.contains(&file.meta.ordinal));
        self.files.extend(new);
        self.files
            .sort_by_key(|file| (file.meta.table, file.meta.ordinal));
    }

    /// Opens what a manifest names.
    pub(crate) fn open_files(
        &mut self,
        home: &Arc<Home>,
        metas: Vec<FileMeta>,
        damage: &Arc<DamageList>,
    ) {
        let open = |meta| Arc::new(DataFile::open(home, meta, damage));
        self.exchange(&[], metas.into_iter().map(open).collect());
    }
}
