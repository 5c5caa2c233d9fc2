//! What is stored is asked for in the same words, and answered the same, whether it is in the
//! log or in Parquet files, on the primary or on a secondary; an answer must never tell which.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tests::cluster::{Cluster, catch_up, settle};
use tests::eventually;
use tests::http::Http;
use tests::node::Node;
use tests::publisher::Device;

use crate::load::{self, PAD, READ_ALL, ROWS};

#[test]
fn two_nodes_end_with_identical_parquet_files() {
    let mut cluster = Cluster::new();
    cluster.primary_setting("log.segment_size", "1 MiB");
    let primary = cluster.primary();
    let secondary = cluster.secondary("secondary", None);
    load::publish(cluster.mqtt(), 20);
    settle(&[&primary, &secondary]);
    eventually("both have merged the same files", || {
        let mine = load::files(&Http::of(&primary));
        let theirs = load::files(&Http::of(&secondary));
        if mine == theirs && mine.len() < FAN_IN {
            Ok(())
        } else {
            Err((mine, theirs))
        }
    });
    let listed = load::files(&Http::of(&primary));
    let rows: i64 = listed.iter().filter_map(|file| file["rows"].as_i64()).sum();
    assert_eq!(rows, 20 * ROWS);
    primary.stop();
    secondary.stop();
    let (mine, theirs) = (
        cluster.parquet_files("primary"),
        cluster.parquet_files("secondary"),
    );
    assert_eq!(mine.len(), listed.len());
    for ((left_name, left), (right_name, right)) in mine.iter().zip(&theirs) {
        assert_eq!(left_name, right_name);
        assert!(left == right, "{left_name} differs");
    }
    assert_eq!(mine.len(), theirs.len());
}

/// Statements and what they must answer after `messages` messages.
fn questions(messages: i64) -> Vec<(&'static str, Value)> {
    let count = messages * ROWS;
    let sum = |from: i64, to: i64| (from + to - 1) * (to - from) / 2;
    let (last, hours) = (count - 1, (3600, 7200));
    vec![
        (
            "SELECT count(*) AS c, sum(n) AS s, min(n) AS lo, max(n) AS hi FROM load",
            json!([{"c": count, "s": sum(0, count), "lo": 0, "hi": last}]),
        ),
        ("SELECT count(*) AS c FROM load", json!([{"c": count}])),
        (
            "SELECT count(*) AS c, sum(n) AS s FROM load \
             WHERE time >= '2023-11-15T01:00:00Z' AND time < '2023-11-15T02:00:00Z'",
            json!([{"c": 3600, "s": sum(hours.0, hours.1)}]),
        ),
        (
            "SELECT count(*) AS c FROM load WHERE time < '2023-11-15T00:10:00Z'",
            json!([{"c": 600}]),
        ),
        (READ_ALL, load::all(messages)),
        (
            "SELECT n FROM load ORDER BY time DESC LIMIT 2",
            json!([{"n": last}, {"n": last - 1}]),
        ),
        (
            "SELECT n, time, topic, character_length(pad) AS p FROM load ORDER BY n LIMIT 2",
            json!([
                {"n": 0, "time": load::clock(0), "topic": "load/0", "p": PAD},
                {"n": 1, "time": load::clock(1), "topic": "load/0", "p": PAD},
            ]),
        ),
        (
            "SELECT min(time) AS lo, max(time) AS hi FROM load",
            json!([{"lo": load::clock(0), "hi": load::clock(last)}]),
        ),
        (
            "SELECT count(*) AS c FROM load WHERE topic = 'load/2'",
            json!([{"c": messages / 4 * ROWS}]),
        ),
        (
            "SELECT count(*) AS c FROM (SELECT n FROM load LIMIT 700)",
            json!([{"c": 700}]),
        ),
    ]
}

fn answers_as_expected(http: &Http, questions: &[(&str, Value)]) {
    for (sql, expected) in questions {
        let answer = http.query(sql, &[("format", "json")]);
        assert_eq!(answer.status, 200, "{sql}: {}", answer.body);
        assert_eq!(answer.json(), *expected, "{sql}");
    }
}

#[test]
fn an_answer_is_the_same_before_during_and_after_compaction() {
    const MESSAGES: i64 = 16;
    let mut cluster = Cluster::new();
    cluster.primary_setting("log.segment_size", "1 MiB");
    // Slow enough to be met at work.
    cluster.primary_setting("log.compaction_rate", "4 MiB");
    cluster.secondary_setting("log.compaction_rate", "4 MiB");
    let primary = cluster.primary();
    let secondary = cluster.secondary("secondary", None);
    load::publish(cluster.mqtt(), MESSAGES);
    catch_up(&primary, &secondary);
    let nodes = [Http::of(&primary), Http::of(&secondary)];
    let questions = questions(MESSAGES);
    let mut seen = BTreeSet::new();
    eventually("compaction comes to its end", || {
        let mut stands = Vec::new();
        for http in &nodes {
            answers_as_expected(http, &questions);
            let status = http.status();
            seen.insert(status["compacted_lsn"].as_u64());
            stands.push((status["backlog_bytes"].clone(), status["files"].clone()));
        }
        // Eight segments, and so eight files, become one.
        if stands
            .iter()
            .all(|(backlog, files)| *backlog == 0 && *files == 1)
        {
            Ok(())
        } else {
            Err(stands)
        }
    });
    assert!(seen.len() > 2, "asked only at {seen:?}");
    settle(&[&primary, &secondary]);
    for http in &nodes {
        answers_as_expected(http, &questions);
    }
}

/// The one row of `meters/7` is this one, and `meters/8` has one too.
fn meters_hold(nodes: [&Node; 2], a: i64, b: i64) {
    for node in nodes {
        let http = Http::of(node);
        let rows = http.rows("SELECT a, b FROM meters WHERE topic = 'meters/7'");
        assert_eq!(rows, [json!({"a": a, "b": b})]);
        assert_eq!(http.number("SELECT count(*) FROM meters"), 2);
        let sql = "SELECT count(*) FROM meters WHERE topic = 'meters/7'";
        assert_eq!(http.number(sql), 1);
        assert_eq!(http.number("SELECT sum(a) FROM meters"), a + 9);
    }
}

#[test]
fn the_last_write_wins_by_key() {
    let mut cluster = Cluster::new();
    cluster.primary_setting("log.segment_size", "1 MiB");
    cluster.declare("[[table]]\nname = \"meters\"\ndedup = \"key\"");
    let mut primary = cluster.primary();
    let mut secondary = cluster.secondary("secondary", None);
    let mut device = Device::connect(cluster.mqtt(), "meter");
    for fields in [r#""a":1"#, r#""b":2"#, r#""a":3"#] {
        let payload = format!(r#"{{"time":1700000000,{fields}}}"#);
        device.send("meters/7", &payload);
    }
    device.send("meters/8", r#"{"time":1700000000,"a":9}"#);
    catch_up(&primary, &secondary);
    meters_hold([&primary, &secondary], 3, 2);

    load::seal(&mut device);
    settle(&[&primary, &secondary]);
    meters_hold([&primary, &secondary], 3, 2);
    let sql = "SELECT file_rows FROM system.tables WHERE name = 'meters'";
    assert_eq!(Http::of(&secondary).number(sql), 2, "rows in files");

    // A write in the log wins over one in a file, and what it leaves out stays.
    device.send("meters/7", r#"{"time":1700000000,"b":5,"a":null}"#);
    catch_up(&primary, &secondary);
    meters_hold([&primary, &secondary], 3, 5);

    secondary.stop();
    primary.stop();
    primary = cluster.primary();
    secondary = cluster.secondary("secondary", None);
    catch_up(&primary, &secondary);
    meters_hold([&primary, &secondary], 3, 5);
    let mut device = Device::connect(cluster.mqtt(), "meter");
    load::seal(&mut device);
    settle(&[&primary, &secondary]);
    meters_hold([&primary, &secondary], 3, 5);
}

/// Eight columns that SQL must quote, and one that starts as an integer.
fn odd_row() -> String {
    json!({
        "a b": 1, "Ab": 2, "ab": 3, "quo\"te": 4, "x.y": 5, "größe": 6, "select": 7, "SELECT": 8,
        "wide": 3,
    })
    .to_string()
}

/// The odd row is there, then one with `wide` = 0.5 if `widened`.
fn odd_names_answer(nodes: [&Node; 2], widened: bool) {
    let sql = r#"SELECT "a b" AS c1, "Ab" AS c2, "ab" AS c3, "quo""te" AS c4, "x.y" AS c5,
        "größe" AS c6, "select" AS c7, "SELECT" AS c8, wide FROM "Größe Ω" ORDER BY wide DESC"#;
    for node in nodes {
        let rows = Http::of(node).rows(sql);
        let wide: Vec<Option<f64>> = rows.iter().map(|row| row["wide"].as_f64()).collect();
        assert_eq!(wide[0], Some(3.0));
        assert_eq!(wide.get(1), widened.then_some(&Some(0.5)));
        for column in 1..=8 {
            let name = format!("c{column}");
            assert_eq!(rows[0][&name], column, "{name}: {rows:?}");
            assert!(!widened || rows[1][&name].is_null(), "{name}: {rows:?}");
        }
    }
}

#[test]
fn tables_and_columns_with_odd_names_and_integers_that_widen() {
    let mut cluster = Cluster::new();
    cluster.primary_setting("log.segment_size", "1 MiB");
    let mut primary = cluster.primary();
    let mut secondary = cluster.secondary("secondary", None);
    let mut device = Device::connect(cluster.mqtt(), "odd");
    device.send("Größe Ω/7", &odd_row());
    catch_up(&primary, &secondary);
    odd_names_answer([&primary, &secondary], false);
    load::seal(&mut device);
    settle(&[&primary, &secondary]);
    odd_names_answer([&primary, &secondary], false);

    // An integer in a file, a float in the log.
    device.send("Größe Ω/7", r#"{"wide":0.5}"#);
    catch_up(&primary, &secondary);
    odd_names_answer([&primary, &secondary], true);
    load::seal(&mut device);
    settle(&[&primary, &secondary]);
    odd_names_answer([&primary, &secondary], true);

    secondary.stop();
    primary.stop();
    primary = cluster.primary();
    secondary = cluster.secondary("secondary", None);
    catch_up(&primary, &secondary);
    odd_names_answer([&primary, &secondary], true);
}

/// Files of one size that compaction merges: with fewer in all, there is nothing left to merge.
const FAN_IN: usize = 8;
