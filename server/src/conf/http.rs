//! Where SQL is asked, and by whom. Must never let a node listen beyond loopback by mistake.

use std::net::SocketAddr;
use std::time::Duration;

use super::reader::{Reader, loopback};

/// Where SQL is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    pub listen: SocketAddr,
    /// Bytes that all running queries may use together; None: what the node's other parts leave.
    pub memory_limit: Option<u64>,
    pub query_timeout: Duration,
    pub max_concurrent_queries: usize,
    /// Queries that may wait for their turn.
    pub max_queued_queries: usize,
    /// Longest wait for a turn.
    pub query_queue_timeout: Duration,
    /// How long a reader may take nothing of its answer where others need its place.
    pub reader_timeout: Duration,
    /// Names, beside its own, by which requests may call this node; `*` is any.
    pub allowed_hosts: Vec<String>,
    /// Origins of web pages, beside its own, that may ask it; `*` is any.
    pub allowed_origins: Vec<String>,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: loopback(7440),
            memory_limit: None,
            query_timeout: Duration::from_secs(60),
            max_concurrent_queries: 8,
            max_queued_queries: 256,
            query_queue_timeout: Duration::from_secs(5),
            reader_timeout: Duration::from_secs(3),
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
        }
    }
}

/// The `[http]` section.
pub(super) fn http(reader: &mut Reader<'_>) -> Http {
    let default = Http::default();
    let http = Http {
        listen: reader.addr("http.listen", default.listen),
        memory_limit: reader.size_if_any("http.memory_limit", 16 << 20..=1 << 40),
        query_timeout: reader.duration(
            "http.query_timeout",
            default.query_timeout,
            Duration::from_millis(1)..=Duration::from_secs(3_600),
        ),
        max_concurrent_queries: reader.int(
            "http.max_concurrent_queries",
            default.max_concurrent_queries,
            1..=1024,
        ),
        max_queued_queries: reader.int(
            "http.max_queued_queries",
            default.max_queued_queries,
            0..=10_000,
        ),
        query_queue_timeout: reader.duration(
            "http.query_queue_timeout",
            default.query_queue_timeout,
            Duration::ZERO..=Duration::from_secs(600),
        ),
        reader_timeout: reader.duration(
            "http.reader_timeout",
            default.reader_timeout,
            Duration::from_millis(100)..=Duration::from_secs(3_600),
        ),
        allowed_hosts: reader.texts("http.allowed_hosts", HOSTS_RULE, is_host),
        allowed_origins: reader.texts("http.allowed_origins", ORIGINS_RULE, is_origin),
    };
    let insecure = reader.flag("http.insecure_anonymous", false);
    if !insecure && !http.listen.ip().to_canonical().is_loopback() {
        let rule = "listening beyond loopback lets anyone who reaches the port read everything; \
                    set http.insecure_anonymous = true if that is meant";
        reader.refuse("http.listen", rule);
    }
    http
}

/// `*`, a name, or `*.` and the end of names. Addresses need not be allowed, and ports do not count.
fn is_host(text: &str) -> bool {
    let name = text.strip_prefix("*.").unwrap_or(text);
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    text == "*" || (!name.is_empty() && name.len() <= MAX_HOST && name.chars().all(plain))
}

/// `*`, or what a browser calls a page's origin.
fn is_origin(text: &str) -> bool {
    let host = ["http://", "https://"]
        .iter()
        .find_map(|scheme| text.strip_prefix(scheme));
    let odd = |c: char| c.is_whitespace() || c.is_control() || "/?#@,*".contains(c);
    let is_plain = |host: &str| !host.is_empty() && host.len() <= MAX_HOST && !host.contains(odd);
    text == "*" || host.is_some_and(is_plain)
}

const MAX_HOST: usize = 253;

const HOSTS_RULE: &str = "must be a list of host names without ports, such as \
                          \"metrics.example\", or \"*.example\" for all below one, or \"*\" for any";

const ORIGINS_RULE: &str = "must be a list of origins, such as \"https://board.example:3000\", or \
                            \"*\" for any";
