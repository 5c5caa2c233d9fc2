//! `/api/v3/query_sql`. Owns the life of one request: parse, wait for freshness, start, stream.
//! Must never send a success before the first rows are encoded, nor end a broken answer as if it
//! were whole.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, VARY};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use axum::response::{IntoResponse, Response};
use futures::Stream;
use query::{Format, Head, QueryError, Statement, Transfer};
use wal::Lsn;

use super::app::App;
use super::body;
use super::error::{self, ApiError, Failure};
use super::failures::{Failures, Stage};
use super::freshness;
use super::headers::{self, RequestId};
use super::hidden::Hidden;
use super::request::{self, Given, QueryRequest};

/// Answers one statement.
pub(crate) async fn query_sql(
    State(app): State<Arc<App>>,
    Extension(id): Extension<RequestId>,
    request: Request,
) -> Response {
    let mut response = answered(&app, id, request).await.into_response();
    response
        .headers_mut()
        .insert(VARY, HeaderValue::from_static(NEGOTIATED));
    response
}

async fn answered(app: &App, id: RequestId, request: Request) -> Result<Response, Failure> {
    let limit = request::MAX_BODY_BYTES.min(app.seats.largest_body());
    let query = read(request, limit).await?;
    let limit = app.engine.limit(query.timeout);
    let left = settle(app, &query, limit).await?;
    let statement = Statement {
        sql: query.sql,
        params: query.params,
        as_of: query.as_of_lsn.map(Lsn),
        timeout: Some(left),
        time_zone: query.time_zone,
    };
    let mut transfer = app.engine.encoded(statement, query.output);
    // The query threads keep the time; this catches a plan that does not let go of its thread.
    let head = match tokio::time::timeout(left + GRACE, transfer.head()).await {
        Ok(head) => head?,
        Err(_) => return Err(ApiError::timeout(limit).into()),
    };
    if let Some(max_lag_ms) = query.max_lag_ms {
        freshness::check_lag(head.lag_ms, max_lag_ms)?;
    }
    Ok(answer(
        &head,
        &query.notices,
        Download {
            transfer,
            format: query.output.format,
            coded: head.coding.is_some(),
            id,
            failures: Arc::clone(&app.failures),
            hidden: app.hidden.clone(),
            closed: false,
        },
    ))
}

/// Waits until the node is as fresh as asked, or refuses; gives what is left of `limit`.
async fn settle(app: &App, query: &QueryRequest, limit: Duration) -> Result<Duration, ApiError> {
    let mut left = limit;
    if let Some(lsn) = query.as_of_lsn.max(query.min_lsn) {
        let begun = Instant::now();
        let wait = limit.min(freshness::MAX_WAIT);
        freshness::await_lsn(app.node.as_ref(), &app.seats, lsn, wait).await?;
        left = limit.saturating_sub(begun.elapsed());
    }
    // The lag that counts comes with the snapshot; this spares a query that is refused anyway.
    if let Some(max_lag_ms) = query.max_lag_ms {
        freshness::await_fresh(app.node.as_ref(), max_lag_ms).await?;
    }
    Ok(left)
}

fn answer(head: &Head, notices: &[String], download: Download) -> Response {
    let content_type = HeaderValue::from_static(download.format.content_type());
    let mut response = Response::new(Body::from_stream(download));
    let fields = response.headers_mut();
    fields.insert(CONTENT_TYPE, content_type);
    headers::set_position(fields, head.end.lsn, head.epoch);
    headers::set_lag(fields, head.lag_ms);
    if let Some(coding) = head.coding {
        fields.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
    }
    for notice in notices.iter().chain(&head.notices) {
        headers::add_notice(fields, notice);
    }
    response
}

async fn read(request: Request, limit: usize) -> Result<QueryRequest, ApiError> {
    let query = request.uri().query().map(str::to_owned);
    let accept = header(request.headers(), &ACCEPT);
    let accept_encoding = header(request.headers(), &ACCEPT_ENCODING);
    let time_zone = header(request.headers(), &headers::TIME_ZONE);
    let content_type = header(request.headers(), &CONTENT_TYPE);
    let body = if request.method() == Method::POST {
        body::read(request, limit).await?
    } else {
        Bytes::new()
    };
    request::parse_query(Given {
        query: query.as_deref(),
        accept: accept.as_deref(),
        accept_encoding: accept_encoding.as_deref(),
        time_zone: time_zone.as_deref(),
        content_type: content_type.as_deref(),
        body: &body,
    })
}

/// A header may come in several lines, which are one list.
fn header(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let lines = headers.get_all(name).iter();
    let lines: Vec<&str> = lines.filter_map(|line| line.to_str().ok()).collect();
    (!lines.is_empty()).then(|| lines.join(", "))
}

/// The body of an answer. Dropping it, as when the client goes away, stops the query.
struct Download {
    transfer: Transfer<Bytes>,
    format: Format,
    coded: bool,
    id: RequestId,
    failures: Arc<Failures>,
    hidden: Hidden,
    closed: bool,
}

impl Stream for Download {
    type Item = Result<Bytes, QueryError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.closed {
            return Poll::Ready(None);
        }
        let item = ready!(Pin::new(&mut this.transfer).poll_next(context));
        let Some(Err(failure)) = item else {
            return Poll::Ready(item);
        };
        this.closed = true;
        let (id, error) = (this.id.as_str(), ApiError::Query(failure.clone()));
        this.failures
            .tell(Stage::Begun, error::code(&error), id, &error);
        Poll::Ready(Some(if this.format == Format::JsonLines && !this.coded {
            // Plain lines can say it in-band; every other answer is cut off, so that no client
            // takes a part for the whole.
            let body = error::body(&error, id, None).to_string();
            Ok(Bytes::from(this.hidden.hide(body) + "\n"))
        } else {
            Err(failure)
        }))
    }
}

/// Headers that decide on the form of an answer.
const NEGOTIATED: &str = "Accept, Accept-Encoding";
/// What the query threads get to notice their own timeout.
const GRACE: Duration = Duration::from_millis(500);
