//! The same value by every way in is the same value in every answer. Must never compare what one
//! way in stored with itself.

use tests::cluster::Cluster;
use tests::http::Http;
use tests::raw::{Raw, publish};

/// Sends payloads of QoS 1 over MQTT, each acknowledged before the next.
fn publish_all(mqtt: &str, messages: &[(&str, &[u8])]) {
    let mut raw = Raw::v3(mqtt, "values");
    for ((topic, payload), id) in messages.iter().zip(1_u16..) {
        raw.send(&publish(id, topic, &[], payload));
        let ack = raw.packet().expect("a PUBACK");
        assert_eq!(ack, [0x40, 2, (id >> 8) as u8, id as u8], "{topic}");
    }
}

#[test]
fn the_same_values_by_every_way_in_are_the_same_in_answers() {
    let mut cluster = Cluster::new();
    let primary = cluster.primary();
    let http = Http::of(&primary);
    let json = ROWS
        .map(|(time, i, f, b, s)| format!(r#"{{"ts":{time},"i":{i},"f":{f},"b":{b},"s":"{s}"}}"#));
    let messages: Vec<(&str, &[u8])> = json
        .iter()
        .map(|row| ("by_mqtt/a", row.as_bytes()))
        .collect();
    publish_all(cluster.mqtt(), &messages);
    let csv = ROWS.map(|(time, i, f, b, s)| format!("{time},{i},{f},{b},{s}\n"));
    let lines =
        ROWS.map(|(time, i, f, b, s)| format!("by_lines i={i}i,f={f},b={b},s=\"{s}\" {time}\n"));
    for (path, kind, body) in [
        (
            "/api/v1/ingest/by_json",
            "application/json",
            format!("[{}]", json.join(",")),
        ),
        (
            "/api/v1/ingest/by_guess",
            "text/plain",
            format!("\u{feff}{}\0", json.join("\n")),
        ),
        (
            "/api/v1/ingest/by_csv",
            "text/csv",
            format!("ts,i,f,b,s\n{}", csv.concat()),
        ),
        ("/api/v2/write?precision=s", "text/plain", lines.concat()),
    ] {
        let answer = http.send(path, kind, &body).expect("an answer");
        assert!(
            matches!(answer.status, 200 | 204),
            "{path}: {}",
            answer.body
        );
    }
    let ask = |table: &str| {
        let sql = format!("SELECT time, i, f, b, s FROM {table} ORDER BY time");
        let answer = http.query(&sql, &[("format", "jsonl")]);
        assert_eq!(answer.status, 200, "{table}: {}", answer.body);
        let exact = "SELECT count(*) FROM {} WHERE (i = 9007199254740993 AND f = \
                     1014.5449131979983) OR (i = 9223372036854775807 AND f = 938.9930419921875 \
                     AND time = TIMESTAMP '2021-09-09T11:22:25.040000000Z')";
        assert_eq!(http.number(&exact.replace("{}", table)), 2, "{table}");
        answer.body
    };
    let expected = ask("by_mqtt");
    assert_eq!(expected.lines().count(), ROWS.len());
    for table in ["by_json", "by_guess", "by_csv", "by_lines"] {
        assert_eq!(ask(table), expected, "{table}");
    }
    primary.stop();
}

#[test]
fn devices_that_know_little_of_json_are_stored() {
    let mut cluster = Cluster::new();
    let primary = cluster.primary();
    let http = Http::of(&primary);
    publish_all(
        cluster.mqtt(),
        &[
            ("bare/temp", b"8.1"),
            ("bare/temp", b"-3\0"),
            ("words/state", b"\xef\xbb\xbfonline"),
            ("words/state", b"007"),
            ("words/state", b"1"),
            (
                "arrays/a",
                br#"{"rssi":-57,"rx":[{"id": 12345678901234567890}],"e":[]}"#,
            ),
            ("times/a", br#"{"Timestamp":1631186545.04,"v":1}"#),
            ("wide/a", b"\xff\xfe{\0\"\0v\0\"\0:\x001\0}\0"),
        ],
    );
    assert_eq!(
        http.rows("SELECT count(*) AS n FROM system.dead_letters")[0]["n"],
        0
    );
    let told = |sql: &str| serde_json::Value::from(http.rows(sql)).to_string();
    assert_eq!(
        told("SELECT value FROM bare ORDER BY value"),
        r#"[{"value":-3.0},{"value":8.1}]"#
    );
    assert_eq!(
        told("SELECT value FROM words ORDER BY value"),
        r#"[{"value":"007"},{"value":"1"},{"value":"online"}]"#
    );
    assert_eq!(
        told("SELECT rssi, rx, e FROM arrays"),
        r#"[{"e":"[]","rssi":-57,"rx":"[{\"id\":12345678901234567890}]"}]"#
    );
    assert_eq!(
        told("SELECT time FROM times"),
        r#"[{"time":"2021-09-09T11:22:25.040Z"}]"#
    );
    assert_eq!(told("SELECT v FROM wide"), r#"[{"v":1}]"#);
    primary.stop();
}

/// Seconds, an integer, a float, a boolean and a text, as every format writes them.
const ROWS: [(&str, &str, &str, &str, &str); 4] = [
    (
        "1631186545",
        "9007199254740993",
        "1014.5449131979983",
        "true",
        "a b",
    ),
    (
        "1631186545.04",
        "9223372036854775807",
        "938.9930419921875",
        "false",
        "007x",
    ),
    (
        "1631186545.123456789",
        "-9223372036854775808",
        "1.5e19",
        "true",
        "é;=",
    ),
    ("1631186546", "0", "-0.1", "false", "12E12"),
];
