//! What load balancers, orchestrators and people with curl ask. Owns the small read-only paths;
//! must never touch the query threads, so that they answer while these are busy.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::app::App;
use super::error::{ApiError, Failure};
use super::freshness;
use super::headers;
use super::influx;
use super::request;
use super::series;

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
pub(crate) async fn status(State(app): State<Arc<App>>) -> Result<Response, Failure> {
    let asked = Arc::clone(&app);
    let make = move || {
        asked
            .hidden
            .hide(asked.node.status(&asked.engine.stats()).to_string())
    };
    let text = app.status.get(make).await?;
    Ok(([(CONTENT_TYPE, "application/json")], text).into_response())
}

/// The node for Prometheus.
pub(crate) async fn metrics(State(app): State<Arc<App>>) -> Result<Response, Failure> {
    let asked = Arc::clone(&app);
    let make = move || asked.node.metrics(&asked.engine.stats()) + &series::of(&asked);
    let text = app.metrics.get(make).await?;
    Ok(([(CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response())
}

fn has_role(app: &App, wanted: &str) -> Result<&'static str, Failure> {
    let role = app.node.role();
    if role == wanted {
        Ok("OK")
    } else {
        Err(ApiError::WrongRole { role }.into())
    }
}
