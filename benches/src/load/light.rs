//! A light follower: it says Hello, follows, and tells the truth about how far it is, but keeps
//! nothing. What it costs its upstream is what a secondary costs; what it costs this machine is
//! little.
//!
//! It asks for no compression, so that blocks travel as they are, in frames. Of a block it reads
//! the header, which must continue what came before, and drops the rest. Must never hold a thread,
//! an endpoint, or anything of what it received.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use quinn::{ClientConfig, Connection, Endpoint, RecvStream, SendStream, VarInt};
use replica::wire::unpack::Unpacker;
use replica::wire::{
    FrameReader, Hello, MAX_MESSAGE_LEN, Message, PROTOCOL_MAX, PROTOCOL_MIN, Report, WirePlan,
    codec,
};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use wal::{BLOCK_HEADER_LEN, BlockHeader, LogId, Position};

use crate::error::{BenchError, Context};

/// How far one follower is, for whoever waits for it.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// End of the last whole block.
    pub(crate) lsn: AtomicU64,
    /// Bytes of blocks, the last one perhaps not whole.
    pub(crate) bytes: AtomicU64,
}

/// A follower that has been welcomed.
pub(crate) struct Follower {
    connection: Connection,
    sender: SendStream,
    receiver: RecvStream,
    frames: FrameReader,
    cutter: Cutter,
}

impl Follower {
    /// Connects and agrees on the beginning of the log.
    ///
    /// # Errors
    /// When the upstream cannot be reached, refuses, or cannot stream from the beginning.
    pub(crate) async fn connect(
        endpoint: &Endpoint,
        config: ClientConfig,
        upstream: SocketAddr,
        name: &str,
    ) -> Result<Self, BenchError> {
        let connection = endpoint
            .connect_with(config, upstream, SERVER_NAME)
            .context("start a connection")?
            .await
            .context(format!("connect to {upstream}"))?;
        let (mut sender, mut receiver) = connection
            .open_bi()
            .await
            .context("open a control stream")?;
        let hello = Message::Hello(Hello {
            protocol_min: PROTOCOL_MIN,
            protocol_max: PROTOCOL_MAX,
            format_version: wal::FORMAT_VERSION,
            node: name.to_owned(),
            node_id: name.to_owned(),
            ..Hello::default()
        });
        say(&mut sender, &hello).await?;
        let mut frames = FrameReader::new();
        let answer = timeout(HANDSHAKE_LIMIT, hear(&mut receiver, &mut frames))
            .await
            .context("hear an answer to Hello")??;
        let from = match answer {
            Message::Welcome(welcome) => match welcome.plan {
                WirePlan::Stream { .. } => LogId(welcome.log).genesis(),
                plan => return Err(BenchError::Invalid(format!("welcomed with {plan:?}"))),
            },
            Message::Refuse(refuse) => {
                return Err(BenchError::Invalid(format!("refused: {}", refuse.message)));
            }
            other => return Err(unexpected(&other)),
        };
        Ok(Self {
            connection,
            sender,
            receiver,
            frames,
            cutter: Cutter::new(from),
        })
    }

    /// Follows until told to stop.
    ///
    /// # Errors
    /// When the connection ends, or something else than the log comes.
    pub(crate) async fn follow(
        self,
        progress: &Progress,
        mut stop: watch::Receiver<bool>,
    ) -> Result<(), BenchError> {
        let Self {
            connection,
            mut sender,
            mut receiver,
            mut frames,
            mut cutter,
        } = self;
        let mut blocks = None;
        let mut unpacker = Unpacker::new();
        let mut pieces = vec![Bytes::new(); PIECES];
        let mut reported = Instant::now();
        let mut due = reported;
        loop {
            tokio::select! {
                count = take(&connection, &mut blocks, &mut pieces) => {
                    let before = cutter.at;
                    for piece in &mut pieces[..count?] {
                        unpacker.push(std::mem::take(piece));
                    }
                    while let Some(raw) = unpacker.next().context("read a frame of blocks")? {
                        cutter.push(&raw)?;
                    }
                    progress.bytes.store(cutter.bytes, Ordering::Relaxed);
                    if cutter.at != before {
                        progress.lsn.store(cutter.at.lsn.0, Ordering::Release);
                        due = due.min(reported + STATUS_GAP);
                    }
                }
                heard = hear(&mut receiver, &mut frames) => match heard? {
                    Message::Heartbeat(_) | Message::CaughtUp(_) | Message::Route(_) => {}
                    other => return Err(unexpected(&other)),
                },
                () = sleep_until(due) => {
                    say(&mut sender, &status(cutter.at)).await?;
                    reported = Instant::now();
                    due = reported + STATUS_EVERY;
                }
                () = stopped(&mut stop) => {
                    connection.close(VarInt::from_u32(0), b"done");
                    return Ok(());
                }
            }
        }
    }

    /// Reads nothing more, but stays connected until told to stop.
    ///
    /// # Errors
    /// When the upstream ends the connection.
    pub(crate) async fn stall(self, mut stop: watch::Receiver<bool>) -> Result<(), BenchError> {
        tokio::select! {
            error = self.connection.closed() => Err(error).context("stay connected"),
            () = stopped(&mut stop) => {
                self.connection.close(VarInt::from_u32(0), b"done");
                Ok(())
            }
        }
    }
}

/// Waits until told to stop, or until nobody is left to tell. May be cancelled.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // Fails when the sender is gone, which means the same.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// The next bytes of the block stream, which comes with the first block: how many pieces.
/// May be cancelled.
async fn take(
    connection: &Connection,
    blocks: &mut Option<RecvStream>,
    pieces: &mut [Bytes],
) -> Result<usize, BenchError> {
    if blocks.is_none() {
        let stream = connection.accept_uni().await;
        *blocks = Some(stream.context("wait for the block stream")?);
    }
    let count = match blocks {
        Some(stream) => stream.read_chunks(pieces).await.context("receive blocks")?,
        None => None,
    };
    count.ok_or_else(|| BenchError::Invalid("the upstream ended the block stream".to_owned()))
}

async fn say(sender: &mut SendStream, message: &Message) -> Result<(), BenchError> {
    let frame = codec::encode(message).context("write a control message")?;
    sender
        .write_all(&frame)
        .await
        .context("send a control message")
}

/// The next message. May be cancelled.
async fn hear(receiver: &mut RecvStream, frames: &mut FrameReader) -> Result<Message, BenchError> {
    loop {
        if let Some(message) = frames.next_message().context("read a control message")? {
            return Ok(message);
        }
        let chunk = receiver
            .read_chunk(MAX_MESSAGE_LEN, true)
            .await
            .context("receive a control message")?;
        match chunk {
            Some(chunk) => frames.push(&chunk.bytes),
            None => {
                return Err(BenchError::Invalid(
                    "the upstream ended the control stream".to_owned(),
                ));
            }
        }
    }
}

/// What was received counts as flushed and applied: there is nothing it could be lost from.
fn status(at: Position) -> Message {
    Message::Report(Report {
        received: at.lsn.0,
        flushed: at.lsn.0,
        applied: at.lsn.0,
        chain: at.chain.0,
        ..Report::default()
    })
}

fn unexpected(message: &Message) -> BenchError {
    BenchError::Invalid(format!("the upstream said {message:?}"))
}

/// Cuts the block stream at block boundaries without keeping a block.
#[derive(Debug)]
struct Cutter {
    /// End of the last whole block.
    at: Position,
    /// End of the block whose body is passing by.
    next: Position,
    /// Bytes of that body still to come.
    skip: usize,
    /// The beginning of a header that is not whole.
    header: Vec<u8>,
    /// All bytes that came.
    bytes: u64,
}

impl Cutter {
    fn new(from: Position) -> Self {
        Self {
            at: from,
            next: from,
            skip: 0,
            header: Vec::with_capacity(BLOCK_HEADER_LEN),
            bytes: 0,
        }
    }

    fn push(&mut self, mut piece: &[u8]) -> Result<(), BenchError> {
        self.bytes += piece.len() as u64;
        while !piece.is_empty() {
            if self.skip > 0 {
                let part = self.skip.min(piece.len());
                piece = &piece[part..];
                self.skip -= part;
            } else {
                let part = (BLOCK_HEADER_LEN - self.header.len()).min(piece.len());
                self.header.extend_from_slice(&piece[..part]);
                piece = &piece[part..];
                if self.header.len() < BLOCK_HEADER_LEN {
                    return Ok(());
                }
                let header = BlockHeader::decode(&self.header).context("read a block header")?;
                if header.start() != self.at {
                    return Err(BenchError::Invalid(format!(
                        "a block at {} does not continue the log at {}",
                        header.start(),
                        self.at
                    )));
                }
                self.header.clear();
                self.next = header.end();
                self.skip = header.total_len() - BLOCK_HEADER_LEN;
            }
            if self.skip == 0 {
                self.at = self.next;
            }
        }
        Ok(())
    }
}

/// The name every node's certificate has.
const SERVER_NAME: &str = "headwater-node";

/// Time for the answer to Hello.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// Shortest and longest time between two statuses, as the protocol has them.
const STATUS_GAP: Duration = Duration::from_millis(10);
const STATUS_EVERY: Duration = Duration::from_secs(1);

/// Pieces taken from the library at once.
const PIECES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::rows::Filler;

    #[test]
    fn however_the_stream_arrives_it_is_cut_where_blocks_end() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let dir = tempfile::tempdir().unwrap();
        let mut filler = Filler::create(dir.path(), 10).unwrap();
        filler.rows(500, 7).unwrap();
        let log = filler.log();
        let mut cursor = log.cursor(log.id().genesis()).unwrap();
        let mut stream = Vec::new();
        while let Some(chunk) = cursor.next(1 << 20).unwrap() {
            stream.extend(chunk.parts.iter().flat_map(|part| part.iter().copied()));
        }
        let end = cursor.position();
        for most in [1, 50, 200, stream.len()] {
            let mut cutter = Cutter::new(log.id().genesis());
            let mut rest = &stream[..];
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(random.usize(1..=most.min(rest.len())));
                let before = cutter.at.lsn;
                cutter.push(piece).unwrap();
                assert!(cutter.at.lsn >= before && cutter.at.lsn <= end.lsn);
                rest = after;
            }
            assert_eq!((cutter.at, cutter.bytes), (end, stream.len() as u64));
        }
        let mut elsewhere = Cutter::new(end);
        assert!(elsewhere.push(&stream).is_err());
    }
}
