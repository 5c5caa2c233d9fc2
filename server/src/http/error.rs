//! Errors as clients see them: the one mapping to status, code and JSON body. Must never decide
//! what went wrong: `QueryError` says that.

use std::sync::Arc;

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use intake::{IntakeError, PayloadError, Written};
use query::{Mark, QueryError};
use serde_json::{Map, Value, json};
use wal::Refusal;

use super::node::HttpNode;

/// An error on its way out. The body is written last, where the request's id is known.
#[derive(Debug, Clone)]
pub(crate) struct Failure(Arc<QueryError>);

impl From<QueryError> for Failure {
    fn from(error: QueryError) -> Self {
        Self(Arc::new(error))
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
    ) -> Response {
        // Refusals are the client's business; only our own faults belong in our log.
        if status(&self.0) == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::warn!(request_id, error = %self.0, "a request failed");
        }
        let body = body(&self.0, request_id, primary(&self.0, node)).to_string();
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
pub(crate) fn body(error: &QueryError, request_id: &str, primary: Option<String>) -> Value {
    let mut fields = Map::new();
    fields.insert("error".to_owned(), json!(error.to_string()));
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
fn details(error: &QueryError) -> Vec<(&'static str, Value)> {
    match error {
        QueryError::Syntax {
            position: Some(position),
            ..
        } => vec![("position", json!(position))],
        QueryError::LsnGone { oldest, .. } => vec![("oldest", json!(oldest))],
        QueryError::UnknownMark { newest } => vec![("newest", mark(newest))],
        QueryError::PartialWrite(written) => partial(written),
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

/// A mark as every body shows it.
pub(crate) fn mark(mark: &Mark) -> Value {
    json!({
        "compacted": mark.compacted,
        "next": mark.next,
        "digest": format!("{:016x}", mark.digest),
    })
}

/// Where a refused write would be taken.
fn primary(error: &QueryError, node: &dyn HttpNode) -> Option<String> {
    match error {
        QueryError::ReadOnly { .. } | QueryError::NotPrimary if node.role() == "secondary" => {
            node.primary_address()
        }
        _ => None,
    }
}

fn status(error: &QueryError) -> StatusCode {
    match error {
        QueryError::Syntax { .. }
        | QueryError::Plan(_)
        | QueryError::NotSupported(_)
        | QueryError::Execution(_)
        | QueryError::Parameter(_)
        | QueryError::PartialWrite(_)
        | QueryError::NotAllowed(_) => StatusCode::BAD_REQUEST,
        QueryError::Ingest(error) => ingest(error).0,
        QueryError::ReadOnly { .. } | QueryError::NotPrimary => StatusCode::FORBIDDEN,
        QueryError::UnknownTable { .. } | QueryError::UnknownPath(_) | QueryError::NotFound(_) => {
            StatusCode::NOT_FOUND
        }
        QueryError::UnknownMark { .. } | QueryError::Connected { .. } => StatusCode::CONFLICT,
        QueryError::LsnGone { .. } => StatusCode::GONE,
        QueryError::Method { .. } => StatusCode::METHOD_NOT_ALLOWED,
        QueryError::Timeout { .. } => StatusCode::REQUEST_TIMEOUT,
        QueryError::TooLarge { .. } | QueryError::Memory(_) => StatusCode::PAYLOAD_TOO_LARGE,
        QueryError::TooMany { .. } | QueryError::Busy(_) => StatusCode::TOO_MANY_REQUESTS,
        QueryError::Lagging(_) | QueryError::NotReady(_) | QueryError::WrongRole { .. } => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        QueryError::Storage(_)
        | QueryError::Cancelled
        | QueryError::Listen { .. }
        | QueryError::Start(_)
        | QueryError::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn code(error: &QueryError) -> &'static str {
    match error {
        QueryError::Syntax { .. } => "syntax",
        QueryError::Plan(_) => "plan",
        QueryError::NotSupported(_) => "not_supported",
        QueryError::Execution(_) => "execution",
        QueryError::Parameter(_) => "parameter",
        QueryError::NotAllowed(_) => "not_allowed",
        QueryError::ReadOnly { .. } | QueryError::NotPrimary => "read_only",
        QueryError::Ingest(error) => ingest(error).1,
        QueryError::PartialWrite(_) => "partial_write",
        QueryError::UnknownTable { .. } => "table",
        QueryError::UnknownPath(_) => "path",
        QueryError::Method { .. } => "method",
        QueryError::Timeout { .. } => "timeout",
        QueryError::TooLarge { .. } => "too_large",
        QueryError::Memory(_) => "memory_limit",
        QueryError::TooMany { .. } => "too_many_queries",
        QueryError::Busy(_) => "busy",
        QueryError::Lagging(_) => "lagging",
        QueryError::LsnGone { .. } => "lsn_gone",
        QueryError::UnknownMark { .. } => "unknown_mark",
        QueryError::NotFound(_) => "not_found",
        QueryError::Connected { .. } => "connected",
        QueryError::NotReady(_) => "not_ready",
        QueryError::WrongRole { .. } => "role",
        QueryError::Storage(_) => "storage",
        QueryError::Cancelled => "cancelled",
        QueryError::Listen { .. } | QueryError::Start(_) | QueryError::Internal(_) => "internal",
    }
}

/// What a write that failed is to a client.
fn ingest(error: &IntakeError) -> (StatusCode, &'static str) {
    match error {
        IntakeError::Payload(PayloadError::TooLong { .. } | PayloadError::TooManyRows { .. })
        | IntakeError::Refused(Refusal::TooLarge { .. }) => {
            (StatusCode::PAYLOAD_TOO_LARGE, "too_large")
        }
        IntakeError::Payload(_) => (StatusCode::BAD_REQUEST, "payload"),
        IntakeError::Refused(_) => (StatusCode::UNPROCESSABLE_ENTITY, "schema"),
        IntakeError::Stalled(_) => (StatusCode::SERVICE_UNAVAILABLE, "stalled"),
        IntakeError::Closed(_) => (StatusCode::SERVICE_UNAVAILABLE, "not_ready"),
        IntakeError::NotDurable { .. } => (StatusCode::SERVICE_UNAVAILABLE, "not_durable"),
        IntakeError::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
    }
}

/// Whether the same request may well succeed in a moment.
fn is_temporary(error: &QueryError) -> bool {
    matches!(
        error,
        QueryError::TooMany { .. }
            | QueryError::Busy(_)
            | QueryError::Lagging(_)
            | QueryError::NotReady(_)
            | QueryError::Ingest(
                IntakeError::Stalled(_) | IntakeError::Closed(_) | IntakeError::NotDurable { .. }
            )
    )
}

const RETRY_SECONDS: &str = "1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_names_what_there_is_and_nothing_else() {
        let error = QueryError::Syntax {
            message: "odd".to_owned(),
            position: Some(7),
        };
        let expected = json!({
            "error": "odd", "code": "syntax", "position": 7, "request_id": "r1",
        });
        assert_eq!(body(&error, "r1", None), expected);
        let error = QueryError::ReadOnly {
            what: "INSERT".to_owned(),
        };
        let expected = json!({
            "error": "INSERT is refused: SQL here only reads", "code": "read_only",
            "primary": "p:7440", "request_id": "r2",
        });
        assert_eq!(body(&error, "r2", Some("p:7440".to_owned())), expected);
    }

    #[test]
    fn refusals_tell_what_can_be_asked_for() {
        let gone = QueryError::LsnGone { lsn: 3, oldest: 7 };
        let expected = json!({
            "error": "the answer as of LSN 3 is gone here: the oldest that can be asked for is 7",
            "code": "lsn_gone", "oldest": 7, "request_id": "r1",
        });
        assert_eq!(body(&gone, "r1", None), expected);
        let newest = Mark {
            compacted: 90,
            next: 4,
            digest: 0xab,
        };
        let body = body(&QueryError::UnknownMark { newest }, "r2", None);
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
        let newest = Mark {
            compacted: 0,
            next: 0,
            digest: 0,
        };
        let name = String::new();
        for (error, expected) in [
            (QueryError::Plan(String::new()), 400),
            (
                QueryError::ReadOnly {
                    what: String::new(),
                },
                403,
            ),
            (table, 404),
            (
                QueryError::Timeout {
                    limit: std::time::Duration::ZERO,
                },
                408,
            ),
            (QueryError::NotFound(String::new()), 404),
            (QueryError::UnknownMark { newest }, 409),
            (QueryError::Connected { name }, 409),
            (QueryError::LsnGone { lsn: 1, oldest: 2 }, 410),
            (QueryError::Memory(String::new()), 413),
            (QueryError::TooMany { limit: 1 }, 429),
            (QueryError::Busy("busy"), 429),
            (QueryError::Lagging(String::new()), 503),
        ] {
            assert_eq!(status(&error).as_u16(), expected, "{error:?}");
        }
    }
}
