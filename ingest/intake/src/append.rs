//! From a write's bytes to rows handed to the log. Runs on a thread that may take its time; must
//! never report a row as handed over that the log did not take.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use wal::{AppendError, GroupId, NewNames, Refusal, Row, TableSchema};

use crate::csv;
use crate::decoded::{Decoded, TakenRow};
use crate::error::{IntakeError, PayloadError};
use crate::line::{self, BadLine};
use crate::payload::{decode_json, is_bare_json, is_json};
use crate::place::place;
use crate::record::Record;
use crate::sniff::other_format;
use crate::timestamp::{Times, Unit};
use crate::warn::warn_of_odd_time;
use crate::write::{Fault, Format, Target};

/// Appends rows of one table, all or none, once the log takes them.
pub(crate) trait AppendRows {
    fn append(&mut self, table: &str, rows: &[Row<'_>]) -> Result<GroupId, AppendError>;

    /// The table's columns so far.
    fn schema(&self, table: &str) -> Option<Arc<TableSchema>>;
}

/// Rows by the table that they go to.
type Tables<'a> = Vec<(Cow<'a, str>, Vec<Record<'a>>)>;

/// What has been handed over, and which lines have not.
#[derive(Debug, Default)]
pub(crate) struct Appended {
    pub(crate) rows: usize,
    /// Of the last rows; none when there are none.
    pub(crate) group: Option<GroupId>,
    pub(crate) faults: Vec<Fault>,
    pub(crate) faulty: usize,
    /// Lines were refused that will be taken later.
    later: Option<Refusal>,
}

/// Hands everything in `text` that can be stored to `log`.
pub(crate) fn append_body(
    target: &Target,
    (times, max_rows): (Times, usize),
    text: &str,
    arrival: i64,
    log: &mut impl AppendRows,
) -> Result<Appended, IntakeError> {
    let mut appended = Appended::default();
    match target {
        Target::Table {
            table,
            format,
            tags,
        } => {
            let schema = log.schema(table);
            let read = |schema: Option<&TableSchema>| {
                let decoded = decoded(*format, (times, max_rows), text, tags, schema)?;
                warn_of_odd_time(table, &decoded);
                Ok::<_, PayloadError>(records(decoded, tags, arrival))
            };
            let mut records = read(schema.as_deref())?;
            let mut outcome = appended.append_all(table, &records, log);
            if matches!(outcome, Err(IntakeError::Refused(_))) {
                let newer = log.schema(table);
                if newer != schema {
                    // What a cell is depends on the columns, which somebody else has changed.
                    records = read(newer.as_deref())?;
                    outcome = appended.append_all(table, &records, log);
                }
            }
            outcome.map_err(|error| located(error, &records, text))?;
        }
        Target::Lines => {
            let tables = lines((times.unit, max_rows), text, arrival, &mut appended)?;
            for (table, records) in tables {
                appended.append_valid(&table, &records, log)?;
            }
            if let (Some(refusal), 0) = (appended.later.take(), appended.rows) {
                return Err(refusal.into());
            }
            appended.faults.sort_by_key(|fault| fault.line);
            appended.add_texts(text);
        }
    }
    assert_eq!(appended.rows > 0, appended.group.is_some());
    Ok(appended)
}

/// The rows of one table.
fn decoded<'a>(
    format: Format,
    (times, max_rows): (Times, usize),
    text: &'a str,
    tags: &[String],
    schema: Option<&TableSchema>,
) -> Result<Decoded<'a>, PayloadError> {
    let is_json = match format {
        Format::Json => true,
        Format::Csv => false,
        Format::Auto => is_json(text) || is_bare_json(text),
    };
    if is_json {
        let mut decoded = decode_json(text, times, max_rows)?;
        decoded.fit(|name| {
            let schema = schema?;
            Some(schema.columns.get(schema.column(name)?)?.kind)
        });
        return Ok(decoded);
    }
    if let Some(what) = other_format(text) {
        return Err(PayloadError::NotCsv(what.to_owned()));
    }
    let context = csv::Context {
        read: times,
        tags,
        schema,
        max_rows,
        guessed: format == Format::Auto,
    };
    csv::decode(text, &context)
}

fn records<'a>(decoded: Decoded<'a>, tags: &[String], arrival: i64) -> Vec<Record<'a>> {
    let rows = decoded.into_rows();
    let record =
        |row: TakenRow<'a>| Record::new(row.line, row.time.unwrap_or(arrival), row.fields, tags);
    rows.map(record).collect()
}

/// A refusal with the row that it is for.
fn located(error: IntakeError, records: &[Record<'_>], text: &str) -> IntakeError {
    let IntakeError::Refused(refusal) = error else {
        return error;
    };
    let rows = records
        .iter()
        .map(|record| (record.line, record.time, record.fields.as_slice()));
    match place(rows, text, &refusal) {
        Some(place) => IntakeError::Misfit { place, refusal },
        None => refusal.into(),
    }
}

/// The rows of each table, tables in the order in which they come up; none is no fault: clients of
/// `InfluxDB` send an empty write to see whether they could send another one.
fn lines<'a>(
    (unit, max_rows): (Unit, usize),
    text: &'a str,
    arrival: i64,
    appended: &mut Appended,
) -> Result<Tables<'a>, PayloadError> {
    let mut tables: Tables<'a> = Vec::new();
    let mut places: HashMap<Cow<'a, str>, usize> = HashMap::new();
    let mut count = 0;
    for line in line::read(text, unit, arrival) {
        count += 1;
        if count > max_rows {
            return Err(PayloadError::TooManyRows { limit: max_rows });
        }
        match line {
            Ok(line) => {
                let place = *places.entry(line.table).or_insert_with_key(|table| {
                    tables.push((table.clone(), Vec::new()));
                    tables.len() - 1
                });
                if let Some((_, records)) = tables.get_mut(place) {
                    records.push(line.record);
                }
            }
            Err(BadLine { line, text, reason }) => appended.add_fault(line, text, reason),
        }
    }
    let records: usize = tables.iter().map(|(_, records)| records.len()).sum();
    assert_eq!(
        records + appended.faulty,
        count,
        "each line is a row or a fault"
    );
    Ok(tables)
}

impl Appended {
    /// Appends those records that fit; halves what is refused until it is known which do not.
    fn append_valid(
        &mut self,
        table: &str,
        records: &[Record<'_>],
        log: &mut impl AppendRows,
    ) -> Result<(), IntakeError> {
        match (self.append_all(table, records, log), records) {
            (Err(IntakeError::Refused(refusal)), [_] | []) => self.refuse(records, &refusal),
            (Err(IntakeError::Refused(refusal)), _) if concerns_all(&refusal) => {
                self.refuse(records, &refusal);
            }
            (Err(IntakeError::Refused(_)), _) => {
                let (left, right) = records.split_at(records.len() / 2);
                self.append_valid(table, left, log)?;
                self.append_valid(table, right, log)?;
            }
            (outcome, _) => outcome?,
        }
        Ok(())
    }

    /// Appends all records, or none of them.
    fn append_all(
        &mut self,
        table: &str,
        records: &[Record<'_>],
        log: &mut impl AppendRows,
    ) -> Result<(), IntakeError> {
        match append_records(table, records, log) {
            Ok(group) => {
                self.rows += records.len();
                self.group = self.group.max(Some(group));
                Ok(())
            }
            Err(AppendError::Refused(refusal)) => Err(refusal.into()),
            Err(AppendError::Full | AppendError::Closed) => {
                Err(IntakeError::Closed("it is closed".to_owned()))
            }
        }
    }

    fn refuse(&mut self, records: &[Record<'_>], refusal: &Refusal) {
        if matches!(refusal, Refusal::TooManyNew { .. }) {
            self.later = Some(refusal.clone());
        }
        for record in records {
            let (tags, fields) = (&record.tags, &record.fields);
            let reason = match refusal {
                Refusal::Twice { column }
                    if tags.iter().any(|(name, _)| name == column)
                        && fields.iter().any(|(name, _)| name == column) =>
                {
                    format!("{column:?} is a tag and a field of one line: take another name")
                }
                Refusal::Type { column, .. } if column == TIME => format!(
                    "{TIME:?} is the column of the rows' times: take another name; the time of a \
                     line stands behind its fields"
                ),
                refusal => refusal.to_string(),
            };
            self.add_fault(record.line, "", reason);
        }
    }

    /// Gives those lines that were read and refused their text.
    fn add_texts(&mut self, text: &str) {
        let mut lines = text.split('\n').zip(1..);
        for fault in &mut self.faults {
            let Some((line, _)) = lines.find(|(_, number)| *number == fault.line) else {
                return;
            };
            fault.text = shortened(line);
        }
    }

    fn add_fault(&mut self, line: usize, text: &str, reason: String) {
        self.faulty += 1;
        if self.faults.len() < MAX_FAULTS {
            let (text, reason) = (shortened(text), shortened(&reason));
            self.faults.push(Fault { line, text, reason });
        }
    }
}

fn shortened(line: &str) -> String {
    line.trim_end().chars().take(MAX_FAULT_TEXT).collect()
}

/// Whether every row of the table would be refused for it.
fn concerns_all(refusal: &Refusal) -> bool {
    matches!(
        refusal,
        Refusal::TableName { .. }
            | Refusal::TooManyTables { .. }
            | Refusal::TooManyNew {
                what: NewNames::Tables,
                ..
            }
    )
}

fn append_records(
    table: &str,
    records: &[Record<'_>],
    log: &mut impl AppendRows,
) -> Result<GroupId, AppendError> {
    if table == wal::DEAD_LETTERS {
        let (name, reason) = (table.to_owned(), "is reserved");
        return Err(Refusal::TableName { name, reason }.into());
    }
    let tags: Vec<(&str, &str)> = records
        .iter()
        .flat_map(|record| &record.tags)
        .map(|(name, value)| (&**name, &**value))
        .collect();
    let mut rest = tags.as_slice();
    let rows: Vec<Row<'_>> = records
        .iter()
        .map(|record| {
            let (tags, after) = rest.split_at(record.tags.len());
            rest = after;
            Row {
                time: record.time,
                tags,
                fields: &record.fields,
            }
        })
        .collect();
    assert!(rest.is_empty(), "every tag belongs to a row");
    log.append(table, &rows)
}

/// The column that every table has by itself.
const TIME: &str = "time";

/// Most lines that an answer tells of.
const MAX_FAULTS: usize = 100;

/// Most characters of a line that an answer repeats.
const MAX_FAULT_TEXT: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decoded::MAX_ROWS;
    use wal::Value;

    /// Takes everything but rows with a text in `v`.
    #[derive(Default)]
    struct Fake {
        calls: usize,
        taken: Vec<(String, usize)>,
    }

    impl AppendRows for Fake {
        fn append(&mut self, table: &str, rows: &[Row<'_>]) -> Result<GroupId, AppendError> {
            self.calls += 1;
            let odd = |row: &Row<'_>| matches!(row.fields[0].1, Value::Text(_));
            if table == "no" {
                let (name, reason) = (table.to_owned(), "is reserved");
                return Err(Refusal::TableName { name, reason }.into());
            }
            if rows.iter().any(odd) {
                return Err(Refusal::Empty.into());
            }
            self.taken.push((table.to_owned(), rows.len()));
            Ok(GroupId(self.taken.len() as u64))
        }

        fn schema(&self, _: &str) -> Option<Arc<TableSchema>> {
            None
        }
    }

    fn lines_of(text: &str) -> (Fake, Result<Appended, IntakeError>) {
        let mut log = Fake::default();
        let stored = append_body(
            &Target::Lines,
            (Times::default(), MAX_ROWS),
            text,
            1,
            &mut log,
        );
        (log, stored)
    }

    #[test]
    fn lines_go_to_their_tables_together_and_bad_ones_are_told() {
        let (log, stored) = lines_of("a v=1\nb v=2\na v=\na v=3\nb v=\"x\"\nno v=1");
        let stored = stored.expect("stored");
        assert_eq!((stored.rows, stored.faulty), (3, 3));
        assert_eq!(stored.group, Some(GroupId(2)));
        assert_eq!(log.taken, [("a".to_owned(), 2), ("b".to_owned(), 1)]);
        let numbers: Vec<usize> = stored.faults.iter().map(|fault| fault.line).collect();
        assert_eq!(numbers, [3, 5, 6]);
    }

    #[test]
    fn one_bad_row_among_many_is_found_by_halving() {
        let mut text: Vec<String> = (0..1024).map(|n| format!("a v={n}")).collect();
        text[700] = "a v=\"x\"".to_owned();
        let (log, stored) = lines_of(&text.join("\n"));
        let stored = stored.expect("stored");
        assert_eq!((stored.rows, stored.faults[0].line), (1023, 701));
        assert!(log.calls <= 21, "{}", log.calls);
    }

    #[test]
    fn answers_tell_of_so_many_lines_and_count_the_rest() {
        let (log, stored) = lines_of(&"no v=1\n".repeat(1_000));
        let stored = stored.expect("stored");
        assert_eq!((stored.faults.len(), stored.faulty), (MAX_FAULTS, 1_000));
        assert_eq!((log.calls, stored.group), (1, None));
    }

    #[test]
    fn a_write_has_a_bound_and_may_hold_no_line() {
        for nothing in ["", "\n", "\r\n", "# nothing\n\n", " \t\n  # x"] {
            let (log, stored) = lines_of(nothing);
            let stored = stored.expect("clients try a write before they write");
            assert_eq!((stored.rows, stored.faulty, log.calls), (0, 0, 0));
        }
        let (log, stored) = lines_of(&"a v=1\n".repeat(MAX_ROWS + 1));
        let limit = MAX_ROWS;
        assert_eq!(
            stored.err(),
            Some(PayloadError::TooManyRows { limit }.into())
        );
        assert_eq!(log.calls, 0);
    }

    #[test]
    fn rows_of_one_table_are_taken_all_or_none() {
        let target = |format| Target::Table {
            table: "t".to_owned(),
            format,
            tags: vec!["site".to_owned()],
        };
        let mut log = Fake::default();
        let mut write = |format, text: &str| {
            let stored = append_body(
                &target(format),
                (Times::default(), MAX_ROWS),
                text,
                1,
                &mut log,
            );
            stored.map(|stored| stored.rows)
        };
        assert_eq!(
            write(Format::Auto, r#"[{"v":1,"site":"a"},{"v":2}]"#),
            Ok(2)
        );
        assert_eq!(write(Format::Auto, "site,v\na,1\n"), Ok(1));
        assert_eq!(write(Format::Csv, "v\n1\n"), Ok(1));
        let refused = write(Format::Json, r#"{"v":1} {"v":"x"}"#);
        assert_eq!(refused, Err(Refusal::Empty.into()));
        let no_json = write(Format::Json, "v\n1\n");
        assert!(matches!(
            no_json,
            Err(IntakeError::Payload(PayloadError::NotJson(_)))
        ));
        for (text, told) in [
            (
                "cpu,host=a v=1 17\ncpu,host=b v=2 17\n",
                "line protocol: POST",
            ),
            ("<html>\n<body>\n", "HTML or XML"),
            ("ts;v\n1;2\n", "is the separator ';'?"),
            ("17,2\n18,3\n", "the first line must name the columns"),
            ("ts,v17,2", "use --data-binary"),
            ("hello\nworld\n", "send `Content-Type: text/csv`"),
        ] {
            let refused = write(Format::Auto, text).expect_err(text).to_string();
            assert!(refused.contains(told), "{refused}");
        }
        assert_eq!(write(Format::Auto, "8.1"), Ok(1));
        assert_eq!(write(Format::Auto, "  "), Err(PayloadError::Empty.into()));
    }
}
