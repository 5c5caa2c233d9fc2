//! What load balancers, orchestrators and people with curl ask. Owns the small read-only paths;
//! must never touch the query threads, so that they answer while these are busy.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::app::App;
use super::error::{ApiError, Failure};
use super::freshness;
use super::headers;
use super::influx;
use super::request;

/// The process lives.
pub(crate) async fn alive(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    if influx::wants_json(&headers) {
        return influx::health(&app);
    }
    "OK".into_response()
}

/// The node can serve, and is as fresh as asked.
pub(crate) async fn ready(State(app): State<Arc<App>>, uri: Uri) -> Result<Response, Failure> {
    let max_lag_ms = request::parse_ready(uri.query())?;
    if let Some(reason) = app.node.not_ready() {
        return Err(ApiError::NotReady(reason).into());
    }
    if let Some(max_lag_ms) = max_lag_ms {
        freshness::await_fresh(app.node.as_ref(), max_lag_ms).await?;
    }
    let lag_ms = app.node.lag_ms();
    let role = app.node.role();
    // `status` is what clients of InfluxDB look for.
    let mut body = json!({ "ready": true, "status": "ready", "role": role, "lag_ms": lag_ms });
    // It answers from what it holds, and says that nothing more comes.
    if let Some((state, reason)) = app.node.straying() {
        body["state"] = json!(state);
        body["reason"] = json!(reason);
    }
    let mut response = Json(body).into_response();
    headers::set_lag(response.headers_mut(), lag_ms);
    Ok(response)
}

/// 200 on a primary only.
pub(crate) async fn primary(State(app): State<Arc<App>>) -> Result<&'static str, Failure> {
    has_role(&app, "primary")
}

/// 200 on a secondary only.
pub(crate) async fn secondary(State(app): State<Arc<App>>) -> Result<&'static str, Failure> {
    has_role(&app, "secondary")
}

/// The node as JSON.
pub(crate) async fn status(State(app): State<Arc<App>>) -> Json<Value> {
    Json(app.node.status(&app.engine.stats()))
}

/// The node for Prometheus.
pub(crate) async fn metrics(State(app): State<Arc<App>>) -> impl IntoResponse {
    (
        [(CONTENT_TYPE, "text/plain; version=0.0.4")],
        app.node.metrics(&app.engine.stats()),
    )
}

fn has_role(app: &App, wanted: &str) -> Result<&'static str, Failure> {
    let role = app.node.role();
    if role == wanted {
        Ok("OK")
    } else {
        Err(ApiError::WrongRole { role }.into())
    }
}
