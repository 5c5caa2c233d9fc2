//! Errors as clients see them: what a request can suffer, and the one mapping to status, code and
//! JSON body. Must never decide what went wrong in a query: `QueryError` says that.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use intake::{IntakeError, PayloadError, Written};
use query::QueryError;
use serde_json::{Map, Value, json};
use wal::{FilesMark, Refusal};

use super::failures::{Failures, Stage};
use super::hidden::Hidden;
use super::node::HttpNode;

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ApiError {
    #[error(transparent)]
    Query(#[from] QueryError),
    /// A parameter is unknown or malformed.
    #[error("{0}")]
    Parameter(String),
    #[error("not supported: {0}")]
    NotSupported(String),
    /// The client takes none of the formats there are.
    #[error("{0}")]
    NotAcceptable(String),
    #[error("there is nothing at {0}")]
    UnknownPath(String),
    /// The path exists, the method does not.
    #[error("{path} does not take {method}")]
    Method { method: String, path: String },
    #[error("the body is larger than {limit} bytes")]
    TooLarge { limit: usize },
    /// Rows were sent to a node that takes none.
    #[error("this node takes no rows: only a primary does")]
    NotPrimary,
    /// Rows were not written, or not for certain.
    #[error(transparent)]
    Ingest(#[from] IntakeError),
    /// Some lines, or all, were not written.
    #[error(
        "partial write of line protocol occurred: {} of {} lines are stored{}",
        .0.rows, .0.rows.saturating_add(.0.faulty), first_fault(.0)
    )]
    PartialWrite(Written),
    /// The node is not as fresh as the request demands.
    #[error("{0}")]
    Lagging(String),
    /// The files of that mark are not known here, neither now nor lately.
    #[error(
        "the files of that mark are not known here: the newest mark is {}/{}",
        .newest.compacted, .newest.next
    )]
    UnknownMark { newest: FilesMark },
    /// What a path names is not there.
    #[error("{0}")]
    NotFound(String),
    /// The secondary that is to be forgotten, by its name or id.
    #[error("{name} is connected: a secondary can be forgotten once it is gone")]
    Connected { name: String },
    #[error("{0}")]
    NotReady(String),
    /// A role check asked for the other role.
    #[error("this node is a {role}")]
    WrongRole { role: &'static str },
    /// The node is called by a name that nobody told it of.
    #[error(
        "this node is not known as {0}: a web page may have made that name lead here. If it is one \
         of the node's, name it in http.allowed_hosts (or ask by an address)"
    )]
    UnknownHost(String),
    /// A page of another site makes a browser ask.
    #[error(
        "a web page of another site asks ({0}): pages of others are refused. If it may, name its \
         origin in http.allowed_origins; a program that is no page sends neither Origin nor \
         Sec-Fetch-Site nor Referer, and no form in the name of a browser"
    )]
    OtherSite(String),
    /// All connections that there may be are at work.
    #[error(
        "all places of HTTP connections are taken, and their requests still at work: ask again in \
         a moment, over one connection that is kept open; /health, /ready, /metrics and \
         /api/v1/status answer as ever"
    )]
    NoPlace,
    /// Something that runs alone is running already.
    #[error("{0}")]
    Busy(&'static str),
    /// A bug.
    #[error("internal error: {0}")]
    Internal(String),
}

impl ApiError {
    /// What took longer than `limit`.
    pub(crate) fn timeout(limit: Duration) -> Self {
        Self::Query(QueryError::Timeout { limit })
    }
}

/// An error on its way out. The body is written last, where the request's id is known.
#[derive(Debug, Clone)]
pub(crate) struct Failure(Arc<ApiError>);

impl<E: Into<ApiError>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(Arc::new(error.into()))
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = status(&self.0).into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl Failure {
    /// Gives `response`, which carries this failure, its body.
    pub(crate) fn render(
        &self,
        response: Response,
        request_id: &str,
        node: &dyn HttpNode,
        failures: &Failures,
        hidden: &Hidden,
    ) -> Response {
        // Refusals are the client's business; only our own faults belong in our log.
        if status(&self.0) == StatusCode::INTERNAL_SERVER_ERROR {
            failures.tell(Stage::Whole, code(&self.0), request_id, &self.0);
        }
        let body = body(&self.0, request_id, primary(&self.0, node)).to_string();
        let body = hidden.hide(body);
        let (mut parts, _) = response.into_parts();
        parts
            .headers
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if is_temporary(&self.0) {
            parts
                .headers
                .insert(RETRY_AFTER, HeaderValue::from_static(RETRY_SECONDS));
        }
        Response::from_parts(parts, Body::from(body))
    }
}

/// The JSON object that tells a client what went wrong.
pub(crate) fn body(error: &ApiError, request_id: &str, primary: Option<String>) -> Value {
    let mut fields = Map::new();
    let text = error.to_string();
    fields.insert("error".to_owned(), json!(text));
    // Where clients of InfluxDB 2 look for it.
    fields.insert("message".to_owned(), json!(text));
    fields.insert("code".to_owned(), json!(code(error)));
    for (name, value) in details(error) {
        fields.insert(name.to_owned(), value);
    }
    if let Some(primary) = primary {
        fields.insert("primary".to_owned(), json!(primary));
    }
    fields.insert("request_id".to_owned(), json!(request_id));
    Value::Object(fields)
}

/// What a program needs to know to ask better.
fn details(error: &ApiError) -> Vec<(&'static str, Value)> {
    match error {
        ApiError::Query(QueryError::Syntax {
            position: Some(position),
            ..
        }) => vec![("position", json!(position))],
        ApiError::Query(QueryError::LsnGone { oldest, .. }) => vec![("oldest", json!(oldest))],
        ApiError::UnknownMark { newest } => vec![("newest", mark(newest))],
        ApiError::PartialWrite(written) => partial(written),
        _ => Vec::new(),
    }
}

/// Which lines were not stored, as clients of `InfluxDB` look for them, and where the others are.
fn partial(written: &Written) -> Vec<(&'static str, Value)> {
    let faults = written.faults.iter().map(|fault| {
        json!({
            "original_line": fault.text,
            "line_number": fault.line,
            "error_message": fault.reason,
        })
    });
    vec![
        ("data", faults.collect()),
        ("rows", json!(written.rows)),
        ("lsn", json!(written.lsn.0)),
    ]
}

/// The first of the lines that were not stored: some clients log the message alone.
fn first_fault(written: &Written) -> String {
    let first = written.faults.first();
    first.map_or_else(String::new, |fault| {
        format!("; line {}: {}", fault.line, fault.reason)
    })
}

/// A mark as every body shows it.
pub(crate) fn mark(mark: &FilesMark) -> Value {
    json!({
        "compacted": mark.compacted.0,
        "next": mark.next,
        "digest": format!("{:016x}", mark.digest),
    })
}

/// Where a refused write would be taken.
fn primary(error: &ApiError, node: &dyn HttpNode) -> Option<String> {
    match error {
        ApiError::Query(QueryError::ReadOnly { .. }) | ApiError::NotPrimary
            if node.role() == "secondary" =>
        {
            node.primary_address()
        }
        _ => None,
    }
}

fn status(error: &ApiError) -> StatusCode {
    kind(error).0
}

pub(crate) fn code(error: &ApiError) -> &'static str {
    kind(error).1
}

/// What a request that failed is to a client.
fn kind(error: &ApiError) -> (StatusCode, &'static str) {
    match error {
        ApiError::Query(error) => query(error),
        ApiError::Ingest(error) => ingest(error),
        ApiError::Parameter(_) => (StatusCode::BAD_REQUEST, "parameter"),
        ApiError::NotSupported(_) => (StatusCode::BAD_REQUEST, "not_supported"),
        ApiError::NotAcceptable(_) => (StatusCode::NOT_ACCEPTABLE, "not_acceptable"),
        ApiError::PartialWrite(_) => (StatusCode::BAD_REQUEST, "partial_write"),
        ApiError::NotPrimary => (StatusCode::FORBIDDEN, "read_only"),
        ApiError::UnknownPath(_) => (StatusCode::NOT_FOUND, "path"),
        ApiError::NotFound(_) => (StatusCode::NOT_FOUND, "not_found"),
        ApiError::Method { .. } => (StatusCode::METHOD_NOT_ALLOWED, "method"),
        ApiError::UnknownMark { .. } => (StatusCode::CONFLICT, "unknown_mark"),
        ApiError::Connected { .. } => (StatusCode::CONFLICT, "connected"),
        ApiError::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
        ApiError::Busy(_) => (StatusCode::TOO_MANY_REQUESTS, "busy"),
        ApiError::UnknownHost(_) => (StatusCode::FORBIDDEN, "unknown_host"),
        ApiError::OtherSite(_) => (StatusCode::FORBIDDEN, "other_site"),
        ApiError::NoPlace => (StatusCode::SERVICE_UNAVAILABLE, "too_many_connections"),
        ApiError::Lagging(_) => (StatusCode::SERVICE_UNAVAILABLE, "lagging"),
        ApiError::NotReady(_) => (StatusCode::SERVICE_UNAVAILABLE, "not_ready"),
        ApiError::WrongRole { .. } => (StatusCode::SERVICE_UNAVAILABLE, "role"),
        ApiError::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
    }
}

/// What a query that failed is to a client.
fn query(error: &QueryError) -> (StatusCode, &'static str) {
    match error {
        QueryError::Syntax { .. } => (StatusCode::BAD_REQUEST, "syntax"),
        QueryError::Plan(_) => (StatusCode::BAD_REQUEST, "plan"),
        QueryError::NotSupported(_) => (StatusCode::BAD_REQUEST, "not_supported"),
        QueryError::Execution(_) => (StatusCode::BAD_REQUEST, "execution"),
        QueryError::Parameter(_) => (StatusCode::BAD_REQUEST, "parameter"),
        QueryError::NotAllowed(_) => (StatusCode::BAD_REQUEST, "not_allowed"),
        QueryError::ReadOnly { .. } => (StatusCode::FORBIDDEN, "read_only"),
        QueryError::UnknownTable { .. } => (StatusCode::NOT_FOUND, "table"),
        QueryError::Timeout { .. } => (StatusCode::REQUEST_TIMEOUT, "timeout"),
        QueryError::LsnGone { .. } => (StatusCode::GONE, "lsn_gone"),
        QueryError::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
        QueryError::TooComplex { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "too_complex"),
        QueryError::ValueTooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "value_too_large"),
        QueryError::Memory(_) => (StatusCode::PAYLOAD_TOO_LARGE, "memory_limit"),
        QueryError::TooMany { .. } | QueryError::NoTurn { .. } => {
            (StatusCode::TOO_MANY_REQUESTS, "too_many_queries")
        }
        QueryError::Stalled { .. } => (StatusCode::REQUEST_TIMEOUT, "stalled"),
        QueryError::LsnAhead { .. } => (StatusCode::SERVICE_UNAVAILABLE, "lagging"),
        QueryError::NoLog => (StatusCode::SERVICE_UNAVAILABLE, "not_ready"),
        QueryError::Storage(_) => (StatusCode::INTERNAL_SERVER_ERROR, "storage"),
        QueryError::Exhausted(_) => (StatusCode::SERVICE_UNAVAILABLE, "exhausted"),
        QueryError::Cancelled => (StatusCode::INTERNAL_SERVER_ERROR, "cancelled"),
        QueryError::Start(_) | QueryError::Internal(_) => {
            (StatusCode::INTERNAL_SERVER_ERROR, "internal")
        }
    }
}

/// What a write that failed is to a client.
fn ingest(error: &IntakeError) -> (StatusCode, &'static str) {
    match error {
        IntakeError::Payload(PayloadError::TooLong { .. } | PayloadError::TooManyRows { .. })
        | IntakeError::Refused(Refusal::TooLarge { .. }) => {
            (StatusCode::PAYLOAD_TOO_LARGE, "too_large")
        }
        IntakeError::Refused(Refusal::TooManyNew { .. }) => {
            (StatusCode::TOO_MANY_REQUESTS, "too_many_new")
        }
        IntakeError::Refused(Refusal::Unknown { .. }) => (StatusCode::NOT_FOUND, "not_found"),
        IntakeError::Payload(_) => (StatusCode::BAD_REQUEST, "payload"),
        IntakeError::Refused(_) | IntakeError::Misfit { .. } => {
            (StatusCode::UNPROCESSABLE_ENTITY, "schema")
        }
        IntakeError::Stalled(_) => (StatusCode::SERVICE_UNAVAILABLE, "stalled"),
        IntakeError::Closed(_) => (StatusCode::SERVICE_UNAVAILABLE, "not_ready"),
        IntakeError::NotDurable { .. } => (StatusCode::SERVICE_UNAVAILABLE, "not_durable"),
        IntakeError::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
    }
}

/// Whether the same request may well succeed in a moment.
fn is_temporary(error: &ApiError) -> bool {
    matches!(
        error,
        ApiError::Busy(_)
            | ApiError::NoPlace
            | ApiError::Lagging(_)
            | ApiError::NotReady(_)
            | ApiError::Query(
                QueryError::TooMany { .. }
                    | QueryError::NoTurn { .. }
                    | QueryError::LsnAhead { .. }
                    | QueryError::NoLog
                    | QueryError::Exhausted(_)
            )
            // Not what may be stored yet: sent again at once it would be there twice.
            | ApiError::Ingest(
                IntakeError::Stalled(_)
                    | IntakeError::Closed(_)
                    | IntakeError::Refused(Refusal::TooManyNew { .. })
            )
    )
}

const RETRY_SECONDS: &str = "1";

#[cfg(test)]
mod tests {
    use wal::Lsn;

    use super::*;

    #[test]
    fn a_body_names_what_there_is_and_nothing_else() {
        let error = ApiError::Query(QueryError::Syntax {
            message: "odd".to_owned(),
            position: Some(7),
        });
        let expected = json!({
            "error": "odd", "message": "odd", "code": "syntax", "position": 7,
            "request_id": "r1",
        });
        assert_eq!(body(&error, "r1", None), expected);
        let error = ApiError::Query(QueryError::ReadOnly {
            what: "INSERT".to_owned(),
        });
        let expected = json!({
            "error": "INSERT is refused: SQL here only reads",
            "message": "INSERT is refused: SQL here only reads", "code": "read_only",
            "primary": "p:7440", "request_id": "r2",
        });
        assert_eq!(body(&error, "r2", Some("p:7440".to_owned())), expected);
    }

    #[test]
    fn refusals_tell_what_can_be_asked_for() {
        let gone = ApiError::Query(QueryError::LsnGone { lsn: 3, oldest: 7 });
        let text = "the answer as of LSN 3 is gone here: the oldest that can be asked for is 7";
        let expected = json!({
            "error": text, "message": text, "code": "lsn_gone", "oldest": 7, "request_id": "r1",
        });
        assert_eq!(body(&gone, "r1", None), expected);
        let newest = FilesMark {
            compacted: Lsn(90),
            next: 4,
            digest: 0xab,
        };
        let body = body(&ApiError::UnknownMark { newest }, "r2", None);
        let told = "the files of that mark are not known here: the newest mark is 90/4";
        assert_eq!(body["error"], told);
        assert_eq!(body["code"], "unknown_mark");
        let expected = json!({"compacted": 90, "next": 4, "digest": "00000000000000ab"});
        assert_eq!(body["newest"], expected);
    }

    #[test]
    fn statuses_follow_the_contract() {
        let table = QueryError::UnknownTable {
            name: "t".to_owned(),
            hint: String::new(),
        };
        let what = String::new();
        for (error, expected) in [
            (QueryError::Plan(String::new()), 400),
            (QueryError::ReadOnly { what }, 403),
            (table, 404),
            (
                QueryError::Timeout {
                    limit: Duration::ZERO,
                },
                408,
            ),
            (QueryError::LsnGone { lsn: 1, oldest: 2 }, 410),
            (QueryError::Memory(String::new()), 413),
            (
                QueryError::TooMany {
                    limit: 1,
                    waiting: 1,
                },
                429,
            ),
            (QueryError::LsnAhead { lsn: 2, at: 1 }, 503),
            (QueryError::Storage(String::new()), 500),
            (QueryError::Exhausted(String::new()), 503),
        ] {
            assert_eq!(is_temporary(&error.clone().into()), {
                matches!(expected, 429 | 503)
            });
            assert_eq!(query(&error).0.as_u16(), expected, "{error:?}");
        }
        let newest = FilesMark {
            compacted: Lsn(0),
            next: 0,
            digest: 0,
        };
        let name = String::new();
        for (error, expected) in [
            (ApiError::NotFound(String::new()), 404),
            (ApiError::UnknownMark { newest }, 409),
            (ApiError::Connected { name }, 409),
            (ApiError::Busy("busy"), 429),
            (ApiError::Lagging(String::new()), 503),
        ] {
            assert_eq!(status(&error).as_u16(), expected, "{error:?}");
        }
    }
}
