//! `/api/v1/secondaries/{name_or_id}`: forgetting a secondary that has been seen here. Owns what
//! each outcome is to a client; must never keep a list itself: the node does.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use replica::Forgotten;

use super::app::App;
use super::error::{ApiError, Failure};

/// Strikes one secondary off the list.
pub(crate) async fn forget(
    State(app): State<Arc<App>>,
    name: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, Failure> {
    let Path(name) = name.map_err(|rejection| ApiError::Parameter(rejection.body_text()))?;
    outcome(app.node.forget(&name), name).map_err(Failure::from)
}

fn outcome(forgotten: Option<Forgotten>, name: String) -> Result<StatusCode, ApiError> {
    match forgotten {
        Some(Forgotten::Done) => Ok(StatusCode::NO_CONTENT),
        Some(Forgotten::Connected) => Err(ApiError::Connected { name }),
        Some(Forgotten::Unknown) => Err(ApiError::NotFound(format!(
            "no secondary called {name} has been seen here"
        ))),
        None => Err(ApiError::NotFound(
            "this node keeps no list of secondaries".to_owned(),
        )),
    }
}
