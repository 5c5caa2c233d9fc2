//! Reads one Parquet file as queries and merges want it: brought to a schema, without the rows that
//! are gone, only the row groups and pages that can matter. It must never show a row that retention
//! has cut.

use std::io::{self, Read};
use std::sync::{Arc, OnceLock};

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder,
};
use parquet::arrow::{ProjectionMask, parquet_to_arrow_schema};
use parquet::errors::ParquetError;
use parquet::file::metadata::{
    PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData,
};
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::statistics::Statistics;

use crate::error::WalError;
use crate::format::body::drop_cut;
use crate::format::schema::TableSchema;
use crate::ids::Lsn;
use crate::parquet::chunks::{Chunks, Through};
use crate::parquet::layout::{Form, Layout, restore};
use crate::parquet::prune::{self, RowGroup, Test, Tests, Wanted};
use crate::parquet::{DataFile, FileMeta};

/// The checked bytes of a file, as the Parquet reader wants them.
#[derive(Clone, Debug)]
struct Checked(Arc<Chunks>);

impl Length for Checked {
    fn len(&self) -> u64 {
        self.0.len()
    }
}

/// Bytes from some place on, chunk by chunk as they are asked for.
struct Onward {
    chunks: Arc<Chunks>,
    at: u64,
    chunk: Bytes,
}

impl Read for Onward {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.chunk.is_empty() {
            let next = self.chunks.rest_of_chunk(self.at);
            self.chunk = next.map_err(|error| io::Error::other(self.chunks.failed(error)))?;
            self.at += self.chunk.len() as u64;
        }
        let len = into.len().min(self.chunk.len());
        into[..len].copy_from_slice(&self.chunk.split_to(len));
        Ok(len)
    }
}

impl ChunkReader for Checked {
    type T = Onward;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Self::T> {
        Ok(Onward {
            chunks: Arc::clone(&self.0),
            at: start,
            chunk: Bytes::new(),
        })
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        let bytes = self.0.get(start, length);
        bytes.map_err(|error| ParquetError::General(self.0.failed(error)))
    }
}

/// A Parquet file of a snapshot.
#[derive(Clone, Debug)]
pub struct FileRef {
    file: Arc<DataFile>,
    cut: Option<i64>,
    through: Through,
    /// Read once per snapshot's use, not kept between queries: page indexes are large.
    metadata: Arc<OnceLock<Arc<ParquetMetaData>>>,
}

impl FileRef {
    pub(crate) fn new(file: Arc<DataFile>, cut: Option<i64>) -> Self {
        Self {
            file,
            cut,
            through: Through::Cache,
            metadata: Arc::default(),
        }
    }

    /// The same file, for who reads all of it once.
    pub(crate) fn straight(file: Arc<DataFile>, cut: Option<i64>) -> Self {
        Self {
            through: Through::Straight,
            ..Self::new(file, cut)
        }
    }

    fn chunks(&self) -> Arc<Chunks> {
        Arc::new(Chunks::new(&self.file, self.through))
    }

    pub(crate) fn meta(&self) -> &FileMeta {
        &self.file.meta
    }

    pub(crate) fn fault(&self) -> Option<WalError> {
        self.file.fault()
    }

    /// Relative to the log's directory.
    pub fn name(&self) -> String {
        self.file.meta.name()
    }

    /// Rows, those that are gone by retention included.
    pub fn rows(&self) -> usize {
        usize::try_from(self.file.meta.rows).unwrap_or(usize::MAX)
    }

    /// Length of the file.
    pub fn bytes(&self) -> usize {
        usize::try_from(self.file.meta.bytes).unwrap_or(usize::MAX)
    }

    /// Smallest row time, unix nanoseconds.
    pub fn min_time(&self) -> i64 {
        self.file.meta.min_time
    }

    /// Largest row time, unix nanoseconds.
    pub fn max_time(&self) -> i64 {
        self.file.meta.max_time
    }

    /// Where in the log its oldest row was.
    pub fn first_lsn(&self) -> Lsn {
        self.file.meta.first
    }

    /// Whether no row of it is gone by retention.
    pub fn exact(&self) -> bool {
        self.cut.is_none_or(|cut| self.file.meta.min_time >= cut)
    }

    /// Row groups in the file.
    ///
    /// # Errors
    /// `Corrupt` when the file's footer cannot be read.
    pub fn group_count(&self) -> Result<usize, WalError> {
        Ok(self.metadata()?.num_row_groups())
    }

    /// Bytes of an average row before compression.
    pub(crate) fn row_bytes(&self) -> Result<usize, WalError> {
        let metadata = self.metadata()?;
        let groups = metadata.row_groups().iter();
        let bytes: i64 = groups.map(|group| group.total_byte_size()).sum();
        let bytes = usize::try_from(bytes).unwrap_or(0);
        Ok(bytes / self.rows().max(1))
    }

    /// Row groups that may hold wanted rows, with their row counts.
    ///
    /// # Errors
    /// `Corrupt` when the file cannot be read.
    pub fn row_groups(
        &self,
        schema: &TableSchema,
        wanted: &Wanted,
    ) -> Result<Vec<RowGroup>, WalError> {
        let opened = self.open(schema)?;
        let Some(tests) = opened.tests(wanted) else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        for (index, group) in opened.metadata.row_groups().iter().enumerate() {
            let matches = prune::group_may_match(group, &tests)
                && prune::bloom_may_match(&opened.builder, index, &tests)
                    .map_err(|error| self.failed(&opened.chunks, &error))?;
            if matches {
                let rows = usize::try_from(group.num_rows()).unwrap_or(0);
                found.push(RowGroup { index, rows });
            }
        }
        Ok(found)
    }

    /// Streams the pages of `groups` that may hold wanted rows: columns `projection` (indices into
    /// `schema.columns`), brought to `schema`. Rows that are gone by retention are left out.
    ///
    /// # Errors
    /// `Corrupt` when the file cannot be read.
    pub fn read(
        &self,
        schema: &TableSchema,
        projection: &[usize],
        groups: &[RowGroup],
        wanted: &Wanted,
        batch_rows: usize,
    ) -> Result<FileReader, WalError> {
        let opened = self.open(schema)?;
        let cut = self.cut.filter(|_| !self.exact());
        // The time is read as well where rows must be told by it, or counted at all.
        let mut columns = projection.to_vec();
        let stored = |at: &usize| opened.layout.form(*at).is_some();
        if cut.is_some() || !projection.iter().any(stored) {
            columns.push(0);
        }
        let tests = opened.tests(wanted);
        let groups = if tests.is_some() { groups } else { &[] };
        let selection = tests
            .as_ref()
            .and_then(|tests| prune::select_pages(&opened.metadata, groups, tests));
        let roots: Vec<usize> = columns
            .iter()
            .filter_map(|at| opened.root(schema, *at))
            .collect();
        let descriptor = opened.metadata.file_metadata().schema_descr_ptr();
        let mut builder = opened
            .builder
            .with_projection(ProjectionMask::roots(&descriptor, roots))
            .with_row_groups(groups.iter().map(|group| group.index).collect())
            .with_batch_size(batch_rows.max(1));
        if let Some(selection) = selection {
            builder = builder.with_row_selection(selection);
        }
        let chunks = opened.chunks;
        let reader = builder
            .build()
            .map_err(|error| self.failed(&chunks, &error))?;
        let arrow = schema.arrow();
        let wanted = arrow
            .project(&columns)
            .map_err(|error| self.file.corrupt(0, error.to_string()))?;
        Ok(FileReader {
            file: self.clone(),
            chunks,
            reader,
            layout: opened.layout,
            schema: Arc::new(schema.clone()),
            wanted: Arc::new(wanted),
            columns,
            keep: projection.len(),
            cut,
        })
    }

    /// How the file's columns are stored.
    pub(crate) fn layout(&self, schema: &TableSchema) -> Result<Layout, WalError> {
        let metadata = self.metadata()?;
        let arrow = self.stored_schema(&metadata)?;
        Ok(Layout::of_file(schema, &arrow))
    }

    /// Smallest and largest value of an integer column, by the statistics; `None` when the file has
    /// no value of it.
    pub(crate) fn int_bounds(
        &self,
        schema: &TableSchema,
        at: usize,
    ) -> Result<Option<(i64, i64)>, WalError> {
        let opened = self.open(schema)?;
        let Some(place) = opened.root(schema, at) else {
            return Ok(None);
        };
        let mut bounds: Option<(i64, i64)> = None;
        for group in opened.metadata.row_groups() {
            let found = group.column(place).statistics();
            let found = found.and_then(|found| match found {
                Statistics::Int32(found) => {
                    let (min, max) = (*found.min_opt()?, *found.max_opt()?);
                    Some((i64::from(min), i64::from(max)))
                }
                Statistics::Int64(found) => Some((*found.min_opt()?, *found.max_opt()?)),
                _ => None,
            });
            let (min, max) = match found {
                Some(found) => found,
                None if nothing_but_nulls(group, place) => continue,
                None => return Ok(Some((i64::MIN, i64::MAX))),
            };
            let (low, high) = bounds.unwrap_or((min, max));
            bounds = Some((low.min(min), high.max(max)));
        }
        Ok(bounds)
    }

    fn metadata(&self) -> Result<Arc<ParquetMetaData>, WalError> {
        if let Some(metadata) = self.metadata.get() {
            return Ok(Arc::clone(metadata));
        }
        let chunks = self.chunks();
        let reader = ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Optional);
        let metadata = reader
            .parse_and_finish(&Checked(Arc::clone(&chunks)))
            .map_err(|error| self.failed(&chunks, &error))?;
        Ok(Arc::clone(self.metadata.get_or_init(|| Arc::new(metadata))))
    }

    fn stored_schema(
        &self,
        metadata: &ParquetMetaData,
    ) -> Result<arrow::datatypes::Schema, WalError> {
        let descriptor = metadata.file_metadata().schema_descr();
        parquet_to_arrow_schema(descriptor, None)
            .map_err(|error| self.file.corrupt(0, error.to_string()))
    }

    fn open(&self, schema: &TableSchema) -> Result<Opened, WalError> {
        let metadata = self.metadata()?;
        let stored = self.stored_schema(&metadata)?;
        let layout = Layout::of_file(schema, &stored);
        let typed = layout.arrow(schema);
        // Columns that the schema does not know cannot be: schemas only grow.
        if typed.fields().len() != stored.fields().len() {
            let reason = "has columns that its table never had".to_owned();
            return Err(self.file.corrupt(0, reason));
        }
        let options = ArrowReaderOptions::new().with_schema(typed);
        let arrow = ArrowReaderMetadata::try_new(Arc::clone(&metadata), options)
            .map_err(|error| self.file.corrupt(0, error.to_string()))?;
        let chunks = self.chunks();
        let input = Checked(Arc::clone(&chunks));
        Ok(Opened {
            chunks,
            metadata,
            layout,
            builder: ParquetRecordBatchReaderBuilder::new_with_metadata(input, arrow),
        })
    }

    /// What the Parquet reader's error means.
    fn failed(&self, chunks: &Chunks, error: &ParquetError) -> WalError {
        let reading = chunks.take_error();
        reading.unwrap_or_else(|| self.file.corrupt(0, error.to_string()))
    }
}

fn nothing_but_nulls(group: &RowGroupMetaData, place: usize) -> bool {
    let nulls = group
        .column(place)
        .statistics()
        .and_then(Statistics::null_count_opt);
    nulls.is_some_and(|nulls| i64::try_from(nulls) == Ok(group.num_rows()))
}

/// A file ready to be read under one schema.
struct Opened {
    chunks: Arc<Chunks>,
    metadata: Arc<ParquetMetaData>,
    layout: Layout,
    builder: ParquetRecordBatchReaderBuilder<Checked>,
}

impl Opened {
    /// What must hold for which stored column; `None` when no row of the file can be wanted.
    fn tests<'a>(&self, wanted: &'a Wanted) -> Option<Tests<'a>> {
        let mut tests = Tests::new();
        if wanted.all() {
            return Some(tests);
        }
        for (place, (at, form)) in self.layout.columns.iter().enumerate() {
            if let (0, Form::Time(unit)) = (*at, form) {
                let (min, max) = (wanted.min_time, wanted.max_time);
                tests.push((
                    place,
                    Test::Time {
                        unit: *unit,
                        min,
                        max,
                    },
                ));
            }
        }
        for filter in &wanted.tags {
            // A tag that the file does not have is null in every row.
            let place = self
                .layout
                .columns
                .iter()
                .position(|(at, _)| *at == filter.column)?;
            tests.push((place, Test::Tag(&filter.values)));
        }
        Some(tests)
    }

    /// The file's column that holds column `at` of the schema.
    fn root(&self, schema: &TableSchema, at: usize) -> Option<usize> {
        let name = schema.stored_name(at);
        let columns = self.metadata.file_metadata().schema_descr().columns();
        columns.iter().position(|column| column.name() == name)
    }
}

/// The rows of one file, batch by batch.
pub struct FileReader {
    file: FileRef,
    chunks: Arc<Chunks>,
    reader: ParquetRecordBatchReader,
    layout: Layout,
    schema: Arc<TableSchema>,
    /// Of `columns`.
    wanted: SchemaRef,
    columns: Vec<usize>,
    /// How many of `columns` were asked for.
    keep: usize,
    cut: Option<i64>,
}

impl std::fmt::Debug for FileReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileReader")
            .field("file", &self.file.name())
            .finish_non_exhaustive()
    }
}

impl FileReader {
    fn bring(&self, batch: &RecordBatch) -> Result<RecordBatch, ParquetError> {
        let rows = batch.num_rows();
        let array = |at: &usize| -> ArrayRef {
            let column = &self.schema.columns[*at];
            let found = batch.column_by_name(self.schema.stored_name(*at));
            match found.zip(self.layout.form(*at)) {
                Some((array, form)) => restore(array, form, column),
                None => new_null_array(&column.arrow_type(), rows),
            }
        };
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let arrays: Vec<ArrayRef> = self.columns.iter().map(array).collect();
        let whole = RecordBatch::try_new_with_options(Arc::clone(&self.wanted), arrays, &options)?;
        if let Some(cut) = self.cut {
            return Ok(drop_cut(&whole, self.keep, cut)?);
        }
        if self.keep == self.columns.len() {
            return Ok(whole);
        }
        let kept: Vec<usize> = (0..self.keep).collect();
        Ok(whole.project(&kept)?)
    }
}

impl Iterator for FileReader {
    type Item = Result<RecordBatch, WalError>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.reader.next()?;
        let brought = batch
            .map_err(ParquetError::from)
            .and_then(|batch| self.bring(&batch));
        Some(brought.map_err(|error| self.file.failed(&self.chunks, &error)))
    }
}
