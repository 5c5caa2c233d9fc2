//! Reading a request's body. Owns how long that may take; must never hold more than the route's
//! limit.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;

use super::error::ApiError;

/// The whole body; `limit` is that of the route.
pub(crate) async fn read(request: Request, limit: usize) -> Result<Bytes, ApiError> {
    let reading = tokio::time::timeout(BODY_TIMEOUT, Bytes::from_request(request, &())).await;
    match reading {
        Err(_) => Err(ApiError::timeout(BODY_TIMEOUT)),
        Ok(Ok(body)) => Ok(body),
        Ok(Err(rejection)) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            Err(too_large(limit))
        }
        Ok(Err(rejection)) => Err(ApiError::Parameter(format!(
            "cannot read the body: {}",
            rejection.body_text()
        ))),
    }
}

/// A body of more than `limit` bytes.
pub(crate) fn too_large(limit: usize) -> ApiError {
    ApiError::TooLarge { limit }
}

/// How long a client may take to send a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
