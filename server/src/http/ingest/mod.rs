//! The paths that take rows: `/api/v1/ingest/{table}` and the three of line protocol. Owns what
//! they answer; must never say that rows are written before the intake does.

mod request;

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use intake::{Encoding, Write, Written};
use serde_json::json;

use super::app::App;
use super::door::Peer;
use super::error::{ApiError, Failure};
use super::{body, headers};
use request::Ask;

/// The paths.
pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/api/v1/ingest/{table}", post(table))
        .route("/api/v3/write_lp", post(write_lp))
        .route("/api/v2/write", post(write_v2))
        .route("/write", post(write_v1))
}

/// Rows of one table: all of them or none.
async fn table(
    State(app): State<Arc<App>>,
    table: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Failure> {
    let Path(table) = table.map_err(|rejection| ApiError::Parameter(rejection.body_text()))?;
    let ask = request::table(table, &request)?;
    let written = write(&app, ask, request).await?;
    let answer = Json(json!({ "rows": written.rows, "lsn": written.lsn.0 }));
    Ok(at(&app, &written, answer.into_response()))
}

async fn write_lp(State(app): State<Arc<App>>, request: Request) -> Result<Response, Failure> {
    let ask = request::write_lp(request.uri().query())?;
    lines(&app, ask, request).await
}

async fn write_v2(State(app): State<Arc<App>>, request: Request) -> Result<Response, Failure> {
    let ask = request::write_v2(request.uri().query())?;
    lines(&app, ask, request).await
}

async fn write_v1(State(app): State<Arc<App>>, request: Request) -> Result<Response, Failure> {
    let ask = request::write_v1(request.uri().query())?;
    lines(&app, ask, request).await
}

/// Lines, each to the table that it names.
async fn lines(app: &App, ask: Ask, request: Request) -> Result<Response, Failure> {
    let written = write(app, ask, request).await?;
    if written.faulty > 0 {
        return Err(ApiError::PartialWrite(written).into());
    }
    Ok(at(app, &written, StatusCode::NO_CONTENT.into_response()))
}

async fn write(app: &App, ask: Ask, request: Request) -> Result<Written, ApiError> {
    let intake = app
        .node
        .intake()
        .ok_or_else(|| match app.node.not_ready() {
            // A primary takes rows, but not yet.
            Some(reason) if app.node.role() == "primary" => ApiError::NotReady(reason),
            _ => ApiError::NotPrimary,
        })?;
    let encoding = request::encoding(request.headers())?;
    let peer = request.extensions().get::<Peer>();
    let client = peer.map_or_else(String::new, Peer::to_string);
    let max_body = app.memory.max_body().min(app.seats.largest_body());
    // Bytes have their memory as they come; rows get theirs once all of these are there, so that
    // who sends slowly holds no more than was sent.
    let body = body::read(request, max_body).await?;
    // Packed, though nobody said so, it is unpacked all the same.
    let packed = match encoding {
        Encoding::Plain => Encoding::of(&body),
        named => named,
    };
    let max_bytes = app.memory.place(body.len(), packed)?;
    let held = app.memory.take(max_bytes).await?;
    let write = Write {
        client,
        target: ask.target,
        unit: ask.unit,
        encoding,
        body,
        max_bytes,
    };
    Ok(intake.write(write, held).await?)
}

/// Names the LSN of what was written, if anything, in place of the node's newest.
fn at(app: &App, written: &Written, mut response: Response) -> Response {
    if let Some(log) = app.node.log().filter(|_| written.rows > 0) {
        headers::set_position(response.headers_mut(), written.lsn, log.epoch());
    }
    response
}
