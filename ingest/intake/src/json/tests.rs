//! JSON as devices send it: what becomes of it, what is refused and how it is said, and that the
//! what is taken is what serde_json takes. Must never ask this reader what is right.

use wal::Value;

use super::*;
use crate::timestamp::Unit;

type Shape = (Option<i64>, Vec<(String, Value<'static>)>);

fn owned(value: &Value<'_>) -> Value<'static> {
    match value {
        Value::Text(text) => Value::Text(text.to_string().into()),
        Value::Int(number) => Value::Int(*number),
        Value::Float(number) => Value::Float(*number),
        Value::Bool(truth) => Value::Bool(*truth),
    }
}

fn rows(payload: &str) -> Vec<Shape> {
    let decoded = decode(payload, Unit::Auto, 1_000).expect(payload);
    let rows = decoded.into_rows();
    rows.map(|row| {
        let fields = row.fields.iter();
        let fields = fields.map(|(name, value)| (name.to_string(), owned(value)));
        (row.time, fields.collect())
    })
    .collect()
}

fn fields(payload: &str) -> Vec<(String, Value<'static>)> {
    rows(payload).remove(0).1
}

fn text(text: &str) -> Value<'static> {
    Value::Text(text.to_owned().into())
}

fn reason(payload: &str) -> String {
    let refused = decode(payload, Unit::Auto, 1_000);
    refused.expect_err(payload).to_string()
}

#[test]
fn objects_arrays_and_lines_become_rows() {
    let one = r#" {"t":21.5,"n":3,"ok":true,"s":"a\"b","none":null,"in":{"x":{"y":1}},"e":{}}"#;
    let expected = [
        ("t", Value::Float(21.5)),
        ("n", Value::Int(3)),
        ("ok", Value::Bool(true)),
        ("s", text("a\"b")),
        ("in_x_y", Value::Int(1)),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value));
    assert_eq!(rows(one), [(None, expected.to_vec())]);
    assert_eq!(rows(r#"[{"a":1,"ts":1},{"a":2}]"#).len(), 2);
    assert_eq!(rows("{\"a\":1}\n{\"a\":2}\r\n{\"a\":3}\n").len(), 3);
    assert_eq!(rows(r#"{"a":1}{"a":2}"#).len(), 2);
    assert_eq!(rows(r#"{"a":1,"ts":1}"#)[0].0, Some(1_000_000_000));
}

#[test]
fn arrays_in_a_row_are_their_json_text_with_all_digits() {
    let sent = r#"{"f":868.1,"rx":[ {"id": "g 1", "rssi":-57.00},{"id":"g\"2 ]"} ],"none":[],
        "in":{"y":[[1,2],[12345678901234567890, 1e400]]},"deep":{"empty":[ ]}}"#;
    let expected = [
        ("f", Value::Float(868.1)),
        (
            "rx",
            text(r#"[{"id":"g 1","rssi":-57.00},{"id":"g\"2 ]"}]"#),
        ),
        ("none", text("[]")),
        ("in_y", text("[[1,2],[12345678901234567890,1e400]]")),
        ("deep_empty", text("[]")),
    ];
    assert_eq!(
        fields(sent),
        expected.map(|(name, value)| (name.to_owned(), value))
    );
    assert_eq!(
        fields("[1, \"a b\"]"),
        [("value".to_owned(), text("[1,\"a b\"]"))]
    );
    assert!(reason(r#"{"a":[1,]}"#).contains("expected value at \"]\""));
    assert!(reason(r#"{"a":[1 2]}"#).contains("expected `,` or `]`"));
}

#[test]
fn numbers_are_the_nearest_floats_and_integers_whole() {
    let sent = r#"{"v":1014.5449131979983,"f":938.9930419921875,"big":1e19,"i":9223372036854775807,
        "zero":-0,"low":-9223372036854775808}"#;
    let values: Vec<Value<'_>> = fields(sent).into_iter().map(|(_, value)| value).collect();
    let expected = [
        Value::Float(1_014.544_913_197_998_3),
        Value::Float(938.993_041_992_187_5),
        Value::Float(1e19),
        Value::Int(i64::MAX),
        Value::Int(0),
        Value::Int(i64::MIN),
    ];
    assert_eq!(values, expected);
    for (payload, told) in [
        (
            r#"{"a":9223372036854775808}"#,
            "row 1, field \"a\": integer 9223372036854775808 exceeds",
        ),
        (
            r#"[{"a":1},{"in":{"id":18446744073709551615}}]"#,
            "row 2, field \"in_id\": integer",
        ),
        (r#"{"a":-9223372036854775809}"#, "exceeds 64 bits"),
        (
            r#"{"a":1e999}"#,
            "row 1, field \"a\": number 1e999 out of range",
        ),
    ] {
        assert!(reason(payload).contains(told), "{}", reason(payload));
    }
}

#[test]
fn the_best_name_that_says_when_is_the_time_and_the_others_stay_fields() {
    let second = 1_000_000_000;
    for (payload, time, left) in [
        (r#"{"timestamp":7,"time":2}"#, Some(2), vec!["timestamp"]),
        (r#"{"Timestamp":7,"ts":2}"#, Some(2), vec!["Timestamp"]),
        (
            r#"{"dateTime":"1970-01-01T00:00:09Z","Time":7}"#,
            Some(7),
            vec!["dateTime"],
        ),
        (r#"{"dateTime":"1970-01-01T00:00:09Z"}"#, Some(9), vec![]),
        (r#"{"TS":3}"#, Some(3), vec![]),
        (
            r#"{"Time":"2019-11-04T13:37:55","DATETIME":4}"#,
            Some(4),
            vec!["Time"],
        ),
        (r#"{"Time":true}"#, None, vec!["Time"]),
        (r#"{"Time":[1]}"#, None, vec!["Time"]),
        (r#"{"in":{"time":1}}"#, None, vec!["in_time"]),
        (r#"{"datetimes":1,"tss":2}"#, None, vec!["datetimes", "tss"]),
        (r#"{"time":null,"v":1}"#, None, vec!["v"]),
    ] {
        let (found, fields) = rows(payload).remove(0);
        assert_eq!(found, time.map(|time: i64| time * second), "{payload}");
        let names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, left, "{payload}");
    }
    let exact = rows(r#"{"ts":1631186545.04,"v":1}"#);
    assert_eq!(exact[0].0, Some(1_631_186_545_040_000_000));
    let odd = decode(r#"{"Time":"2019-11-04T13:37:55","v":1}"#, Unit::Auto, 1_000);
    let odd = odd.expect("decodes");
    let odd = odd.not_a_time().expect("told");
    assert_eq!(odd.field, "Time");
    assert!(odd.reason.contains("no time zone"), "{}", odd.reason);
    assert!(reason(r#"{"time":1,"time":2}"#).contains("given twice"));
    assert!(reason(r#"{"time":[1]}"#).contains("an array is no time"));
    assert!(
        reason(r#"{"a":1}{"ts":"noon"}"#).starts_with("row 2, field \"ts\": it is the row's time")
    );
    assert!(reason(r#"{"time":"2019-11-04T13:37:55"}"#).contains("add Z or an offset"));
}

#[test]
fn what_is_wrong_is_said() {
    for (payload, told) in [
        (
            r#"{"a":NaN}"#,
            "invalid JSON in line 1, column 6: expected value: NaN is no JSON: send null",
        ),
        (
            r#"{"a":1}{"b":"#,
            "invalid JSON in line 1, column 12: EOF while parsing a value",
        ),
        (
            "{\"a\":1}\n{\"ü\" 1}",
            "line 2, column 6: expected `:` at \"1\"",
        ),
        ("{a:1}", "key must be a string at \"a\""),
        (
            "{\"a\":1}\nhello",
            "line 2, column 1: expected value at \"hello\"",
        ),
        ("[{\"a\":1}] x", "trailing characters at \"x\""),
        (r#"{"a":007}"#, "\"007\" is no JSON number"),
        (r#"{"a":1,}"#, "trailing comma"),
        (
            "[{},5]",
            "column 5: invalid type: integer `5`, expected an object",
        ),
        ("{\"a\":1.}", "\"1.\" is no JSON number"),
        ("{\"a\":+1}", "\"+1\" is no JSON number"),
        ("{\"a\":0x1F}", "\"0x1F\" is no JSON number"),
        ("{\"a\":2030-01-31}", "\"2030-01-31\" is no JSON number"),
        ("{\"a\":-Infinity}", "-Infinity is no JSON: send null"),
        ("{\"a\":nan}", "nan is no JSON: send null"),
        ("{\"a\":None}", "None is no JSON: send null"),
        ("{\"a\":True}", "True is no JSON: send true"),
        ("{'a':1}", "JSON's quotes are double"),
        ("{\"a\":21,5}", "a decimal point"),
        ("{\"a\":1 \"b\":2}", "expected `,` or `}` at \"\\\"\""),
        (r#"{"a":"x"#, "EOF while parsing a string"),
        ("{\"a\":\"x\n\"}", "control character"),
        ("{\"a\":\"x\n\"}", "an end of line as \\n"),
        (
            "{\"a\":1}\n{\"a\":\"x\t\"}",
            "line 2, column 7: control character",
        ),
        ("{\"a\":x\n}", "expected value at \"x\""),
        ("{\"a\":\"x\0\"}", "NUL"),
        (r#"{"a":"\x"}"#, "invalid escape"),
        (r#"{"a":"\ud800"}"#, "hex escape"),
        (r#"{"a":"\ud800x"}"#, "hex escape"),
        (
            r#"{"in":{"b":["x\udc00"]}}"#,
            "line 1, column 20: lone leading surrogate",
        ),
        (r#"["\ud800\u0041"]"#, "surrogate"),
        ("[]", "an array without rows"),
    ] {
        assert!(
            reason(payload).contains(told),
            "{payload}: {}",
            reason(payload)
        );
    }
}

#[test]
fn what_is_too_much_is_refused() {
    let many = decode(r#"{"a":1}{"a":2}{"a":3}"#, Unit::Auto, 2).expect_err("refused");
    assert_eq!(many, PayloadError::TooManyRows { limit: 2 });
    for deep in [
        format!("{}1{}", "{\"a\":".repeat(500), "}".repeat(500)),
        format!("{{\"a\":{}{}}}", "[".repeat(500), "]".repeat(500)),
        format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)),
    ] {
        assert!(reason(&deep).contains("recursion limit"));
    }
    let long = "n".repeat(250);
    assert!(reason(&format!(r#"{{"{long}":{{"123456":1}}}}"#)).contains("longer than 256"));
    assert_eq!(rows(&format!(r#"{{"{long}":{{"12345":1}}}}"#)).len(), 1);
}

#[test]
fn fields_that_become_one_column_are_told_apart() {
    let told = |payload, column: &str| clash(payload, column);
    assert_eq!(
        told(r#"[{"a":1},{"color":{"x":1},"color_x":2}]"#, "color_x"),
        Some((2, ["color.x".to_owned(), "color_x".to_owned()]))
    );
    assert_eq!(
        told(r#"{"a":1,"a":2}"#, "a"),
        Some((1, ["a".to_owned(), "a".to_owned()]))
    );
    assert_eq!(told(r#"{"a":1,"b":2}"#, "a"), None);
}

#[test]
fn a_long_text_deep_inside_is_not_read_again_and_again() {
    let nested = |depth: usize, len: usize| {
        let (open, close) = ("{\"\":".repeat(depth), "}".repeat(depth));
        format!("{open}{{\"v\":\"{}\"}}{close}", "x".repeat(len))
    };
    assert_eq!(rows(&nested(120, 5_000)).len(), 1);
    assert_eq!(rows(&nested(10, 500_000)).len(), 1);
    let refused = reason(&nested(120, 500_000));
    assert!(
        refused.contains("too many objects in each other"),
        "{refused}"
    );
}

/// Pieces are looked at one by one: what they make up is what serde_json takes as a whole.
#[test]
fn damaged_payloads_never_panic_and_are_taken_where_serde_json_takes_them() {
    let seed = fastrand::u64(..);
    println!("seed={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let valid = r#"[{"t":21.5,"z":"2023-11-14T22:13:20Z","in":{"x":-1,"y":[1,{"k":"\n"}]}},
        {"s":"\u00e9\ud83d\ude00\\","b":null,"c":[true,false,[]],"n":-0.5e-3}]"#;
    let mut agreed = 0;
    for _ in 0..40_000 {
        let mut bytes = valid.as_bytes().to_vec();
        for _ in 0..random.usize(0..3) {
            let at = random.usize(..bytes.len());
            let other = *random.choice(valid.as_bytes()).expect("some");
            match random.u8(..4) {
                0 => bytes[at] = random.u8(..),
                1 => bytes[at] = other,
                2 => bytes.truncate(at.max(1)),
                _ => bytes.insert(at, other),
            }
        }
        let Ok(text) = std::str::from_utf8(&bytes) else {
            continue;
        };
        let ours = decode(text, Unit::Auto, 1_000);
        let theirs: Result<Vec<serde_json::Map<String, serde_json::Value>>, _> =
            serde_json::from_str(text);
        match (&ours, &theirs) {
            (Err(PayloadError::Json { .. }), Ok(_)) => panic!("{text}"),
            (Ok(_), Err(_)) => {
                // Lines of objects, an array of other things, numbers that no float holds.
                let lines: Result<Vec<serde_json::Value>, _> =
                    serde_json::Deserializer::from_str(text)
                        .into_iter()
                        .collect();
                let fair = lines.is_ok_and(|all| !all.is_empty())
                    || theirs.is_err_and(|why| why.to_string().contains("out of range"));
                assert!(fair, "{text}");
            }
            _ => agreed += 1,
        }
    }
    assert!(agreed > 10_000, "{agreed}");
}
