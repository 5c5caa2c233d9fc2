//! What people type, as they are answered: names of columns, ways to look around, zones. Must never
//! need a network.

use super::*;

async fn paths(dir: &Path) -> (Committer, Router) {
    let (committer, _) = filled(dir, 3);
    let paths = paths_of(Fake {
        log: Some(committer.log().clone()),
        lag_ms: Some(0),
        ..Fake::default()
    });
    (committer, paths)
}

async fn sql(paths: &Router, sql: &str, more: &str) -> Answer {
    let sql: String = form_urlencoded::byte_serialize(sql.as_bytes()).collect();
    get_from(paths, &format!("/api/v3/query_sql?q={sql}{more}")).await
}

#[tokio::test]
async fn columns_are_called_what_postgresql_calls_them_also_where_two_are_equal() {
    let dir = tempfile::tempdir().expect("a directory");
    let (committer, paths) = paths(dir.path()).await;
    for (statement, row) in named() {
        let answer = sql(&paths, statement, "").await;
        assert_eq!(answer.status, 200, "{statement}: {}", answer.body);
        if statement.contains("UNION") {
            assert!(answer.body[0].get("sum").is_some(), "{}", answer.body);
        } else {
            assert_eq!(answer.body, json!([row]), "{statement}");
        }
    }
    let starred = sql(&paths, "SELECT *, v FROM plant ORDER BY v LIMIT 1", "").await;
    assert_eq!(starred.body[0]["v_2"], json!(0), "{}", starred.body);
    let table = sql(&paths, "TABLE plant", "").await;
    assert_eq!(
        table.body.as_array().map(Vec::len),
        Some(3),
        "{}",
        table.body
    );
    let version = sql(&paths, "SELECT version()", "").await;
    let version = version.body[0]["version"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    assert!(
        version.starts_with("Headwater ") && version.contains("(DataFusion "),
        "{version}"
    );
    committer.stop().expect("a clean stop");
}

#[tokio::test]
async fn ways_to_look_around_are_answered_or_say_what_to_type() {
    let dir = tempfile::tempdir().expect("a directory");
    let (committer, paths) = paths(dir.path()).await;
    for (statement, part) in [
        ("SHOW TABLES", "\"table_name\":\"plant\""),
        ("SHOW TABLES FROM system", "\"table_name\":\"queries\""),
        ("SHOW TABLES LIKE 'pl%'", "\"plant\""),
        ("SHOW COLUMNS FROM plant", "\"data_type\":\"bigint\""),
        ("DESCRIBE plant", "timestamp with time zone"),
        ("DESCRIBE TABLE plant", "timestamp with time zone"),
        ("\\d plant", "timestamp with time zone"),
        ("\\dt", "\"plant\""),
        ("SHOW DATABASES", "[{\"database\":\"headwater\"}]"),
        ("SHOW SCHEMAS", "\"schema_name\":\"system\""),
        (
            "SHOW CREATE TABLE plant",
            "CREATE TABLE plant (time timestamp with time zone NOT NULL",
        ),
        ("SHOW TIME ZONE", "TimeZone"),
        ("SHOW server_version", "server_version"),
        ("SHOW FUNCTIONS", "date_bin"),
        (
            "SELECT count(*) AS n FROM information_schema.views",
            "[{\"n\":0}]",
        ),
        (
            "SELECT column_name, ordinal_position, data_type, is_nullable, udt_name \
             FROM information_schema.columns WHERE table_name = 'plant' AND column_name = 'time'",
            "\"ordinal_position\":1",
        ),
        (
            "SELECT DISTINCT table_type FROM information_schema.tables \
             WHERE table_name = 'plant'",
            "[{\"table_type\":\"BASE TABLE\"}]",
        ),
    ] {
        let answer = sql(&paths, statement, "").await;
        assert_eq!(answer.status, 200, "{statement}: {}", answer.body);
        let text = answer.body.to_string();
        assert!(text.contains(part), "{statement}: {text}");
    }
    for (statement, status) in [
        ("DESCRIBE nowhere", 404),
        ("SHOW COLUMNS FROM nowhere", 404),
        ("SHOW CREATE TABLE nowhere", 404),
        ("SHOW ALL", 400),
        ("SHOW FIELD KEYS", 400),
        ("\\q", 400),
    ] {
        let answer = sql(&paths, statement, "").await;
        assert_eq!(answer.status, status, "{statement}: {}", answer.body);
        let error = answer.body["error"].as_str().unwrap_or_default();
        assert!(
            status == 404 || error.contains("SHOW TABLES"),
            "{statement}: {error}"
        );
    }
    let missing = sql(&paths, "SELECT V FROM plant WHERE \"V\" = 1", "").await;
    assert!(
        !missing.body.to_string().contains("datafusion"),
        "{}",
        missing.body
    );
    committer.stop().expect("a clean stop");
}

#[tokio::test]
async fn a_column_that_hides_an_alias_in_group_by_is_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let (committer, paths) = paths(dir.path()).await;
    let binned =
        "SELECT date_bin(INTERVAL '1 day', time) AS time, count(*) AS n FROM plant GROUP BY";
    let answer = sql(&paths, &format!("{binned} time"), "").await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let notice = answer.header("x-headwater-notice");
    assert!(notice.contains("GROUP BY 1"), "{notice}");
    let answer = sql(&paths, &format!("{binned} 1"), "").await;
    assert_eq!(answer.body[0]["n"], json!(3), "{}", answer.body);
    assert!(!answer.headers.contains_key("x-headwater-notice"));
    committer.stop().expect("a clean stop");
}

#[tokio::test]
async fn a_zone_says_where_days_begin_and_moves_no_instant() {
    let dir = tempfile::tempdir().expect("a directory");
    let (committer, paths) = paths(dir.path()).await;
    let zone = "&time_zone=America/New_York";
    for (statement, expected) in in_new_york().into_iter().chain(local_in_new_york()) {
        let answer = sql(&paths, statement, zone).await;
        assert_eq!(
            answer.body[0]["x"], expected,
            "{statement}: {}",
            answer.body
        );
    }
    let local = sql(
        &paths,
        "SELECT min(time) AS x FROM plant",
        "&time_zone=-05:00&times=local",
    )
    .await;
    assert_eq!(local.body[0]["x"], json!("1969-12-31T19:00:00-05:00"));
    let request = Request::builder()
        .uri("/api/v3/query_sql?q=SELECT+time::date+AS+x+FROM+plant+LIMIT+1")
        .header("x-headwater-time-zone", "America/New_York");
    let answer = answer_to(&paths, request.body(Body::empty()).expect("a request")).await;
    assert_eq!(answer.body[0]["x"], json!("1969-12-31"));
    let unknown = sql(&paths, "SELECT 1", "&time_zone=Mars/Base").await;
    assert_eq!(unknown.status, 400, "{}", unknown.body);
    committer.stop().expect("a clean stop");
}

#[tokio::test]
async fn a_local_time_leaves_without_a_zone() {
    let dir = tempfile::tempdir().expect("a directory");
    let (committer, paths) = paths(dir.path()).await;
    let noon = "TIMESTAMPTZ '2026-11-05T12:00:00Z'";
    let (there, local) = ("AT TIME ZONE 'America/New_York'", "2026-11-05T07:00:00");
    for (statement, expected) in [
        (format!("SELECT {noon} {there} AS x"), local),
        (format!("SELECT x FROM (SELECT {noon} {there} AS x)"), local),
        (
            format!("SELECT to_local_time({noon}) AS x"),
            "2026-11-05T12:00:00",
        ),
        (
            format!("SELECT {noon} {there} {there} AS x"),
            "2026-11-05T12:00:00Z",
        ),
        (format!("SELECT {noon} AS x"), "2026-11-05T12:00:00Z"),
        // Clocks leave it out, and show it twice.
        (
            "SELECT TIMESTAMP '2026-03-29 02:30:00' AT TIME ZONE 'Europe/Berlin' AS x".to_owned(),
            "2026-03-29T01:30:00Z",
        ),
        (
            "SELECT TIMESTAMP '2026-10-25 02:30:00' AT TIME ZONE 'Europe/Berlin' AS x".to_owned(),
            "2026-10-25T01:30:00Z",
        ),
        (
            "SELECT TIMESTAMP '2026-11-05 12:00:00' AS x".to_owned(),
            "2026-11-05T12:00:00Z",
        ),
    ] {
        let answer = sql(&paths, &statement, "").await;
        assert_eq!(answer.body[0]["x"], json!(expected), "{statement}");
    }
    for (statement, hint) in [
        (
            "SELECT '2026-11-05 12:00' AT TIME ZONE 'UTC'",
            "TIMESTAMPTZ '...'",
        ),
        (
            "SELECT now() AT TIME ZONE INTERVAL '1 hour'",
            "'Europe/Berlin'",
        ),
        ("SELECT now() AT TIME ZONE 'Mars/Base'", "'Europe/Berlin'"),
    ] {
        let answer = sql(&paths, statement, "").await;
        assert_eq!(answer.status, 400, "{}", answer.body);
        assert!(answer.body.to_string().contains(hint), "{}", answer.body);
    }
    committer.stop().expect("a clean stop");
}

/// Statements and the one row that answers each.
fn named() -> Vec<(&'static str, Value)> {
    vec![
        (
            "SELECT max(v), count(*) FROM plant",
            json!({"max": 2, "count": 3}),
        ),
        ("SELECT 1, 'a'", json!({"?column?": 1, "?column?_2": "a"})),
        (
            "SELECT v, v FROM plant ORDER BY v LIMIT 1",
            json!({"v": 0, "v_2": 0}),
        ),
        ("SELECT 1 AS a, 2 AS a", json!({"a": 1, "a_2": 2})),
        (
            "SELECT max(v), max(v) FROM plant",
            json!({"max": 2, "max_2": 2}),
        ),
        (
            "SELECT a.v, b.v FROM plant a JOIN plant b ON a.v = b.v ORDER BY 1 LIMIT 1",
            json!({"v": 0, "v_2": 0}),
        ),
        (
            "SELECT site, max(v) FROM plant GROUP BY site HAVING max(v) > 1 ORDER BY max(v)",
            json!({"site": "a", "max": 2}),
        ),
        (
            "SELECT lower(site), v + 1 AS W FROM plant ORDER BY v LIMIT 1",
            json!({"lower": "a", "w": 1}),
        ),
        (
            "SELECT v FROM plant ORDER BY v FETCH FIRST ROW ONLY",
            json!({"v": 0}),
        ),
        (
            "SELECT v FROM plant ORDER BY v DESC FETCH FIRST 1 ROWS ONLY",
            json!({"v": 2}),
        ),
        (
            "SELECT x.n FROM (SELECT count(*) AS n FROM (TABLE plant)) x",
            json!({"n": 3}),
        ),
        (
            "WITH t AS (SELECT v FROM plant) SELECT sum(v) FROM t UNION ALL SELECT 1 FROM t LIMIT 1",
            json!({"sum": 3}),
        ),
    ]
}

/// Statements and what `x` is in their first row: the rows are of midnight in UTC, the evening before
/// in New York.
/// Those that clocks leave out, or show twice, among them.
fn local_in_new_york() -> Vec<(&'static str, Value)> {
    vec![
        (
            "SELECT '2026-03-08 02:30'::timestamptz AS x",
            json!("2026-03-08T07:30:00Z"),
        ),
        (
            "SELECT TIMESTAMP '2026-11-01 01:30:00'::timestamptz AS x",
            json!("2026-11-01T06:30:00Z"),
        ),
        (
            "SELECT count(*) AS x FROM plant WHERE time < '2026-11-01 01:30' \
             AND time > TIMESTAMP '1969-10-26 01:30:00'",
            json!(3),
        ),
        (
            "SELECT TRY_CAST('2026-11-01T01:30:00-04:00' AS timestamptz) AS x",
            json!("2026-11-01T05:30:00Z"),
        ),
        (
            "SELECT '2026-11-01 03:00Z'::timestamptz >= DATE '2026-11-01' AS x",
            json!(false),
        ),
        (
            "SELECT '2026-11-01 03:00Z'::timestamptz::timestamp AS x",
            json!("2026-10-31T23:00:00"),
        ),
    ]
}

fn in_new_york() -> Vec<(&'static str, Value)> {
    vec![
        (
            "SELECT date_trunc('day', time) AS x FROM plant LIMIT 1",
            json!("1969-12-31T05:00:00Z"),
        ),
        (
            "SELECT time::date AS x FROM plant LIMIT 1",
            json!("1969-12-31"),
        ),
        (
            "SELECT time::timestamp(0) AS x FROM plant LIMIT 1",
            json!("1969-12-31T19:00:00"),
        ),
        (
            "SELECT extract(hour FROM time) AS x FROM plant LIMIT 1",
            json!(19),
        ),
        (
            "SELECT to_char(time, '%H') AS x FROM plant LIMIT 1",
            json!("19"),
        ),
        (
            "SELECT count(*) AS x FROM plant WHERE time >= '1969-12-31 19:00:00'",
            json!(3),
        ),
        (
            "SELECT count(*) AS x FROM plant WHERE time >= '1969-12-31T19:00:01'",
            json!(0),
        ),
        (
            "SELECT count(*) AS x FROM plant WHERE time >= '1970-01-01T00:00:00Z'",
            json!(3),
        ),
        (
            "SELECT count(*) AS x FROM plant WHERE time < TIMESTAMP '1969-12-31 19:00:01'",
            json!(3),
        ),
        (
            "SELECT count(*) AS x FROM plant WHERE time > DATE '1970-01-01'",
            json!(0),
        ),
        (
            "SELECT min(time) AS x FROM plant",
            json!("1970-01-01T00:00:00Z"),
        ),
        (
            "SELECT count(*) AS x FROM (SELECT date_trunc('day', time) AS d FROM plant GROUP BY 1) y",
            json!(1),
        ),
    ]
}
