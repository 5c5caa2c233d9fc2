//! One file, asked for by name on a stream of its own: both ends of it. It owns the order of the
//! exchange and its bounds; it must never judge a file's bytes and never end the connection: blocks
//! go on whatever happens to a fetch.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::{AcquireError, Semaphore};
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::timeout;
use wal::LogId;

use crate::codec::{Fetch, File, Message};
use crate::error::{LinkError, clip};
use crate::files::{Files, is_name};
use crate::quic::{ControlReceiver, ControlSender, FETCH_AHEAD_BYTES, Link};

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
    #[error("this node stops")]
    Stopping(#[from] AcquireError),
    #[error("a task failed: {0}")]
    Task(#[from] JoinError),
}

/// Asks a peer for a file; its bytes are not checked beyond their number.
pub(crate) async fn ask(link: &Link, log: LogId, name: &str) -> Result<Bytes, FetchError> {
    if !is_name(name) {
        return Err(FetchError::Name);
    }
    let (mut sender, mut receiver) = in_time(link.open_fetch()).await?;
    let question = Message::Fetch(Fetch {
        log: log.0,
        name: name.to_owned(),
    });
    in_time(sender.send(&question)).await?;
    let answer = match in_time(receiver.receive()).await? {
        Some(Message::File(answer)) => answer,
        Some(_) => return Err(FetchError::Protocol("no answer to Fetch")),
        None => return Err(LinkError::Finished.into()),
    };
    if !answer.found {
        return Err(FetchError::NotSent(clip(&answer.reason)));
    }
    match usize::try_from(answer.bytes) {
        Ok(length) if answer.bytes <= MAX_FILE_BYTES => {
            take(&mut sender, &mut receiver, length).await
        }
        _ => Err(FetchError::Protocol("a file longer than any may be")),
    }
}

/// Takes the announced bytes, all of them and not one more. Memory follows what has come, not what
/// was announced.
async fn take(
    sender: &mut ControlSender,
    receiver: &mut ControlReceiver,
    length: usize,
) -> Result<Bytes, FetchError> {
    let owed = length.div_ceil(PIECE).saturating_sub(PIECES_AHEAD);
    let mut told = 0;
    let mut file = BytesMut::new();
    while file.len() < length {
        let Some(bytes) = in_time(receiver.receive_raw()).await? else {
            return Err(LinkError::Finished.into());
        };
        if bytes.len() > length - file.len() {
            return Err(FetchError::Protocol("more bytes than announced"));
        }
        if bytes.len() > file.capacity() - file.len() {
            file.reserve(PIECE.min(length - file.len()));
        }
        file.extend_from_slice(&bytes);
        let due = (file.len() / PIECE).min(owed);
        while told < due {
            in_time(sender.send_raw(Bytes::from_static(&[0]))).await?;
            told += 1;
        }
    }
    match in_time(receiver.receive_raw()).await? {
        None => Ok(file.freeze()),
        Some(_) => Err(FetchError::Protocol("more bytes than announced")),
    }
}

/// Answers a peer's fetches, two at a time, until the connection ends. What goes wrong with one
/// ends only that one.
pub(crate) async fn serve<F: Files>(link: &Link, files: &F, places: &Arc<Semaphore>) -> LinkError {
    tokio::select! {
        error = serve_in_turn(link, files, places) => error,
        error = serve_in_turn(link, files, places) => error,
    }
}

async fn serve_in_turn<F: Files>(link: &Link, files: &F, places: &Arc<Semaphore>) -> LinkError {
    loop {
        let (sender, receiver) = match link.accept_fetch().await {
            Ok(stream) => stream,
            Err(error) => return error,
        };
        if let Err(error) = answer(sender, receiver, files, places).await {
            tracing::debug!(peer = link.peer(), %error, "a fetch was not served");
        }
    }
}

async fn answer<F: Files>(
    mut sender: ControlSender,
    mut receiver: ControlReceiver,
    files: &F,
    places: &Arc<Semaphore>,
) -> Result<(), FetchError> {
    let fetch = match in_time(receiver.receive()).await? {
        Some(Message::Fetch(fetch)) => fetch,
        Some(_) => return Err(FetchError::Protocol("no Fetch on a stream of its own")),
        None => return Err(LinkError::Finished.into()),
    };
    let place = Arc::clone(places).acquire_owned().await?;
    let files = files.clone();
    // The place goes along: reading goes on even when the connection ends meanwhile.
    let (found, _place) = spawn_blocking(move || (find(&files, &fetch), place)).await?;
    let (answer, file) = match found {
        Ok(file) => (found_file(&file), file),
        Err(reason) => (not_found(reason), Bytes::new()),
    };
    in_time(sender.send(&Message::File(answer))).await?;
    give(&mut sender, &mut receiver, file).await?;
    sender.finish();
    Ok(())
}

fn found_file(file: &Bytes) -> File {
    File {
        found: true,
        bytes: u64::try_from(file.len()).unwrap_or(u64::MAX),
        reason: String::new(),
    }
}

fn not_found(reason: &str) -> File {
    File {
        found: false,
        bytes: 0,
        reason: reason.to_owned(),
    }
}

fn find<F: Files>(files: &F, fetch: &Fetch) -> Result<Bytes, &'static str> {
    if fetch.log != files.log_id().0 {
        return Err("this node holds another log");
    }
    if !is_name(&fetch.name) {
        return Err("a log's files have no such name");
    }
    let file = files
        .read(&fetch.name)
        .ok_or("this node does not hold it intact")?;
    match u64::try_from(file.len()) {
        Ok(length) if length <= MAX_FILE_BYTES => Ok(file),
        _ => Err("it is too long to be sent"),
    }
}

/// Sends a file piece by piece, never more of it ahead than agreed: what waits here takes its part
/// of the connection's send window, which live blocks need.
async fn give(
    sender: &mut ControlSender,
    receiver: &mut ControlReceiver,
    mut file: Bytes,
) -> Result<(), FetchError> {
    let mut ahead = PIECES_AHEAD;
    while !file.is_empty() {
        if ahead == 0 {
            match in_time(receiver.receive_raw()).await? {
                Some(taken) => ahead = taken.len().min(PIECES_AHEAD),
                None => return Err(LinkError::Finished.into()),
            }
        }
        ahead -= 1;
        let piece = file.split_to(file.len().min(PIECE));
        in_time(sender.send_raw(piece)).await?;
    }
    Ok(())
}

async fn in_time<T>(step: impl Future<Output = Result<T, LinkError>>) -> Result<T, FetchError> {
    match timeout(STALL, step).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(FetchError::Stalled(STALL)),
    }
}

/// Longest file that is asked for or answered.
const MAX_FILE_BYTES: u64 = 4 << 30;

/// A file is sent, and memory for it taken, in pieces of this many bytes.
const PIECE: usize = 1 << 20;

/// Pieces sent before the first is confirmed.
const PIECES_AHEAD: usize = 2;
const _: () = assert!(PIECE * PIECES_AHEAD == FETCH_AHEAD_BYTES as usize);

/// Longest time for one step of an exchange.
const STALL: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loopback::{LOG, Pair, Shelf, segment};

    /// Asks the far node of a pair, which serves meanwhile.
    async fn ask_far(
        pair: &Pair,
        far: &Shelf,
        log: LogId,
        name: &str,
    ) -> Result<Bytes, FetchError> {
        let places = Arc::new(Semaphore::new(1));
        tokio::select! {
            answer = ask(&pair.secondary, log, name) => answer,
            error = serve(&pair.primary, far, &places) => panic!("serving ended: {error}"),
        }
    }

    #[tokio::test]
    async fn files_of_every_length_come_whole() {
        let pair = Pair::connect().await;
        for length in [0, 1, PIECE, 2 * PIECE, 3 * PIECE, 5 * PIECE + 17] {
            let file: Bytes = (0..length).map(|i| (i % 251).to_le_bytes()[0]).collect();
            let far = Shelf::holding(segment(7), file.clone());
            let got = ask_far(&pair, &far, LOG, &segment(7)).await.expect("comes");
            assert!(got == file, "{} of {length} bytes", got.len());
        }
    }

    #[tokio::test]
    async fn a_primary_asks_its_secondary_the_same_way() {
        let pair = Pair::connect().await;
        let file = Bytes::from(vec![5; 3 * PIECE + 1]);
        let far = Shelf::holding("parquet/a.parquet".to_owned(), file.clone());
        let places = Arc::new(Semaphore::new(1));
        let got = tokio::select! {
            answer = ask(&pair.primary, LOG, "parquet/a.parquet") => answer.expect("comes"),
            error = serve(&pair.secondary, &far, &places) => panic!("serving ended: {error}"),
        };
        assert!(got == file, "{} bytes", got.len());
    }

    #[tokio::test]
    async fn what_is_not_held_is_answered_and_the_next_fetch_works() {
        let pair = Pair::connect().await;
        let far = Shelf::holding(segment(7), Bytes::from_static(b"seven"));
        let other = LogId([1; 16]);
        for (log, name) in [(LOG, segment(8)), (other, segment(7))] {
            let error = ask_far(&pair, &far, log, &name).await.expect_err("no file");
            assert!(matches!(error, FetchError::NotSent(_)), "{error}");
        }
        let error = ask_far(&pair, &far, LOG, "../keys.log").await;
        assert!(matches!(error, Err(FetchError::Name)), "{error:?}");
        let got = ask_far(&pair, &far, LOG, &segment(7)).await;
        assert_eq!(got.expect("comes"), Bytes::from_static(b"seven"));
    }

    #[test]
    fn a_name_is_checked_before_the_disk_is_asked() {
        let held = Shelf::holding("../keys".to_owned(), Bytes::from_static(b"secret"));
        let fetch = Fetch {
            log: LOG.0,
            name: "../keys".to_owned(),
        };
        assert!(find(&held, &fetch).is_err());
    }

    /// Asks a node that answers with these bytes.
    async fn ask_liar(answer: File, bytes: &'static [u8]) -> FetchError {
        let pair = Pair::connect().await;
        let lie = async {
            let (mut sender, mut receiver) = pair.primary.accept_fetch().await.expect("a stream");
            let question = receiver.receive().await.expect("a message");
            assert!(matches!(question, Some(Message::Fetch(_))), "{question:?}");
            sender.send(&Message::File(answer)).await.expect("sent");
            // Fails when the other side has seen enough.
            let _ = sender.send_raw(Bytes::from_static(bytes)).await;
            sender.finish();
        };
        let wanted = segment(7);
        let (answer, ()) = tokio::join!(ask(&pair.secondary, LOG, &wanted), lie);
        answer.expect_err("must not be taken")
    }

    #[tokio::test]
    async fn too_few_too_many_and_absurdly_many_bytes_are_errors() {
        let announced = |bytes| File {
            found: true,
            bytes,
            reason: String::new(),
        };
        let error = ask_liar(announced(6), b"short").await;
        assert!(matches!(error, FetchError::Link(_)), "{error}");
        let error = ask_liar(announced(4), b"longer").await;
        assert!(matches!(error, FetchError::Protocol(_)), "{error}");
        let error = ask_liar(announced(MAX_FILE_BYTES + 1), b"x").await;
        assert!(matches!(error, FetchError::Protocol(_)), "{error}");
        let error = ask_liar(announced(MAX_FILE_BYTES), b"little").await;
        assert!(matches!(error, FetchError::Link(_)), "{error}");
    }
}
