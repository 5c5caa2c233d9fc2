//! Clients of HTTP that are silent, slow or greedy: whatever they do, others are answered, and the
//! node's memory stays what it was. Must never need more than loopback, nor wait for longer than a
//! node may take.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use tests::cluster::Cluster;
use tests::http::Http;
use tests::node::Node;
use tests::raw_http::{ask, get, half, many_files};
use tests::{eventually, raw};

/// A primary and where it answers.
fn primary() -> (Cluster, Node, String) {
    let mut cluster = Cluster::new();
    let node = cluster.primary();
    let address = node.address("http");
    (cluster, node, address)
}

/// More of them than there are places, opened by `open`; none where this process may not.
fn crowd(open: impl Fn() -> TcpStream) -> Vec<TcpStream> {
    let most = usize::try_from(many_files() / 2).unwrap_or(usize::MAX);
    (0..CROWD.min(most)).map(|_| open()).collect()
}

/// Asks how the node is, which must not take long; what SQL is answered, in the end.
fn is_answered(address: &str) {
    for path in ["/health", "/ready", "/metrics", "/api/v1/status"] {
        let begun = Instant::now();
        let (status, answer) = get(address, path).expect("an answer");
        assert_eq!(status, 200, "{path}: {answer}");
        let took = begun.elapsed();
        assert!(took < AT_ONCE, "{path} took {took:?}");
    }
    eventually("SQL is answered", || {
        match get(address, "/api/v3/query_sql?q=SELECT+1") {
            Some((200, _)) => Ok(()),
            other => Err(other),
        }
    });
}

fn ended(http: &Http, reason: &str) -> f64 {
    let name = format!("headwater_http_connections_ended_total{{reason=\"{reason}\"}}");
    http.metric(&name).expect("the metric")
}

/// Resident memory in MiB.
fn resident(node: &Node) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/status", node.id())).expect("reads");
    let line = text.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kib.expect("VmRSS") >> 10
}

#[test]
fn sockets_that_say_nothing_keep_nobody_out() {
    let (_cluster, node, address) = primary();
    let crowd = crowd(|| half(&address, b""));
    is_answered(&address);
    let begun = Instant::now();
    let answer = get(&address, "/api/v3/query_sql?q=SELECT+1").expect("an answer");
    assert_eq!(answer.0, 200, "{}", answer.1);
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    assert!(ended(&Http::of(&node), "place") > 0.0);
    drop(crowd);
}

#[test]
fn heads_that_are_never_finished_keep_nobody_out() {
    let (_cluster, node, address) = primary();
    let crowd = crowd(|| half(&address, b"GET /health HTTP/1.1\r\nHost: lo"));
    is_answered(&address);
    assert!(ended(&Http::of(&node), "place") > 0.0);
    drop(crowd);
}

#[test]
fn answers_that_are_not_read_keep_nobody_out_and_take_little_memory() {
    let (_cluster, node, address) = primary();
    let before = resident(&node);
    let requests = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(1_000);
    let crowd = crowd(|| {
        let mut stream = half(&address, b"");
        stream.set_nonblocking(true).expect("sets");
        // As many as the system takes.
        let _ = stream.write(requests.as_bytes());
        stream
    });
    is_answered(&address);
    let grown = resident(&node).saturating_sub(before);
    assert!(grown < 400, "{grown} MiB more");
    drop(crowd);
}

#[test]
fn large_answers_that_are_not_read_take_little_memory() {
    let (_cluster, node, address) = primary();
    // Rows of many columns without end.
    let columns: Vec<String> = (0..COLUMNS)
        .map(|n| format!("value+AS+a_rather_long_name_{n}"))
        .collect();
    let columns = columns.join(",");
    let before = resident(&node);
    let query = format!("SELECT+{columns}+FROM+generate_series(1,100000000)");
    let request =
        format!("GET /api/v3/query_sql?format=json&q={query} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let unread: Vec<TcpStream> = (0..8).map(|_| half(&address, request.as_bytes())).collect();
    for stream in &unread {
        let mut first = [0; 1];
        // Each of them has begun.
        (&*stream).read_exact(&mut first).expect("an answer");
    }
    is_answered(&address);
    let grown = resident(&node).saturating_sub(before);
    assert!(grown < 400, "{grown} MiB more");
    drop(unread);
}

#[test]
fn a_slow_reader_gets_the_whole_answer_while_others_want_its_place() {
    let (cluster, _node, address) = primary();
    let mut device = raw::Raw::v3(cluster.mqtt(), "device");
    let rows = format!("[{}]", vec![r#"{"v":1}"#; 100].join(","));
    device.send(&raw::publish(1, "t/a", &[], rows.as_bytes()));
    device.packet().expect("a PUBACK");
    let path = "/api/v3/query_sql?format=csv&q=SELECT+a.time,+b.v+FROM+t+a,t+b,t+c+LIMIT+300000";
    let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let mut reader = half(&address, head.as_bytes());
    let (mut answer, mut piece) = (Vec::new(), vec![0; 8 << 10]);
    let mut crowd = Vec::new();
    let most = usize::try_from(many_files() / 2).unwrap_or(usize::MAX);
    loop {
        let read = reader.read(&mut piece).expect("more of the answer");
        if read == 0 {
            break;
        }
        answer.extend_from_slice(&piece[..read]);
        // Each step takes as long as it takes to open a few connections that say nothing.
        for _ in 0..8 {
            if crowd.len() < CROWD.min(most) {
                crowd.push(half(&address, b""));
            }
        }
        std::thread::sleep(Duration::from_millis(3));
    }
    let answer = String::from_utf8(answer).expect("text");
    assert!(answer.ends_with("\r\n0\r\n\r\n"), "it was cut off");
    assert_eq!(answer.matches(",1\n").count(), 300_000);
}

#[test]
fn bodies_that_never_end_keep_no_rows_out() {
    let (_cluster, node, address) = primary();
    let head = "POST /api/v1/ingest/t HTTP/1.1\r\nHost: localhost\r\nContent-Type: \
                application/json\r\nContent-Length: 16000000\r\n\r\n[{\"v\":1}";
    let drips: Vec<TcpStream> = (0..40).map(|_| half(&address, head.as_bytes())).collect();
    let (http, begun) = (Http::of(&node), Instant::now());
    let body = "[{\"v\":7}]";
    let answer = http.send("/api/v1/ingest/t", "application/json", body);
    assert_eq!(answer.expect("an answer").status, 200);
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    is_answered(&address);
    drop(drips);
}

#[test]
fn heads_without_end_are_refused() {
    let (_cluster, _node, address) = primary();
    let huge = format!(
        "GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n",
        "x".repeat(200 << 10)
    );
    // The node may close before it has taken all of it.
    if let Some((status, answer)) = ask(&address, &huge) {
        assert_eq!(status, 431, "{answer}");
    }
    let many: String = (0..500).map(|n| format!("X-{n}: 1\r\n")).collect();
    let many = format!("GET / HTTP/1.1\r\nHost: localhost\r\n{many}\r\n");
    let (status, answer) = ask(&address, &many).expect("an answer");
    assert_eq!(status, 431, "{answer}");
    is_answered(&address);
}

#[test]
fn pages_of_other_sites_and_names_made_to_lead_here_are_refused() {
    let (_cluster, node, address) = primary();
    let asked = |request: &str, headers: &str| {
        let body = "[{\"v\":1}]";
        let length = body.len();
        let text = format!(
            "{request} HTTP/1.1\r\n{headers}Connection: close\r\nContent-Length: \
             {length}\r\n\r\n{body}"
        );
        ask(&address, &text).expect("an answer")
    };
    let others = [
        "Host: evil.example\r\n",
        "Host: evil.example:7440\r\nSec-Fetch-Site: same-origin\r\n",
        "Host: localhost\r\nOrigin: http://evil.example\r\n",
        "Host: localhost\r\nOrigin: null\r\nContent-Type: text/plain\r\n",
        "Host: localhost\r\nSec-Fetch-Site: cross-site\r\n",
        "Host: localhost\r\nReferer: http://evil.example/\r\n",
        "Host: localhost\r\nUser-Agent: Mozilla/5.0\r\nContent-Type: text/plain\r\n",
    ];
    for headers in others {
        for request in [
            "POST /api/v1/ingest/t",
            "POST /write?db=x",
            "POST /api/v3/query_sql",
            "DELETE /api/v1/secondaries/x",
            "POST /api/v1/tables/t/rename",
        ] {
            let (status, answer) = asked(request, headers);
            assert_eq!(status, 403, "{request} {headers}: {answer}");
            let code = answer.contains("unknown_host") || answer.contains("other_site");
            assert!(code && answer.contains("http.allowed_"), "{answer}");
        }
    }
    for headers in &others[..6] {
        for path in [
            "/api/v3/query_sql?q=SELECT+1",
            "/api/v1/verify",
            "/api/v1/digest",
        ] {
            let (status, answer) = asked(&format!("GET {path}"), headers);
            assert_eq!(status, 403, "{path} {headers}: {answer}");
        }
        for path in ["/health", "/ready", "/metrics"] {
            assert_eq!(asked(&format!("GET {path}"), headers).0, 200, "{path}");
        }
    }
    let (status, answer) = asked(
        "GET /api/v1/status",
        "Host: localhost\r\nHost: localhost\r\n",
    );
    assert_eq!(status, 400, "{answer}");
    // Nothing was written, and who is no page writes as ever.
    let form = "Host: 127.0.0.1\r\nUser-Agent: curl/8.5\r\nContent-Type: \
                application/x-www-form-urlencoded\r\n";
    let (status, answer) = asked("POST /api/v1/ingest/t", form);
    assert_eq!(status, 200, "{answer}");
    assert_eq!(Http::of(&node).number("SELECT count(*) FROM t"), 1);
}

#[test]
fn answers_do_not_say_where_files_are() {
    let (cluster, node, address) = primary();
    let place = cluster.path("");
    let place = place.display().to_string();
    for path in [
        "/health",
        "/ready",
        "/metrics",
        "/api/v1/status",
        "/api/v1/verify",
    ] {
        let (status, answer) = get(&address, path).expect("an answer");
        assert_eq!(status, 200, "{path}: {answer}");
        assert!(!answer.contains(&place), "{path}: {answer}");
    }
    assert!(
        node.lines().iter().any(|line| line.contains(&place)),
        "the log does"
    );
}

/// More connections than a node has places.
const CROWD: usize = 1_300;

/// Columns of a wide row.
const COLUMNS: usize = 1_000;

/// What takes longer hangs.
const AT_ONCE: Duration = Duration::from_secs(2);
