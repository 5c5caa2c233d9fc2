//! The upstream's end of one connection, on a primary as on a relay: answers what the secondary
//! says and ships blocks. The decisions are the product's own and must never be made here; only
//! the streams are ours.

use bytes::Bytes;
use replica::wire::blocks::{Compression, Packer};
use replica::wire::common_point::find_common;
use replica::wire::plan::{Plan, negotiate, plan, upstream_state};
use replica::wire::refusal::RefuseReason;
use replica::wire::{
    CaughtUp, Common, FetchFrom, File, FrameReader, Hello, Message, Refuse, Route, Versions,
    Welcome, WirePlan, codec::encode,
};
use wal::{Bundle, Cursor, Log, Position, WalError};

use crate::network::Streams;
use crate::oracle::{Check, text};

/// What an upstream serves.
pub(crate) struct Served {
    pub(crate) log: Option<Log>,
    /// Itself and whom it follows.
    pub(crate) route: Route,
}

/// The upstream's end of one connection.
pub(crate) struct Shipping {
    reader: FrameReader,
    packer: Packer,
    cursor: Option<Cursor>,
    /// The way to the primary that the secondary knows of.
    route: Route,
    /// The secondary knows that it has caught up.
    told: bool,
}

impl Shipping {
    pub(crate) fn new(compression: Compression) -> Self {
        Self {
            reader: FrameReader::new(),
            packer: Packer::new(compression),
            cursor: None,
            route: Route::default(),
            told: false,
        }
    }

    /// Takes what the secondary says and answers from the log, if there is one. What it is told to
    /// fetch is held in `held`.
    pub(crate) fn hear(
        &mut self,
        said: &[u8],
        served: &Served,
        held: &mut Option<Bundle>,
        streams: &mut Streams,
    ) -> Check {
        self.reader.push(said);
        while let Some(message) = self.reader.next_message().map_err(text)? {
            let Some(log) = &served.log else {
                let refuse = Refuse::from(&RefuseReason::NoLogYet);
                say(streams, &Message::Refuse(refuse));
                return Ok(());
            };
            match message {
                Message::Hello(hello) => {
                    self.welcome(&hello, log, held, streams)?;
                    self.route = served.route.clone();
                    say(streams, &Message::Route(self.route.clone()));
                }
                Message::FetchFrom(fetch) => give(&fetch, log, held, streams)?,
                Message::Probe(probe) => {
                    let points: Vec<Position> =
                        probe.points.into_iter().map(Position::from).collect();
                    let durable = *log.durable().borrow();
                    let index = find_common(&points, durable, |lsn| log.chain_at(lsn));
                    let common = Common {
                        index: index.and_then(|index| u32::try_from(index).ok()),
                        durable: durable.into(),
                    };
                    say(streams, &Message::Common(common));
                }
                other => return Err(format!("a secondary says {other:?}")),
            }
        }
        Ok(())
    }

    fn welcome(
        &mut self,
        hello: &Hello,
        log: &Log,
        held: &mut Option<Bundle>,
        streams: &mut Streams,
    ) -> Check {
        let durable = *log.durable().borrow();
        let plan = plan(hello, &upstream_state(log, Versions::OWN));
        let wire = match plan.map_err(|reason| format!("refused: {reason}"))? {
            Plan::Stream(from) => {
                let cursor = log.cursor(from);
                self.cursor = Some(cursor.map_err(|error| format!("agreed and then: {error}"))?);
                WirePlan::Stream {
                    lsn: from.lsn.0,
                    chain: from.chain.0,
                }
            }
            Plan::Snapshot => {
                let bundle = log.bundle();
                let wire = WirePlan::Snapshot {
                    lsn: bundle.compacted().lsn.0,
                    chain: bundle.compacted().chain.0,
                    files: bundle.files(),
                    bytes: bundle.bytes(),
                };
                *held = Some(bundle);
                wire
            }
            Plan::Compare(_) => WirePlan::Compare {},
        };
        let welcome = Welcome {
            protocol: negotiate(hello, Versions::OWN).map_err(text)?,
            log: log.id().0,
            epoch: log.epoch().0,
            plan: wire,
            durable: durable.lsn.0,
            now_unix_ns: 0,
        };
        say(streams, &Message::Welcome(welcome));
        Ok(())
    }

    /// Tells of another way to the primary, once blocks are agreed on.
    pub(crate) fn tell(&mut self, route: &Route, streams: &mut Streams) {
        if self.cursor.is_some() && self.route != *route {
            self.route = route.clone();
            say(streams, &Message::Route(self.route.clone()));
        }
    }

    /// Sends the next blocks, once; whether there was anything to send.
    pub(crate) fn ship(&mut self, most: usize, streams: &mut Streams) -> Result<bool, WalError> {
        let Some(cursor) = &mut self.cursor else {
            return Ok(false);
        };
        let from = cursor.position();
        if let Some(chunk) = cursor.next(most)? {
            let frames = self.packer.frame(from.lsn, &chunk);
            frames
                .into_iter()
                .for_each(|piece| streams.send_blocks(piece));
            return Ok(true);
        }
        if !std::mem::replace(&mut self.told, true) {
            say(streams, &Message::CaughtUp(CaughtUp { at: from.lsn.0 }));
            return Ok(true);
        }
        Ok(false)
    }
}

fn say(streams: &mut Streams, message: &Message) {
    let frame = encode(message).expect("a message");
    streams.control.push(frame.into());
}

/// Sends what was asked for, behind the answer.
fn give(fetch: &FetchFrom, log: &Log, held: &mut Option<Bundle>, streams: &mut Streams) -> Check {
    if fetch.log != log.id().0 {
        return Err(format!("a secondary wants {} of another log", fetch.name));
    }
    let found: Option<Bytes> = if fetch.name == MANIFEST {
        let bundle = log.bundle();
        let manifest = bundle.manifest().clone();
        *held = Some(bundle);
        Some(manifest)
    } else {
        log.export_from(&fetch.name, fetch.from)
    };
    let answer = Message::File(File {
        found: found.is_some(),
        bytes: found.as_ref().map_or(0, |bytes| bytes.len() as u64),
        reason: String::new(),
    });
    streams.files.push(encode(&answer).map_err(text)?.into());
    // As they would come: not in one piece.
    let mut rest = found.unwrap_or_default();
    while !rest.is_empty() {
        streams.files.push(rest.split_to(rest.len().min(PIECE)));
    }
    Ok(())
}

/// The name under which a manifest is asked for.
pub(crate) const MANIFEST: &str = "manifest";

/// The name under which is asked where retired segments began.
pub(crate) const PAST: &str = "past";

/// Bytes of a file that travel together.
const PIECE: usize = 300_000;
