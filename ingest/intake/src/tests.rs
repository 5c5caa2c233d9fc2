//! The same values by every way in are the same values and times in the log, whatever they are
//! written and packed in. Must never write a value with the readers' own code.

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;

use fastrand::Rng;
use flate2::Compression;
use flate2::write::GzEncoder;
use wal::{AppendError, Column, ColumnRole, ColumnType, GroupId, Row, TableId, TableSchema, Value};

use crate::append::{AppendRows, append_body};
use crate::decoded::MAX_ROWS;
use crate::payload::Reading;
use crate::timestamp::{Times, Unit};
use crate::unpack;
use crate::write::{Encoding, Format, Target};
use crate::zone::Zone;

/// A row as it was meant: a value of each column, none where there is none.
type Meant = (i64, Vec<Option<Value<'static>>>);

/// A log that keeps what it is handed, as text that tells all values apart.
#[derive(Default)]
struct Captured {
    schema: Option<Arc<TableSchema>>,
    rows: Vec<(i64, Vec<String>)>,
}

impl AppendRows for Captured {
    fn append(&mut self, _: &str, rows: &[Row<'_>]) -> Result<GroupId, AppendError> {
        self.rows.extend(rows.iter().map(|row| told(row)));
        Ok(GroupId(1))
    }

    fn schema(&self, _: &str) -> Option<Arc<TableSchema>> {
        self.schema.clone()
    }
}

fn told(row: &Row<'_>) -> (i64, Vec<String>) {
    assert!(row.tags.is_empty());
    let fields = row.fields.iter();
    let fields = fields.map(|(name, value)| format!("{name}={value:?}"));
    (row.time, fields.collect())
}

/// A table of random columns and rows.
struct Batch {
    schema: Arc<TableSchema>,
    rows: Vec<Meant>,
}

impl Batch {
    fn new(random: &mut Rng, has_schema: bool) -> Self {
        let kinds = [
            ColumnType::Int,
            ColumnType::Float,
            ColumnType::Bool,
            ColumnType::Text,
        ];
        let column = |name: String, role, kind| Column::new(&name, role, kind);
        let mut columns = vec![column(
            "time".to_owned(),
            ColumnRole::Time,
            ColumnType::Time,
        )];
        columns.push(column("n".to_owned(), ColumnRole::Field, ColumnType::Int));
        for at in 0..random.usize(1..6) {
            let kind = kinds[random.usize(..kinds.len())];
            columns.push(column(format!("c{at}"), ColumnRole::Field, kind));
        }
        let rows = (0..random.usize(1..5)).map(|_| {
            let time = random.i64(1_000_000_000..4_000_000_000) * 1_000_000_000;
            let values = columns.iter().skip(1).enumerate().map(|(at, column)| {
                let value = value(random, column.kind, has_schema);
                (at == 0 || random.u8(..4) > 0).then_some(value)
            });
            let values = values.collect();
            (time + random.i64(0..1_000_000_000), values)
        });
        let rows = rows.collect();
        let mut schema = TableSchema::new(TableId(1), "t");
        schema.columns = columns.into_iter().collect();
        Self {
            schema: Arc::new(schema),
            rows,
        }
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        let columns = self.schema.columns.iter().skip(1);
        columns.map(|column| &*column.name)
    }

    fn expected(&self) -> Vec<(i64, Vec<String>)> {
        let rows = self.rows.iter().map(|(time, values)| {
            let held = self.names().zip(values);
            let fields = held.filter_map(|(name, value)| {
                let value = value.as_ref()?;
                Some(format!("{name}={value:?}"))
            });
            (*time, fields.collect())
        });
        rows.collect()
    }

    /// One object for each row.
    fn objects(&self, random: &mut Rng) -> Vec<String> {
        let rows = self.rows.iter().map(|(time, values)| {
            let mut out = format!("{{\"ts\":{}", time_text(random, *time, true));
            for (name, value) in self.names().zip(values) {
                let value = match value {
                    None => "null".to_owned(),
                    Some(Value::Text(text)) => serde_json::to_string(text).expect("a text"),
                    Some(value) => number_text(random, value, false),
                };
                let _ = write!(out, ", \"{name}\": {value}");
            }
            out + "}"
        });
        rows.collect()
    }

    fn csv(&self, random: &mut Rng) -> String {
        let mut out = format!("ts,{}\n", self.names().collect::<Vec<_>>().join(","));
        for (time, values) in &self.rows {
            out += &time_text(random, *time, true);
            for value in values {
                let cell = match value {
                    None => String::new(),
                    Some(Value::Text(text)) => format!("\"{}\"", text.replace('"', "\"\"")),
                    Some(value) => number_text(random, value, true),
                };
                let _ = write!(out, ",{cell}");
            }
            out += if random.bool() { "\n" } else { "\r\n" };
        }
        out
    }

    fn lines(&self, random: &mut Rng) -> String {
        let rows = self.rows.iter().map(|(time, values)| {
            let held = self.names().zip(values);
            let fields = held.filter_map(|(name, value)| {
                let value = match value.as_ref()? {
                    Value::Text(text) => {
                        format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
                    }
                    Value::Int(number) if *number >= 0 && random.bool() => format!("{number}u"),
                    Value::Int(number) => format!("{number}i"),
                    value => number_text(random, value, false),
                };
                Some(format!("{name}={value}"))
            });
            let fields: Vec<String> = fields.collect();
            let time = time_text(random, *time, false);
            format!("t {} {time}\n", fields.join(","))
        });
        rows.collect()
    }
}

fn value(random: &mut Rng, kind: ColumnType, has_schema: bool) -> Value<'static> {
    match kind {
        ColumnType::Int => match random.u8(..3) {
            0 => Value::Int(random.i64(..)),
            1 => Value::Int(random.i64(-100..100)),
            _ => Value::Int([i64::MAX, i64::MIN, 1 << 53, (1 << 53) + 1][random.usize(..4)]),
        },
        ColumnType::Float => Value::Float(float(random)),
        ColumnType::Bool => Value::Bool(random.bool()),
        _ => {
            let letters = [
                'a', 'é', '😀', ' ', ',', ';', '=', '"', '\\', '\n', '\t', '7', '.',
            ];
            let letter = |_| letters[random.usize(..letters.len())];
            let text: String = (0..letters.len() / 2).map(letter).collect();
            let texts = [
                "",
                "007",
                "12E12",
                "-1.50",
                "true",
                "99999999999999999999",
                "null",
            ];
            let text = match random.u8(..3) {
                0 if has_schema => texts[random.usize(..texts.len())].to_owned(),
                // Without a schema a column of texts has one that reads as nothing else.
                _ => format!("t{text}"),
            };
            Value::Text(text.into())
        }
    }
}

fn float(random: &mut Rng) -> f64 {
    let number = match random.u8(..4) {
        0 => f64::from(f32::from_bits(random.u32(..))),
        1 => f64::from_bits(random.u64(..)),
        2 => f64::from(random.i32(..)) / 100.0,
        _ => random.f64() * 2_000.0,
    };
    if number.is_finite() { number } else { 0.1 }
}

/// A number or boolean, with a point where only that says that it is a float.
fn number_text(random: &mut Rng, value: &Value<'_>, has_point: bool) -> String {
    match value {
        Value::Int(number) => number.to_string(),
        Value::Bool(truth) => truth.to_string(),
        Value::Float(number) => {
            let texts = [
                format!("{number:?}"),
                format!("{number:.17e}"),
                format!("{number:e}"),
                format!("{number:.30}"),
            ];
            let text = &texts[random.usize(..texts.len())];
            let is_exact = text.parse() == Ok(*number) && text.contains(['.', 'e']);
            let has_its_point = text.contains('.') || !has_point;
            if is_exact && has_its_point {
                text
            } else {
                &texts[1]
            }
            .clone()
        }
        Value::Text(_) => unreachable!("a text has quotes"),
    }
}

/// A time as a number of any unit, or as text.
fn time_text(random: &mut Rng, nanos: i64, has_text: bool) -> String {
    let digits = [0_u32, 3, 6, 9][random.usize(..4)];
    let (part, width) = (10_i64.pow(digits), digits as usize);
    let stamp = jiff::Timestamp::from_nanosecond(i128::from(nanos)).expect("a time");
    match random.u8(..4) {
        0 if has_text => format!("\"{stamp}\""),
        1 if has_text => format!("\"{}.{:09}\"", nanos / 1_000_000_000, nanos % 1_000_000_000),
        2 => format!("{nanos}e-{digits}"),
        _ if digits == 0 => nanos.to_string(),
        _ => format!("{}.{:0width$}", nanos / part, nanos % part),
    }
}

/// The bytes that leave the device: packed or not, with what some programs put around a text.
fn sent(random: &mut Rng, text: &str) -> (Vec<u8>, Encoding) {
    let mark = if random.u8(..4) == 0 { "\u{feff}" } else { "" };
    let end = ["", "\n", "\0", "\r\n\0\0"][random.usize(..4)];
    let bytes = format!("{mark}{text}{end}").into_bytes();
    match random.u8(..5) {
        0 => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(&bytes).expect("memory");
            let said = [Encoding::Plain, Encoding::Gzip][random.usize(..2)];
            (encoder.finish().expect("memory"), said)
        }
        1 => {
            let said = [Encoding::Plain, Encoding::Zstd][random.usize(..2)];
            (zstd::stream::encode_all(&*bytes, 1).expect("memory"), said)
        }
        2 => {
            let wide = format!("\u{feff}{text}");
            let wide = wide.encode_utf16().flat_map(u16::to_le_bytes);
            (wide.collect(), Encoding::Plain)
        }
        _ => (bytes, Encoding::Plain),
    }
}

#[test]
fn the_same_values_by_every_way_in_are_the_same_values_in_the_log() {
    let seed = fastrand::u64(..);
    println!("seed={seed}");
    let mut random = Rng::with_seed(seed);
    for _ in 0..8_000 {
        let has_schema = random.bool();
        let batch = Batch::new(&mut random, has_schema);
        let table = |format| Target::Table {
            table: "t".to_owned(),
            format,
            tags: Vec::new(),
        };
        let (array, lines) = (batch.objects(&mut random), batch.objects(&mut random));
        let ways = [
            (format!("[{}]", array.join(" ,\n")), table(Format::Auto)),
            (lines.join("\n"), table(Format::Json)),
            (batch.csv(&mut random), table(Format::Csv)),
            (batch.lines(&mut random), Target::Lines),
        ];
        let expected = batch.expected();
        for (text, target) in ways {
            let (bytes, encoding) = sent(&mut random, &text);
            let mut log = Captured {
                schema: has_schema.then(|| Arc::clone(&batch.schema)),
                ..Captured::default()
            };
            let read = unpack::text(&bytes, encoding, 1 << 20).expect(&text);
            append_body(&target, (Times::default(), MAX_ROWS), &read, 0, &mut log).expect(&text);
            assert_eq!(log.rows, expected, "{text}");
            if target != Target::Lines
                && !matches!(
                    target,
                    Target::Table {
                        format: Format::Csv,
                        ..
                    }
                )
            {
                let read = unpack::text_of(&bytes).expect(&text);
                let decoded = crate::decode(&read, Reading::default()).expect(&text);
                let rows: Vec<_> = decoded.rows(&[], 0).map(|row| told(&row)).collect();
                assert_eq!(rows, expected, "{text}");
            }
        }
    }
}

#[test]
fn a_time_without_a_zone_is_of_the_one_of_the_conf_by_every_way_in() {
    let (json, csv) = (
        r#"{"v":1,"Time":"2023-11-14T23:13:20"}"#,
        "Time,v\n2023-11-14 23:13:20,1\n",
    );
    let stored = |text: &str, zone: Option<Zone>| {
        let target = Target::Table {
            table: "t".to_owned(),
            format: Format::Auto,
            tags: Vec::new(),
        };
        let unit = Unit::Auto;
        let mut log = Captured::default();
        let appended = append_body(&target, (Times { unit, zone }, MAX_ROWS), text, 7, &mut log);
        appended.map(|_| log.rows).expect(text)
    };
    let berlin = Zone::parse("Europe/Berlin");
    let expected = [(1_700_000_000_000_000_000, vec!["v=Int(1)".to_owned()])];
    assert_eq!(stored(json, berlin), expected);
    assert_eq!(stored(csv, berlin), expected);
    let message = crate::decode(
        json,
        Reading {
            zone: berlin,
            ..Reading::default()
        },
    )
    .expect("decodes");
    let message: Vec<_> = message.rows(&[], 7).map(|row| told(&row)).collect();
    assert_eq!(message, expected);
    // Without one it is a field like any other.
    let (time, fields) = stored(json, None).remove(0);
    assert_eq!((time, fields.len()), (7, 2));
    let certain = crate::decode(r#"{"time":"2023-11-14T23:13:20"}"#, Reading::default())
        .expect_err("refused");
    assert!(
        certain.to_string().contains("ingest.time_zone"),
        "{certain}"
    );
}
