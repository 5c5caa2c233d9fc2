//! Whose pages may ask what: over all paths that there are, whoever adds one. Must never name the
//! paths itself, but for those that anybody may ask.

use std::collections::BTreeSet;

use axum::http::HeaderName;

use super::*;

/// The paths of a router, as its own words tell them, with something in place of what varies.
fn paths(router: &Router) -> BTreeSet<String> {
    let words = format!("{router:?}");
    let quoted = words.split('"').filter(|word| word.starts_with('/'));
    let filled = |path: &str| {
        let parts = path.split('/').map(|part| match part.starts_with('{') {
            true => "x",
            false => part,
        });
        parts.collect::<Vec<_>>().join("/")
    };
    let paths = quoted.filter(|path| !path.contains("__private"));
    paths.map(filled).collect()
}

async fn asked(router: &Router, method: &Method, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        let name: HeaderName = name.parse().expect("a name");
        request = request.header(name, *value);
    }
    let body = Body::from("[{\"v\":1}]");
    answer_to(router, request.body(body).expect("a request")).await
}

#[tokio::test]
async fn no_path_answers_a_page_of_another_site_but_how_the_node_is() {
    let dir = tempfile::tempdir().expect("a directory");
    let (committer, _) = filled(dir.path(), 1);
    let router = paths_of(Fake {
        log: Some(committer.log().clone()),
        ..Fake::default()
    });
    let all = paths(&router);
    for known in ["/api/v1/tables/x/rename", "/write", "/health", "/query"] {
        assert!(all.contains(known), "{known}: {all:?}");
    }
    assert!(all.len() > 20, "{all:?}");
    let methods = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::OPTIONS,
    ];
    for path in all.iter().map(String::as_str).chain(["/nothing", "/"]) {
        let open = OPEN.contains(&path);
        for method in &methods {
            for headers in OTHERS {
                let answer = asked(&router, method, path, headers).await;
                let refused = answer.status == 403;
                assert_eq!(
                    refused, !open,
                    "{method} {path} {headers:?}: {}",
                    answer.text
                );
            }
            // A form in the name of a browser that says nothing of where it comes from.
            if !open && !method.is_safe() {
                let answer = asked(&router, method, path, FORM).await;
                assert_eq!(answer.status, 403, "{method} {path}: {}", answer.text);
            }
            let answer = asked(&router, method, path, &[("user-agent", "curl/8")]).await;
            assert!(answer.body["code"] != "other_site", "{method} {path}");
            assert!(answer.body["code"] != "unknown_host", "{method} {path}");
        }
    }
}

/// What a page may know, too.
const OPEN: &[&str] = &[
    "/health",
    "/health/primary",
    "/health/secondary",
    "/ready",
    "/metrics",
];

const OTHERS: &[&[(&str, &str)]] = &[
    &[("host", "evil.example")],
    &[("host", "evil.example"), ("sec-fetch-site", "same-origin")],
    &[("origin", "http://evil.example")],
    &[("origin", "null"), ("content-type", "text/plain")],
    &[("sec-fetch-site", "cross-site")],
    &[("sec-fetch-site", "same-site")],
    &[("referer", "http://evil.example/page")],
];

const FORM: &[(&str, &str)] = &[
    ("user-agent", "Mozilla/5.0"),
    ("content-type", "application/x-www-form-urlencoded"),
];
