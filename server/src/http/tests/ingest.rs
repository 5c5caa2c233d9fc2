//! Rows as a client sends them: what is answered, and that it can be asked for at once. Must never
//! need a network.

use std::io::Write;

use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;

/// A node that takes rows.
pub(super) fn primary(dir: &Path) -> (Committer, Router) {
    let (committer, _) = filled(dir, 0);
    let log = committer.log().clone();
    let intake = Intake::new(
        &committer.appenders(),
        log.clone(),
        intake::Reading::default(),
    );
    let paths = paths_of(Fake {
        log: Some(log),
        lag_ms: Some(0),
        straying: None,
        intake: Some(Arc::new(intake)),
    });
    (committer, paths)
}

pub(super) async fn post(
    paths: &Router,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    let request = Request::builder().method(Method::POST).uri(path);
    let request = headers.iter().fold(request, |request, (name, value)| {
        request.header(*name, *value)
    });
    let body = Body::from(body.to_vec());
    answer_to(paths, request.body(body).expect("a request")).await
}

pub(super) async fn send(paths: &Router, path: &str, body: &str) -> Answer {
    post(paths, path, &[], body.as_bytes()).await
}

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

/// What a query that demands this LSN gets.
pub(super) async fn rows(paths: &Router, sql: &str, min_lsn: &str) -> Value {
    let sql = sql.replace(' ', "+");
    let path = format!("/api/v3/query_sql?min_lsn={min_lsn}&q={sql}");
    get_from(paths, &path).await.body
}

#[tokio::test]
async fn rows_of_a_table_are_answered_with_an_lsn_at_which_they_are_seen() {
    let dir = tempfile::tempdir().expect("a directory");
    let (committer, paths) = primary(dir.path());
    let json = r#"[{"site": "a", "v": 1, "ts": 1}, {"site": "b", "v": 2, "ts": 2}]"#;
    let answer = send(&paths, "/api/v1/ingest/plant?tags=site", json).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.body["rows"], 2);
    let lsn = answer.body["lsn"].to_string();
    assert_eq!(answer.header("x-headwater-lsn"), lsn);
    let seen = rows(&paths, "SELECT site, v FROM plant ORDER BY v", &lsn).await;
    assert_eq!(seen, json!([{"site": "a", "v": 1}, {"site": "b", "v": 2}]));
    let csv = [(CONTENT_TYPE.as_str(), "text/csv")];
    let answer = post(&paths, "/api/v1/ingest/plant", &csv, b"site,v\nc,3\n").await;
    let lsn = answer.body["lsn"].to_string();
    let seen = rows(&paths, "SELECT sum(v) AS s FROM plant", &lsn).await;
    assert_eq!(seen, json!([{"s": 6}]));
    committer.stop().expect("a clean stop");
}

#[tokio::test]
async fn line_protocol_of_every_version_is_written_gzip_too() {
    let dir = tempfile::tempdir().expect("a directory");
    let (committer, paths) = primary(dir.path());
    let packed = gzip(b"cpu,host=z v=8\n");
    for (path, line) in [
        ("/api/v3/write_lp?db=x&precision=second", "cpu,host=a v=1 7"),
        (
            "/api/v2/write?org=o&bucket=b&precision=s",
            "cpu,host=a v=2 7",
        ),
        ("/write?db=x&precision=ms", "cpu,host=a v=4 7000"),
    ] {
        let answer = send(&paths, path, line).await;
        assert_eq!((answer.status, &answer.body), (204, &Value::Null), "{path}");
        let lsn = answer.header("x-headwater-lsn").to_owned();
        let sql = "SELECT DISTINCT time FROM cpu";
        let expected = json!([{"time": "1970-01-01T00:00:07Z"}]);
        assert_eq!(rows(&paths, sql, &lsn).await, expected, "{path}");
    }
    let zipped = [(CONTENT_ENCODING.as_str(), "gzip")];
    let answer = post(&paths, "/api/v2/write", &zipped, &packed).await;
    assert_eq!(answer.status, 204, "{}", answer.body);
    let lsn = answer.header("x-headwater-lsn").to_owned();
    let sum = rows(&paths, "SELECT sum(v) AS s FROM cpu", &lsn).await;
    assert_eq!(sum, json!([{"s": 15.0}]));
    let broken = post(&paths, "/api/v2/write", &zipped, &packed[..20]).await;
    assert_eq!(
        (broken.status, &broken.body["code"]),
        (400, &json!("payload"))
    );
    committer.stop().expect("a clean stop");
}

#[tokio::test]
async fn who_makes_names_up_is_told_to_come_again_later() {
    let dir = tempfile::tempdir().expect("a directory");
    let (committer, paths) = primary(dir.path());
    let most = wal::Limits::default().new_tables_per_minute;
    let made: Vec<String> = (0..most)
        .map(|number| format!("made{number} v=1"))
        .collect();
    let answer = send(&paths, "/write", &made.join("\n")).await;
    assert_eq!(answer.status, 204);
    // A little of the quota is there again as time goes by: no test waits for it, nor needs it gone.
    let more: Vec<String> = (0..most)
        .map(|number| format!("more{number} v=1"))
        .collect();
    let answer = send(&paths, "/write", &more.join("\n")).await;
    assert!(matches!(answer.status, 400 | 429), "{}", answer.body);
    let told = answer.body["error"].as_str().expect("text");
    assert!(told.contains("ingest.new_tables_per_minute"), "{told}");
    let wide: Vec<String> = (0..1_000)
        .map(|number| format!("\"c{number}\": 1"))
        .collect();
    let wide = format!("{{{}}}", wide.join(","));
    let mut refused = None;
    for number in 0..4 {
        let path = format!("/api/v1/ingest/made{number}");
        let answer = send(&paths, &path, &wide).await;
        refused = Some(answer)
            .filter(|answer| answer.status != 200)
            .or(refused);
    }
    let refused = refused.expect("more columns than one client may bring");
    assert_eq!(
        (refused.status, &refused.body["code"]),
        (429, &json!("too_many_new"))
    );
    assert!(refused.headers.contains_key("retry-after"));
    let known = send(&paths, "/write", "made1 v=2").await;
    assert_eq!(known.status, 204, "what is there is taken as ever");
    drop(paths);
    committer.stop().expect("stops");
}

#[tokio::test]
async fn lines_that_cannot_be_stored_are_named_and_the_others_are_stored() {
    let dir = tempfile::tempdir().expect("a directory");
    let (committer, paths) = primary(dir.path());
    let answer = send(
        &paths,
        "/api/v3/write_lp",
        "cpu v=1\ncpu v=\ncpu v=\"x\"\ncpu v=2",
    )
    .await;
    assert_eq!(answer.status, 400);
    let body = &answer.body;
    assert_eq!(body["code"], "partial_write");
    assert!(
        body["error"].as_str().expect("text").starts_with(
            "partial write of line protocol occurred: 2 of 4 lines are stored; line 2: "
        )
    );
    assert_eq!(body["message"], body["error"]);
    let told = |at: usize| {
        (
            &body["data"][at]["line_number"],
            &body["data"][at]["original_line"],
        )
    };
    assert_eq!(told(0), (&json!(2), &json!("cpu v=")));
    assert_eq!(told(1), (&json!(3), &json!("cpu v=\"x\"")));
    assert_eq!(body["rows"], 2);
    let seen = rows(
        &paths,
        "SELECT sum(v) AS s FROM cpu",
        &body["lsn"].to_string(),
    )
    .await;
    assert_eq!(seen, json!([{"s": 3.0}]));
    committer.stop().expect("a clean stop");
}

#[tokio::test]
async fn what_cannot_be_written_is_refused_for_a_reason() {
    let dir = tempfile::tempdir().expect("a directory");
    let (committer, paths) = primary(dir.path());
    assert_eq!(
        send(&paths, "/api/v1/ingest/t", r#"{"v": 1}"#).await.status,
        200
    );
    for (path, body, status, code) in [
        ("/api/v1/ingest/t", "", 400, "payload"),
        ("/api/v1/ingest/t", "{", 400, "payload"),
        (
            "/api/v1/ingest/t",
            r#"[{"v": 2}, {"v": "x"}]"#,
            422,
            "schema",
        ),
        ("/api/v1/ingest/system.x", r#"{"v": 1}"#, 422, "schema"),
        (
            "/api/v1/ingest/system.dead_letters",
            r#"{"reason": 1}"#,
            422,
            "schema",
        ),
        ("/api/v1/ingest/t?table=x", "", 400, "parameter"),
        ("/api/v1/ingest/%FF", "", 400, "parameter"),
        (
            "/api/v3/write_lp?accept_partial=false",
            "a v=1",
            400,
            "not_supported",
        ),
        ("/write", "\u{1}", 400, "partial_write"),
    ] {
        let answer = send(&paths, path, body).await;
        let told = (answer.status, &answer.body["code"]);
        assert_eq!(told, (status, &json!(code)), "{path}: {}", answer.body);
    }
    let large = vec![b' '; (16 << 20) + 1];
    let answer = post(&paths, "/write", &[], &large).await;
    assert_eq!(
        (answer.status, &answer.body["code"]),
        (413, &json!("too_large"))
    );
    let brotli = [(CONTENT_ENCODING.as_str(), "br")];
    let answer = post(&paths, "/write", &brotli, b"a v=1").await;
    assert_eq!(
        (answer.status, &answer.body["code"]),
        (400, &json!("parameter"))
    );
    let many = rows(&paths, "SELECT count(*) AS n FROM t", "0").await;
    assert_eq!(many, json!([{"n": 1}]));
    committer.stop().expect("a clean stop");
    let closed = send(&paths, "/write", "a v=1").await;
    assert_eq!(
        (closed.status, &closed.body["code"]),
        (503, &json!("not_ready"))
    );
    assert!(closed.headers.contains_key("retry-after"));
}

#[tokio::test]
async fn a_secondary_takes_no_rows_and_names_its_primary() {
    let paths = paths_of(Fake::default());
    for path in [
        "/api/v1/ingest/t",
        "/api/v3/write_lp",
        "/api/v2/write",
        "/write",
    ] {
        let answer = send(&paths, path, "a v=1").await;
        assert_eq!(
            (answer.status, &answer.body["code"]),
            (403, &json!("read_only"))
        );
        assert_eq!(
            answer.body["primary"], "http://primary.example:7440",
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_table_gets_another_name_and_what_comes_under_the_old_one_is_a_table_of_its_own() {
    let dir = tempfile::tempdir().expect("a directory");
    let (committer, paths) = primary(dir.path());
    let json = r#"{"v": 1, "ts": 1}"#;
    assert_eq!(send(&paths, "/api/v1/ingest/plant", json).await.status, 200);
    let change = |path: &'static str, body: &'static str| {
        let paths = paths.clone();
        let headers = [("content-type", "application/json")];
        async move { post(&paths, path, &headers, body.as_bytes()).await }
    };
    let path = "/api/v1/tables/plant/rename";
    let renamed = change(path, r#"{"to": "works"}"#).await;
    assert_eq!(renamed.status, 200, "{}", renamed.body);
    let json = r#"{"v": "text", "ts": 2}"#;
    let answer = send(&paths, "/api/v1/ingest/plant", json).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let lsn = answer.body["lsn"].to_string();
    for (sql, expected) in [
        ("SELECT v FROM works", json!([{"v": 1}])),
        ("SELECT v FROM plant", json!([{"v": "text"}])),
    ] {
        assert_eq!(rows(&paths, sql, &lsn).await, expected);
    }
    for (path, body, status, code) in [
        (path, r#"{"to": "works"}"#, 422, "schema"),
        (path, r#"{"to": "system.x"}"#, 422, "schema"),
        (path, r#"{"from": "x"}"#, 400, "parameter"),
        (
            "/api/v1/tables/none/rename",
            r#"{"to": "x"}"#,
            404,
            "not_found",
        ),
    ] {
        let refused = change(path, body).await;
        let found = (refused.status, &refused.body["code"]);
        assert_eq!(found, (status, &json!(code)), "{}", refused.body);
    }
    committer.stop().expect("stops");
}

#[tokio::test]
async fn a_column_that_is_in_the_way_gets_another_name() {
    let dir = tempfile::tempdir().expect("a directory");
    let (committer, paths) = primary(dir.path());
    let tagged = "/api/v1/ingest/plant?tags=site";
    let json = r#"{"site": 7, "v": 1, "ts": 1}"#;
    assert_eq!(send(&paths, "/api/v1/ingest/plant", json).await.status, 200);
    let refused = send(&paths, tagged, r#"{"site": "a", "v": 2, "ts": 2}"#).await;
    assert_eq!(
        (refused.status, &refused.body["code"]),
        (422, &json!("schema"))
    );
    let reason = refused.body["error"].to_string();
    assert!(
        reason.contains("is a field that holds an integer"),
        "{reason}"
    );

    let change = |path: &'static str, body: &'static str| {
        let paths = paths.clone();
        let headers = [("content-type", "application/json")];
        async move { post(&paths, path, &headers, body.as_bytes()).await }
    };
    let body = r#"{"from": "site", "to": "site_number"}"#;
    let renamed = change("/api/v1/tables/plant/rename-column", body).await;
    assert_eq!(renamed.status, 200, "{}", renamed.body);
    let json = r#"{"site": "a", "v": 2, "ts": 2}"#;
    let answer = send(&paths, tagged, json).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let lsn = answer.body["lsn"].to_string();
    let sql = "SELECT v, site, site_number FROM plant ORDER BY v";
    let expected = json!([
        {"v": 1, "site": null, "site_number": 7},
        {"v": 2, "site": "a", "site_number": null},
    ]);
    assert_eq!(rows(&paths, sql, &lsn).await, expected);

    for (path, body, status, code) in [
        ("/api/v1/tables/none/rename-column", body, 404, "not_found"),
        (
            "/api/v1/tables/plant/rename-column",
            r#"{"from": "v", "to": "site"}"#,
            422,
            "schema",
        ),
        (
            "/api/v1/tables/plant/rename-column",
            r#"{"drop": 1}"#,
            400,
            "parameter",
        ),
    ] {
        let refused = change(path, body).await;
        assert_eq!(
            (refused.status, &refused.body["code"]),
            (status, &json!(code))
        );
    }
    committer.stop().expect("stops");
}
