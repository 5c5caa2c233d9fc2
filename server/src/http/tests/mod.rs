//! The paths as a client meets them, over a node that is made up: statuses, bodies and headers.
//! Must never need a network.

mod forms;
mod influx;
mod ingest;
mod queries;
mod sites;
mod statements;

use std::borrow::Cow;
use std::path::Path;

use axum::body::{Body, to_bytes};
use axum::http::header::HOST;
use axum::http::{HeaderMap, HeaderValue, Request};
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use intake::Intake;
use query::{Node, QueryStats, ReplicationRow};
use replica::Forgotten;
use serde_json::{Value, json};
use wal::{Committer, Lsn, OsDisk, Row};

use super::*;

/// A node that says what it is told to say; a secondary unless it takes rows.
#[derive(Default)]
struct Fake {
    log: Option<wal::Log>,
    lag_ms: Option<u64>,
    straying: Option<&'static str>,
    intake: Option<Arc<Intake>>,
}

impl Node for Fake {
    fn log(&self) -> Option<wal::Log> {
        self.log.clone()
    }

    fn lag_ms(&self) -> Option<u64> {
        self.lag_ms
    }

    fn replication(&self) -> Vec<ReplicationRow> {
        vec![ReplicationRow {
            id: "id-1".to_owned(),
            via: "relay-1".to_owned(),
            hops: 2,
            ..ReplicationRow::default()
        }]
    }
}

impl HttpNode for Fake {
    fn role(&self) -> &'static str {
        match self.intake {
            Some(_) => "primary",
            None => "secondary",
        }
    }

    fn intake(&self) -> Option<Arc<Intake>> {
        self.intake.clone()
    }

    fn straying(&self) -> Option<(String, Option<String>)> {
        let reason = self.straying?;
        Some(("cut_off".to_owned(), Some(reason.to_owned())))
    }

    fn primary_address(&self) -> Option<String> {
        Some("http://primary.example:7440".to_owned())
    }

    fn not_ready(&self) -> Option<String> {
        self.log.is_none().then(|| "no log yet".to_owned())
    }

    fn status(&self, _queries: &QueryStats) -> Value {
        json!({})
    }

    fn metrics(&self, queries: &QueryStats) -> String {
        format!("{}\n", queries.count)
    }

    fn forget(&self, name_or_id: &str) -> Option<Forgotten> {
        match name_or_id {
            "gone" => Some(Forgotten::Done),
            "a/b ü" => Some(Forgotten::Connected),
            "elsewhere" => None,
            _ => Some(Forgotten::Unknown),
        }
    }
}

fn paths_of(fake: Fake) -> Router {
    let config = query::Config {
        threads: 1,
        ..query::Config::default()
    };
    paths_with(fake, &config)
}

fn paths_with(fake: Fake, config: &query::Config) -> Router {
    let node = Arc::new(fake);
    let engine = Engine::new(config, Arc::<Fake>::clone(&node)).expect("an engine");
    router(Arc::new(App {
        failures: Arc::default(),
        node,
        engine,
        memory: WriteMemory::new(Share::new("writes", 256 << 20)),
        verifier: Verifier::default(),
        sites: Sites::default(),
        hidden: Hidden::default(),
        metrics: Told::default(),
        status: Told::default(),
        seats: Seats::new(8, config.reader_timeout, &Share::unlimited("http")),
    }))
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    /// Null where it is no JSON.
    body: Value,
    text: String,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name).expect("the header");
        value.to_str().expect("text")
    }
}

async fn ask(paths: &Router, method: Method, path: &str) -> Answer {
    let request = Request::builder().method(method).uri(path);
    answer_to(paths, request.body(Body::empty()).expect("a request")).await
}

async fn answer_to(paths: &Router, mut request: Request<Body>) -> Answer {
    let host = HeaderValue::from_static("localhost");
    request.headers_mut().entry(HOST).or_insert(host);
    let answered = TowerToHyperService::new(paths.clone()).call(request).await;
    let (parts, body) = answered.expect("an answer").into_parts();
    let bytes = to_bytes(body, 1 << 20).await.expect("a body");
    Answer {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body: serde_json::from_slice(&bytes).unwrap_or_default(),
        text: String::from_utf8_lossy(&bytes).into_owned(),
    }
}

async fn get_from(paths: &Router, path: &str) -> Answer {
    ask(paths, Method::GET, path).await
}

/// A log with `rows` rows, each committed alone, and where it ended after each of them.
fn filled(dir: &Path, rows: i64) -> (Committer, Vec<Lsn>) {
    let config = wal::Config::default();
    let (committer, _) = wal::open_primary(OsDisk::new(), dir, &config).expect("a log");
    let mut appender = committer.appender(Box::new(|_| ()));
    let mut ends = Vec::new();
    for time in 0..rows {
        let row = Row {
            time,
            tags: &[("site", "a")],
            fields: &[(Cow::Borrowed("v"), wal::Value::Int(time))],
        };
        let admitted = appender.append("plant", &[row]).expect("room");
        ends.push(appender.wait(admitted).expect("durable"));
    }
    (committer, ends)
}

#[tokio::test]
async fn every_answer_tells_lsn_epoch_and_lag_even_before_there_is_any() {
    let paths = paths_of(Fake::default());
    for (path, status) in [
        ("/health", 200),
        ("/metrics", 200),
        ("/api/v1/status", 200),
        ("/ready", 503),
        ("/health/primary", 503),
        ("/api/v3/query_sql?q=SELECT+1", 503),
        (
            "/api/v3/query_sql?q=SELECT+1&as_of_lsn=1&timeout_ms=20",
            503,
        ),
        ("/api/v3/query_sql", 400),
        ("/api/v1/verify", 503),
        ("/api/v1/digest", 503),
        ("/api/v1/digest?next=1", 400),
        ("/nothing", 404),
        ("/api/v1/secondaries/x", 405),
        ("/api/v1/ingest/x", 405),
    ] {
        let answer = get_from(&paths, path).await;
        assert_eq!(answer.status, status, "{path}");
        assert_eq!(answer.header("x-headwater-role"), "secondary");
        assert_eq!(answer.header("x-headwater-lsn"), "0");
        assert_eq!(answer.header("x-headwater-epoch"), "0");
        assert_eq!(answer.header("x-headwater-lag-ms"), "unknown");
        assert!(!answer.header("x-request-id").is_empty());
    }
}

#[tokio::test]
async fn a_secondary_is_forgotten_by_its_decoded_name_unless_it_is_connected() {
    let paths = paths_of(Fake::default());
    for (name, status, code) in [
        ("gone", 204, Value::Null),
        ("a%2Fb%20%C3%BC", 409, json!("connected")),
        ("elsewhere", 404, json!("not_found")),
        ("never-seen", 404, json!("not_found")),
        ("%FF", 400, json!("parameter")),
    ] {
        let path = format!("/api/v1/secondaries/{name}");
        let answer = ask(&paths, Method::DELETE, &path).await;
        assert_eq!((answer.status, &answer.body["code"]), (status, &code));
        assert_eq!(answer.header("x-headwater-lsn"), "0");
    }
    let refused = get_from(&paths, "/api/v1/secondaries/gone").await;
    let expected = "/api/v1/secondaries/gone does not take GET";
    assert_eq!(refused.body["error"], expected);
}

#[tokio::test]
async fn an_answer_as_of_an_lsn_has_the_rows_below_it_and_names_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let (committer, ends) = filled(dir.path(), 3);
    let paths = paths_of(Fake {
        log: Some(committer.log().clone()),
        lag_ms: Some(0),
        ..Fake::default()
    });
    for (rows, end) in (1_i64..).zip(&ends) {
        let query = "/api/v3/query_sql?q=SELECT+count(*)+AS+n,+sum(v)+AS+s+FROM+plant";
        let answer = get_from(&paths, &format!("{query}&as_of_lsn={end}")).await;
        let sum: i64 = (0..rows).sum();
        assert_eq!(answer.body, json!([{"n": rows, "s": sum}]));
        assert_eq!(answer.header("x-headwater-lsn"), end.to_string());
        assert_eq!(answer.header("x-headwater-epoch"), "1");
    }
    let query = "/api/v3/query_sql?q=SELECT+via,+hops+FROM+system.replication&as_of_lsn";
    let answer = get_from(&paths, &format!("{query}={}", ends[0])).await;
    assert_eq!(answer.body, json!([{"via": "relay-1", "hops": 2}]));
    let ahead = format!("{query}={}&timeout_ms=20", ends[2].0 + 1);
    let ahead = get_from(&paths, &ahead).await;
    assert_eq!(ahead.status, 503);
    assert_eq!(ahead.body["code"], "lagging");
    assert!(ahead.headers.contains_key("retry-after"));
    committer.stop().expect("a clean stop");
}

#[tokio::test]
async fn an_answer_is_never_staler_than_it_may_be_and_tells_the_lag_it_was_judged_by() {
    let dir = tempfile::tempdir().expect("a directory");
    let (committer, _) = filled(dir.path(), 1);
    let paths = paths_of(Fake {
        log: Some(committer.log().clone()),
        lag_ms: Some(600),
        ..Fake::default()
    });
    for path in ["/ready?", "/api/v3/query_sql?q=SELECT+1&"] {
        for (most, status) in [(600, 200), (599, 503)] {
            let answer = get_from(&paths, &format!("{path}max_lag_ms={most}")).await;
            assert_eq!(answer.status, status, "{path}{most}");
            assert_eq!(answer.header("x-headwater-lag-ms"), "600");
        }
    }
    committer.stop().expect("a clean stop");
}

#[tokio::test]
async fn a_node_that_is_ready_and_does_not_follow_says_so() {
    let dir = tempfile::tempdir().expect("a directory");
    let (committer, _) = filled(dir.path(), 1);
    let paths = paths_of(Fake {
        log: Some(committer.log().clone()),
        lag_ms: Some(600),
        straying: Some("relay-1 has no way to the primary"),
        ..Fake::default()
    });
    let answer = get_from(&paths, "/ready").await;
    let expected = json!({
        "ready": true, "status": "ready", "role": "secondary", "lag_ms": 600, "state": "cut_off",
        "reason": "relay-1 has no way to the primary",
    });
    assert_eq!((answer.status, answer.body), (200, expected));
    let answer = get_from(&paths, "/ready?max_lag_ms=599").await;
    assert_eq!(answer.status, 503);
    let expected = "this node lags 600 ms, more than the 599 ms asked for; cut_off: relay-1 has no \
                    way to the primary";
    assert_eq!(answer.body["error"], expected);
    committer.stop().expect("a clean stop");
}

#[tokio::test]
async fn what_queries_did_is_told_to_whoever_renders_the_metrics() {
    let dir = tempfile::tempdir().expect("a directory");
    let (committer, _) = filled(dir.path(), 1);
    let paths = paths_of(Fake {
        log: Some(committer.log().clone()),
        lag_ms: Some(0),
        ..Fake::default()
    });
    let count = || async {
        let text = get_from(&paths, "/metrics").await.text;
        text.lines().next().map(str::to_owned)
    };
    assert_eq!(count().await.as_deref(), Some("0"));
    get_from(&paths, "/api/v3/query_sql?q=SELECT+v+FROM+plant").await;
    // A query is counted when it lets go of its slot, a moment after its last byte.
    let counted = async {
        while count().await.as_deref() != Some("1") {
            tokio::task::yield_now().await;
        }
    };
    let limit = Duration::from_secs(10);
    tokio::time::timeout(limit, counted).await.expect("counted");
    committer.stop().expect("a clean stop");
}

#[tokio::test]
async fn a_digest_is_of_the_durable_log_and_an_unknown_mark_is_answered_with_the_newest() {
    let dir = tempfile::tempdir().expect("a directory");
    let (committer, ends) = filled(dir.path(), 2);
    let log = committer.log().clone();
    let id = log.id().to_string();
    let paths = paths_of(Fake {
        log: Some(log),
        lag_ms: Some(0),
        ..Fake::default()
    });
    let answer = get_from(&paths, "/api/v1/digest").await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.body["log"], json!(id));
    assert_eq!(answer.body["upto"]["lsn"], json!(ends[1].0));
    assert_eq!(answer.header("x-headwater-lsn"), ends[1].to_string());
    let unknown = get_from(&paths, "/api/v1/digest?compacted=0&next=4711").await;
    assert_eq!(unknown.status, 409, "{}", unknown.body);
    assert_eq!(unknown.body["code"], "unknown_mark");
    assert_eq!(unknown.body["newest"], answer.body["mark"]);
    committer.stop().expect("a clean stop");
}
