//! `/api/v1/secondaries/{name_or_id}`: forgetting a secondary that has been seen here. Owns what
//! each outcome is to a client; must never keep a list itself: the node does.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use query::{Forget, QueryError};

use super::App;
use super::error::Failure;

/// Strikes one secondary off the list.
pub(crate) async fn forget(
    State(app): State<Arc<App>>,
    name: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, Failure> {
    let Path(name) = name.map_err(|rejection| QueryError::Parameter(rejection.body_text()))?;
    outcome(app.node.forget(&name), name).map_err(Failure::from)
}

fn outcome(forget: Forget, name: String) -> Result<StatusCode, QueryError> {
    match forget {
        Forget::Done => Ok(StatusCode::NO_CONTENT),
        Forget::Connected => Err(QueryError::Connected { name }),
        Forget::Unknown => Err(QueryError::NotFound(format!(
            "no secondary called {name} has been seen here"
        ))),
        Forget::NotHere => Err(QueryError::NotFound(
            "this node keeps no list of secondaries".to_owned(),
        )),
    }
}
