//! The body of a request as handlers read it: it says when its client is waited for, and that there
//! is memory for what has come. Must never read ahead of the handler, nor give out a byte that has
//! no memory.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum::BoxError;
use axum::body::Bytes;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use tokio::time::Sleep;

use super::places::Places;
use super::progress::Progress;

/// There was no memory for a request's body in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no memory for the body of a request")]
pub(crate) struct NoMemory;

/// A body that is being read.
pub(crate) struct Asked {
    body: Incoming,
    standing: Arc<Progress>,
    /// Where memory can be had from others.
    places: Option<Arc<Places>>,
    waiting: Option<Waiting>,
}

/// What came and has no memory yet.
struct Waiting {
    frame: Frame<Bytes>,
    since: Instant,
    next: Pin<Box<Sleep>>,
}

impl Asked {
    pub(crate) fn new(
        body: Incoming,
        standing: Arc<Progress>,
        places: Option<Arc<Places>>,
    ) -> Self {
        Self {
            body,
            standing,
            places,
            waiting: None,
        }
    }

    fn place(
        &mut self,
        frame: Frame<Bytes>,
        since: Instant,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        if bytes == 0 || self.standing.hold(bytes) {
            return Poll::Ready(Some(Ok(frame)));
        }
        let now = Instant::now();
        if now.saturating_duration_since(since) >= MEMORY_WAIT {
            return Poll::Ready(Some(Err(NoMemory.into())));
        }
        if let Some(places) = &self.places {
            places.free_memory(now);
        }
        let mut next = Box::pin(tokio::time::sleep(MEMORY_LOOK));
        // Just made, it is not due; it wakes this task when it is.
        if next.as_mut().poll(context).is_ready() {
            context.waker().wake_by_ref();
        }
        self.waiting = Some(Waiting { frame, since, next });
        Poll::Pending
    }
}

impl HttpBody for Asked {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        if let Some(waiting) = &mut this.waiting {
            ready!(waiting.next.as_mut().poll(context));
        }
        if let Some(Waiting { frame, since, .. }) = this.waiting.take() {
            return this.place(frame, since, context);
        }
        match Pin::new(&mut this.body).poll_frame(context) {
            Poll::Pending => {
                this.standing.wants_body();
                Poll::Pending
            }
            Poll::Ready(Some(Ok(frame))) => this.place(frame, Instant::now(), context),
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error.into()))),
            Poll::Ready(None) => {
                this.standing.has_body();
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.waiting.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.standing.has_body();
    }
}

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asked").finish_non_exhaustive()
    }
}

/// How long a body waits for memory that others hold, and how often is looked for it.
const MEMORY_WAIT: Duration = Duration::from_secs(5);
const MEMORY_LOOK: Duration = Duration::from_millis(20);
