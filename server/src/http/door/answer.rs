//! The body of an answer as the connection sends it, which tells when there is no more of it. Must
//! never change a byte.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use hyper::body::{Body as HttpBody, Frame, SizeHint};

use super::progress::Progress;

/// A body, until it is dropped.
#[derive(Debug)]
pub(crate) struct Answer {
    body: Body,
    standing: Arc<Progress>,
}

impl Answer {
    pub(crate) fn new(body: Body, standing: Arc<Progress>) -> Self {
        Self { body, standing }
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.standing.answered();
    }
}
