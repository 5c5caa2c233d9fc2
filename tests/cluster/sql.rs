//! SQL over HTTP on a secondary: right answers, honest headers, and a statement must never
//! write.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::json;
use tests::cluster::{Cluster, catch_up};
use tests::http::Http;
use tests::node::Node;
use tests::raw::{Raw, publish};

struct Pair {
    _cluster: Cluster,
    primary: Node,
    secondary: Node,
}

/// A primary with `rows` rows in `plant`, and a secondary that has them.
fn pair(rows: u16) -> Pair {
    let mut cluster = Cluster::new();
    cluster.secondary_setting("http.memory_limit", "64 MiB");
    let primary = cluster.primary();
    let mut raw = Raw::v3(cluster.mqtt(), "device");
    for n in 1..=rows {
        let payload = format!(
            r#"{{"n":{n},"t":{},"site":"s{}","ts":{}}}"#,
            f64::from(n) / 4.0,
            n % 3,
            1_700_000_000 + u64::from(n)
        );
        raw.send(&publish(
            n,
            &format!("plant/{}", n % 5),
            &[],
            payload.as_bytes(),
        ));
        raw.packet().expect("a PUBACK");
    }
    let secondary = cluster.secondary("secondary", None);
    catch_up(&primary, &secondary);
    Pair {
        _cluster: cluster,
        primary,
        secondary,
    }
}

#[test]
fn answers_are_right_in_every_format_with_the_freshness_in_the_headers() {
    let pair = pair(300);
    let http = Http::of(&pair.secondary);
    let sql = "SELECT topic, count(*) AS c, sum(n) AS s, avg(t) AS a FROM plant GROUP BY topic ORDER BY topic LIMIT 1";
    let answer = http.query(sql, &[("format", "json")]);
    // 5, 10, ... 300: 60 numbers with the sum 9150.
    assert_eq!(
        answer.json(),
        json!([{"topic": "plant/0", "c": 60, "s": 9150, "a": 38.125}])
    );
    assert_eq!(answer.header("X-Headwater-Role"), "secondary");
    assert_eq!(answer.header("X-Headwater-Epoch"), "1");
    assert_eq!(
        answer.header("X-Headwater-Lsn"),
        Http::of(&pair.primary).lsn().to_string()
    );
    assert!(answer.header("X-Headwater-Lag-Ms").parse::<u64>().is_ok());
    assert!(!answer.header("X-Request-Id").is_empty());
    let sql = "SELECT time, n FROM plant WHERE n <= 2 ORDER BY n";
    let csv = http.query(sql, &[("format", "csv")]).body;
    assert_eq!(
        csv,
        "time,n\n2023-11-14T22:13:21Z,1\n2023-11-14T22:13:22Z,2\n"
    );
    let lines = http.query(sql, &[("format", "jsonl")]).body;
    assert_eq!(lines.lines().count(), 2);
    assert!(
        lines.starts_with(r#"{"time":"2023-11-14T22:13:21Z","n":1}"#),
        "{lines}"
    );
    let arrow = http.query(sql, &[("format", "arrow")]);
    assert_eq!(
        arrow.header("content-type"),
        "application/vnd.apache.arrow.stream"
    );
    let posted = http.post(
        "application/json",
        &json!({"q": sql, "format": "jsonl"}).to_string(),
    );
    assert_eq!(posted.body, lines);
    assert_eq!(
        http.post("text/plain", "SELECT 1 AS one").json(),
        json!([{"one": 1}])
    );
}

#[test]
fn time_filters_prune_blocks_and_change_no_answer() {
    let pair = pair(200);
    let http = Http::of(&pair.secondary);
    let filter = "time >= '2023-11-14T22:13:30Z' AND time < '2023-11-14T22:13:40Z'";
    assert_eq!(
        http.number(&format!("SELECT count(*) FROM plant WHERE {filter}")),
        10
    );
    let plan = http
        .query(
            &format!("EXPLAIN ANALYZE SELECT n FROM plant WHERE {filter}"),
            &[],
        )
        .body;
    let pruned = plan.split("blocks_pruned=").nth(1).unwrap_or_default();
    let pruned: String = pruned.chars().take_while(char::is_ascii_digit).collect();
    assert!(
        pruned.parse::<u64>().is_ok_and(|pruned| pruned > 150),
        "{plan}"
    );
}

#[test]
fn nothing_can_be_written_and_no_file_be_read() {
    let pair = pair(3);
    let http = Http::of(&pair.secondary);
    let file = pair._cluster.path("stolen.csv");
    let into_file = format!("COPY plant TO '{}'", file.display());
    for sql in [
        "INSERT INTO plant VALUES (1)",
        "CREATE TABLE x (a INT)",
        "CREATE TABLE x AS SELECT 1",
        "CREATE VIEW v AS SELECT 1",
        "CREATE EXTERNAL TABLE e STORED AS CSV LOCATION '/etc/passwd'",
        "DROP TABLE plant",
        "DELETE FROM plant",
        "UPDATE plant SET n = 1",
        "EXPLAIN ANALYZE INSERT INTO plant VALUES (1)",
        into_file.as_str(),
    ] {
        let answer = http.query(sql, &[]);
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (403, "read_only"),
            "{sql}: {}",
            answer.body
        );
    }
    for sql in [
        "SET datafusion.execution.batch_size = 1",
        "SELECT 1; SELECT 2",
        "PREPARE p AS SELECT 1",
        "BEGIN",
    ] {
        let answer = http.query(sql, &[]);
        assert_eq!(answer.status, 400, "{sql}: {}", answer.body);
    }
    for sql in [
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM \"/etc/passwd\"",
        "SELECT * FROM nowhere",
    ] {
        let answer = http.query(sql, &[]);
        assert_eq!(answer.status, 404, "{sql}: {}", answer.body);
    }
    assert!(!file.exists());
    assert_eq!(http.number("SELECT count(*) FROM plant"), 3);
}

#[test]
fn errors_say_what_and_where() {
    let pair = pair(1);
    let http = Http::of(&pair.secondary);
    let syntax = http.query("SELECT n FROM plant WHERE (", &[]);
    assert_eq!(syntax.status, 400);
    assert!(syntax.json()["error"].is_string() && syntax.json()["request_id"].is_string());
    assert_eq!(http.query("SELECT nothing FROM plant", &[]).status, 400);
    assert_eq!(http.get("/api/v3/query_sql").status, 400);
    assert_eq!(
        http.get("/api/v3/query_sql?q=SELECT+1&fromat=csv").status,
        400
    );
    assert_eq!(http.query("SELECT 1", &[("format", "xml")]).status, 400);
    assert_eq!(http.get("/nowhere").status, 404);
    let deep = format!("SELECT {}1{}", "(".repeat(50_000), ")".repeat(50_000));
    assert_eq!(http.post("text/plain", &deep).status, 400);
    let lagging = http.query(
        "SELECT 1",
        &[("min_lsn", "99999999"), ("timeout_ms", "200")],
    );
    assert_eq!(
        (lagging.status, lagging.header("Retry-After").is_empty()),
        (503, false)
    );
    let slow = "SELECT count(*) FROM generate_series(1, 3000000) a, generate_series(1, 3000000) b";
    let timeout = http.query(slow, &[("timeout_ms", "300")]);
    assert_eq!(timeout.status, 408, "{}", timeout.body);
    let big = "SELECT array_agg(a.value) FROM generate_series(1, 30000000) a";
    assert_eq!(http.query(big, &[("timeout_ms", "30000")]).status, 413);
    assert_eq!(http.number("SELECT count(*) FROM plant"), 1);
}

#[test]
fn system_tables_and_health_tell_the_state() {
    let pair = pair(10);
    let http = Http::of(&pair.secondary);
    let segments = http.rows("SELECT * FROM system.segments");
    assert_eq!(segments.len(), 1);
    let tables =
        http.rows("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'");
    assert_eq!(tables, [json!({"table_name": "plant"})]);
    assert_eq!(http.rows("SELECT * FROM system.dead_letters").len(), 0);
    let peers = Http::of(&pair.primary).rows("SELECT * FROM system.replication");
    assert_eq!(peers.len(), 1, "{peers:?}");
    for (path, status) in [
        ("/health", 200),
        ("/ready", 200),
        ("/health/secondary", 200),
        ("/health/primary", 503),
        ("/metrics", 200),
    ] {
        assert_eq!(http.get(path).status, status, "{path}");
    }
    let metrics = Http::of(&pair.primary).get("/metrics").body;
    assert!(
        metrics.contains("headwater_mqtt_messages_acknowledged_total"),
        "{metrics}"
    );
    let status = http.get("/api/v1/status").json();
    assert_eq!(status["role"], "secondary");
}

#[test]
fn a_query_whose_client_goes_away_is_cancelled() {
    let pair = pair(1);
    let http = Http::of(&pair.secondary);
    let mut stream = TcpStream::connect(pair.secondary.address("http")).expect("connects");
    let sql = "SELECT+value+FROM+generate_series(1,100000000000)";
    let request =
        format!("GET /api/v3/query_sql?format=csv&q={sql} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("sends");
    stream.read_exact(&mut [0; 1000]).expect("an answer begins");
    // This one and itself.
    assert_eq!(http.rows("SELECT * FROM system.queries").len(), 2);
    drop(stream);
    tests::eventually("the query ends", || {
        match http.rows("SELECT * FROM system.queries").len() {
            1 => Ok(()),
            seen => Err(seen),
        }
    });
}

#[test]
fn readers_that_stop_reading_keep_nobody_waiting() {
    let pair = pair(3);
    let http = Http::of(&pair.secondary);
    let sql = "SELECT+value+FROM+generate_series(1,100000000000)";
    let request =
        format!("GET /api/v3/query_sql?format=csv&q={sql} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let unread: Vec<TcpStream> = (0..12)
        .map(|_| {
            let stream = TcpStream::connect(pair.secondary.address("http"));
            let mut stream = stream.expect("connects");
            stream.write_all(request.as_bytes()).expect("sends");
            stream.read_exact(&mut [0; 1000]).expect("an answer begins");
            stream
        })
        .collect();
    for _ in 0..3 {
        let answer = http.query("SELECT count(*) AS n FROM plant", &[]);
        assert_eq!((answer.status, answer.json()), (200, json!([{"n": 3}])));
    }
    let paused = "SELECT count(*) FROM system.queries WHERE state = 'paused'";
    tests::eventually("slots are given back", || match http.number(paused) {
        0 => Err(0),
        _ => Ok(()),
    });
    drop(unread);
}
