//! `/api/v1/tables/{table}/expire`: somebody's word that the old rows of a table may go although the
//! clock has jumped. Owns what each outcome is to a client; must never decide about a row.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;

use super::app::App;
use super::error::{ApiError, Failure};

/// Lets the cut of a table be made, which waits.
pub(crate) async fn expire(
    State(app): State<Arc<App>>,
    table: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, Failure> {
    let Path(table) = table.map_err(|rejection| ApiError::Parameter(rejection.body_text()))?;
    match app.node.approve_cut(&table) {
        Some(true) => Ok(StatusCode::NO_CONTENT),
        Some(false) => {
            Err(ApiError::NotFound(format!("no cut of a table {table:?} waits here")).into())
        }
        None => Err(ApiError::NotFound("only a primary expires rows".to_owned()).into()),
    }
}
