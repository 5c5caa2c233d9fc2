//! No digit is lost: integers and floats of every size, in every order, on every node, before and
//! after compaction. Tests only; the model must never share code with the log.

use std::collections::BTreeMap;
use std::path::Path;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimestampNanosecondType};

use super::seed;
use crate::tests::model::{follow, open_copy};
use crate::{
    AppendError, Appender, Column, ColumnRole, ColumnType, Committer, Config, Log, OsDisk, Refusal,
    Row, TableDef, Value, Wanted, compact_now, open_primary,
};

#[derive(Clone, Copy, Debug)]
pub(crate) enum Number {
    Int(i64),
    Float(f64),
}

use Number::{Float, Int};

impl Number {
    fn value(self) -> Value<'static> {
        match self {
            Int(value) => Value::Int(value),
            Float(value) => Value::Float(value),
        }
    }

    /// Whether both are the same number, to the last digit.
    pub(crate) fn is(self, other: Self) -> bool {
        match (self, other) {
            (Int(a), Int(b)) => a == b,
            (Float(a), Float(b)) => a == b,
            (Int(a), Float(b)) | (Float(b), Int(a)) => {
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "saturates, and is compared"
                )]
                let whole = b as i128;
                b.fract() == 0.0 && whole == i128::from(a)
            }
        }
    }

    /// Whether a column of this type holds it as it is.
    fn fits(self, kind: ColumnType) -> bool {
        let limit = 9_007_199_254_740_992.0;
        match (kind, self) {
            (ColumnType::Float, Float(_)) => true,
            (ColumnType::BigInt, Int(_)) => true,
            (ColumnType::BigInt, Float(value)) => {
                value.fract() == 0.0 && (-TWO_63..TWO_63).contains(&value)
            }
            (_, Int(value)) => value.unsigned_abs() <= 1 << 53,
            (_, Float(value)) => value.fract() == 0.0 && value.abs() <= limit,
        }
    }
}

pub(crate) fn open(dir: &Path, config: &Config) -> (Committer, Appender) {
    let (committer, _) = open_primary(OsDisk::new(), dir, config).expect("opens");
    let appender = committer.appender(Box::new(|_| ()));
    (committer, appender)
}

/// One message: a row for each number, at times from `time` on.
pub(crate) fn send(
    appender: &mut Appender,
    time: i64,
    numbers: &[Number],
) -> Result<(), AppendError> {
    let fields: Vec<_> = numbers
        .iter()
        .map(|number| [("v".into(), number.value())])
        .collect();
    let rows: Vec<Row<'_>> = fields
        .iter()
        .zip(time..)
        .map(|(fields, time)| Row {
            time,
            tags: &[],
            fields,
        })
        .collect();
    let group = appender.append("t", &rows)?;
    appender.wait(group).expect("durable");
    Ok(())
}

fn number(array: &ArrayRef, row: usize) -> Number {
    match array.data_type() {
        DataType::Int64 => Int(array.as_primitive::<Int64Type>().value(row)),
        _ => Float(array.as_primitive::<Float64Type>().value(row)),
    }
}

/// Times and numbers of the table, in the order of time.
pub(crate) fn stored(log: &Log) -> Vec<(i64, Number)> {
    let snapshot = log.snapshot();
    let Some(schema) = snapshot.catalog().table("t") else {
        return Vec::new();
    };
    let columns = [0, schema.column("v").expect("v")];
    let mut batches = Vec::new();
    for file in snapshot.files(schema.id) {
        let wanted = Wanted::default();
        let groups = file.row_groups(schema, &wanted).expect("reads");
        let reader = file.read(schema, &columns, &groups, &wanted, 100);
        batches.extend(reader.expect("reads").map(|batch| batch.expect("reads")));
    }
    for block in snapshot.blocks(schema.id) {
        batches.push(block.read(schema, &columns).expect("reads"));
    }
    let mut found = Vec::new();
    for batch in batches {
        let times = batch.column(0).as_primitive::<TimestampNanosecondType>();
        for row in 0..batch.num_rows() {
            found.push((times.value(row), number(batch.column(1), row)));
        }
    }
    found.sort_by_key(|(time, _)| *time);
    found
}

pub(crate) fn kind(log: &Log) -> Option<ColumnType> {
    let snapshot = log.snapshot();
    let schema = snapshot.catalog().table("t")?;
    Some(schema.columns[schema.column("v")?].kind)
}

fn random_number(random: &mut fastrand::Rng) -> Number {
    let near = (1_i64 << 53) + random.i64(-3..=3);
    let sign = if random.bool() { 1 } else { -1 };
    #[expect(clippy::cast_precision_loss, reason = "any float will do")]
    match random.u8(0..16) {
        0 => Int(random.i64(..)),
        1 => Int(near * sign),
        2 => Float((near * sign) as f64),
        3 => Float(random.i64(..) as f64),
        4 => Float(f64::from(random.i32(-999..999)) / 100.0),
        5 => Float(random.f64() * 1e300),
        6..9 => Float(f64::from(random.i32(-99..99))),
        9 => Float(-0.0),
        _ => Int(random.i64(-1_000..1_000)),
    }
}

/// A message of some numbers; worlds without some kinds of them go further in others.
fn random_message(random: &mut fastrand::Rng, (big, floats): (bool, bool)) -> Vec<Number> {
    let count = random.usize(1..4);
    let mut numbers = Vec::new();
    while numbers.len() < count {
        let number = random_number(random);
        if (big || number.fits(ColumnType::Int)) && (floats || matches!(number, Int(_))) {
            numbers.push(number);
        }
    }
    numbers
}

/// Whether some type holds them all, of those that the column may come to have.
fn is_taken(numbers: &[Number], held: Option<ColumnType>) -> bool {
    let reachable: &[ColumnType] = match held {
        None | Some(ColumnType::Int) => &[ColumnType::Int, ColumnType::BigInt, ColumnType::Float],
        Some(ColumnType::BigInt) => &[ColumnType::BigInt],
        _ => &[ColumnType::Float],
    };
    let holds = |kind: &ColumnType| numbers.iter().all(|number| number.fits(*kind));
    reachable.iter().any(holds)
}

fn check(log: &Log, model: &[(i64, Number)]) {
    let found = stored(log);
    assert_eq!(found.len(), model.len());
    for (found, wanted) in found.iter().zip(model) {
        let same = found.0 == wanted.0 && found.1.is(wanted.1);
        assert!(same, "{found:?} {wanted:?}");
        let minus = matches!(found.1, Float(value) if value.to_bits() == 1 << 63);
        assert!(!minus, "minus zero");
    }
}

/// One column's life; the type that it ends with.
async fn live(random: &mut fastrand::Rng) -> Option<ColumnType> {
    let dirs = [(); 2].map(|()| tempfile::tempdir().expect("dir"));
    let config = Config {
        segment_size: 2_000,
        ..Config::default()
    };
    let (mut committer, mut appender) = open(dirs[0].path(), &config);
    let mut secondary = open_copy(dirs[1].path(), committer.log());
    let mut model: Vec<(i64, Number)> = Vec::new();
    let kinds = (random.u8(0..3) > 0, random.u8(0..3) > 0);
    for message in 0..30 {
        let numbers = random_message(random, kinds);
        let held = kind(committer.log());
        let sent = send(&mut appender, message * 10, &numbers);
        let expected = is_taken(&numbers, held);
        assert_eq!(
            sent.is_ok(),
            expected,
            "{numbers:?} into {held:?}: {sent:?}"
        );
        if expected {
            model.extend((message * 10..).zip(numbers));
        } else {
            assert_eq!(kind(committer.log()), held);
        }
        match random.u8(0..12) {
            0 => drop(compact_now(committer.log()).expect("compacts")),
            1 => {
                drop(appender);
                committer.stop().expect("stops");
                (committer, appender) = open(dirs[0].path(), &config);
            }
            _ => {}
        }
    }
    follow(committer.log(), &mut secondary).await;
    for log in [committer.log(), secondary.log()] {
        check(log, &model);
        compact_now(log).expect("compacts");
        check(log, &model);
        assert_eq!(log.verify().faults, []);
    }
    let kind = kind(committer.log());
    drop(appender);
    committer.stop().expect("stops");
    secondary.stop().await.expect("stops");
    kind
}

#[tokio::test]
async fn what_is_taken_is_read_to_the_last_digit_and_what_would_be_rounded_is_refused() {
    let mut random = fastrand::Rng::with_seed(seed());
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..40 {
        let kind = live(&mut random).await;
        *seen.entry(format!("{kind:?}")).or_default() += 1;
    }
    println!("{seen:?}");
}

#[test]
fn two_devices_stay_two_devices() {
    let dir = tempfile::tempdir().expect("dir");
    let (committer, mut appender) = open(dir.path(), &Config::default());
    for (time, number) in [Int(ID), Int(ID + 1), Float(0.0), Float(1e3), Float(-0.0)]
        .into_iter()
        .enumerate()
    {
        let time = i64::try_from(time).expect("small");
        send(&mut appender, time, &[number]).expect("an integer");
    }
    let ints: Vec<Number> = stored(committer.log())
        .into_iter()
        .map(|row| row.1)
        .collect();
    let expected = [Int(ID), Int(ID + 1), Int(0), Int(1_000), Int(0)];
    let same = |(a, b): (&Number, &Number)| matches!((a, b), (Int(a), Int(b)) if a == b);
    assert!(ints.iter().zip(&expected).all(same), "{ints:?}");
    let refused = send(&mut appender, 9, &[Float(0.5)]).expect_err("no integer");
    assert!(matches!(
        refused,
        AppendError::Refused(Refusal::NotWhole { .. })
    ));
    let text = refused.to_string();
    for part in ["\"v\"", "\"t\"", "beyond 2^53", "0.5", "another name"] {
        assert!(text.contains(part), "{text}");
    }
    drop(appender);
    committer.stop().expect("stops");
}

#[test]
fn refusals_of_numbers_name_column_table_and_value() {
    for (messages, parts) in [
        (
            vec![vec![Float(0.5)], vec![Int(ID)]],
            ["holds floats", "1724442618569203714 would be rounded"],
        ),
        (
            vec![vec![Int(ID), Float(0.5)]],
            ["both 1724442618569203714", "0.5"],
        ),
        (
            vec![vec![Int(5)], vec![Float(0.5), Int(ID)]],
            ["both 1724442618569203714", "0.5"],
        ),
        (
            vec![vec![Int(ID)], vec![Float(1e19)]],
            [
                "beyond 2^53",
                "10000000000000000000 is no integer of 64 bits",
            ],
        ),
    ] {
        let dir = tempfile::tempdir().expect("dir");
        let (committer, mut appender) = open(dir.path(), &Config::default());
        let (last, first) = messages.split_last().expect("some");
        for message in first {
            send(&mut appender, 0, message).expect("fits");
        }
        let text = send(&mut appender, 9, last)
            .expect_err("refused")
            .to_string();
        for part in parts.into_iter().chain(["\"v\"", "\"t\""]) {
            assert!(text.contains(part), "{part:?} is not in {text}");
        }
        drop(appender);
        committer.stop().expect("stops");
    }
}

#[test]
fn a_strict_column_of_integers_takes_integers_of_any_size_and_no_fractions() {
    let dir = tempfile::tempdir().expect("dir");
    let config = Config {
        tables: vec![TableDef {
            name: "t".to_owned(),
            columns: vec![Column::new("v", ColumnRole::Field, ColumnType::Int)],
            strict: true,
            ..TableDef::default()
        }],
        ..Config::default()
    };
    let (committer, mut appender) = open(dir.path(), &config);
    send(&mut appender, 0, &[Float(0.5)]).expect_err("a float");
    send(&mut appender, 1, &[Float(5.0), Int(ID)]).expect("integers");
    drop(appender);
    committer.stop().expect("stops");
    // The declaration says int, the log that it is a large one: both hold.
    let (committer, appender) = open(dir.path(), &config);
    assert_eq!(kind(committer.log()), Some(ColumnType::BigInt));
    drop(appender);
    committer.stop().expect("stops");
}

pub(crate) const ID: i64 = 1_724_442_618_569_203_714;
const TWO_63: f64 = 9_223_372_036_854_775_808.0;
