//! What every response carries: the request's id, and how fresh the node is. Owns the
//! `X-Headwater-*` headers; must never change a body, except to write that of an error.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use wal::{Epoch, Lsn};

use super::app::App;
use super::error::Failure;
use super::node::HttpNode;

/// The id of one request: the client's where it is sane, else a new one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequestId(Arc<str>);

impl RequestId {
    fn of(headers: &HeaderMap) -> Self {
        let given = headers
            .get(REQUEST_ID)
            .and_then(|value| value.to_str().ok());
        match given.filter(|id| is_sane(id)) {
            Some(id) => Self(id.into()),
            None => Self::new(),
        }
    }

    /// Unique on this node, and not guessable from the one before.
    fn new() -> Self {
        static SEED: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = SEED.hash_one(NEXT.fetch_add(1, Ordering::Relaxed));
        Self(format!("{id:016x}").into())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_sane(id: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/+=".contains(&byte);
    !id.is_empty() && id.len() <= MAX_REQUEST_ID && id.bytes().all(plain)
}

/// Gives a request its id, and its response the headers and, where it failed, the body.
pub(crate) async fn set_headers(
    State(app): State<Arc<App>>,
    mut request: Request,
    next: Next,
) -> Response {
    let id = RequestId::of(request.headers());
    request.extensions_mut().insert(id.clone());
    let mut response = next.run(request).await;
    if let Some(failure) = response.extensions_mut().remove::<Failure>() {
        let node = app.node.as_ref();
        response = failure.render(response, id.as_str(), node, &app.failures, &app.hidden);
    }
    let headers = response.headers_mut();
    set(headers, REQUEST_ID, id.as_str());
    headers.insert(ROLE, HeaderValue::from_static(app.node.role()));
    // An answer that is of a snapshot has said already of which, and how far behind it was.
    if !headers.contains_key(LAG_MS) {
        set_lag(headers, app.node.lag_ms());
    }
    if !headers.contains_key(LSN) {
        let (lsn, epoch) = held(app.node.as_ref());
        set_position(headers, lsn, epoch);
    }
    response
}

/// What the node holds: without a log nothing, in no epoch yet.
fn held(node: &dyn HttpNode) -> (Lsn, Epoch) {
    node.log().map_or((Lsn(0), Epoch(0)), |log| {
        let snapshot = log.snapshot();
        (snapshot.end().lsn, snapshot.epoch())
    })
}

/// Says which snapshot an answer is of.
pub(crate) fn set_position(headers: &mut HeaderMap, lsn: Lsn, epoch: Epoch) {
    headers.insert(LSN, HeaderValue::from(lsn.0));
    headers.insert(EPOCH, HeaderValue::from(epoch.0));
}

/// Says how far behind the primary an answer is.
pub(crate) fn set_lag(headers: &mut HeaderMap, lag_ms: Option<u64>) {
    let unknown = HeaderValue::from_static(UNKNOWN);
    headers.insert(LAG_MS, lag_ms.map_or(unknown, HeaderValue::from));
}

/// Tells what may surprise whoever asked.
pub(crate) fn add_notice(headers: &mut HeaderMap, notice: &str) {
    let plain = |c: char| {
        if c.is_ascii() && !c.is_ascii_control() {
            c
        } else {
            '?'
        }
    };
    let notice: String = notice.chars().map(plain).take(MAX_NOTICE).collect();
    if let Ok(value) = HeaderValue::from_str(&notice) {
        headers.append(NOTICE, value);
    }
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// The lag of a node that has not heard from its primary.
const UNKNOWN: &str = "unknown";
/// The zone of a request's local times.
pub(crate) const TIME_ZONE: HeaderName = HeaderName::from_static("x-headwater-time-zone");
const NOTICE: HeaderName = HeaderName::from_static("x-headwater-notice");
const MAX_NOTICE: usize = 512;
const MAX_REQUEST_ID: usize = 128;
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const ROLE: HeaderName = HeaderName::from_static("x-headwater-role");
const LSN: HeaderName = HeaderName::from_static("x-headwater-lsn");
const EPOCH: HeaderName = HeaderName::from_static("x-headwater-epoch");
const LAG_MS: HeaderName = HeaderName::from_static("x-headwater-lag-ms");

#[cfg(test)]
mod tests {
    use super::*;

    fn id_for(given: &str) -> RequestId {
        let mut headers = HeaderMap::new();
        set(&mut headers, REQUEST_ID, given);
        RequestId::of(&headers)
    }

    #[test]
    fn sane_ids_are_kept_and_others_replaced() {
        assert_eq!(id_for("abc-123_X.y:z").as_str(), "abc-123_X.y:z");
        let long = "x".repeat(MAX_REQUEST_ID + 1);
        for odd in ["", "a b", "<script>", long.as_str()] {
            let id = id_for(odd);
            assert_ne!(id.as_str(), odd);
            assert_eq!(id.as_str().len(), 16);
        }
        assert_ne!(RequestId::new(), RequestId::new());
    }

    #[test]
    fn a_lag_is_a_number_or_said_to_be_unknown() {
        let mut headers = HeaderMap::new();
        set_lag(&mut headers, None);
        assert_eq!(headers[LAG_MS], UNKNOWN);
        set_lag(&mut headers, Some(7));
        assert_eq!(headers[LAG_MS], "7");
    }
}
