//! CSV to rows: the first line names the columns. An empty cell is no value, and one that is empty
//! between quotes the empty text, where the column holds text. What the others are is decided by
//! column. Pure; must never panic on any text, nor take for CSV what is none.

mod cells;
mod columns;

use std::borrow::Cow;
use std::collections::HashSet;

use wal::TableSchema;

use crate::decoded::{Decoded, TimeRank};
use crate::error::PayloadError;
use crate::number::clipped;
use crate::timestamp::{self, Times, Unit};
use crate::zone::Zone;
use cells::{Cell, Fault, Lines};
use columns::{Column, Kind, is_value};

/// What rows are read for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context<'s> {
    pub(crate) read: Times,
    /// Columns that stay the text they are.
    pub(crate) tags: &'s [String],
    /// The table's columns so far.
    pub(crate) schema: Option<&'s TableSchema>,
    pub(crate) max_rows: usize,
    /// Nobody said that it is CSV: it must be unmistakable.
    pub(crate) guessed: bool,
}

/// Decodes a payload, whole or not at all.
pub(crate) fn decode<'a>(
    text: &'a str,
    context: &Context<'_>,
) -> Result<Decoded<'a>, PayloadError> {
    let mut lines = Lines::new(text);
    let mut header = Vec::new();
    let mut begun = lines.next(&mut header)?;
    if is_note(&header) {
        begun = lines.next(&mut header)?;
    }
    if begun.is_none() {
        return Err(PayloadError::Empty);
    }
    check_shape(&header, &lines, context.guessed)?;
    let table = Table::new(names(header)?, context.read);
    let mut out = Decoded::new(context.max_rows);
    let columns = table.columns(lines.clone(), context, &mut out)?;
    let kinds = table.kinds(&columns)?;
    let mut cells = Vec::new();
    while let Some(line) = lines.next(&mut cells)? {
        let time = table.time(line, &cells)?;
        for (at, (name, cell)) in table.names.iter().zip(&cells).enumerate() {
            if time.is_some_and(|(column, _)| column == at) {
                continue;
            }
            let value = match kinds.get(at) {
                Some(kind) => kind.value(cell),
                None => Ok(None),
            };
            let told = |reason| fault(line, format!("column {:?}: {reason}", clipped(name)));
            if let Some(value) = value.map_err(told)? {
                if name.is_empty() {
                    return Err(fault(line, format!("column {} has no name", at + 1)));
                }
                out.put(name.clone(), value);
            }
        }
        out.finish_timed_row(time.map(|(_, nanos)| nanos), line)?;
    }
    Ok(out)
}

/// Whether this is the line `sep=,` that tells Excel what separates cells.
fn is_note(line: &[Cell<'_>]) -> bool {
    let texts: Vec<&str> = line.iter().map(|cell| &*cell.text).collect();
    matches!(texts.as_slice(), [name, ""] if name.eq_ignore_ascii_case("sep="))
}

/// The columns' names, each once.
fn names(header: Vec<Cell<'_>>) -> Result<Vec<Cow<'_, str>>, PayloadError> {
    let mut seen = HashSet::new();
    let named = header.iter().filter(|cell| !cell.text.is_empty());
    for cell in named {
        if cell.text.len() > wal::MAX_NAME {
            let reason = format!("a name is longer than {} bytes", wal::MAX_NAME);
            return Err(fault(1, reason));
        }
        if !seen.insert(&*cell.text) {
            let reason = format!("two columns are called {:?}", clipped(&cell.text));
            return Err(fault(1, reason));
        }
    }
    Ok(header.into_iter().map(|cell| cell.text).collect())
}

/// What the first line says.
struct Table<'a> {
    names: Vec<Cow<'a, str>>,
    /// Columns that may be the time, the best first.
    times: Vec<(TimeRank, usize)>,
    read: Times,
}

impl<'a> Table<'a> {
    fn new(names: Vec<Cow<'a, str>>, read: Times) -> Self {
        let ranked = |(at, name): (usize, &Cow<'_, str>)| Some((TimeRank::of(name)?, at));
        let mut times: Vec<_> = names.iter().enumerate().filter_map(ranked).collect();
        times.sort_unstable();
        Self { names, times, read }
    }

    /// Looks at all cells but those that are the time of their row.
    fn columns(
        &self,
        mut lines: Lines<'_>,
        context: &Context<'_>,
        out: &mut Decoded<'_>,
    ) -> Result<Vec<Column>, PayloadError> {
        let is_tag = |name: &str| context.tags.iter().any(|tag| tag == name);
        let names = self.names.iter();
        let mut columns: Vec<Column> = names
            .map(|name| Column::new(name, is_tag(name), context.schema))
            .collect();
        let mut cells = Vec::new();
        while let Some(line) = lines.next(&mut cells)? {
            if cells.len() != self.names.len() {
                let (len, expected) = (cells.len(), self.names.len());
                let reason = format!("it has {len} cells, the header has {expected}");
                return Err(fault(line, reason));
            }
            let time = self.time(line, &cells)?;
            for (at, (column, cell)) in columns.iter_mut().zip(&cells).enumerate() {
                if time.is_none_or(|(column, _)| column != at) {
                    column.see(line, cell);
                }
            }
            if time.is_none() {
                self.tell_odd_times(&cells, out);
            }
        }
        Ok(columns)
    }

    fn kinds(&self, columns: &[Column]) -> Result<Vec<Kind>, PayloadError> {
        let named = self.names.iter().zip(columns);
        let kinds = named.map(|(name, column)| {
            let told =
                |(line, reason)| fault(line, format!("column {:?}: {reason}", clipped(name)));
            column.kind().map_err(told)
        });
        kinds.collect()
    }

    /// The column that is the time of a row, and the time.
    fn time(&self, line: usize, cells: &[Cell<'_>]) -> Result<Option<(usize, i64)>, PayloadError> {
        for (rank, at, text) in self.times(cells) {
            match timestamp::parse(text, self.read) {
                Ok(nanos) => return Ok(Some((at, nanos))),
                Err(reason) if rank.is_certain() => {
                    let name = self
                        .names
                        .get(at)
                        .map(|name| clipped(name))
                        .unwrap_or_default();
                    let reason = format!("column {name:?} is the row's time, and {reason}");
                    return Err(fault(line, reason));
                }
                Err(_) => {}
            }
        }
        Ok(None)
    }

    fn tell_odd_times(&self, cells: &[Cell<'_>], out: &mut Decoded<'_>) {
        for (_, at, text) in self.times(cells) {
            if let (Some(name), Err(reason)) =
                (self.names.get(at), timestamp::parse(text, self.read))
            {
                out.tell_not_a_time(name, &reason);
            }
        }
    }

    /// The cells that may be the time, the best first.
    fn times<'c>(
        &'c self,
        cells: &'c [Cell<'_>],
    ) -> impl Iterator<Item = (TimeRank, usize, &'c str)> {
        self.times.iter().filter_map(|(rank, at)| {
            let text: &str = &cells.get(*at)?.text;
            (!text.is_empty()).then_some((*rank, *at, text))
        })
    }
}

/// Whether this can be CSV with a header, as far as the first lines tell; where it was guessed,
/// whether it is nothing else.
fn check_shape(header: &[Cell<'_>], rows: &Lines<'_>, guessed: bool) -> Result<(), PayloadError> {
    let refuse = |reason: String| Err(PayloadError::NotCsv(reason));
    let mut first = Vec::new();
    let (separator, count) = other_separator(header);
    if count >= header.len() {
        return refuse(format!("is the separator {separator:?}? Send commas"));
    }
    let begins_with = |word: &&&str| header.first().is_some_and(|cell| cell.text == **word);
    if let Some(word) = ANNOTATIONS.iter().find(begins_with) {
        return refuse(format!(
            "{word} begins annotated CSV as InfluxDB exports it: take out the lines that begin \
             with #, and call the column of the times \"time\""
        ));
    }
    if rows.clone().next(&mut first)?.is_none() {
        return refuse(
            "there is one line, a header without rows. `curl -d` takes the ends of lines out: use \
             --data-binary"
                .to_owned(),
        );
    }
    if let Some(value) = header.iter().find(|cell| is_value(cell) || is_time(cell)) {
        return refuse(format!(
            "the first line must name the columns, and begins with values such as {:?}. Put quotes \
             around it if it is a name",
            clipped(&value.text)
        ));
    }
    let plain = |cell: &Cell<'_>| {
        let odd = |c: char| c.is_whitespace() || "<>{}=;|!?\\".contains(c);
        cell.quoted || !(cell.text.is_empty() || cell.text.contains(odd))
    };
    let is_certain = header.len() > 1
        && header.len() == first.len()
        && header.iter().all(plain)
        && first.iter().any(|cell| is_value(cell) || is_time(cell));
    if guessed && !is_certain {
        return refuse(
            "it may be CSV, and nothing says so: send `Content-Type: text/csv`, or ask for \
             format=csv"
                .to_owned(),
        );
    }
    Ok(())
}

/// Another separator that is in a header, and how often.
fn other_separator(header: &[Cell<'_>]) -> (char, usize) {
    let count = |separator| {
        let bare = header.iter().filter(|cell| !cell.quoted);
        let found = bare.map(|cell| cell.text.matches(separator).count()).sum();
        (separator, found)
    };
    let counts = [';', '\t', '|'].map(count);
    counts
        .into_iter()
        .max_by_key(|(_, found)| *found)
        .unwrap_or((';', 0))
}

fn is_time(cell: &Cell<'_>) -> bool {
    // Whether it names its zone or not.
    let times = Times {
        unit: Unit::Auto,
        zone: Some(Zone::UTC),
    };
    !cell.quoted && cell.text.len() > 9 && timestamp::parse(&cell.text, times).is_ok()
}

fn fault(line: usize, reason: String) -> PayloadError {
    PayloadError::Csv { line, reason }
}

impl From<Fault> for PayloadError {
    fn from(Fault { line, reason }: Fault) -> Self {
        fault(line, reason.to_owned())
    }
}

/// What the lines before the header begin with in InfluxDB's own CSV.
const ANNOTATIONS: [&str; 4] = ["#datatype", "#group", "#default", "#constant"];

#[cfg(test)]
mod tests;
