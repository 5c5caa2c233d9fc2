//! Reads the packets of one connection: in small pieces while it sends little, in large ones while it
//! sends much and there is memory for that, and not at all while there is none for what has come.
//! Must never read on beyond what the connection has memory for.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

use ntex::io::{Io, IoConfig, RecvError};
use ntex::service::cfg::SharedCfg;
use ntex::util::Either;

use crate::codec::{Codec, Packet, ReadError, SMALL_READ};

/// How connections read and write.
#[derive(Clone, Debug)]
pub(crate) struct Reads {
    small: SharedCfg,
    large: SharedCfg,
}

impl Reads {
    pub(crate) fn new() -> Self {
        Self {
            small: settings("MQTT", SMALL_READ, 256),
            large: settings("MQTT", LARGE_READ, 64),
        }
    }

    /// How a connection begins.
    pub(crate) fn first(&self) -> SharedCfg {
        self.small.clone()
    }
}

fn settings(name: &'static str, read: usize, cached: usize) -> SharedCfg {
    let io = IoConfig::new()
        .set_read_buf(read, read / 4, cached)
        .set_write_buf(WRITE_BUFFER, WRITE_BUFFER / 8, 64);
    SharedCfg::new(name).add(io).into()
}

/// The next packet; none at the end.
pub(crate) async fn receive(
    io: &Io,
    codec: &Codec,
    reads: &Reads,
) -> Result<Option<Packet>, Either<ReadError, io::Error>> {
    loop {
        return match poll_fn(|context| poll(io, codec, reads, context)).await {
            Ok(packet) => Ok(Some(packet)),
            Err(RecvError::WriteBackpressure) => {
                io.flush(false).await.map_err(Either::Right)?;
                continue;
            }
            Err(RecvError::KeepAlive) => Err(Either::Right(io::ErrorKind::TimedOut.into())),
            Err(RecvError::Decoder(error)) => Err(Either::Left(error)),
            Err(RecvError::PeerGone(Some(error))) => Err(Either::Right(error)),
            Err(RecvError::PeerGone(None)) => Ok(None),
        };
    }
}

fn poll(
    io: &Io,
    codec: &Codec,
    reads: &Reads,
    context: &mut Context<'_>,
) -> Poll<Result<Packet, RecvError<Codec>>> {
    if codec.wants_rest() {
        rest(io, codec, reads, context);
        return Poll::Pending;
    }
    let polled = io.poll_recv(codec, context);
    if codec.take_was_full() && codec.read_size() < LARGE_READ && codec.memory().grow(LARGE) {
        codec.set_read_size(LARGE_READ);
        io.set_config(reads.large.clone());
    }
    if polled.is_pending() && codec.starved_since().is_some() {
        io.pause();
    }
    polled
}

/// Gives up the large buffer that waits for what comes next; the pause takes it back from the
/// system, and ends with the next look at what has come.
fn rest(io: &Io, codec: &Codec, reads: &Reads, context: &mut Context<'_>) {
    codec.set_read_size(SMALL_READ);
    io.set_config(reads.small.clone());
    codec.memory().shrink(LARGE);
    io.pause();
    context.waker().wake_by_ref();
}

/// What a connection is read in that sends much.
const LARGE_READ: usize = 32 << 10;

/// What that takes: one buffer is filled while another is read.
const LARGE: usize = 2 * LARGE_READ;

/// From so many bytes on that a client has not taken nothing more is read from it.
const WRITE_BUFFER: usize = 32 << 10;
