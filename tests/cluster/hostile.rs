//! What one client sends, by mistake or on purpose, costs the others nothing: not their tables, not
//! their statements, not their sessions. Must never take long enough to be skipped.

use serde_json::json;
use tests::cluster::Cluster;
use tests::http::Http;
use tests::raw::{Raw, publish};

/// Sends one message and waits for its PUBACK.
fn acknowledged(raw: &mut Raw, id: u16, topic: &str, payload: &[u8]) {
    raw.send(&publish(id, topic, &[], payload));
    let ack = raw.packet().expect("a PUBACK");
    assert_eq!(ack, [0x40, 2, (id >> 8) as u8, id as u8], "for {topic}");
}

/// The times of 64 bits at both ends, and what clocks that have failed show.
const ODD_TIMES: [i64; 6] = [
    i64::MIN,
    i64::MIN + 1,
    i64::MAX,
    -8_520_336_000_000_000_001,
    8_835_955_200_000_000_001,
    9_223_286_400_000_000_000,
];

#[test]
fn a_row_of_a_time_that_no_clock_means_is_in_no_table() {
    let mut cluster = Cluster::new();
    let node = cluster.primary();
    let http = Http::of(&node);
    let mut raw = Raw::v3(cluster.mqtt(), "device");
    acknowledged(&mut raw, 1, "plant/a", br#"{"v":1,"time":1700000000}"#);
    acknowledged(
        &mut raw,
        2,
        "plant/a",
        br#"{"v":1,"time":"1700-01-01T00:00:00Z"}"#,
    );
    acknowledged(
        &mut raw,
        3,
        "plant/a",
        br#"{"v":1,"time":"2250-01-01T00:00:00Z"}"#,
    );
    for (time, id) in ODD_TIMES.into_iter().zip(4..) {
        let odd = format!(r#"[{{"v":1,"time":1}},{{"v":2,"time":{time}}}]"#);
        acknowledged(&mut raw, id, "plant/a", odd.as_bytes());
        let lines = format!("plant v=2 {time}");
        for path in ["/api/v3/write_lp", "/api/v2/write", "/write"] {
            let path = format!("{path}?precision=ns&db=x");
            let path = if path.contains("v2") {
                path.replace("db", "bucket")
            } else {
                path
            };
            let answer = http.send(&path, "text/plain", &lines).expect("answers");
            assert_eq!(answer.status, 400, "{path}: {}", answer.body);
            assert!(answer.body.contains("ingest.min_time"), "{}", answer.body);
        }
        for (kind, body) in [
            ("application/json", odd),
            ("text/csv", format!("time,v\n1,1\n{time},2\n")),
        ] {
            let path = "/api/v1/ingest/plant?precision=ns";
            let answer = http.send(path, kind, &body).expect("answers");
            assert_eq!(answer.status, 422, "{body}: {}", answer.body);
            let named = answer.body.contains("row 2") || answer.body.contains("line 3");
            assert!(
                named && answer.body.contains("ingest.min_time"),
                "{}",
                answer.body
            );
        }
    }
    assert_eq!(http.number("SELECT count(*) FROM plant"), 3);
    for unit in ["year", "quarter", "month", "week", "day", "hour", "second"] {
        let sql = format!(
            "SELECT count(DISTINCT date_trunc('{unit}', time)) AS n, \
             count(time + INTERVAL '10 years') AS a, count(time - INTERVAL '10 years') AS b, \
             count(DISTINCT date_bin(INTERVAL '1 day', time)) AS c FROM plant"
        );
        let all = json!({"n": 3, "a": 3, "b": 3, "c": 3});
        assert_eq!(http.rows(&sql), [all], "{unit}");
    }
    let letters = "SELECT count(*) FROM system.dead_letters WHERE reason LIKE 'row 2: the time %'";
    assert_eq!(http.number(letters), 6);
    node.stop();
}

#[test]
fn a_bad_message_has_its_place_when_all_names_of_tables_are_taken() {
    let mut cluster = Cluster::new();
    cluster.primary_setting("ingest.new_tables_per_minute", 0);
    cluster.primary_setting("ingest.new_columns_per_minute", 0);
    let node = cluster.primary();
    let http = Http::of(&node);
    let lines: String = (0..10_050).map(|n| format!("t{n} v=1\n")).collect();
    let answer = http
        .send("/api/v3/write_lp", "text/plain", &lines)
        .expect("answers");
    assert_eq!(answer.status, 400, "{}", answer.body);
    assert!(
        answer.body.contains("more than 10000 tables"),
        "{}",
        answer.body
    );
    let bad = |http: &Http, cluster: &Cluster, already: i64| {
        let mut raw = Raw::v3(cluster.mqtt(), "device");
        acknowledged(&mut raw, 1, "another/a", br#"{"v":1}"#);
        acknowledged(&mut raw, 2, "t1/a", br#"{"v":"text"}"#);
        acknowledged(&mut raw, 3, "t1/a", b"\xff");
        let long = format!(r#"{{"{}":1}}"#, "x".repeat(300));
        acknowledged(&mut raw, 4, "t1/a", long.as_bytes());
        // And the session goes on.
        acknowledged(&mut raw, 5, "t2/a", br#"{"v":1}"#);
        let letters = http.number("SELECT count(*) FROM system.dead_letters");
        assert_eq!(letters, already + 4);
        let (mut raw, _) = Raw::v5(cluster.mqtt(), "modern");
        raw.send(&publish(1, "another/a", &[0], br#"{"v":1}"#));
        let ack = raw.packet().expect("a PUBACK");
        assert_eq!((ack[0], ack[4]), (0x40, 0), "it is stored: {ack:?}");
    };
    bad(&http, &cluster, 0);
    node.kill();
    let node = cluster.primary();
    let http = Http::of(&node);
    bad(&http, &cluster, 5);
    node.stop();
}

#[test]
fn dead_letters_of_one_client_have_a_rate_and_long_ones_are_kept_by_their_beginning() {
    let mut cluster = Cluster::new();
    cluster.primary_setting("dead_letters.max_rate_per_client", "1 KiB");
    let node = cluster.primary();
    let http = Http::of(&node);
    let (mut flood, _) = Raw::v5(cluster.mqtt(), "flood");
    let payload = "x\ny".repeat(100);
    let mut refused = 0;
    for id in 1..=500 {
        flood.send(&publish(id, "plant/a", &[0], payload.as_bytes()));
        let ack = flood.packet().expect("a PUBACK, and the session goes on");
        assert_eq!(ack[0], 0x40, "{ack:?}");
        match ack[4] {
            0 => {}
            0x97 => refused += 1,
            other => panic!("{other:#x}: {ack:?}"),
        }
    }
    let count = "SELECT count(*) FROM system.dead_letters WHERE client = 'flood'";
    let stored = http.number(count);
    assert_eq!(stored + refused, 500, "each is stored or refused");
    // A minute's worth of 1 KiB a second, at 567 bytes each, and what a slow machine adds.
    assert!((108..300).contains(&stored), "{stored}");
    assert_eq!(
        http.metric("headwater_mqtt_messages_unkept_total")
            .map(|count| count as i64),
        Some(refused)
    );
    assert_eq!(http.status()["mqtt"]["unkept"], refused);
    let told = node
        .lines()
        .into_iter()
        .find(|line| line.contains("stored nowhere"));
    assert!(told.is_some_and(|line| line.contains("max_rate_per_client")));
    // What fits a table is taken as ever, and so are the dead letters of others.
    flood.send(&publish(501, "plant/a", &[0], br#"{"v":1}"#));
    assert_eq!(flood.packet().expect("a PUBACK")[4], 0);
    let mut other = Raw::v3(cluster.mqtt(), "other");
    let long = [b"{".as_slice(), &vec![b'x'; 299_999]].concat();
    acknowledged(&mut other, 1, "plant/b", &long);
    let letter = json!({
        "payload": 65_536, "encoding": "utf8_clipped", "bytes": 300_000, "sha256": "0b5c21cac500a8205ac1577309ff1c2fef94c048141ac457d66b922639afa478",
    });
    let kept = "SELECT length(payload) AS payload, encoding, bytes, sha256 \
                FROM system.dead_letters WHERE client = 'other'";
    assert_eq!(http.rows(kept), [letter]);
    node.stop();
}
