//! What line protocol means, line by line. Must never build a line with the reader's own code.

use proptest::prelude::*;

use super::*;

fn read_all(text: &str) -> Vec<Result<Line<'_>, BadLine<'_>>> {
    read(text, Unit::NANOSECOND, ARRIVAL).collect()
}

fn one(text: &str) -> Line<'_> {
    let mut lines = read_all(text);
    assert_eq!(lines.len(), 1, "{text}");
    lines.remove(0).expect(text)
}

fn tags<'a>(line: &'a Line<'_>) -> Vec<(&'a str, &'a str)> {
    let tags = line.record.tags.iter();
    tags.map(|(name, value)| (&**name, &**value)).collect()
}

fn fields<'a>(line: &'a Line<'a>) -> Vec<(&'a str, Value<'a>)> {
    let fields = line.record.fields.iter();
    fields
        .map(|(name, value)| (&**name, value.clone()))
        .collect()
}

fn reason(text: &str) -> String {
    let mut lines = read_all(text);
    assert_eq!(lines.len(), 1, "{text}");
    lines.remove(0).expect_err(text).reason
}

#[test]
fn a_line_names_table_tags_fields_and_time() {
    let line = one("cpu,host=a,site=b usage=21.5,n=-3i,u=7u,ok=t,note=\"x y\" 1700000000000000000");
    assert_eq!(line.table, "cpu");
    assert_eq!(tags(&line), [("host", "a"), ("site", "b")]);
    let expected = [
        ("usage", Value::Float(21.5)),
        ("n", Value::Int(-3)),
        ("u", Value::Int(7)),
        ("ok", Value::Bool(true)),
        ("note", Value::Text("x y".into())),
    ];
    assert_eq!(fields(&line), expected);
    assert_eq!(line.record.time, 1_700_000_000_000_000_000);
    let line = one("cpu v=1");
    assert_eq!((line.record.time, line.record.line), (ARRIVAL, 1));
    assert_eq!(fields(&line), [("v", Value::Float(1.0))]);
}

#[test]
fn backslashes_make_separators_ordinary_and_are_ordinary_elsewhere() {
    let line = one(r#"a\ b\,c,t\=1=x\ y\\z,dir=C:\temp f\,1="q\"\\ \n",g=1"#);
    assert_eq!(line.table, "a b,c");
    assert_eq!(one(r"a\=b v=1").table, r"a\=b");
    assert_eq!(tags(&line), [("t=1", r"x y\\z"), ("dir", r"C:\temp")]);
    let expected = [
        ("f,1", Value::Text(r#"q"\ \n"#.into())),
        ("g", Value::Float(1.0)),
    ];
    assert_eq!(fields(&line), expected);
}

#[test]
fn quotes_may_hold_commas_equals_signs_and_ends_of_lines() {
    let text = "a f=\"x,y=z 1\n2\",g=2 5\n\n# note \" =\"\r\nb v=1i\r\n";
    let lines = read_all(text);
    assert_eq!(lines.len(), 2);
    let first = lines[0].as_ref().expect("a line");
    assert_eq!(fields(first)[0], ("f", Value::Text("x,y=z 1\n2".into())));
    let second = lines[1].as_ref().expect("a line");
    assert_eq!((second.record.line, &*second.table), (5, "b"));
    assert_eq!(fields(second), [("v", Value::Int(1))]);
}

#[test]
fn a_bad_line_is_told_and_the_others_are_read() {
    let lines = read_all("a v=1\nb v=\nc v=\"open\nd v=2");
    let bad: Vec<(usize, &str)> = lines
        .iter()
        .filter_map(|line| line.as_ref().err())
        .map(|bad| (bad.line, bad.text))
        .collect();
    assert_eq!(bad, [(2, "b v="), (3, "c v=\"open")]);
    assert_eq!(lines.iter().filter(|line| line.is_ok()).count(), 2);
}

#[test]
fn quotes_that_never_end_cost_one_line_each_however_many_there_are() {
    let text = "a v=\"x\",w=\"\n".repeat(100_000);
    let lines = read_all(&text);
    assert_eq!(lines.len(), 100_000);
    assert!(lines.iter().all(Result::is_err));
    let lines = read_all(" cpu,t=\"a v=1\n cpu,t=\"b v=2\n");
    assert_eq!(lines.iter().filter(|line| line.is_ok()).count(), 2);
}

#[test]
fn what_is_wrong_is_said() {
    assert!(reason(",t=1 v=1").contains("measurement"));
    assert!(reason("a,t v=1").contains("a tag needs"));
    assert!(reason("a,t= v=1").contains("a tag needs"));
    assert!(reason("a,=x v=1").contains("a tag needs"));
    assert!(reason("a").contains("at least one field"));
    assert!(reason("a ").contains("a field needs"));
    assert!(reason("a v").contains("a field needs"));
    assert!(reason("a v=1,").contains("a field needs"));
    assert!(reason("a v=x").contains("\"x\" is no number"));
    assert!(reason("a v=NaN").contains("cannot be stored: leave the field out"));
    assert!(reason("a v=-inf").contains("leave the field out"));
    assert!(reason("a v=1 2030-01-31T12:00:00Z").contains("nanoseconds unless `precision`"));
    assert!(reason("{\"v\":1}").contains("looks like JSON: POST that to /api/v1/ingest"));
    assert!(reason("ts,v").contains("if it is CSV"));
    assert!(!reason("a,t= v=1").contains("CSV"));
    for odd in [
        "nan",
        "inf",
        "1e999",
        "9223372036854775808i",
        "-1u",
        "+u",
        "1 i",
    ] {
        let _ = reason(&format!("a v={odd}"));
    }
    assert!(reason("a v=\"x").contains("closing quote"));
    assert!(reason("a v=\"x\"y").contains("is no time"));
    assert!(reason("a v=1 soon").contains("is no time"));
    assert!(reason("a v=1 1 2").contains("is no time"));
}

#[test]
fn times_are_of_the_unit_that_is_asked_for() {
    let time = |text, unit| {
        let unit = Unit::from_name(unit).expect("a unit");
        let line = read(text, unit, ARRIVAL).next().expect("one");
        line.expect("a line").record.time
    };
    assert_eq!(time("a v=1 7", "s"), 7_000_000_000);
    assert_eq!(time("a v=1 -7", "ms"), -7_000_000);
    assert_eq!(time("a v=1 1700000000", "auto"), 1_700_000_000_000_000_000);
    let far = read("a v=1 9223372036854775807", Unit::Nanos(1_000), ARRIVAL).next();
    let far = far.expect("one").expect_err("outside");
    assert!(far.reason.contains("outside the years"));
}

fn escape(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let special = matches!(c, ',' | '=' | ' ');
            special.then_some('\\').into_iter().chain([c])
        })
        .collect()
}

proptest! {
    #[test]
    fn what_is_written_by_the_rules_is_read_back(
        table in "[a-z=ü][a-z0-9, =ü]{0,6}[a-z]",
        tag in ("[a-z, =ü]{0,6}[a-z]", "[a-z0-9, =ü\"]{0,6}[a-z]"),
        note in "[ -~ü\n]{0,20}",
        number in any::<f64>().prop_filter("finite", |number| number.is_finite()),
        count in any::<i64>(),
        time in any::<i64>(),
    ) {
        // A comment begins with #, and blanks before a measurement are skipped.
        let quoted = note.replace('\\', "\\\\").replace('"', "\\\"");
        let text = format!(
            "{},{}={} note=\"{quoted}\",number={number:e},count={count}i {time}\n",
            escape(&table).replace("\\=", "="), escape(&tag.0), escape(&tag.1),
        );
        let line = one(&text);
        prop_assert_eq!(&line.table, &table);
        prop_assert_eq!(tags(&line), [(tag.0.as_str(), tag.1.as_str())]);
        let expected = [
            ("note", Value::Text(note.into())),
            ("number", Value::Float(number)),
            ("count", Value::Int(count)),
        ];
        prop_assert_eq!(fields(&line), expected);
        prop_assert_eq!(line.record.time, time);
    }

    #[test]
    fn no_text_makes_it_panic_and_every_line_is_told_of_once(text in "[a-c,=\" \\\\\n\r#0-9iuü]{0,60}") {
        let lines = read_all(&text);
        prop_assert!(lines.len() <= text.matches('\n').count() + 1);
        let numbers = lines.iter().map(|line| match line {
            Ok(line) => line.record.line,
            Err(bad) => bad.line,
        });
        prop_assert!(numbers.is_sorted_by(|a, b| a < b));
    }
}

const ARRIVAL: i64 = -7;
