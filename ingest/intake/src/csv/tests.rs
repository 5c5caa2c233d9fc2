//! CSV as people export it: what becomes of it, and what is refused. Must never ask the reader
//! itself what is right.

use std::sync::Arc;

use wal::{ColumnRole, ColumnType, TableId, Value};

use super::*;

type Shape = (Option<i64>, Vec<(String, Value<'static>)>);

fn context(schema: Option<&TableSchema>) -> Context<'_> {
    Context {
        read: Unit::Auto.into(),
        tags: &[],
        schema,
        max_rows: 100,
        guessed: false,
    }
}

fn rows_of(payload: &str, context: &Context<'_>) -> Vec<Shape> {
    let decoded = decode(payload, context).expect(payload);
    let rows = decoded.into_rows();
    rows.map(|row| {
        let fields = row.fields.into_iter().map(|(name, value)| {
            let value = match value {
                Value::Text(text) => Value::Text(text.into_owned().into()),
                Value::Int(number) => Value::Int(number),
                Value::Float(number) => Value::Float(number),
                Value::Bool(truth) => Value::Bool(truth),
            };
            (name.to_string(), value)
        });
        (row.time, fields.collect())
    })
    .collect()
}

fn rows(payload: &str) -> Vec<Shape> {
    rows_of(payload, &context(None))
}

/// The values of one column, none where there is none.
fn column(cells: &[&str], schema: Option<&TableSchema>) -> Vec<Option<Value<'static>>> {
    let lines: Vec<String> = cells.iter().map(|cell| format!("0,{cell}")).collect();
    let text = format!("time,v\n{}\n", lines.join("\n"));
    let rows = rows_of(&text, &context(schema)).into_iter();
    rows.map(|(_, fields)| fields.into_iter().next().map(|(_, value)| value))
        .collect()
}

fn text(text: &str) -> Option<Value<'static>> {
    Some(Value::Text(text.to_owned().into()))
}

fn texts(cells: &[&str]) -> Vec<Option<Value<'static>>> {
    cells.iter().map(|cell| text(cell)).collect()
}

fn reason(payload: &str) -> String {
    let refused = decode(payload, &context(None));
    refused.expect_err(payload).to_string()
}

fn schema(kind: ColumnType, role: ColumnRole) -> Arc<TableSchema> {
    let mut schema = TableSchema::new(TableId(1), "t");
    schema.columns.push(wal::Column::new("v", role, kind));
    Arc::new(schema)
}

#[test]
fn the_first_line_names_the_columns_and_empty_cells_are_no_values() {
    let rows = rows("ts,site,t,n,ok\n1700000000,\"a, b\",21.5,3,true\n,,-1e3,,\n\n");
    let field = |name: &str, value| (name.to_owned(), value);
    let first = vec![
        field("site", Value::Text("a, b".into())),
        field("t", Value::Float(21.5)),
        field("n", Value::Int(3)),
        field("ok", Value::Bool(true)),
    ];
    assert_eq!(rows[0], (Some(1_700_000_000_000_000_000), first));
    assert_eq!(rows[1], (None, vec![field("t", Value::Float(-1000.0))]));
    assert_eq!(rows.len(), 2);
}

#[test]
fn names_that_look_like_numbers_stay_text_and_so_does_their_column() {
    for cells in [
        &["0001E3", "12E12", "007"][..],
        &["123", "007"],
        &["12E12", "5"],
        &["1.5", "12e3"],
        &["+4930123", "+1"],
        &["00", "0"],
        &["1", "a"],
        &["1.5", "nan", "inf", "1e999", "1.5e999"],
        &["true", "1"],
        &["true", "yes"],
        &["99999999999999999999", "x"],
        &["1.2", "1.2.3"],
        &["[1,2"],
    ] {
        let quoted: Vec<String> = cells.iter().map(|cell| format!("\"{cell}\"")).collect();
        let quoted: Vec<&str> = quoted.iter().map(String::as_str).collect();
        assert_eq!(column(&quoted, None), texts(cells), "{cells:?}");
    }
    let floats = |cells: &[&str], expected: &[Value<'static>]| {
        let expected: Vec<_> = expected.iter().cloned().map(Some).collect();
        assert_eq!(column(cells, None), expected, "{cells:?}");
    };
    floats(
        &["0", "0.5", "-0.5", "-3", "1e-05", "1e+16", "-1e3", ".5"],
        &[
            Value::Int(0),
            Value::Float(0.5),
            Value::Float(-0.5),
            Value::Int(-3),
            Value::Float(1e-5),
            Value::Float(1e16),
            Value::Float(-1e3),
            Value::Float(0.5),
        ],
    );
    floats(
        &["1014.5449131979983", "938.9930419921875"],
        &[
            Value::Float(1_014.544_913_197_998_3),
            Value::Float(938.993_041_992_187_5),
        ],
    );
    floats(&["TRUE", "False"], &[Value::Bool(true), Value::Bool(false)]);
}

#[test]
fn a_word_among_many_numbers_is_refused_and_codes_are_text() {
    let payload = |odd: &str| {
        let rows = (0..100).map(|n| match n {
            70 => format!("x,{odd}\n"),
            n => format!("x,{n}\n"),
        });
        format!("id,v\n{}", rows.collect::<String>())
    };
    for (word, told) in [
        (
            "bad",
            "line 72: column \"v\": the cell is \"bad\", and 99 of 100 cells are numbers: correct",
        ),
        (
            "NaN",
            "leave it empty where there is no value, or declare the column as text",
        ),
    ] {
        assert!(
            reason(&payload(word)).contains(told),
            "{}",
            reason(&payload(word))
        );
    }
    for code in ["A12", "007", "1.2.3"] {
        assert_eq!(
            rows(&payload(code))[0].1[1].1,
            Value::Text("0".into()),
            "{code}"
        );
    }
    let text = schema(ColumnType::Text, ColumnRole::Field);
    let rows = rows_of(&payload("bad"), &context(Some(&text)));
    assert_eq!(rows[70].1[1].1, Value::Text("bad".into()));
}

#[test]
fn a_column_that_is_there_says_what_its_cells_are() {
    for role in [ColumnRole::Field, ColumnRole::Tag] {
        let held = schema(ColumnType::Text, role);
        let cells = ["123", "1.50", "true", "99999999999999999999"];
        assert_eq!(column(&cells, Some(&held)), texts(&cells));
    }
    let float = schema(ColumnType::Float, ColumnRole::Field);
    let expected = [Value::Int(1), Value::Float(1e16), Value::Int(5)].map(Some);
    assert_eq!(column(&["1", "1e16", "+5"], Some(&float)), expected);
    let tell = |kind, cell: &str| {
        let held = schema(kind, ColumnRole::Field);
        let payload = format!("v\n1\n\n{cell}\n");
        let payload = if kind == ColumnType::Bool {
            payload.replace("1\n", "true\n")
        } else {
            payload
        };
        let refused = decode(&payload, &context(Some(&held)));
        refused.expect_err(cell).to_string()
    };
    assert_eq!(
        tell(ColumnType::Float, "warm"),
        "invalid CSV in line 4: column \"v\": the cell is \"warm\", and the column holds a float"
    );
    assert!(tell(ColumnType::Int, "007").contains("\"007\", and the column holds an integer"));
    assert!(tell(ColumnType::Int, "12E12").contains("the column holds an integer"));
    assert!(tell(ColumnType::Float, "007.5").contains("the column holds a float"));
    assert!(tell(ColumnType::Bool, "7").contains("the column holds a boolean"));
    assert!(tell(ColumnType::Int, "99999999999999999999").contains("exceeds 64 bits"));
}

#[test]
fn an_empty_text_is_told_from_no_value() {
    assert_eq!(
        column(&["a", "\"\"", ""], None),
        [text("a"), text(""), None]
    );
    assert_eq!(column(&["\"\"", ""], None), [text(""), None]);
    // Many programs quote everything; no number is empty.
    assert_eq!(
        column(&["\"1\"", "\"\"", ""], None),
        [Some(Value::Int(1)), None, None]
    );
    let rows = rows("time,v\n\"\",1\n");
    assert_eq!(rows[0].0, None);
}

#[test]
fn what_says_who_is_not_read_as_a_number() {
    let tags = ["id".to_owned()];
    let context = Context {
        tags: &tags,
        ..context(None)
    };
    let rows = rows_of("id,v\n0042,1\n1.50,1\n99999999999999999999,1\n", &context);
    let ids: Vec<_> = rows.iter().map(|row| Some(row.1[0].1.clone())).collect();
    assert_eq!(ids, texts(&["0042", "1.50", "99999999999999999999"]));
}

#[test]
fn the_time_is_the_column_of_the_best_name_row_by_row() {
    let rows = rows("Timestamp,ts,v\n2023-11-14T22:13:20Z,,1\nnoon,5,2\nnoon,,3\n");
    let times: Vec<_> = rows.iter().map(|row| row.0).collect();
    assert_eq!(
        times,
        [Some(1_700_000_000_000_000_000), Some(5_000_000_000), None]
    );
    assert_eq!(
        rows[1].1[0],
        ("Timestamp".to_owned(), Value::Text("noon".into()))
    );
    let odd = decode("Time,v\nnoon,1\n", &context(None)).expect("decodes");
    assert_eq!(odd.not_a_time().map(|odd| odd.field.as_str()), Some("Time"));
    assert!(rows_of("ts\n1631186545.04\n", &context(None))[0].0 == Some(1_631_186_545_040_000_000));
}

#[test]
fn what_is_wrong_is_said_with_its_line() {
    for (payload, told) in [
        ("", "the payload is empty"),
        (
            "a,b\n1,2\n3\n",
            "invalid CSV in line 3: it has 1 cells, the header has 2",
        ),
        (
            "id,v\nx,1\ny,9223372036854775808\n",
            "invalid CSV in line 3: column \"v\": integer 9223372036854775808 exceeds 64 bits",
        ),
        (
            "time,a\n1,1\nnoon,1\n",
            "line 3: column \"time\" is the row's time, and \"noon\"",
        ),
        ("a,a\n1,2\n", "two columns are called \"a\""),
        ("a,\n1,2\n", "line 2: column 2 has no name"),
        (
            "a,b\n1,-inf\n2,1.5\n",
            "line 2: column \"b\": the cell is \"-inf\"",
        ),
        (
            "a,b\n1,1\n2,NULL\n",
            "line 3: column \"b\": the cell is \"NULL\", and 1 of 2 cells are numbers: leave it empty",
        ),
        (
            "a,b\n1,NaN\n2,1.5\n",
            "line 2: column \"b\": the cell is \"NaN\"",
        ),
        ("a,b\n\"x,2\n", "never closed"),
    ] {
        assert!(
            reason(payload).contains(told),
            "{payload}: {}",
            reason(payload)
        );
    }
    assert_eq!(rows("a,\n1,\n").len(), 1);
    assert_eq!(rows("a,b\n1,none\n2,low\n3,1\n").len(), 3);
    assert_eq!(rows("sep=,\r\na,b\r\n1,2\r\n"), rows("a,b\n1,2\n"));
    assert!(reason("sep=;\na;b\n1;2\n").contains("is the separator ';'?"));
    assert!(reason("sep=,\na,b\n1\n").contains("in line 3"));
    let long = format!("{}\n1\n", "n".repeat(257));
    assert!(reason(&long).contains("a name is longer than 256 bytes"));
    let context = Context {
        max_rows: 2,
        ..context(None)
    };
    let many = decode("a\n1\n2\n3\n", &context).expect_err("refused");
    assert_eq!(many.to_string(), "the payload has more than 2 rows");
}

#[test]
fn what_is_no_csv_with_a_header_is_refused_with_what_to_do() {
    for (payload, told) in [
        ("a;b;c\n1;2;3\n", "is the separator ';'?"),
        (
            "#datatype,string,long\n,result,table\n,a,1\n",
            "take out the lines that begin with #",
        ),
        ("a\tb\n1\t2\n", "is the separator '\\t'?"),
        ("a;b\n1,5;2,5\n", "is the separator ';'?"),
        ("ts,site,v1700000000,a,21.5", "use --data-binary"),
        ("ts,site,v", "use --data-binary"),
        (
            "1700000000,a,21.5\n1700000001,a,21.6\n",
            "the first line must name the columns",
        ),
        (
            "2023-11-14T22:13:20Z,dev\n2023-11-14T22:13:21Z,dev\n",
            "must name the columns",
        ),
        ("dev,-1.5\ndev,2\n", "must name the columns"),
        ("true,a\nfalse,b\n", "must name the columns"),
    ] {
        for guessed in [false, true] {
            let context = Context {
                guessed,
                ..context(None)
            };
            let refused = decode(payload, &context).expect_err(payload).to_string();
            assert!(refused.contains(told), "{payload}: {refused}");
        }
    }
    assert_eq!(rows("\"2020\",country\n1,x\n")[0].1.len(), 2);
}

#[test]
fn csv_that_nobody_said_it_is_must_be_unmistakable() {
    let guess = |payload: &str| {
        let context = Context {
            guessed: true,
            ..context(None)
        };
        decode(payload, &context).map(|decoded| decoded.len())
    };
    for payload in ["ts,v\n1,2\n", "site,v\na,1\nb,\n", "\"a b\",v\n\"x\",1\n"] {
        assert_eq!(
            guess(payload),
            Ok(1 + payload.matches("b,\n").count()),
            "{payload}"
        );
    }
    for payload in [
        "v\n1\n2\n",
        "Error, something went wrong\nplease, try again\n",
        "ERROR,disk\nINFO,ok\n",
        "a,b\n1,2,3\n",
        "key=1,b\n1,2\n",
        ",b\n1,2\n",
    ] {
        let refused = guess(payload).expect_err(payload).to_string();
        assert!(
            refused.contains("Content-Type: text/csv"),
            "{payload}: {refused}"
        );
    }
}
