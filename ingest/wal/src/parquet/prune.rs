//! Which row groups and pages of a file may hold wanted rows: statistics, bloom filters, page
//! index. It must never leave out a row that is wanted. Pure but for reading bloom filters.

use std::ops::Range;

use arrow::datatypes::TimeUnit;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReaderBuilder, RowSelection, RowSelector};
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::file::reader::ChunkReader;
use parquet::file::statistics::Statistics;

use crate::parquet::layout::nanos;

/// Which rows a query can use at all.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Smallest and largest time, unix nanoseconds.
    pub min_time: i64,
    pub max_time: i64,
    /// All of them must hold.
    pub tags: Vec<TagFilter>,
}

/// A tag that must have one of some values.
#[derive(Clone, Debug)]
pub struct TagFilter {
    /// Index of the tag in the table's columns.
    pub column: usize,
    pub values: Vec<String>,
}

impl Default for Wanted {
    fn default() -> Self {
        Self {
            min_time: i64::MIN,
            max_time: i64::MAX,
            tags: Vec::new(),
        }
    }
}

impl Wanted {
    /// Whether every row is wanted.
    pub(crate) fn all(&self) -> bool {
        self.min_time == i64::MIN && self.max_time == i64::MAX && self.tags.is_empty()
    }
}

/// A row group that may hold wanted rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowGroup {
    pub index: usize,
    pub rows: usize,
}

/// What is wanted of one stored column.
#[derive(Clone, Debug)]
pub(crate) enum Test<'a> {
    /// Times in this unit, within these bounds in nanoseconds.
    Time {
        unit: TimeUnit,
        min: i64,
        max: i64,
    },
    Tag(&'a [String]),
}

/// A test and the file's column that it is about.
pub(crate) type Tests<'a> = Vec<(usize, Test<'a>)>;

impl Test<'_> {
    fn times(&self, min: i64, max: i64) -> bool {
        match self {
            Self::Time {
                unit,
                min: low,
                max: high,
            } => {
                let unit = nanos(*unit);
                min.saturating_mul(unit) <= *high && max.saturating_mul(unit) >= *low
            }
            Self::Tag(_) => true,
        }
    }

    /// Bounds may be cut short, the upper one then upwards: still bounds.
    fn texts(&self, min: &[u8], max: &[u8]) -> bool {
        match self {
            Self::Time { .. } => true,
            Self::Tag(values) => values
                .iter()
                .any(|value| value.as_bytes() >= min && value.as_bytes() <= max),
        }
    }
}

/// Whether a row group's statistics allow for wanted rows.
pub(crate) fn group_may_match(group: &RowGroupMetaData, tests: &Tests<'_>) -> bool {
    tests.iter().all(|(column, test)| {
        let statistics = group.column(*column).statistics();
        match statistics {
            Some(Statistics::Int64(found)) => match (found.min_opt(), found.max_opt()) {
                (Some(min), Some(max)) => test.times(*min, *max),
                _ => true,
            },
            Some(Statistics::ByteArray(found)) => match (found.min_opt(), found.max_opt()) {
                (Some(min), Some(max)) => test.texts(min.data(), max.data()),
                // Nothing but nulls has no bounds.
                _ => found.null_count_opt() != Some(rows_of(group)),
            },
            _ => true,
        }
    })
}

fn rows_of(group: &RowGroupMetaData) -> u64 {
    u64::try_from(group.num_rows()).unwrap_or(0)
}

/// Whether the row group's bloom filters allow for wanted tags.
pub(crate) fn bloom_may_match<R: ChunkReader + 'static>(
    builder: &ParquetRecordBatchReaderBuilder<R>,
    group: usize,
    tests: &Tests<'_>,
) -> parquet::errors::Result<bool> {
    for (column, test) in tests {
        let Test::Tag(values) = test else { continue };
        let filter = builder.get_row_group_column_bloom_filter(group, *column)?;
        if let Some(filter) = filter
            && !values.iter().any(|value| filter.check(value.as_str()))
        {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The rows of `groups` whose pages may hold wanted rows; `None` when that is all of them.
pub(crate) fn select_pages(
    metadata: &ParquetMetaData,
    groups: &[RowGroup],
    tests: &Tests<'_>,
) -> Option<RowSelection> {
    let mut selectors = Vec::new();
    for group in groups {
        let all = 0..group.rows;
        let mut kept = vec![all];
        for (column, test) in tests {
            if let Some(pages) = matching_pages(metadata, *group, *column, test) {
                kept = intersect(&kept, &pages);
            }
        }
        let mut at = 0;
        for range in kept {
            if range.start > at {
                selectors.push(RowSelector::skip(range.start - at));
            }
            selectors.push(RowSelector::select(range.len()));
            at = range.end;
        }
        if at < group.rows {
            selectors.push(RowSelector::skip(group.rows - at));
        }
    }
    let skips = selectors.iter().any(|selector| selector.skip);
    skips.then(|| RowSelection::from(selectors))
}

/// Rows of the pages of one column that may match, ascending; `None` without a page index.
fn matching_pages(
    metadata: &ParquetMetaData,
    group: RowGroup,
    column: usize,
    test: &Test<'_>,
) -> Option<Vec<Range<usize>>> {
    let index = metadata.column_index()?.get(group.index)?.get(column)?;
    let pages = metadata.offset_index()?.get(group.index)?.get(column)?;
    let starts: Vec<usize> = pages
        .page_locations()
        .iter()
        .map(|page| usize::try_from(page.first_row_index).ok())
        .collect::<Option<_>>()?;
    let may_match = |page: usize| match index {
        ColumnIndexMetaData::INT64(index) => match (index.min_value(page), index.max_value(page)) {
            (Some(min), Some(max)) => test.times(*min, *max),
            _ => true,
        },
        ColumnIndexMetaData::BYTE_ARRAY(index) => {
            match (index.min_value(page), index.max_value(page)) {
                (Some(min), Some(max)) => test.texts(min, max),
                _ => !index.is_null_page(page),
            }
        }
        _ => true,
    };
    let ends = starts.iter().copied().skip(1).chain([group.rows]);
    let ranges = starts.iter().zip(ends).enumerate();
    Some(
        ranges
            .filter(|(page, _)| may_match(*page))
            .map(|(_, (start, end))| *start..end)
            .collect(),
    )
}

/// Rows in both lists of ascending ranges; neighbours become one range.
fn intersect(a: &[Range<usize>], b: &[Range<usize>]) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    let (mut i, mut j) = (0, 0);
    while let (Some(x), Some(y)) = (a.get(i), b.get(j)) {
        let (start, end) = (x.start.max(y.start), x.end.min(y.end));
        if start < end {
            match found.last_mut() {
                Some(last) if last.end == start => last.end = end,
                _ => found.push(start..end),
            }
        }
        if x.end <= y.end {
            i += 1;
        } else {
            j += 1;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(
        clippy::single_range_in_vec_init,
        reason = "lists of ranges is what it takes"
    )]
    fn ranges_intersect_and_neighbours_join() {
        assert_eq!(intersect(&[0..10], &[0..4, 4..6, 8..12]), [0..6, 8..10]);
        assert_eq!(intersect(&[0..3, 5..9], &[2..6]), [2..3, 5..6]);
        assert_eq!(intersect(&[0..3], &[3..6]), [] as [Range<usize>; 0]);
        assert_eq!(intersect(&[], &[0..1]), [] as [Range<usize>; 0]);
    }

    #[test]
    fn times_are_compared_in_their_unit() {
        let test = Test::Time {
            unit: TimeUnit::Millisecond,
            min: 5_000_000,
            max: 9_000_000,
        };
        assert!(test.times(5, 5) && test.times(9, 20) && test.times(0, 7));
        assert!(!test.times(10, 20) && !test.times(0, 4));
        assert!(test.times(i64::MIN, i64::MAX));
    }
}
