//! `headwater dump`: the rows of segment files, such as those that were kept aside under
//! `data/diverged`. Needs nothing but the files; must never change them, nor leave out a row
//! without saying so.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use query::arrow::array::{ArrayRef, RecordBatch, StringArray};
use query::arrow::csv::WriterBuilder as CsvBuilder;
use query::arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use query::arrow::error::ArrowError;
use query::arrow::json::writer::{LineDelimited, WriterBuilder as JsonBuilder};
use wal::{Disk, OsDisk, TableSchema};

use super::exit::FAILURE;

/// How rows are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// One object per line, nulls left out
    #[default]
    Jsonl,
    /// With a line of column names wherever they change
    Csv,
}

/// Why nothing more is printed.
#[derive(Debug, thiserror::Error)]
pub(super) enum DumpError {
    #[error("cannot list {}: {source}", .path.display())]
    List { path: PathBuf, source: io::Error },
    #[error("{} lies more than {MOST_DEEP} directories deep", .0.display())]
    TooDeep(PathBuf),
    #[error("cannot write the rows as text: {0}")]
    Encode(#[from] ArrowError),
    #[error("cannot write the rows: {0}")]
    Output(#[from] io::Error),
}

/// Prints the rows of all segments that are named or lie below a directory that is.
pub(super) fn run(paths: &[PathBuf], format: Format) -> Result<ExitCode, DumpError> {
    let out = BufWriter::new(io::stdout().lock());
    let mut dump = Dump::new(format, out, io::stderr());
    let done = dump
        .all(paths)
        .and_then(|()| dump.out.flush().map_err(DumpError::from));
    match done {
        // A reader that has seen enough, such as `head`, is no failure.
        Err(DumpError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {}
        done => done?,
    }
    Ok(if dump.faults == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(FAILURE)
    })
}

struct Dump<W, E> {
    format: Format,
    disk: Arc<dyn Disk>,
    out: W,
    /// Where it goes what could not be printed.
    complaints: E,
    faults: u64,
    /// Columns of the last line of names.
    headed: Option<SchemaRef>,
}

impl<W: Write, E: Write> Dump<W, E> {
    fn new(format: Format, out: W, complaints: E) -> Self {
        Self {
            format,
            disk: OsDisk::new(),
            out,
            complaints,
            faults: 0,
            headed: None,
        }
    }

    fn all(&mut self, paths: &[PathBuf]) -> Result<(), DumpError> {
        for path in paths {
            if !path.is_dir() {
                self.file(path)?;
                continue;
            }
            let mut found = Found::default();
            found.look(path, 0)?;
            if found.segments.is_empty() {
                self.fault(format_args!("{} holds no segment", path.display()));
            }
            if found.parquet > 0 {
                self.complain(format_args!(
                    "{} holds {} Parquet files, too; they are not printed",
                    path.display(),
                    found.parquet
                ));
            }
            for segment in &found.segments {
                self.file(segment)?;
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &Path) -> Result<(), DumpError> {
        let blocks = match wal::segment_blocks(&self.disk, path) {
            Ok(blocks) => blocks,
            Err(error) => {
                self.fault(format_args!("{error}"));
                return Ok(());
            }
        };
        for (schema, block) in blocks {
            let all: Vec<usize> = (0..schema.columns.len()).collect();
            match block.read(&schema, &all) {
                Ok(batch) => self.rows(&schema, &batch)?,
                Err(error) => self.fault(format_args!("{error}")),
            }
        }
        Ok(())
    }

    fn rows(&mut self, schema: &TableSchema, batch: &RecordBatch) -> Result<(), DumpError> {
        let batch = with_table(batch, &schema.name)?;
        let mut at = 0;
        while at < batch.num_rows() {
            let piece = batch.slice(at, PIECE.min(batch.num_rows() - at));
            at += piece.num_rows();
            let text = match self.format {
                Format::Jsonl => json(&piece)?,
                Format::Csv => {
                    let columns = piece.schema();
                    let header = self.headed.as_ref() != Some(&columns);
                    self.headed = Some(columns);
                    csv(&piece, header)?
                }
            };
            self.out.write_all(&text)?;
        }
        Ok(())
    }

    fn fault(&mut self, what: std::fmt::Arguments<'_>) {
        self.faults += 1;
        self.complain(what);
    }

    fn complain(&mut self, what: std::fmt::Arguments<'_>) {
        // There is nowhere else to say it; the exit code says it too.
        let _ = writeln!(self.complaints, "headwater: {what}");
    }
}

/// What lies below a directory.
#[derive(Default)]
struct Found {
    /// In the order of their names.
    segments: Vec<PathBuf>,
    parquet: u64,
}

impl Found {
    /// Symbolic links are not followed.
    fn look(&mut self, dir: &Path, depth: usize) -> Result<(), DumpError> {
        if depth > MOST_DEEP {
            return Err(DumpError::TooDeep(dir.to_owned()));
        }
        let unlisted = |source| DumpError::List {
            path: dir.to_owned(),
            source,
        };
        let mut entries = Vec::new();
        for entry in fs::read_dir(dir).map_err(unlisted)? {
            let entry = entry.map_err(unlisted)?;
            entries.push((entry.path(), entry.file_type().map_err(unlisted)?));
        }
        entries.sort_by(|(a, _), (b, _)| a.cmp(b));
        for (path, kind) in entries {
            let ending = path.extension().and_then(|ending| ending.to_str());
            match ending {
                _ if kind.is_dir() => self.look(&path, depth + 1)?,
                Some("log") if kind.is_file() => self.segments.push(path),
                Some("parquet") if kind.is_file() => self.parquet += 1,
                _ => {}
            }
        }
        Ok(())
    }
}

/// The rows with the name of their table before them. A stored column called `table` is called
/// `table_` here.
fn with_table(batch: &RecordBatch, table: &str) -> Result<RecordBatch, ArrowError> {
    let stored = batch.schema();
    let mut fields: Vec<FieldRef> = vec![Arc::new(Field::new(TABLE, DataType::Utf8, false))];
    fields.extend(stored.fields().iter().map(|field| {
        if field.name() != TABLE {
            return Arc::clone(field);
        }
        let mut name = format!("{TABLE}_");
        while stored.index_of(&name).is_ok() {
            name.push('_');
        }
        Arc::new(field.as_ref().clone().with_name(name))
    }));
    let names = StringArray::from_iter_values(std::iter::repeat_n(table, batch.num_rows()));
    let mut columns: Vec<ArrayRef> = vec![Arc::new(names)];
    columns.extend(batch.columns().iter().map(Arc::clone));
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

fn json(batch: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
    let builder = JsonBuilder::new().with_explicit_nulls(false);
    let mut writer = builder.build::<_, LineDelimited>(Vec::new());
    writer.write(batch)?;
    writer.finish()?;
    Ok(writer.into_inner())
}

fn csv(batch: &RecordBatch, header: bool) -> Result<Vec<u8>, ArrowError> {
    let mut writer = CsvBuilder::new().with_header(header).build(Vec::new());
    writer.write(batch)?;
    Ok(writer.into_inner())
}

const TABLE: &str = "table";

/// Rows that are text at one time.
const PIECE: usize = 1024;

/// Directories below the one that was named.
const MOST_DEEP: usize = 16;

#[cfg(test)]
mod tests;
