//! The forms of an answer, as clients ask for them. Must never need a network.

use std::io::Read;

use super::*;

async fn paths(dir: &Path) -> (Committer, Router) {
    let (committer, _) = filled(dir, 1);
    let paths = paths_of(Fake {
        log: Some(committer.log().clone()),
        lag_ms: Some(0),
        ..Fake::default()
    });
    (committer, paths)
}

async fn asked(paths: &Router, query: &str, headers: &[(&str, &str)]) -> (HeaderMap, u16, Vec<u8>) {
    let mut request = Request::builder()
        .uri(format!("/api/v3/query_sql?{query}"))
        .header(HOST, "localhost");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Body::empty()).expect("a request");
    let answered = TowerToHyperService::new(paths.clone()).call(request).await;
    let (parts, body) = answered.expect("an answer").into_parts();
    let bytes = to_bytes(body, 16 << 20).await.expect("a body");
    (parts.headers, parts.status.as_u16(), bytes.to_vec())
}

#[tokio::test]
async fn what_accept_takes_is_given_or_refused_with_what_there_is() {
    let dir = tempfile::tempdir().expect("a directory");
    let (committer, paths) = paths(dir.path()).await;
    for (accept, status, content_type) in [
        ("text/csv;q=0, application/json", 200, "application/json"),
        (
            "application/json;q=0.1, text/csv",
            200,
            "text/csv; charset=utf-8",
        ),
        ("application/xml", 406, "application/json"),
        ("*/*", 200, "application/json"),
    ] {
        let (headers, got, body) = asked(&paths, "q=SELECT+1+AS+a", &[("accept", accept)]).await;
        assert_eq!(got, status, "{accept}");
        assert_eq!(headers["content-type"], content_type, "{accept}");
        assert_eq!(headers["vary"], "Accept, Accept-Encoding", "{accept}");
        let body = String::from_utf8_lossy(&body);
        assert!(status == 200 || body.contains("text/csv"), "{body}");
    }
    let (_, status, body) = asked(
        &paths,
        "q=SELECT+1+AS+a&format=NDJSON&db=x&pretty=true",
        &[],
    )
    .await;
    assert_eq!((status, body.as_slice()), (200, &b"{\"a\":1}\n"[..]));
    let (headers, status, _) = asked(&paths, "q=SELECT+1&epoch=ms&database=x", &[]).await;
    assert_eq!(status, 200);
    assert!(headers.contains_key("x-headwater-notice"));
    let (_, _, body) = asked(
        &paths,
        "q=SELECT+1::bigint+AS+a+LIMIT+0&format=json_columns",
        &[],
    )
    .await;
    assert_eq!(
        body,
        b"{\"names\":[\"a\"],\"types\":[\"bigint\"],\"rows\":[]}\n"
    );
    let big = "q=SELECT+9007199254740993+AS+a&big_integers=text";
    let (_, _, body) = asked(&paths, big, &[]).await;
    assert_eq!(body, b"[{\"a\":\"9007199254740993\"}]\n");
    let (_, status, _) = asked(&paths, "q=SELECT+1&big_integers=yes", &[]).await;
    assert_eq!(status, 400);
    committer.stop().expect("a clean stop");
}

#[tokio::test]
async fn large_answers_are_compressed_for_who_takes_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let (committer, paths) = paths(dir.path()).await;
    let large = "q=SELECT+value+FROM+generate_series(1,20000)+ORDER+BY+1&format=csv";
    let (headers, _, plain) = asked(&paths, large, &[]).await;
    assert!(!headers.contains_key("content-encoding"));
    let (headers, _, coded) = asked(&paths, large, &[("accept-encoding", "gzip, br")]).await;
    assert_eq!(headers["content-encoding"], "gzip");
    let mut bytes = Vec::new();
    let mut reader = flate2::read::GzDecoder::new(coded.as_slice());
    reader.read_to_end(&mut bytes).expect("gzip");
    assert_eq!(bytes, plain);
    assert!(coded.len() < plain.len());
    let (headers, _, _) = asked(&paths, large, &[("accept-encoding", "gzip, zstd")]).await;
    assert_eq!(headers["content-encoding"], "zstd");
    let (headers, _, small) =
        asked(&paths, "q=SELECT+1+AS+a", &[("accept-encoding", "zstd")]).await;
    assert!(!headers.contains_key("content-encoding"));
    assert_eq!(small, b"[{\"a\":1}]\n");
    let parquet = large.replace("csv", "parquet");
    let (headers, _, _) = asked(&paths, &parquet, &[("accept-encoding", "gzip")]).await;
    assert!(!headers.contains_key("content-encoding"));
    committer.stop().expect("a clean stop");
}
