//! `/api/v1/tables/{table}/...`: what an operator does about a table that is there. Owns the shapes of
//! requests and answers; must never answer before the log has it, nor decide about a row.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;
use wal::{ColumnRole, ColumnType, Lsn};

use super::app::App;
use super::body;
use super::error::{ApiError, Failure};
use super::headers;

/// Another name for a column.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RenameColumn {
    from: String,
    to: String,
}

/// Gives a column another name.
pub(crate) async fn rename_column(
    State(app): State<Arc<App>>,
    table: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Failure> {
    let Path(table) = table.map_err(|rejection| ApiError::Parameter(rejection.body_text()))?;
    let RenameColumn { from, to } = body::json(request).await?;
    let intake = app.node.intake().ok_or(ApiError::NotPrimary)?;
    let changed = intake.rename_column(&table, &from, &to).await;
    let lsn = changed.map_err(ApiError::from)?;
    tracing::info!(%table, %from, %to, "a column has another name");
    Ok(done(&app, lsn))
}

/// Another name for a table.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rename {
    to: String,
}

/// Gives a table another name.
pub(crate) async fn rename(
    State(app): State<Arc<App>>,
    table: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Failure> {
    let Path(table) = table.map_err(|rejection| ApiError::Parameter(rejection.body_text()))?;
    let Rename { to } = body::json(request).await?;
    let intake = app.node.intake().ok_or(ApiError::NotPrimary)?;
    let changed = intake.rename_table(&table, &to).await;
    let lsn = changed.map_err(ApiError::from)?;
    tracing::info!(%table, %to, "a table has another name");
    Ok(done(&app, lsn))
}

/// What says that it is meant.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DropTable {
    /// Its name again.
    all_rows_of: String,
}

/// Takes a table away, with all its rows.
pub(crate) async fn drop_table(
    State(app): State<Arc<App>>,
    table: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Failure> {
    let Path(table) = table.map_err(|rejection| ApiError::Parameter(rejection.body_text()))?;
    let DropTable { all_rows_of } = body::json(request).await?;
    if all_rows_of != table {
        let reason = "all_rows_of must be the name of the table again: its rows are lost";
        return Err(ApiError::Parameter(reason.to_owned()).into());
    }
    let intake = app.node.intake().ok_or(ApiError::NotPrimary)?;
    let lsn = intake.drop_table(&table).await.map_err(ApiError::from)?;
    tracing::warn!(%table, %lsn, "a table has been dropped, with all its rows");
    Ok(done(&app, lsn))
}

/// Another type for a column.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangeType {
    column: String,
    #[serde(rename = "type")]
    kind: Kind,
}

/// A type as `system.columns` and a conf write it.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Text,
    Float,
    Int,
    BigInt,
    Bool,
}

impl From<Kind> for ColumnType {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Text => Self::Text,
            Kind::Float => Self::Float,
            Kind::Int => Self::Int,
            Kind::BigInt => Self::BigInt,
            Kind::Bool => Self::Bool,
        }
    }
}

/// Gives a column another type.
pub(crate) async fn change_type(
    State(app): State<Arc<App>>,
    table: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Failure> {
    let Path(table) = table.map_err(|rejection| ApiError::Parameter(rejection.body_text()))?;
    let ChangeType { column, kind } = body::json(request).await?;
    let intake = app.node.intake().ok_or(ApiError::NotPrimary)?;
    let changed = intake.change_type(&table, &column, kind.into()).await;
    let lsn = changed.map_err(ApiError::from)?;
    tracing::info!(%table, %column, ?kind, "a column has another type");
    Ok(done(&app, lsn))
}

/// Another role for a column.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangeRole {
    column: String,
    role: Role,
}

/// A role as `system.columns` writes it.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Role {
    Tag,
    Field,
}

impl From<Role> for ColumnRole {
    fn from(role: Role) -> Self {
        match role {
            Role::Tag => Self::Tag,
            Role::Field => Self::Field,
        }
    }
}

/// Gives a column another role.
pub(crate) async fn change_role(
    State(app): State<Arc<App>>,
    table: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Failure> {
    let Path(table) = table.map_err(|rejection| ApiError::Parameter(rejection.body_text()))?;
    let ChangeRole { column, role } = body::json(request).await?;
    let intake = app.node.intake().ok_or(ApiError::NotPrimary)?;
    let changed = intake.change_role(&table, &column, role.into()).await;
    let lsn = changed.map_err(ApiError::from)?;
    tracing::info!(%table, %column, ?role, "a column has another role");
    Ok(done(&app, lsn))
}

/// The log has it, below this LSN.
fn done(app: &App, lsn: Lsn) -> Response {
    let mut response = Json(json!({ "lsn": lsn.0 })).into_response();
    if let Some(log) = app.node.log() {
        headers::set_position(response.headers_mut(), lsn, log.epoch());
    }
    response
}

/// Lets the cut of a table be made, which waits because the clock has jumped.
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
