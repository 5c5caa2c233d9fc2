//! What a scan has to read, as units that can be read apart from each other. Owns which files, row
//! groups and blocks are left out; must never leave out a row that is wanted, nor read one.

use std::collections::HashMap;
use std::ops::AddAssign;

use datafusion::error::Result;
use wal::{BlockRef, Dedup, FileRef, MergePart, RowGroup, TableSchema, Wanted, merge_parts};

use super::times::TimeRange;
use crate::error::storage;

/// What is looked for.
pub(crate) struct Search<'a> {
    pub(crate) schema: &'a TableSchema,
    pub(crate) dedup: Dedup,
    pub(crate) wanted: &'a Wanted,
    /// Rows that are enough.
    pub(crate) limit: Option<usize>,
}

/// Whether readers may leave out rows that are not wanted.
pub(crate) fn restricts(wanted: &Wanted) -> bool {
    times(wanted) != TimeRange::ALL || !wanted.tags.is_empty()
}

fn times(wanted: &Wanted) -> TimeRange {
    TimeRange {
        min: wanted.min_time,
        max: wanted.max_time,
    }
}

/// The least that is read at once.
pub(crate) enum Unit {
    Block(BlockRef),
    Group(Group),
    Merge(Merge),
}

/// One row group of a file.
pub(crate) struct Group {
    pub(crate) file: FileRef,
    pub(crate) group: RowGroup,
    /// Every row of it leaves the scan, and it is of a file that is read whole.
    pub(crate) exact: bool,
    /// No earlier unit is of the same file.
    first: bool,
}

/// Sources whose rows replace each other.
pub(crate) struct Merge {
    pub(crate) part: MergePart,
    /// Row groups that may hold wanted rows.
    row_groups: usize,
    /// Every time of it leaves the scan, though not every row.
    exact: bool,
}

/// How many sources of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) blocks: usize,
    pub(crate) files: usize,
    pub(crate) row_groups: usize,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.blocks += other.blocks;
        self.files += other.files;
        self.row_groups += other.row_groups;
    }
}

impl Counts {
    pub(crate) fn sum(self) -> usize {
        self.blocks + self.files + self.row_groups
    }
}

impl Unit {
    /// The most rows that can leave the scan.
    pub(crate) fn rows(&self) -> usize {
        match self {
            Self::Block(block) => block.rows(),
            Self::Group(group) => group.group.rows,
            Self::Merge(merge) => merge.part.rows(),
        }
    }

    /// Whether [`Unit::rows`] will leave the scan, no fewer.
    pub(crate) fn has_exact_rows(&self) -> bool {
        match self {
            Self::Block(block) => block.exact(),
            Self::Group(group) => group.exact,
            Self::Merge(_) => false,
        }
    }

    /// Smallest and largest time that can leave the scan.
    pub(crate) fn times(&self) -> Option<(i64, i64)> {
        match self {
            Self::Block(block) => Some((block.min_time(), block.max_time())),
            Self::Group(group) => Some((group.file.min_time(), group.file.max_time())),
            Self::Merge(Merge { part, .. }) => {
                let files = part.files.iter().map(|f| (f.min_time(), f.max_time()));
                let blocks = part.blocks.iter().map(|b| (b.min_time(), b.max_time()));
                files
                    .chain(blocks)
                    .reduce(|all, one| (all.0.min(one.0), all.1.max(one.1)))
            }
        }
    }

    /// Whether both ends of [`Unit::times`] will leave the scan. Of a row group only together with
    /// the others of its file.
    pub(crate) fn has_exact_times(&self) -> bool {
        match self {
            Self::Block(block) => block.exact(),
            Self::Group(group) => group.exact,
            Self::Merge(merge) => merge.exact,
        }
    }

    pub(crate) fn is_part_of_file(&self) -> bool {
        matches!(self, Self::Group(_))
    }

    /// Stored bytes, about.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Block(block) => block.bytes(),
            Self::Group(Group { file, group, .. }) => {
                file.bytes().saturating_mul(group.rows) / file.rows().max(1)
            }
            Self::Merge(Merge { part, .. }) => {
                let files: usize = part.files.iter().map(FileRef::bytes).sum();
                files + part.blocks.iter().map(BlockRef::bytes).sum::<usize>()
            }
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        match self {
            Self::Block(_) => Counts {
                blocks: 1,
                ..Counts::default()
            },
            Self::Group(group) => Counts {
                blocks: 0,
                files: usize::from(group.first),
                row_groups: 1,
            },
            Self::Merge(merge) => Counts {
                blocks: merge.part.blocks.len(),
                files: merge.part.files.len(),
                row_groups: merge.row_groups,
            },
        }
    }
}

/// The units of one scan.
pub(crate) struct Units {
    pub(crate) list: Vec<Unit>,
    /// What was left out: row groups only of files that were looked into.
    pub(crate) pruned: Counts,
    /// Rows that are sure to leave the scan.
    sure: usize,
}

impl Units {
    /// Looks for what may hold wanted rows, and stops where there are enough. Opens files, but
    /// reads none of their rows.
    pub(crate) async fn find(
        mut files: Vec<FileRef>,
        mut blocks: Vec<BlockRef>,
        search: &Search<'_>,
    ) -> Result<Self> {
        let range = times(search.wanted);
        let (all_files, all_blocks) = (files.len(), blocks.len());
        files.retain(|file| range.overlaps(file.min_time(), file.max_time()));
        blocks.retain(|block| range.overlaps(block.min_time(), block.max_time()));
        let mut found = Self {
            list: Vec::new(),
            pruned: Counts {
                blocks: all_blocks - blocks.len(),
                files: all_files - files.len(),
                row_groups: 0,
            },
            sure: 0,
        };
        match search.dedup {
            Dedup::None => found.add_apart(files, blocks, search).await?,
            Dedup::Key => found.add_merged(files, blocks, search).await?,
        }
        Ok(found)
    }

    async fn add_apart(
        &mut self,
        files: Vec<FileRef>,
        blocks: Vec<BlockRef>,
        search: &Search<'_>,
    ) -> Result<()> {
        let whole = !restricts(search.wanted);
        for (index, file) in files.into_iter().enumerate() {
            if self.is_enough(search) {
                break;
            }
            pause(index).await;
            let exact = whole && file.exact();
            let groups = self.row_groups(&file, search)?;
            for (at, group) in groups.into_iter().enumerate() {
                let unit = Unit::Group(Group {
                    file: file.clone(),
                    group,
                    exact,
                    first: at == 0,
                });
                self.push(unit, search);
            }
        }
        for block in blocks {
            self.push(Unit::Block(block), search);
        }
        Ok(())
    }

    /// A file without wanted rows has no other row of a wanted key either: only keys are pruned by.
    async fn add_merged(
        &mut self,
        files: Vec<FileRef>,
        blocks: Vec<BlockRef>,
        search: &Search<'_>,
    ) -> Result<()> {
        let whole = !restricts(search.wanted);
        let mut row_groups = HashMap::new();
        let mut kept = Vec::with_capacity(files.len());
        for (index, file) in files.into_iter().enumerate() {
            pause(index).await;
            let found = self.row_groups(&file, search)?.len();
            if found > 0 {
                row_groups.insert(file.name().to_owned(), found);
                kept.push(file);
            }
        }
        for part in merge_parts(kept, blocks) {
            let found = part.files.iter().filter_map(|f| row_groups.get(&f.name()));
            let unit = Unit::Merge(Merge {
                row_groups: found.sum(),
                exact: whole
                    && part.files.iter().all(FileRef::exact)
                    && part.blocks.iter().all(BlockRef::exact),
                part,
            });
            self.push(unit, search);
        }
        Ok(())
    }

    fn row_groups(&mut self, file: &FileRef, search: &Search<'_>) -> Result<Vec<RowGroup>> {
        let groups = file
            .row_groups(search.schema, search.wanted)
            .map_err(storage)?;
        let all = file.group_count().map_err(storage)?;
        self.pruned.row_groups += all.saturating_sub(groups.len());
        Ok(groups)
    }

    fn push(&mut self, unit: Unit, search: &Search<'_>) {
        if self.is_enough(search) {
            return;
        }
        if unit.has_exact_rows() {
            self.sure = self.sure.saturating_add(unit.rows());
        }
        self.list.push(unit);
    }

    /// Counts only rows that will surely come, so that no limit is missed.
    fn is_enough(&self, search: &Search<'_>) -> bool {
        search.limit.is_some_and(|limit| self.sure >= limit)
    }
}

/// Lets others have the thread between files that have to be opened.
async fn pause(files: usize) {
    if files % FILES_PER_TURN == FILES_PER_TURN - 1 {
        tokio::task::yield_now().await;
    }
}

/// Every table has its time in its first column.
pub(crate) const TIME_INDEX: usize = 0;
/// Files opened before the thread is given back.
const FILES_PER_TURN: usize = 16;
