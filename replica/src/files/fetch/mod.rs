//! One file, or the rest of one, asked for by name on a stream of its own: both ends of it. It owns
//! the order of the exchange and its bounds; it must never judge a file's bytes and never end the
//! connection: blocks go on whatever happens to a fetch.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};
use wal::{CHUNK_LEN, LogId, Lsn, Position};

use crate::error::{LinkError, clip};
use crate::files::leases::Leases;
use crate::files::limit::{Limit, Limits};
use crate::files::places::{Kind, Own, Places};
use crate::files::sink;
use crate::files::whole::Whole;

use crate::files::{Files, Given, blocks_name, blocks_named, is_name};
use crate::quic::{ControlReceiver, ControlSender, FETCH_AHEAD_BYTES, Link};
use crate::wire::{Fetch, FetchFrom, File, Message};

pub(crate) use crate::files::sink::{FetchError, Sink};

/// Asks a peer for a file of this length, where that is known; its bytes are not checked beyond
/// their number.
pub(crate) async fn ask(
    link: &Link,
    log: LogId,
    name: &str,
    length: Option<u64>,
) -> Result<Bytes, FetchError> {
    if !is_name(name) {
        return Err(FetchError::Name);
    }
    let question = Message::Fetch(Fetch {
        log: log.0,
        name: name.to_owned(),
    });
    let memory = link.memory();
    let mut whole = match length {
        Some(length) => Whole::needed(length, length, memory),
        None => Whole::needed(MAX_UNKNOWN_BYTES, NEEDED_UNKNOWN_BYTES, memory),
    };
    exchange(link, question, &mut whole).await?;
    Ok(whole.finish())
}

/// Asks a peer for what follows byte `from` of a file, a whole number of [`CHUNK_LEN`]; how many
/// bytes came. They are handed over as they come, and not checked beyond their number.
pub(crate) async fn ask_from(
    link: &Link,
    log: LogId,
    name: &str,
    from: u64,
    sink: &mut impl Sink,
) -> Result<u64, FetchError> {
    if !is_name(name) && name != MANIFEST && name != SEGMENT_STARTS {
        return Err(FetchError::Name);
    }
    exchange(link, rest_of(log, name, from), sink).await
}

fn rest_of(log: LogId, name: &str, from: u64) -> Message {
    Message::FetchFrom(FetchFrom {
        log: log.0,
        name: name.to_owned(),
        from,
    })
}

/// Asks a peer for the blocks from this place until one ends at the other or beyond, as far as it
/// has them, at most so many bytes; not checked.
pub(crate) async fn ask_blocks(
    link: &Link,
    log: LogId,
    (from, to): (Position, Lsn),
    most: u64,
) -> Result<Bytes, FetchError> {
    let mut whole = Whole::needed(most, most, link.memory());
    exchange(link, rest_of(log, &blocks_name(from, to), 0), &mut whole).await?;
    Ok(whole.finish())
}

/// Asks a peer for its manifest. From then on it holds the files named there for this node, as long
/// as this node goes on asking for them.
pub(crate) async fn ask_manifest(link: &Link, log: LogId) -> Result<Bytes, FetchError> {
    let mut whole = Whole::of(MAX_MANIFEST_BYTES, link.memory());
    ask_from(link, log, MANIFEST, 0, &mut whole).await?;
    Ok(whole.finish())
}

/// Asks a peer where its retired segments began.
pub(crate) async fn ask_segment_starts(link: &Link, log: LogId) -> Result<Bytes, FetchError> {
    let mut whole = Whole::of(MAX_SEGMENT_STARTS_BYTES, link.memory());
    ask_from(link, log, SEGMENT_STARTS, 0, &mut whole).await?;
    Ok(whole.finish())
}

/// Puts a question and hands over what comes in answer; how many bytes.
async fn exchange(link: &Link, question: Message, sink: &mut impl Sink) -> Result<u64, FetchError> {
    let (mut sender, mut receiver) = in_time(link.open_fetch()).await?;
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
            sink.announced(answer.bytes)?;
            take(&mut sender, &mut receiver, length, sink).await?;
            Ok(answer.bytes)
        }
        _ => Err(FetchError::Protocol("a file longer than any may be")),
    }
}

/// Takes the announced bytes, all of them and not one more.
async fn take(
    sender: &mut ControlSender,
    receiver: &mut ControlReceiver,
    length: usize,
    sink: &mut impl Sink,
) -> Result<(), FetchError> {
    let owed = length.div_ceil(PIECE).saturating_sub(PIECES_AHEAD);
    let (mut taken, mut confirmed) = (0, 0);
    while taken < length {
        let Some(bytes) = in_time(receiver.receive_raw()).await? else {
            return Err(LinkError::Finished.into());
        };
        if bytes.len() > length - taken {
            return Err(FetchError::Protocol("more bytes than announced"));
        }
        taken += bytes.len();
        sink.take(bytes).await?;
        let due = (taken / PIECE).min(owed);
        while confirmed < due {
            in_time(sender.send_raw(Bytes::from_static(&[0]))).await?;
            confirmed += 1;
        }
    }
    match in_time(receiver.receive_raw()).await? {
        None => Ok(()),
        Some(_) => Err(FetchError::Protocol("more bytes than announced")),
    }
}

/// What one peer is answered from.
pub(crate) struct Giving<'a, F> {
    pub(crate) files: &'a F,
    /// Where files are held for it while it brings a log in, and its node id. Without this it gets
    /// no manifest.
    pub(crate) leases: Option<(&'a Leases, &'a str)>,
    /// An end of a block that the peer and this log are known to have had both: said beside the
    /// starts of segments, so that nothing is put aside there that is here.
    pub(crate) confirmed: Option<Position>,
    /// Files go through its backfill.
    pub(crate) limit: Limit,
}

impl<'a, F> Giving<'a, F> {
    /// These files, as fast as it goes, and no manifest.
    pub(crate) fn of(files: &'a F) -> Self {
        Self {
            files,
            leases: None,
            confirmed: None,
            limit: Limits::default().peer(),
        }
    }
}

/// Answers a peer's fetches, two at a time, until the connection ends. What goes wrong with one
/// ends only that one.
pub(crate) async fn serve<F: Files>(
    link: &Link,
    giving: &Giving<'_, F>,
    places: &Places,
) -> LinkError {
    let own = places.own(link.key());
    tokio::select! {
        error = serve_in_turn(link, giving, places, &own) => error,
        error = serve_in_turn(link, giving, places, &own) => error,
    }
}

async fn serve_in_turn<F: Files>(
    link: &Link,
    giving: &Giving<'_, F>,
    places: &Places,
    own: &Own,
) -> LinkError {
    loop {
        let (sender, receiver) = match link.accept_fetch().await {
            Ok(stream) => stream,
            Err(error) => return error,
        };
        let mut spent = Duration::ZERO;
        let answered = answer((sender, receiver), link, giving, (places, own), &mut spent);
        if let Err(error) = answered.await {
            tracing::debug!(peer = link.peer(), %error, "a fetch was not served");
            // Who asks for what it does not take has the disk for a part of the time.
            sleep(spent * PAUSE_FACTOR).await;
        }
    }
}

async fn answer<F: Files>(
    (mut sender, mut receiver): (ControlSender, ControlReceiver),
    link: &Link,
    giving: &Giving<'_, F>,
    (places, own): (&Places, &Own),
    spent: &mut Duration,
) -> Result<(), FetchError> {
    let (kind, question) = match in_time(receiver.receive()).await? {
        Some(Message::Fetch(fetch)) => (Kind::Repair, Question::Whole(fetch)),
        Some(Message::FetchFrom(fetch)) => (Kind::Bootstrap, Question::Rest(fetch)),
        Some(_) => return Err(FetchError::Protocol("no Fetch on a stream of its own")),
        None => return Err(LinkError::Finished.into()),
    };
    let place = places.take(own, kind).await?;
    let _piece = sink::room_for(link.memory(), PIECE).await?;
    let files = giving.files.clone();
    let leases = giving
        .leases
        .map(|(leases, id)| (leases.clone(), id.to_owned()));
    // The place goes along: reading goes on even when the connection ends meanwhile.
    let confirmed = giving.confirmed;
    let read = move || {
        let found = find(&files, leases.as_ref(), confirmed, &question);
        (found, place)
    };
    let begun = Instant::now();
    let (found, _place) = spawn_blocking(read).await?;
    *spent = begun.elapsed();
    let (answer, file) = match found {
        Ok(file) => (found_file(&file), file),
        Err(reason) => (not_found(reason), Given::Bytes(Bytes::new())),
    };
    in_time(sender.send(&Message::File(answer))).await?;
    give(&mut sender, &mut receiver, file, giving).await?;
    sender.finish();
    Ok(())
}

/// What a peer wants.
enum Question {
    Whole(Fetch),
    Rest(FetchFrom),
}

fn found_file(file: &Given) -> File {
    File {
        found: true,
        bytes: file.left(),
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

fn find<F: Files>(
    files: &F,
    leases: Option<&(Leases, String)>,
    confirmed: Option<Position>,
    question: &Question,
) -> Result<Given, &'static str> {
    let (log, name) = match question {
        Question::Whole(fetch) => (fetch.log, &fetch.name),
        Question::Rest(fetch) => (fetch.log, &fetch.name),
    };
    if log != files.log_id().0 {
        return Err("this node holds another log");
    }
    let from = match question {
        Question::Whole(_) => None,
        Question::Rest(fetch) => Some(fetch.from),
    };
    let file = match (from, leases) {
        (Some(from), leases) if name == MANIFEST => {
            let (leases, id) = leases.ok_or("this node gives no snapshots")?;
            let manifest = files.manifest(leases, id).filter(|_| from == 0);
            Given::Bytes(manifest.ok_or("this node has no manifest")?)
        }
        (Some(0), _) if name == SEGMENT_STARTS => {
            Given::Bytes(files.segment_starts(confirmed).ok_or(NOT_HELD)?)
        }
        (Some(0), _) if let Some((from, to)) = blocks_named(name) => {
            files.blocks(from, to).ok_or(NOT_HELD)?
        }
        _ if !is_name(name) => return Err("a log's files have no such name"),
        (None, _) => files.read_from(name, 0).ok_or(NOT_HELD)?,
        (Some(from), _) if !from.is_multiple_of(CHUNK_LEN as u64) => {
            return Err("a file is sent from the beginning of a chunk on");
        }
        (Some(from), leases) => {
            if let Some((leases, id)) = leases {
                leases.touch(id);
            }
            files.read_from(name, from).ok_or(NOT_HELD)?
        }
    };
    if file.left() > MAX_FILE_BYTES {
        return Err("it is too long to be sent");
    }
    Ok(file)
}

/// Sends a file piece by piece, never more of it ahead than agreed: what waits here takes its part
/// of the connection's send window, which live blocks need.
async fn give<F>(
    sender: &mut ControlSender,
    receiver: &mut ControlReceiver,
    mut file: Given,
    giving: &Giving<'_, F>,
) -> Result<(), FetchError> {
    let limit = &giving.limit;
    let step = if limit.is_none() { PIECE } else { LIMITED_STEP };
    let mut ahead = PIECES_AHEAD;
    while file.left() > 0 {
        if ahead == 0 {
            match in_time(receiver.receive_raw()).await? {
                Some(taken) => ahead = taken.len().min(PIECES_AHEAD),
                None => return Err(LinkError::Finished.into()),
            }
        }
        ahead -= 1;
        let mut given = file;
        let read = move || {
            let piece = given.next_piece();
            (given, piece)
        };
        let (rest, piece) = spawn_blocking(read).await?;
        file = rest;
        let mut piece = piece.map_err(FetchError::Unread)?.unwrap_or_default();
        while !piece.is_empty() {
            let part = piece.split_to(piece.len().min(step));
            limit.backfill(part.len()).await;
            in_time(sender.send_raw(part)).await?;
        }
        if let Some((leases, id)) = giving.leases {
            leases.touch(id);
        }
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

/// Longest file that is taken whose length is not known: a segment of which nothing can be read.
const MAX_UNKNOWN_BYTES: u64 = 5 << 28;

/// What of such a one is taken whatever memory there is: twice a segment as it is usually.
const NEEDED_UNKNOWN_BYTES: u64 = 128 << 20;

/// Longest manifest that is asked for.
const MAX_MANIFEST_BYTES: u64 = 256 << 20;

/// Name of the manifest in a question.
pub(crate) const MANIFEST: &str = "manifest";

/// Name under which a peer tells where its retired segments began, and most bytes of that.
const SEGMENT_STARTS: &str = "past";
const MAX_SEGMENT_STARTS_BYTES: u64 = 64 << 20;
const NOT_HELD: &str = "this node does not hold it intact";

/// After an answer that was not taken a node waits for so many times what it took to read it.
const PAUSE_FACTOR: u32 = 4;

/// A file is sent, and memory for it taken, in pieces of this many bytes.
const PIECE: usize = 1 << 20;

/// Pieces sent before the first is confirmed.
const PIECES_AHEAD: usize = 2;
const _: () = assert!(PIECE == CHUNK_LEN);
const _: () = assert!(PIECE * PIECES_AHEAD == FETCH_AHEAD_BYTES as usize);

/// Where a limit holds, a piece leaves in parts of this many bytes: something moves on the peer's
/// side long before it takes the fetch to have stalled.
const LIMITED_STEP: usize = 64 << 10;

/// Longest time for one step of an exchange.
const STALL: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
