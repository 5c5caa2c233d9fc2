//! Many queries at once, as clients meet them. Must never need a network, nor wait by the clock.

use futures::future::join_all;

use super::*;

/// A node that runs two queries at one time.
fn two_at_once(log: wal::Log, queued: usize) -> Router {
    let config = query::Config {
        threads: 2,
        max_concurrent_queries: 2,
        max_queued_queries: queued,
        query_queue_timeout: Duration::from_secs(60),
        reader_timeout: Duration::from_millis(1),
        ..query::Config::default()
    };
    let node = Fake {
        log: Some(log),
        lag_ms: Some(0),
        ..Fake::default()
    };
    paths_with(node, &config)
}

async fn begun(paths: &Router, sql: &str) -> (u16, Body) {
    let path = format!("/api/v3/query_sql?format=csv&q={sql}");
    let request = Request::builder().uri(path).header(HOST, "localhost");
    let request = request.body(Body::empty()).expect("a request");
    let answered = TowerToHyperService::new(paths.clone()).call(request).await;
    let (parts, body) = answered.expect("an answer").into_parts();
    (parts.status.as_u16(), body)
}

#[tokio::test]
async fn a_dashboard_full_of_panels_is_answered_and_more_than_may_wait_are_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let (committer, _) = filled(dir.path(), 3);
    let paths = two_at_once(committer.log().clone(), 24);
    let panel = "/api/v3/query_sql?q=SELECT+sum(v)+AS+s+FROM+plant";
    let answers = join_all((0..24).map(|_| get_from(&paths, panel))).await;
    for answer in answers {
        assert_eq!((answer.status, answer.body), (200, json!([{"s": 3}])));
    }
    let paths = two_at_once(committer.log().clone(), 0);
    let endless = "SELECT+count(*)+FROM+generate_series(1,100000000000)";
    let mut held = Vec::new();
    for _ in 0..2 {
        let paths = paths.clone();
        held.push(tokio::spawn(async move { begun(&paths, endless).await }));
    }
    let refused = loop {
        let answer = get_from(&paths, panel).await;
        if answer.status != 200 {
            break answer;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(refused.status, 429, "{}", refused.body);
    assert_eq!(refused.body["code"], "too_many_queries");
    assert_eq!(refused.header("retry-after"), "1");
    held.iter().for_each(tokio::task::JoinHandle::abort);
    // A client that has gone away holds no slot.
    while get_from(&paths, panel).await.status != 200 {
        tokio::task::yield_now().await;
    }
    committer.stop().expect("a clean stop");
}

#[tokio::test]
async fn readers_that_stop_reading_keep_nobody_waiting() {
    let dir = tempfile::tempdir().expect("a directory");
    let (committer, _) = filled(dir.path(), 1);
    let paths = two_at_once(committer.log().clone(), 24);
    let endless = "SELECT+value+FROM+generate_series(1,100000000000)";
    let mut unread = Vec::new();
    for _ in 0..8 {
        let (status, body) = begun(&paths, endless).await;
        assert_eq!(status, 200);
        unread.push(body);
    }
    let answer = get_from(&paths, "/api/v3/query_sql?q=SELECT+v+FROM+plant").await;
    assert_eq!((answer.status, answer.body), (200, json!([{"v": 0}])));
    committer.stop().expect("a clean stop");
}

#[tokio::test]
async fn waiting_queries_are_listed() {
    let dir = tempfile::tempdir().expect("a directory");
    let (committer, _) = filled(dir.path(), 1);
    let paths = two_at_once(committer.log().clone(), 24);
    let list = "/api/v3/query_sql?q=SELECT+state,+waited_ms+%3E=+0+AS+w+FROM+system.queries";
    let answer = get_from(&paths, list).await;
    assert_eq!(answer.body, json!([{"state": "running", "w": true}]));
    committer.stop().expect("a clean stop");
}

#[tokio::test]
async fn a_value_that_would_be_too_large_is_refused_before_it_is_made() {
    let dir = tempfile::tempdir().expect("a directory");
    let (committer, _) = filled(dir.path(), 1);
    let paths = two_at_once(committer.log().clone(), 24);
    for sql in [
        "SELECT+length(repeat('x',2000000000))",
        "SELECT+length(lpad('x',2000000000%2Bv))+FROM+plant",
        "VALUES+(array_repeat(1,2000000000))",
    ] {
        let answer = get_from(&paths, &format!("/api/v3/query_sql?q={sql}")).await;
        assert_eq!(answer.status, 413, "{sql}: {}", answer.body);
        assert_eq!(answer.body["code"], "value_too_large", "{sql}");
    }
    committer.stop().expect("a clean stop");
}

#[tokio::test]
async fn requests_that_wait_for_rows_to_come_keep_a_quarter_of_the_places_at_most() {
    let dir = tempfile::tempdir().expect("a directory");
    let (committer, ends) = filled(dir.path(), 1);
    let paths = two_at_once(committer.log().clone(), 8);
    let query = "/api/v3/query_sql?q=SELECT+1&min_lsn";
    let (there, ahead) = (ends[0].0, ends[0].0 + 1);
    let ahead = format!("{query}={ahead}");
    let mut waiting: Vec<_> = (0..2).map(|_| Box::pin(get_from(&paths, &ahead))).collect();
    for wait in &mut waiting {
        assert!(futures::poll!(wait).is_pending());
    }
    let refused = get_from(&paths, &ahead).await;
    assert_eq!(
        (refused.status, &refused.body["code"]),
        (429, &json!("busy"))
    );
    // Who asks for what is there does not wait.
    let answer = get_from(&paths, &format!("{query}={there}")).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    drop(waiting);
    committer.stop().expect("a clean stop");
}
