//! The streams of a connection: messages, block bytes, and what their errors mean. It must never
//! know what a message is about, nor reorder a byte.

use std::array;
use std::time::Duration;

use bytes::Bytes;
use quinn::{ConnectionError, ReadError, WriteError};
use tokio::time::sleep;

use crate::error::{CloseCode, LinkError, clip};
use crate::fault::CertFault;
use crate::part::{Part, PartHeld};
use crate::wire::codec::{self, FrameReader, MAX_MESSAGE_LEN};
use crate::wire::message::Message;

/// Sends control messages.
pub(crate) struct ControlSender {
    pub(super) stream: quinn::SendStream,
}

impl ControlSender {
    /// Sends one message; waits while the peer does not read. Not to be cancelled.
    pub(crate) async fn send(&mut self, message: &Message) -> Result<(), LinkError> {
        let frame = codec::encode(message)?;
        self.stream.write_all(&frame).await.map_err(unwritten)
    }

    /// Sends bytes that are no message; waits while the window is full. Not to be cancelled.
    pub(crate) async fn send_raw(&mut self, bytes: Bytes) -> Result<(), LinkError> {
        self.stream.write_chunk(bytes).await.map_err(unwritten)
    }

    /// Nothing more comes.
    pub(crate) fn finish(&mut self) {
        // Fails only when the stream has ended already.
        let _ = self.stream.finish();
    }
}

/// Receives control messages.
pub(crate) struct ControlReceiver {
    stream: quinn::RecvStream,
    frames: FrameReader,
    memory: Part,
    /// Of the message that is arriving, where it is long.
    held: Option<PartHeld>,
}

impl ControlReceiver {
    /// The next message; `None` when the peer finished. Waits while there is no memory for a long
    /// one. May be cancelled.
    pub(crate) async fn receive(&mut self) -> Result<Option<Message>, LinkError> {
        loop {
            if let Some(message) = self.frames.next_message()? {
                self.held = None;
                return Ok(Some(message));
            }
            let missing = self.frames.missing();
            if missing > SHORT && self.held.is_none() {
                // As it comes, and what is made of it.
                let bytes = u64::try_from(2 * missing).unwrap_or(u64::MAX);
                self.held = self.memory.try_take(bytes);
                if self.held.is_none() {
                    sleep(LOOK_AGAIN).await;
                    continue;
                }
            }
            match self.stream.read_chunk(missing.max(SHORT), true).await {
                Ok(Some(chunk)) => self.frames.push(&chunk.bytes),
                Ok(None) => return Ok(None),
                Err(error) => return Err(unread(error)),
            }
        }
    }

    /// The next bytes after the last message; `None` when the peer finished. May be cancelled.
    pub(crate) async fn receive_raw(&mut self) -> Result<Option<Bytes>, LinkError> {
        let rest = self.frames.take_rest();
        if !rest.is_empty() {
            return Ok(Some(rest.freeze()));
        }
        let chunk = self.stream.read_chunk(MAX_MESSAGE_LEN, true).await;
        Ok(chunk.map_err(unread)?.map(|chunk| chunk.bytes))
    }
}

/// Sends block bytes.
pub(crate) struct BlockSender {
    pub(super) stream: quinn::SendStream,
}

impl BlockSender {
    /// Hands the parts over without copying them; waits while the window is full.
    pub(crate) async fn send(&mut self, parts: &mut [Bytes]) -> Result<(), LinkError> {
        self.stream.write_all_chunks(parts).await.map_err(unwritten)
    }
}

/// Receives block bytes.
pub(crate) struct BlockReceiver {
    stream: quinn::RecvStream,
    pieces: [Bytes; PIECES],
}

impl BlockReceiver {
    pub(super) fn new(stream: quinn::RecvStream) -> Self {
        Self {
            stream,
            pieces: array::from_fn(|_| Bytes::new()),
        }
    }

    /// The next bytes in order, in as many pieces as have arrived; `None` at the end of the stream.
    /// May be cancelled.
    pub(crate) async fn receive(&mut self) -> Result<Option<&mut [Bytes]>, LinkError> {
        match self.stream.read_chunks(&mut self.pieces).await {
            Ok(Some(count)) => Ok(self.pieces.get_mut(..count)),
            Ok(None) => Ok(None),
            Err(error) => Err(unread(error)),
        }
    }
}

/// The two halves of a bidirectional stream; how long a message on it may be, and what a long one
/// is charged to.
pub(super) fn control(
    send: quinn::SendStream,
    receive: quinn::RecvStream,
    priority: i32,
    (longest, memory): (usize, &Part),
) -> (ControlSender, ControlReceiver) {
    // Fails only on a stream that has ended.
    let _ = send.set_priority(priority);
    let sender = ControlSender { stream: send };
    let receiver = ControlReceiver {
        stream: receive,
        frames: FrameReader::up_to(longest),
        memory: memory.clone(),
        held: None,
    };
    (sender, receiver)
}

fn unwritten(error: WriteError) -> LinkError {
    match error {
        WriteError::ConnectionLost(error) => lost(error),
        WriteError::Stopped(code) => LinkError::Lost(format!("the peer stopped reading ({code})")),
        WriteError::ClosedStream | WriteError::ZeroRttRejected => LinkError::Finished,
    }
}

fn unread(error: ReadError) -> LinkError {
    match error {
        ReadError::ConnectionLost(error) => lost(error),
        ReadError::Reset(code) => LinkError::Lost(format!("the peer reset the stream ({code})")),
        ReadError::ClosedStream | ReadError::IllegalOrderedRead | ReadError::ZeroRttRejected => {
            LinkError::Finished
        }
    }
}

pub(super) fn lost(error: ConnectionError) -> LinkError {
    match error {
        ConnectionError::TransportError(error) if blames_certificate(u64::from(error.code)) => {
            LinkError::PeerCertificate {
                name: None,
                fault: fault(u64::from(error.code), error.reason.as_bytes()),
            }
        }
        ConnectionError::ConnectionClosed(close)
            if blames_certificate(u64::from(close.error_code)) =>
        {
            LinkError::OwnCertificate {
                peer: None,
                fault: fault(close.error_code.into(), &close.reason),
            }
        }
        ConnectionError::ApplicationClosed(close)
            if close.error_code == CloseCode::Revoked.into() =>
        {
            LinkError::OwnCertificate {
                peer: None,
                fault: CertFault::Revoked,
            }
        }
        ConnectionError::ApplicationClosed(close) => LinkError::Closed {
            code: close.error_code.into_inner(),
            reason: clip(&String::from_utf8_lossy(&close.reason)),
        },
        ConnectionError::TimedOut => LinkError::TimedOut,
        ConnectionError::LocallyClosed => LinkError::ClosedHere,
        other => LinkError::Lost(clip(&other.to_string())),
    }
}

/// What a TLS alert says of a certificate.
fn fault(code: u64, said: &[u8]) -> CertFault {
    match code.saturating_sub(TLS_ALERT) {
        44 => CertFault::Revoked,
        45 => CertFault::OutOfTime,
        48 => CertFault::UnknownIssuer,
        alert => {
            let said = clip(&String::from_utf8_lossy(said));
            CertFault::Other(format!("TLS alert {alert}: {said}"))
        }
    }
}

/// Bad, unsupported, revoked, expired or unknown certificate, unknown CA, access denied, a
/// signature that does not fit, no certificate at all.
pub(super) fn blames_certificate(code: u64) -> bool {
    matches!(
        code.checked_sub(TLS_ALERT),
        Some(42..=46 | 48 | 49 | 51 | 116)
    )
}

/// Transport error codes from here on carry a TLS alert.
pub(super) const TLS_ALERT: u64 = 0x100;

/// Heartbeats and statuses go before queued blocks, which have priority 0; files come last.
pub(super) const CONTROL_PRIORITY: i32 = 1;
pub(super) const FETCH_PRIORITY: i32 = -1;

/// Messages that cost nothing beyond what every connection is charged with: all but lists.
const SHORT: usize = 4 << 10;

/// Time after which it is looked again whether there is memory.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Pieces taken from the library in one go; each is at most one packet's payload.
const PIECES: usize = 64;
