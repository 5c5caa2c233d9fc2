//! What clients of InfluxDB ask before they write, on a primary and on a secondary. Must never need
//! a network.

use axum::http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};

use super::ingest::{gzip, post, primary, rows, send};
use super::*;

async fn get_with(paths: &Router, path: &str, name: &str, value: &str) -> Answer {
    let request = Request::builder().uri(path).header(name, value);
    answer_to(paths, request.body(Body::empty()).expect("a request")).await
}

#[tokio::test]
async fn a_write_without_a_line_is_well_received_and_writes_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let (committer, paths) = primary(dir.path());
    let zipped = [("content-encoding", "gzip")];
    for path in [
        "/write?db=x",
        "/api/v2/write?bucket=x",
        "/api/v3/write_lp?db=x",
    ] {
        for body in ["", "\n", "\n\n", "\r\n", "# a comment", " \n# another\n\n"] {
            let answer = send(&paths, path, body).await;
            assert_eq!(answer.status, 204, "{path} {body:?}: {}", answer.body);
        }
        let answer = post(&paths, path, &zipped, &gzip(b"\n")).await;
        assert_eq!(answer.status, 204, "{path}: {}", answer.body);
    }
    let written = send(&paths, "/write", "a v=1 1").await;
    let lsn = written.header("x-headwater-lsn").to_owned();
    let empty = send(&paths, "/write", "").await;
    assert_eq!(empty.header("x-headwater-lsn"), lsn);
    let tables = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'";
    let tables = rows(&paths, tables, &lsn).await;
    assert_eq!(tables, json!([{"table_name": "a"}]));
    committer.stop().expect("a clean stop");
}

#[tokio::test]
async fn ping_tells_the_version_and_health_is_json_for_who_reads_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let (committer, primary) = primary(dir.path());
    let secondary = paths_of(Fake {
        log: Some(committer.log().clone()),
        ..Fake::default()
    });
    for (paths, message) in [
        (&primary, "ready for queries and writes"),
        (&secondary, "ready for queries; the primary takes writes"),
    ] {
        for method in [Method::GET, Method::HEAD] {
            let answer = ask(paths, method, "/ping?wait_for_leader=1s").await;
            assert_eq!(answer.status, 204);
            assert_eq!(
                answer.header("x-influxdb-version"),
                env!("CARGO_PKG_VERSION")
            );
            assert_eq!(answer.header("x-influxdb-build"), "Headwater");
        }
        let verbose = get_from(paths, "/ping?verbose=true").await;
        let expected = json!({"version": env!("CARGO_PKG_VERSION")});
        assert_eq!((verbose.status, verbose.body), (200, expected));
        for (name, value) in [
            (ACCEPT, "application/json"),
            (ACCEPT, "text/plain;q=0.5, Application/JSON; q=0.9"),
            (USER_AGENT, "influxdb-client-go/2.14"),
            (USER_AGENT, "InfluxDBClient-Arduino/3.13 (ESP32)"),
        ] {
            let answer = get_with(paths, "/health", name.as_str(), value).await;
            let expected = json!({
                "name": "headwater", "message": message, "status": "pass",
                "version": env!("CARGO_PKG_VERSION"),
            });
            assert_eq!((answer.status, answer.body), (200, expected), "{value}");
        }
        // A text of two letters, which is no JSON.
        let plain = get_with(paths, "/health", "accept", "*/*").await;
        assert_eq!((plain.status, plain.body), (200, Value::Null));
        assert_eq!(get_from(paths, "/ready").await.body["status"], "ready");
    }
    committer.stop().expect("a clean stop");
    let waiting = paths_of(Fake::default());
    let answer = get_with(&waiting, "/health", "accept", "application/json").await;
    assert_eq!(
        (answer.status, &answer.body["status"]),
        (200, &json!("fail"))
    );
    assert_eq!(answer.body["message"], "no log yet");
}

#[tokio::test]
async fn a_database_is_there_by_any_name_and_what_is_not_done_is_refused() {
    let paths = paths_of(Fake::default());
    let form = [(CONTENT_TYPE.as_str(), "application/x-www-form-urlencoded")];
    let done = json!({"results": [{"statement_id": 0}]});
    let created = post(&paths, "/query", &form, b"q=CREATE+DATABASE+%22telegraf%22").await;
    assert_eq!((created.status, &created.body), (200, &done));
    let created = send(&paths, "/query?q=CREATE%20DATABASE%20x", "").await;
    assert_eq!((created.status, &created.body), (200, &done));
    let shown = get_from(&paths, "/query?q=SHOW+DATABASES;&db=ha&u=a&p=b").await;
    let names = &shown.body["results"][0]["series"][0]["values"];
    assert_eq!(
        (shown.status, names),
        (200, &json!([["headwater"], ["ha"]]))
    );
    let kept = get_from(&paths, "/query?q=SHOW+RETENTION+POLICIES+ON+ha").await;
    assert_eq!(
        kept.body["results"][0]["series"][0]["values"][0][0],
        "autogen"
    );
    for (path, code) in [
        ("/query", "parameter"),
        ("/query?q=SELECT+*+FROM+cpu", "not_supported"),
        ("/query?q=DROP+DATABASE+x", "not_supported"),
        ("/api/v2/query", "not_supported"),
    ] {
        let answer = send(&paths, path, "").await;
        assert_eq!(
            (answer.status, &answer.body["code"]),
            (400, &json!(code)),
            "{path}"
        );
        assert_eq!(answer.body["message"], answer.body["error"]);
    }
    let buckets = get_from(&paths, "/api/v2/buckets?name=ha&orgID=1").await;
    assert_eq!(buckets.body["buckets"][0]["name"], "ha");
    let orgs = get_from(&paths, "/api/v2/orgs?org=home").await;
    assert_eq!(orgs.body["orgs"][0]["name"], "home");
    let setup = get_from(&paths, "/api/v2/setup").await;
    assert_eq!(setup.body, json!({"allowed": false}));
}
