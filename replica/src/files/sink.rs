//! Where the bytes of a file go that comes, and why one does not come. It owns these words, and the
//! wait for memory; it must never judge a byte.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::AcquireError;
use tokio::task::JoinError;
use tokio::time::sleep;
use wal::{Held, Share, WalError};

use crate::error::LinkError;

/// Why a file did not come, or was not sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("nothing moved for {0:?}")]
    Stalled(Duration),
    #[error("the peer broke the protocol: {0}")]
    Protocol(&'static str),
    #[error("the peer does not send it: {0}")]
    NotSent(String),
    #[error("a log's files have no such name")]
    Name,
    #[error("what came is not taken: {0}")]
    NotTaken(#[from] WalError),
    #[error("it cannot be read any more: {0}")]
    Unread(WalError),
    #[error("this node stops")]
    Stopping(#[from] AcquireError),
    #[error(
        "its {length} bytes are more than is left of this node's {limit} bytes of memory for replication: raise node.memory_limit"
    )]
    NoMemory { length: usize, limit: u64 },
    #[error("a task failed: {0}")]
    Task(#[from] JoinError),
}

/// Takes a file as it comes. What it takes is confirmed to the peer, so its pace is the peer's.
pub(crate) trait Sink: Send {
    /// So many bytes will come. An error gives the file up.
    fn announced(&mut self, bytes: u64) -> Result<(), FetchError>;
    /// The next of them. An error gives the file up.
    fn take(&mut self, bytes: Bytes) -> impl Future<Output = Result<(), FetchError>> + Send;
}

/// Waits until there is memory for so many bytes.
pub(crate) async fn room_for(memory: &Share, bytes: usize) -> Result<Held, FetchError> {
    let needed = u64::try_from(bytes).unwrap_or(u64::MAX);
    let begun = Instant::now();
    loop {
        if let Some(held) = memory.try_take(needed) {
            return Ok(held);
        }
        if begun.elapsed() >= ROOM_WITHIN {
            let limit = memory.limit();
            return Err(FetchError::NoMemory {
                length: bytes,
                limit,
            });
        }
        sleep(LOOK_AGAIN).await;
    }
}

/// Longest time for memory to become free, and time between two looks.
const ROOM_WITHIN: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
