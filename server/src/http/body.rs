//! Reading a request's body. Owns how long that may take; must never hold more than the route's
//! limit.

use std::error::Error;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_LENGTH;
use futures::StreamExt;
use serde::de::DeserializeOwned;

use super::door::NoMemory;
use super::error::ApiError;

/// The whole body; `limit` is that of the route. As long as it takes, while it keeps coming.
pub(crate) async fn read(request: Request, limit: usize) -> Result<Bytes, ApiError> {
    let told = length(request.headers());
    if told.is_some_and(|length| length > limit) {
        return Err(too_large(limit));
    }
    let mut coming = request.into_body().into_data_stream();
    let (mut whole, mut first) = (Vec::new(), None);
    let (mut since, mut moved) = (Instant::now(), 0);
    loop {
        let pause = BODY_PAUSE.saturating_sub(since.elapsed());
        let next = tokio::time::timeout(pause, coming.next()).await;
        let bytes = match next.map_err(|_| ApiError::timeout(BODY_PAUSE))? {
            Some(bytes) => bytes.map_err(|error| failure(&error))?,
            None => break,
        };
        moved += bytes.len();
        // A byte now and then is no progress.
        if moved >= STEP {
            (since, moved) = (Instant::now(), 0);
        }
        match first.take() {
            None if whole.is_empty() => first = Some(bytes),
            // One that came in one piece is not copied.
            before => {
                if before.is_some() {
                    whole.reserve_exact(told.unwrap_or_default());
                }
                whole.extend_from_slice(before.as_deref().unwrap_or_default());
                whole.extend_from_slice(&bytes);
            }
        }
        if whole.len().max(first.as_ref().map_or(0, Bytes::len)) > limit {
            return Err(too_large(limit));
        }
    }
    Ok(first.unwrap_or_else(|| whole.into()))
}

/// A small JSON object.
pub(crate) async fn json<T: DeserializeOwned>(request: Request) -> Result<T, ApiError> {
    let body = read(request, MAX_JSON_BYTES).await?;
    serde_json::from_slice(&body).map_err(|error| {
        ApiError::Parameter(format!("the body is not the JSON that is wanted: {error}"))
    })
}

/// Bytes of the body, where they are told before.
pub(crate) fn length(headers: &HeaderMap) -> Option<usize> {
    headers
        .get(CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()
}

/// A body of more than `limit` bytes.
pub(crate) fn too_large(limit: usize) -> ApiError {
    ApiError::TooLarge { limit }
}

fn failure(error: &(dyn Error + 'static)) -> ApiError {
    let mut at = Some(error);
    while let Some(cause) = at {
        if cause.is::<NoMemory>() {
            return ApiError::Busy(
                "too many bodies of requests are on their way: send again in a moment",
            );
        }
        at = cause.source();
    }
    ApiError::Parameter(format!("cannot read the body: {error}"))
}

/// How long a client may send nothing worth the name of a body.
const BODY_PAUSE: Duration = Duration::from_secs(30);
/// What is worth it.
const STEP: usize = 1 << 10;
/// Largest body that asks for one small thing.
const MAX_JSON_BYTES: usize = 64 << 10;
