//! What clients of InfluxDB ask before they write, and give up without: is it there, which version,
//! is there a database. One answer on every node. Must never say that something was made, kept or
//! dropped that was not.

mod statement;

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{ACCEPT, USER_AGENT};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use axum::{Json, Router};
use serde_json::{Value, json};

use super::app::App;
use super::body;
use super::error::{ApiError, Failure};
use super::request::{MAX_BODY_BYTES, form_pairs};
use statement::{ASK_SQL, Statement};

/// The paths that are here for these clients alone.
pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/ping", get(ping))
        .route("/query", get(query).post(query))
        .route("/api/v2/query", any(flux))
        .route("/api/v2/buckets", get(buckets))
        .route("/api/v2/orgs", get(orgs))
        .route("/api/v2/setup", get(setup))
}

/// Whether whoever asks reads a JSON object in answer to `/health`.
pub(crate) fn wants_json(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let json = |range: &str| {
        let media = range.split(';').next().unwrap_or_default().trim();
        media.eq_ignore_ascii_case("application/json")
            || media.eq_ignore_ascii_case("application/health+json")
    };
    let agent = text(USER_AGENT).unwrap_or_default().to_ascii_lowercase();
    agent.contains("influx") || text(ACCEPT).is_some_and(|accept| accept.split(',').any(json))
}

/// The body of `/health` as these clients read it.
pub(crate) fn health(app: &App) -> Response {
    let (status, message) = match app.node.not_ready() {
        Some(reason) => ("fail", app.hidden.hide(reason)),
        None if app.node.intake().is_some() => ("pass", "ready for queries and writes".to_owned()),
        None => (
            "pass",
            "ready for queries; the primary takes writes".to_owned(),
        ),
    };
    versioned(Json(json!({
        "name": NAME,
        "message": message,
        "status": status,
        "version": VERSION,
    })))
}

async fn ping(uri: Uri) -> Response {
    let pairs = form_pairs(uri.query().unwrap_or_default().as_bytes());
    let verbose = pairs.iter().find(|(name, _)| name == "verbose");
    match verbose.and_then(|(_, value)| value.as_str()) {
        None | Some("" | "0" | "false") => versioned(StatusCode::NO_CONTENT),
        Some(_) => versioned(Json(json!({ "version": VERSION }))),
    }
}

/// `InfluxQL`, as far as it is about databases: every name means the one there is.
async fn query(State(app): State<Arc<App>>, request: Request) -> Result<Response, Failure> {
    let mut pairs = form_pairs(request.uri().query().unwrap_or_default().as_bytes());
    if request.method() == Method::POST {
        let limit = MAX_BODY_BYTES.min(app.seats.largest_body());
        let body = body::read(request, limit).await?;
        pairs.extend(form_pairs(&body));
    }
    let given = |wanted: &str| {
        let found = pairs.iter().find(|(name, _)| name == wanted);
        found.and_then(|(_, value)| value.as_str())
    };
    let text = given("q")
        .ok_or_else(|| ApiError::Parameter("missing required parameter \"q\"".to_owned()))?;
    let database = given("db").filter(|name| !name.is_empty());
    let statements = statement::parse(text)?;
    let results: Vec<Value> = (0..)
        .zip(&statements)
        .map(|(at, statement)| result(at, statement, database))
        .collect();
    Ok(versioned(Json(json!({ "results": results }))))
}

fn result(at: u32, statement: &Statement, database: Option<&str>) -> Value {
    let series = match statement {
        // There already, under this name as under any other.
        Statement::CreateDatabase => return json!({ "statement_id": at }),
        Statement::ShowDatabases => {
            let own = database.filter(|name| *name != NAME);
            let names = [Some(NAME), own].into_iter().flatten();
            json!({
                "name": "databases",
                "columns": ["name"],
                "values": names.map(|name| [name]).collect::<Vec<_>>(),
            })
        }
        Statement::ShowRetentionPolicies => json!({
            "columns": ["name", "duration", "shardGroupDuration", "replicaN", "default"],
            "values": [["autogen", "0s", "168h0m0s", 1, true]],
        }),
    };
    json!({ "statement_id": at, "series": [series] })
}

async fn flux() -> Failure {
    ApiError::NotSupported(format!("Flux: {ASK_SQL}")).into()
}

async fn buckets(State(app): State<Arc<App>>, uri: Uri) -> Response {
    let name = named(&uri, &["name"]).unwrap_or_else(|| NAME.to_owned());
    let id = log_id(&app);
    let bucket = json!({
        "id": id, "orgID": id, "type": "user", "name": name, "retentionRules": [],
    });
    versioned(Json(json!({ "buckets": [bucket] })))
}

async fn orgs(State(app): State<Arc<App>>, uri: Uri) -> Response {
    let name = named(&uri, &["org"]).unwrap_or_else(|| NAME.to_owned());
    let org = json!({ "id": log_id(&app), "name": name, "status": "active" });
    versioned(Json(json!({ "orgs": [org] })))
}

/// There is nothing to set up.
async fn setup() -> Response {
    versioned(Json(json!({ "allowed": false })))
}

/// 16 hexadecimal digits, as these clients expect of an id.
fn log_id(app: &App) -> String {
    let id = app.node.log().map(|log| log.id().to_string());
    id.unwrap_or_default()
        .chars()
        .chain("0".repeat(16).chars())
        .take(16)
        .collect()
}

fn named(uri: &Uri, names: &[&str]) -> Option<String> {
    let pairs = form_pairs(uri.query().unwrap_or_default().as_bytes());
    let found = pairs
        .iter()
        .find(|(name, _)| names.contains(&name.as_str()));
    found
        .and_then(|(_, value)| value.as_str())
        .map(str::to_owned)
}

/// Says which version this is, where these clients look for it.
fn versioned(response: impl IntoResponse) -> Response {
    let mut response = response.into_response();
    let headers = response.headers_mut();
    headers.insert(INFLUXDB_VERSION, HeaderValue::from_static(VERSION));
    headers.insert(INFLUXDB_BUILD, HeaderValue::from_static(BUILD));
    response
}

const INFLUXDB_VERSION: HeaderName = HeaderName::from_static("x-influxdb-version");
const INFLUXDB_BUILD: HeaderName = HeaderName::from_static("x-influxdb-build");
const VERSION: &str = env!("CARGO_PKG_VERSION");
const BUILD: &str = "Headwater";

/// The one database.
const NAME: &str = "headwater";
