//! One secondary, seen from its upstream once the handshake is done: the loops over one connection
//! (blocks, heartbeats, reports, fetches). It owns nothing but that connection and must never slow
//! the log: what a stalled secondary holds is the connection's send window.

use std::convert::Infallible;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};
use wal::{Chain, Cursor, Due, Log, Lsn, Position};

use crate::certs::identity::Identity;
use crate::error::{LinkError, clip};
use crate::files::fetch::Giving;
use crate::files::limit::Limit;
use crate::part::PartHeld;
use crate::quic::{BlockSender, ControlReceiver, ControlSender, FETCH_WINDOW, Link};
use crate::serve::ended::{self, SessionEnd, SessionResult};
use crate::serve::error::{ShipError, unexpected};
use crate::serve::handshake::{Accepted, handshake};
use crate::serve::load::{CHUNK_BYTES, Load};
use crate::serve::memory::ConnectionMemory;
use crate::serve::pace::Pace;
use crate::serve::registry::Registration;
use crate::serve::reports;
use crate::serve::shared::{Said, Shipping};
use crate::serve::vouchers::Vouchers;
use crate::wire::version::{TELLS_CUT_OFF, TELLS_PRIMARY_HTTP, VOUCHES};
use crate::wire::{CaughtUp, CutOff, End, Message, PrimaryHttp, Report};

/// Serves one secondary until its connection ends; how it ended, where there was no session.
pub(crate) async fn serve(
    link: Link,
    mut memory: ConnectionMemory,
    shipping: Arc<Shipping>,
) -> Option<SessionResult> {
    let load = AtomicU64::new(fit(&link, &mut memory, &shipping));
    let accepted = tokio::select! {
        accepted = handshake(&link, &shipping) => accepted,
        error = link.closed() => Err(error.into()),
        () = shipping.shutdown.cancelled() => Ok(ControlFlow::Break(SessionEnd::Stopping)),
    };
    let ended = match accepted {
        Ok(ControlFlow::Continue(accepted)) => {
            let registration = Arc::clone(&accepted.registration);
            let ended = tokio::select! {
                ended = run_session(&link, accepted, &shipping, &load) => ended,
                never = fit_always(&link, &mut memory, &shipping, &load) => match never {},
            };
            let ended = explained(ended, &link);
            registration.ended(ended::reason(&ended));
            say_ended(&link, registration.id(), &ended, &shipping);
            close(&link, &ended).await;
            return None;
        }
        Ok(ControlFlow::Break(end)) => Ok(end),
        Err(error) => explained(Err(error), &link),
    };
    close(&link, &ended).await;
    Some(ended)
}

/// Lets no more be under way than there is memory for; how much may be read ahead of that.
fn fit(link: &Link, memory: &mut ConnectionMemory, shipping: &Shipping) -> u64 {
    // A file under way must not keep blocks from going.
    let most = shipping.send_window.saturating_add(FETCH_WINDOW.into());
    let windows = memory.windows(most);
    link.set_windows(windows.send, windows.receive);
    windows.load
}

/// The same from time to time: others come and go.
async fn fit_always(
    link: &Link,
    memory: &mut ConnectionMemory,
    shipping: &Shipping,
    load: &AtomicU64,
) -> Infallible {
    loop {
        sleep(FIT_EVERY).await;
        load.store(fit(link, memory, shipping), Ordering::Relaxed);
    }
}

fn explained(ended: SessionResult, link: &Link) -> SessionResult {
    ended.map_err(|error| match error {
        ShipError::Link(error) => ShipError::Link(link.explain(error)),
        other => other,
    })
}

fn say_ended(link: &Link, id: &str, ended: &SessionResult, shipping: &Shipping) {
    let (secondary, address) = (link.peer(), link.remote());
    let reason = ended::reason(ended);
    if shipping.due(Said::Ended(id.to_owned(), ended::kind(ended))) == Due::Not {
        tracing::debug!(secondary, %address, %reason, "secondary disconnected again");
    } else if ended::is_ordinary(ended) {
        tracing::info!(secondary, %address, %reason, "secondary disconnected");
    } else if matches!(ended, Err(ShipError::Silent(_))) {
        tracing::warn!(secondary, %address, %reason, "secondary disconnected");
    } else {
        tracing::warn!(secondary, %address, %reason, "secondary turned away");
    }
}

async fn run_session(
    link: &Link,
    accepted: Accepted,
    shipping: &Shipping,
    granted: &AtomicU64,
) -> SessionResult {
    let Accepted {
        registration,
        sender,
        receiver,
        log,
        protocol,
        hello,
        blocks,
    } = accepted;
    let limit = shipping.limits.peer();
    let giving = Giving {
        files: &log,
        leases: Some((&shipping.leases, &hello.node_id)),
        confirmed: shipping.registry.confirmed(&hello.node_id, &log),
        limit: limit.clone(),
    };
    let serving = shipping.peers.attend(link, &giving);
    let Some((blocks, cursor)) = blocks else {
        return tokio::select! {
            error = serving => Err(error.into()),
            error = link.closed() => Err(error.into()),
            () = shipping.shutdown.cancelled() => Ok(SessionEnd::Stopping),
            () = sleep(MANIFEST_TIME) => Err(ShipError::Silent(MANIFEST_TIME)),
        };
    };
    let from = cursor.position();
    if shipping.due(Said::Connected(hello.node_id.clone())) != Due::Not {
        let away_s = registration.away().map(|away| away.as_secs());
        tracing::info!(secondary = link.peer(), node = %clip(&hello.node), address = %link.remote(),
            %from, protocol, bootstrapping = hello.bootstrapping, away_s, "secondary connected");
    }
    let session = Session {
        shipping,
        identity: link.identity(),
        log: &log,
        registration: &registration,
        protocol,
        limit,
        granted,
        compresses: hello.compressions & ZSTD != 0,
        sent: AtomicU64::new(from.lsn.0),
        flushed: watch::Sender::new(Lsn(0)),
        caught_up: watch::Sender::new(None),
    };
    let ended = tokio::select! {
        Err(error) = session.ship(cursor, blocks) => Err(error),
        ended = session.beat(sender) => ended,
        Err(error) = session.listen(receiver) => Err(error),
        () = registration.superseded().cancelled() => Ok(SessionEnd::Superseded),
        () = swapped(shipping, &log) => Ok(SessionEnd::OtherLog),
        error = serving => Err(error.into()),
        error = link.closed() => Err(error.into()),
    };
    if ended.as_ref().is_err_and(ShipError::is_complaint) {
        doubt(shipping, &log, *session.flushed.borrow());
    }
    ended
}

/// Looks whether the blocks from `at` on are damaged here; one look at a time, whoever complains.
fn doubt(shipping: &Shipping, log: &Log, at: Lsn) {
    shipping.packer.forget();
    if let Ok(place) = Arc::clone(&shipping.doubts).try_acquire_owned() {
        let log = log.clone();
        drop(spawn_blocking(move || {
            log.suspect(at);
            drop(place);
        }));
    }
}

/// Waits until the node serves another log than this one.
async fn swapped(shipping: &Shipping, log: &Log) {
    let mut logs = shipping.source.logs();
    let is_other = |now: &Option<Log>| now.as_ref().is_none_or(|now| !now.is_same(log));
    if logs.wait_for(is_other).await.is_err() {
        // The node stops; that is told elsewhere.
        std::future::pending().await
    }
}

/// What the loops over one connection share.
struct Session<'a> {
    shipping: &'a Shipping,
    identity: &'a Identity,
    log: &'a Log,
    registration: &'a Registration,
    protocol: u16,
    limit: Limit,
    /// Bytes that may be read ahead.
    granted: &'a AtomicU64,
    /// Whether the secondary can undo it.
    compresses: bool,
    sent: AtomicU64,
    flushed: watch::Sender<Lsn>,
    caught_up: watch::Sender<Option<Lsn>>,
}

impl Session<'_> {
    /// Sends what is durable, then waits for more: catching up and following live are one loop.
    async fn ship(
        &self,
        mut cursor: Cursor,
        mut blocks: BlockSender,
    ) -> Result<Infallible, ShipError> {
        let mut durable = self.log.durable();
        loop {
            let end = *durable.borrow_and_update();
            loop {
                let is_cold = end.lsn.0.saturating_sub(cursor.position().lsn.0) >= COLD_ROWS;
                let (moved, load) = self.next_load(cursor, is_cold).await?;
                cursor = moved;
                let Some(mut load) = load else { break };
                let bytes = load.parts.iter().map(Bytes::len).sum();
                if is_cold {
                    self.limit.backfill(bytes).await;
                } else {
                    self.limit.live(bytes).await;
                }
                // Noted first: the secondary may report a part before all of it is handed over.
                let before = self.sent.swap(load.end.0, Ordering::Relaxed);
                assert!(before <= load.end.0, "blocks are sent in order");
                self.registration.sent(load.end);
                self.hand_over(&mut blocks, &mut load.parts, bytes).await?;
            }
            let at = cursor.position().lsn;
            self.caught_up.send_if_modified(|caught| {
                let first = caught.is_none();
                *caught = caught.or(Some(at));
                first
            });
            durable.changed().await.map_err(|_| ShipError::LogClosed)?;
        }
    }

    /// Hands a load to the connection. What it is longer than this connection may read ahead is
    /// taken of the share, and not for as long as the secondary likes.
    async fn hand_over(
        &self,
        blocks: &mut BlockSender,
        parts: &mut [Bytes],
        bytes: usize,
    ) -> Result<(), ShipError> {
        let granted = self.granted.load(Ordering::Relaxed).max(FREE_LOAD);
        let beyond = u64::try_from(bytes).unwrap_or(u64::MAX);
        let beyond = beyond.saturating_sub(granted);
        if beyond == 0 {
            return Ok(blocks.send(parts).await?);
        }
        let _held = self.shipping.memory.share().take_beyond(beyond);
        match timeout(TAKEN_WITHIN, blocks.send(parts)).await {
            Ok(sent) => Ok(sent?),
            Err(_) => Err(ShipError::Stalled(TAKEN_WITHIN)),
        }
    }

    /// Waits a little where there is no memory for another block: somebody gives some back soon.
    async fn room(&self) {
        for _ in 0..ROOM_LOOKS {
            if self.shipping.memory.share().left() > 0 {
                return;
            }
            sleep(HEARTBEAT_GAP).await;
        }
    }

    /// The next run of blocks, as it travels. Far from the log's end that may read the disk, which
    /// no other task should have to wait for; near it the bytes are in memory and a thread hop
    /// would cost more than they do.
    async fn next_load(
        &self,
        mut cursor: Cursor,
        is_cold: bool,
    ) -> Result<(Cursor, Option<Load>), ShipError> {
        if is_cold {
            self.room().await;
        }
        let packer = self.compresses.then(|| Arc::clone(&self.shipping.packer));
        // The blocks, and what they are packed into.
        let granted = self.granted.load(Ordering::Relaxed).max(FREE_LOAD) / 2;
        let most = usize::try_from(granted).map_or(CHUNK_BYTES, |most| most.min(CHUNK_BYTES));
        let read = move || {
            let load = Load::next(&mut cursor, packer.as_deref(), most);
            (cursor, load)
        };
        let (cursor, load) = if is_cold {
            spawn_blocking(read).await?
        } else {
            read()
        };
        Ok((cursor, load?))
    }

    /// Tells where the primary's log and clock stand: when that changes, a little later to say it
    /// once for many groups, and from time to time anyway. A relay tells what it last heard.
    async fn beat(&self, mut sender: ControlSender) -> SessionResult {
        let mut durable = self.log.durable();
        let mut lineages = self.shipping.source.lineages();
        let mut caught_up = self.caught_up.subscribe();
        let (mut announced, mut route, mut cut) = (false, None, None);
        let mut http = String::new();
        loop {
            let end = durable.borrow_and_update().lsn;
            let lineage = lineages.borrow_and_update().clone();
            // The way first: who has none to the primary has no word of it either.
            if route.as_ref() != Some(&lineage.route()) {
                let way = lineage.route();
                sender.send(&Message::Route(way.clone())).await?;
                (route, cut) = (Some(way), None);
            }
            if self.protocol >= TELLS_CUT_OFF && cut != lineage.cut {
                cut.clone_from(&lineage.cut);
                if let (Some(reason), false) = (&cut, lineage.rooted) {
                    let reason = clip(reason);
                    sender.send(&Message::CutOff(CutOff { reason })).await?;
                }
            }
            if self.protocol >= TELLS_PRIMARY_HTTP && http != lineage.primary_http {
                http.clone_from(&lineage.primary_http);
                let address = http.clone();
                let told = Message::PrimaryHttp(PrimaryHttp { address });
                sender.send(&told).await?;
            }
            let beat = lineage.heartbeat(self.log, end);
            self.registration.beat(&beat);
            sender.send(&Message::Heartbeat(beat)).await?;
            let at = *caught_up.borrow_and_update();
            if let Some(at) = at
                && !announced
            {
                announced = true;
                sender
                    .send(&Message::CaughtUp(CaughtUp { at: at.0 }))
                    .await?;
            }
            sleep(HEARTBEAT_GAP).await;
            tokio::select! {
                changed = durable.changed() => changed.map_err(|_| ShipError::LogClosed)?,
                changed = caught_up.changed() => changed.map_err(|_| ShipError::LogClosed)?,
                changed = lineages.changed() => if changed.is_err() {
                    return Ok(SessionEnd::Stopping);
                },
                () = sleep(self.shipping.heartbeat) => {}
                () = self.shipping.shutdown.cancelled() => return self.say_goodbye(sender).await,
            }
        }
    }

    /// Gives the secondary a moment to have everything on disk, then tells it to go.
    async fn say_goodbye(&self, mut sender: ControlSender) -> SessionResult {
        let end = self.log.durable().borrow().lsn;
        let mut flushed = self.flushed.subscribe();
        if timeout(DRAIN, flushed.wait_for(|lsn| *lsn >= end))
            .await
            .is_err()
        {
            tracing::debug!(%end, "the secondary did not have everything when this node stopped");
        }
        let reason = SessionEnd::Stopping.to_string();
        sender.send(&Message::End(End { reason })).await?;
        sender.finish();
        Ok(SessionEnd::Stopping)
    }

    async fn listen(&self, mut receiver: ControlReceiver) -> Result<Infallible, ShipError> {
        let silence = self.shipping.contact_timeout;
        let (mut vouchers, mut pace) = (Vouchers::default(), Pace::new(Instant::now()));
        let mut told: Option<PartHeld> = None;
        loop {
            // Who says too much is heard later: its own window fills, and nobody else waits.
            if let Some(pause) = pace.next(Instant::now()) {
                sleep(pause).await;
            }
            let received = timeout(silence, receiver.receive()).await;
            let received = received.map_err(|_| ShipError::Silent(silence))?;
            let report = match received? {
                Some(Message::Report(report)) => report,
                Some(Message::Descendants(descendants)) => {
                    reports::check_summaries(&descendants)?;
                    let bytes = reports::bytes_of(&descendants);
                    drop(told.take());
                    told = self.shipping.memory.told(bytes);
                    // Without room for it the list is as if none had come.
                    let nodes = told.as_ref().map_or_else(Vec::new, |_| descendants.nodes);
                    self.registration.descendants(nodes);
                    continue;
                }
                Some(Message::NodeCertificate(shown)) if self.protocol >= VOUCHES => {
                    vouchers.admit(&shown.der, self.identity, &self.shipping.memory)?;
                    continue;
                }
                Some(Message::Statements(statements)) if self.protocol >= VOUCHES => {
                    let vouched = vouchers.check(statements, self.log, self.identity)?;
                    self.registration.vouched(vouched);
                    continue;
                }
                Some(other) => return Err(unexpected(&other)),
                None => return Err(LinkError::Finished.into()),
            };
            let (flushed, chain) = (Lsn(report.flushed), Chain(report.chain));
            let own = self.log.chain_at(flushed);
            reports::check(&report, self.sent.load(Ordering::Relaxed), |_| own)?;
            if own == Some(chain) {
                let lsn = flushed;
                self.registration.confirm(self.log, Position { lsn, chain });
            }
            self.compare_files(&report);
            let caught_up = *self.caught_up.borrow();
            let streams = caught_up.is_some_and(|at| report.applied >= at.0);
            self.registration.report(&report, streams);
            self.flushed.send_replace(Lsn(report.flushed));
        }
    }

    /// Both sides compact alike: at the same place in the log their files must be the same.
    fn compare_files(&self, report: &Report) {
        let Report {
            compacted,
            next,
            digest,
            ..
        } = *report;
        let Some(own) = self.log.files_digest(Lsn(compacted), next) else {
            return;
        };
        if digest != 0 && self.registration.files_differ(own != digest) {
            tracing::error!(
                compacted,
                next,
                own,
                theirs = digest,
                "a secondary's Parquet files are not those of this node: compare them with headwater verify --against"
            );
        }
    }
}

/// Ends the connection so that the secondary learns why.
pub(crate) async fn close(link: &Link, ended: &SessionResult) {
    if matches!(ended, Ok(SessionEnd::Stopping) | Err(ShipError::Refused(_))) {
        // Closing drops what is still on its way, so the peer closes once it has the last message.
        let _ = timeout(FAREWELL, link.closed()).await;
    }
    link.close(ended::close_code(ended), &clip(&ended::reason(ended)));
}

/// What every connection may read ahead, of what it is charged with anyway.
const FREE_LOAD: u64 = 16 << 10;

/// Time for a secondary to take what was read for it beyond its part of the memory.
const TAKEN_WITHIN: Duration = Duration::from_secs(30);

/// How often it is looked whether there is memory, before it is done without.
const ROOM_LOOKS: usize = 50;

/// Rows behind the durable end from which blocks are taken to be on disk.
const COLD_ROWS: u64 = 65_536;

/// How often a connection's share of the memory is looked at.
const FIT_EVERY: Duration = Duration::from_millis(500);

/// Shortest time between heartbeats.
const HEARTBEAT_GAP: Duration = Duration::from_millis(20);

/// Time for a secondary that needs a snapshot to take the manifest and go.
const MANIFEST_TIME: Duration = Duration::from_secs(120);

/// Bit of Hello's `compressions`.
const ZSTD: u8 = 1;

/// Time for a secondary to flush what it is behind when the primary stops.
const DRAIN: Duration = Duration::from_secs(1);

/// Time for a peer to close after the last message.
const FAREWELL: Duration = Duration::from_millis(500);
