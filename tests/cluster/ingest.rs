//! Rows over HTTP: the same promise as a PUBACK, an LSN to ask for, and a place in every count;
//! what is refused must never be stored.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;

use serde_json::json;
use tests::cluster::{Cluster, catch_up};
use tests::http::Http;
use tests::publisher::Fleet;

/// Sends numbered rows one request after the other, of all kinds in turn, until one is not
/// answered; returns those that were.
fn write_on(http: &Http, next: &AtomicI64, going: &AtomicBool) -> Vec<i64> {
    let mut answered = Vec::new();
    while going.load(Ordering::Relaxed) {
        let n = next.fetch_add(1, Ordering::Relaxed);
        let (path, body) = match n % 3 {
            0 => ("/api/v1/ingest/load", format!("{{\"n\": {n}}}")),
            1 => ("/api/v3/write_lp", format!("load n={n}i")),
            _ => ("/api/v1/ingest/load?format=csv", format!("n\n{n}\n")),
        };
        match http.send(path, TEXT, &body) {
            Ok(answer) if matches!(answer.status, 200 | 204) => answered.push(n),
            Ok(answer) => panic!("{n}: {answer:?}"),
            // The node is gone.
            Err(_) => break,
        }
    }
    answered
}

#[test]
fn every_row_whose_request_was_answered_survives_kill_9() {
    let mut random = fastrand::Rng::with_seed(tests::seed());
    let mut cluster = Cluster::new();
    let mut primary = cluster.primary();
    let next = AtomicI64::new(0);
    let mut answered: Vec<i64> = Vec::new();
    for _ in 0..4 {
        let (http, going) = (Http::of(&primary), AtomicBool::new(true));
        let end = next.load(Ordering::Relaxed) + random.i64(100..600);
        let told = thread::scope(|scope| {
            let writers: Vec<_> = (0..3)
                .map(|_| scope.spawn(|| write_on(&http, &next, &going)))
                .collect();
            let ended = || writers.iter().all(|writer| writer.is_finished());
            while next.load(Ordering::Relaxed) < end && !ended() {
                thread::yield_now();
            }
            primary.kill();
            going.store(false, Ordering::Relaxed);
            let told = writers
                .into_iter()
                .map(|writer| writer.join().expect("runs"));
            told.flatten().collect::<Vec<i64>>()
        });
        answered.extend(told);
        primary = cluster.primary();
    }
    assert!(
        answered.len() > 200,
        "only {} were answered",
        answered.len()
    );
    let stored = Http::of(&primary).rows("SELECT n FROM load");
    let stored: std::collections::HashSet<i64> = stored
        .iter()
        .map(|row| row["n"].as_i64().expect("a number"))
        .collect();
    let lost: Vec<&i64> = answered.iter().filter(|n| !stored.contains(n)).collect();
    assert!(lost.is_empty(), "answered and lost: {lost:?}");
    primary.stop();
}

#[test]
fn a_writer_reads_its_own_rows_on_a_secondary_by_the_lsn_of_the_answer() {
    let mut cluster = Cluster::new();
    let primary = cluster.primary();
    let secondary = cluster.secondary("secondary", None);
    let (to, from) = (Http::of(&primary), Http::of(&secondary));
    for n in 1..=50 {
        let body = format!("{{\"site\": \"a\", \"n\": {n}}}");
        let answer = to.send("/api/v1/ingest/own?tags=site", JSON, &body);
        let answer = answer.expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.body);
        let lsn = answer.json()["lsn"].to_string();
        let seen = from.query("SELECT count(*) AS c FROM own", &[("min_lsn", &lsn)]);
        assert_eq!(seen.json(), json!([{"c": n}]));
    }
    let refused = from.send("/api/v1/ingest/own", JSON, "{\"n\": 1}");
    let refused = refused.expect("an answer");
    assert_eq!(
        (refused.status, refused.code()),
        (403, "read_only".to_owned())
    );
    // Neither advertises: it listens where the secondary reaches it.
    let taken = format!("http://{}", primary.address("http"));
    assert_eq!(refused.json()["primary"], taken);
    primary.stop();
    secondary.stop();
}

#[test]
fn rows_of_both_ways_add_up_on_the_primary_and_are_equal_on_the_secondary() {
    let mut cluster = Cluster::new();
    let primary = cluster.primary();
    let secondary = cluster.secondary("secondary", None);
    let http = Http::of(&primary);
    let next = Arc::new(AtomicI64::new(0));
    let fleet = Fleet::start(cluster.mqtt(), "both", 2, &next, 500, 0);
    let lines: Vec<String> = (0..1_000)
        .map(|n| format!("both,way=http n={n}i"))
        .collect();
    for part in lines.chunks(100) {
        let answer = http.send("/api/v2/write?bucket=b", TEXT, &part.join("\n"));
        assert_eq!(answer.expect("an answer").status, 204);
    }
    let some = http
        .send("/write", TEXT, "both n=1i\nboth n=\"x\"")
        .expect("an answer");
    assert_eq!(
        (some.status, some.code()),
        (400, "partial_write".to_owned())
    );
    let none = http
        .send("/api/v1/ingest/both", JSON, "{")
        .expect("an answer");
    assert_eq!(none.status, 400);
    fleet.join();
    let status = http.status();
    let (writes, rows) = (
        &status["accounting"]["writes"],
        &status["accounting"]["rows"],
    );
    assert_eq!(
        *writes,
        json!({
            "received": 12, "written": 11, "refused": 1, "failed": 0, "waiting": 0,
            "dropped": 0, "rows": 1_001,
        })
    );
    assert_eq!(
        (&rows["taken"], &rows["durable"]),
        (&json!(1_501), &json!(1_501))
    );
    assert_eq!(http.metric("headwater_ingest_rows_total"), Some(1_001.0));
    catch_up(&primary, &secondary);
    let count = "SELECT count(*) FROM both";
    assert_eq!(http.number(count), 1_501);
    assert_eq!(Http::of(&secondary).number(count), 1_501);
    primary.stop();
    secondary.stop();
}

const JSON: &str = "application/json";
const TEXT: &str = "text/plain";
