//! A primary that cannot open its log without blocks that secondaries have: listens in the place of
//! the one that serves, asks those who connect, and hands over what comes. It owns that endpoint;
//! it must never judge the blocks, and never send one: `wal` does the first, nobody the second.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use wal::{Due, LogId, Lsn, Position, Quiet, Unreadable, clock};

use crate::cert_watch;
use crate::certs::identity::Identity;
use crate::config::ListenConfig;
use crate::error::{CloseCode, LinkError, ReplicaError, clip};
use crate::files::fetch::{self, FetchError};
use crate::quic::{ControlSender, Endpoint, Incoming, Link};
use crate::serve::admission::{self, Admission, Admitted};
use crate::serve::ended;
use crate::serve::error::{ShipError, ShipKind, unexpected};
use crate::serve::handshake::in_time;
use crate::serve::session;
use crate::wire::plan::negotiate;
use crate::wire::refusal::RefuseReason;
use crate::wire::{Heartbeat, Hello, Message, Refuse, Route, Welcome, WireHop, WirePlan};

/// A primary that asks its secondaries for blocks before it has a log to serve. Dropping it ends
/// the connections too.
pub struct Borrower {
    endpoint: Arc<Endpoint>,
    config: ListenConfig,
    local: SocketAddr,
    quiet: Quiet<(IpAddr, ShipKind)>,
    lenders: Lenders,
    _stop_on_drop: DropGuard,
}

/// Who may lend, and whose turn it is. Cheap to clone.
#[derive(Clone)]
struct Lenders {
    /// Those whose TLS handshake is not done, by their networks.
    handshakes: Admission<IpAddr>,
    /// All others, by their certificates.
    connections: Admission<u64>,
    /// One lends at a time: what it lends is held whole.
    turn: Arc<Semaphore>,
}

/// What a secondary has sent.
#[derive(Debug)]
pub struct Lent {
    /// Blocks, not checked; empty: it has none.
    pub blocks: Bytes,
    /// Common name of its certificate.
    pub name: String,
    /// Identity of its data directory.
    pub id: String,
}

impl Lent {
    fn nothing() -> Self {
        Self {
            blocks: Bytes::new(),
            name: String::new(),
            id: String::new(),
        }
    }
}

/// What secondaries are asked for.
#[derive(Clone, Debug)]
struct Question {
    log: LogId,
    from: Position,
    /// None: as far as they have the log, which may be no further.
    to: Option<Lsn>,
    /// Bytes that may come in answer.
    most: u64,
    /// None: any of them.
    of: Option<HashSet<String>>,
}

impl Question {
    fn of(lacking: &Unreadable) -> Self {
        Self {
            log: lacking.log,
            from: lacking.from,
            to: Some(lacking.to),
            // The same bytes are here, where they can be read, and the last of them may begin
            // before the end.
            most: lacking.bytes.saturating_add(BEYOND),
            of: None,
        }
    }
}

/// What one connection led to, and from where it came.
type Asked = (SocketAddr, Result<Lent, ShipError>);

impl Borrower {
    /// Binds where secondaries connect. Needs a tokio runtime around it.
    ///
    /// # Errors
    /// When the address cannot be bound, or TLS not be set up.
    pub fn bind(config: ListenConfig, identity: &Identity) -> Result<Self, ReplicaError> {
        let address = config.listen;
        let endpoint =
            Endpoint::listen(address, identity, config.send_window_bytes, &config.memory)?;
        let unbound = |source: io::Error| ReplicaError::Bind { address, source };
        let local = endpoint.local_addr().map_err(unbound)?;
        let (endpoint, shutdown) = (Arc::new(endpoint), CancellationToken::new());
        let listening = Some(Arc::clone(&endpoint));
        let (tasks, watched, stop) = (config.tasks.clone(), identity.clone(), shutdown.clone());
        let watch = move || cert_watch::keep(watched.clone(), listening.clone(), stop.clone());
        tokio::spawn(async move { tasks.keep("certificates", watch, sleep).await });
        Ok(Self {
            endpoint,
            config,
            local,
            quiet: Quiet::default(),
            lenders: Lenders {
                handshakes: Admission::new(AT_ONCE, AT_ONCE / 4),
                connections: Admission::new(AT_ONCE, OF_ONE),
                turn: Arc::new(Semaphore::new(1)),
            },
            _stop_on_drop: shutdown.drop_guard(),
        })
    }

    /// The address it is bound to.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Waits for a secondary that has blocks from where this log cannot be read, as far as it has
    /// them; with its name. They are not checked.
    pub async fn blocks(&mut self, lacking: &Unreadable) -> (Bytes, String) {
        let lent = self.ask_each(&Question::of(lacking)).await;
        (lent.blocks, lent.name)
    }

    /// Waits for one of these secondaries, by their ids, and asks it for what it has of the log
    /// behind its end here, which may be nothing.
    pub async fn more(&mut self, log: LogId, end: Position, of: &HashSet<String>) -> Lent {
        let question = Question {
            log,
            from: end,
            to: None,
            most: AT_ONCE_BYTES,
            of: Some(of.clone()),
        };
        self.ask_each(&question).await
    }

    async fn ask_each(&mut self, question: &Question) -> Lent {
        let mut asked: JoinSet<Asked> = JoinSet::new();
        loop {
            tokio::select! {
                incoming = self.endpoint.accept() => {
                    let Some(incoming) = incoming else {
                        std::future::pending().await
                    };
                    let network = admission::network(incoming.remote().ip());
                    let Ok(handshake) = self.lenders.handshakes.take(network, 0) else {
                        incoming.refuse();
                        continue;
                    };
                    let (config, question) = (self.config.clone(), question.clone());
                    let lenders = self.lenders.clone();
                    asked.spawn(async move {
                        let address = incoming.remote();
                        (address, ask(incoming, handshake, &lenders, &config, &question).await)
                    });
                }
                Some(done) = asked.join_next() => match done {
                    Ok((_, Ok(lent))) => return lent,
                    Ok((address, Err(error))) => self.say(address, &error),
                    Err(error) => tracing::error!(%error, "a secondary cannot be asked"),
                },
            }
        }
    }

    /// Ends, and returns once the address is free for whoever serves secondaries.
    pub async fn close(self) {
        let Self {
            endpoint,
            local,
            _stop_on_drop,
            ..
        } = self;
        endpoint.close(CloseCode::Done, LENT);
        let _ = timeout(GOODBYE, endpoint.idle()).await;
        drop((endpoint, _stop_on_drop));
        // The socket goes with the last task that has it.
        let deadline = Instant::now() + GOODBYE;
        while UdpSocket::bind(local).is_err() && Instant::now() < deadline {
            sleep(LOOK_EVERY).await;
        }
    }

    fn say(&mut self, address: SocketAddr, error: &ShipError) {
        let reason = error.to_string();
        match self
            .quiet
            .note((address.ip(), error.kind()), std::time::Instant::now())
        {
            Due::Not => tracing::debug!(%address, %reason, "a secondary cannot help"),
            Due::First => tracing::warn!(%address, %reason, "a secondary cannot help"),
            Due::Again(lasted) => {
                let (attempts, for_s) = (lasted.times, lasted.time.as_secs());
                tracing::warn!(%address, %reason, attempts, for_s, "a secondary still cannot help");
            }
        }
    }
}

impl std::fmt::Debug for Borrower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Borrower")
            .field("local", &self.local)
            .finish_non_exhaustive()
    }
}

/// Takes one connection as far as the blocks; who sent them.
async fn ask(
    incoming: Incoming,
    handshake: Admitted<IpAddr>,
    lenders: &Lenders,
    config: &ListenConfig,
    question: &Question,
) -> Result<Lent, ShipError> {
    let link = match timeout(config.handshake_timeout, incoming.accept()).await {
        Ok(link) => link?,
        Err(_) => return Err(ShipError::Silent(config.handshake_timeout)),
    };
    drop(handshake);
    let (place, windows) = (
        lenders.connections.take(link.key(), 0).ok(),
        config.memory.try_take(2 * u64::from(ASKING_BYTES)),
    );
    let peer = || link.peer().to_owned();
    let (_place, _windows) = match (place, windows) {
        (Some(place), Some(windows)) => (place, windows),
        (found, _) => {
            let error = match found {
                Some(_) => ShipError::NoMemory(peer()),
                None => ShipError::NoPlace(peer()),
            };
            let ended = Err(error);
            session::close(&link, &ended).await;
            return ended.map(|_: ended::SessionEnd| Lent::nothing());
        }
    };
    link.set_windows(ASKING_BYTES.into(), ASKING_BYTES);
    let lent = tokio::select! {
        lent = borrow(&link, &lenders.turn, config, question) => lent,
        error = link.closed() => Err(error.into()),
    };
    match lent {
        Ok((blocks, id)) => {
            link.close(CloseCode::Done, LENT);
            let name = link.peer().to_owned();
            Ok(Lent { blocks, name, id })
        }
        Err(error) => {
            let ended = Err(error);
            session::close(&link, &ended).await;
            ended.map(|_: ended::SessionEnd| Lent::nothing())
        }
    }
}

async fn borrow(
    link: &Link,
    turn: &Semaphore,
    config: &ListenConfig,
    question: &Question,
) -> Result<(Bytes, String), ShipError> {
    let within = config.handshake_timeout;
    let (mut sender, mut receiver) = in_time(within, link.accept_control()).await?;
    let hello = match in_time(within, receiver.receive()).await? {
        Some(Message::Hello(hello)) => hello,
        Some(other) => return Err(unexpected(&other)),
        None => return Err(LinkError::Finished.into()),
    };
    let protocol = match judge(&hello, config, question) {
        Ok(protocol) => protocol,
        Err(reason) => {
            let refuse = Refuse::from(&reason);
            in_time(within, sender.send(&Message::Refuse(refuse.clone()))).await?;
            sender.finish();
            return Err(ShipError::Refused(refuse));
        }
    };
    // It is told that it has everything: for as long as nothing can be written here, that is so.
    let welcome = Message::Welcome(Welcome {
        protocol,
        log: question.log.0,
        epoch: hello.epoch,
        plan: WirePlan::Stream {
            lsn: hello.lsn,
            chain: hello.chain,
        },
        durable: hello.lsn,
        now_unix_ns: clock::unix_nanos(),
    });
    in_time(within, sender.send(&welcome)).await?;
    let theirs = hello.position().lsn;
    if theirs <= question.from.lsn {
        return Ok((Bytes::new(), hello.node_id));
    }
    let within_one = Lsn(question.from.lsn.0.saturating_add(LSNS_AT_ONCE));
    let to = question.to.unwrap_or(theirs.min(within_one));
    tokio::select! {
        fetched = lend(link, turn, 2 * within, question, to) => match fetched {
            Ok(blocks) => Ok((blocks, hello.node_id)),
            Err(FetchError::Link(error)) => Err(ShipError::Link(error)),
            Err(FetchError::NotSent(reason)) if question.to.is_none() => {
                let (name, end) = (link.peer(), theirs);
                tracing::warn!(name, %end, %reason, "a secondary has another end of the log");
                Ok((Bytes::new(), hello.node_id))
            }
            Err(other) => Err(ShipError::Protocol(clip(&other.to_string()))),
        },
        error = beat(sender, config, Lsn(hello.lsn)) => Err(error.into()),
    }
}

/// Waits for this lender's turn, and takes what it lends; no longer than that may take, for others
/// wait.
async fn lend(
    link: &Link,
    turn: &Semaphore,
    begin: Duration,
    question: &Question,
    to: Lsn,
) -> Result<Bytes, FetchError> {
    let _turn = turn.acquire().await?;
    let most = question.most;
    let within = begin + Duration::from_secs(most / LEAST_RATE);
    let places = (question.from, to);
    match timeout(within, fetch::ask_blocks(link, question.log, places, most)).await {
        Ok(lent) => lent,
        Err(_) => Err(FetchError::Stalled(within)),
    }
}

/// The version to speak with a secondary that may have the blocks.
fn judge(hello: &Hello, config: &ListenConfig, question: &Question) -> Result<u16, RefuseReason> {
    let protocol = negotiate(hello, config.versions)?;
    if hello.node_id == config.own.id {
        let name = config.own.name.clone();
        return Err(RefuseReason::Copy { name });
    }
    let is_meant = question.of.as_ref();
    let is_meant = is_meant.is_none_or(|ids| ids.contains(&hello.node_id));
    let may_help = hello.position().lsn > question.from.lsn || question.to.is_none();
    match hello.log() {
        Some(theirs) if theirs != question.log => {
            let ours = question.log;
            Err(RefuseReason::ForeignLog { theirs, ours })
        }
        Some(_) if !hello.bootstrapping && is_meant && may_help => Ok(protocol),
        _ => Err(RefuseReason::Damaged {
            position: question.from.lsn,
        }),
    }
}

/// Says that this node is there, and the primary, until the connection is lost.
async fn beat(mut sender: ControlSender, config: &ListenConfig, end: Lsn) -> LinkError {
    let own = WireHop {
        id: config.own.id.clone(),
        name: config.own.name.clone(),
    };
    let mut message = Message::Route(Route {
        hops: vec![own],
        rooted: true,
    });
    loop {
        if let Err(error) = sender.send(&message).await {
            return error;
        }
        message = Message::Heartbeat(Heartbeat {
            durable: end.0,
            committed_at_ns: 0,
            now_unix_ns: clock::unix_nanos(),
        });
        sleep(config.heartbeat).await;
    }
}

/// What a secondary is told that has helped.
const LENT: &str = "this node had blocks of its log from a secondary and opens it now";

/// Secondaries that are asked at once.
const AT_ONCE: usize = 64;

/// Of these with one certificate.
const OF_ONE: usize = 2;

/// What may be under way on each connection, either way: much of it on none but the one whose turn
/// it is.
const ASKING_BYTES: u32 = 128 << 10;

/// What a lender may send beyond the bytes that cannot be read here: it reads so many at once.
const BEYOND: u64 = 1 << 20;

/// Of an end that this node does not know so many LSNs are asked for at once, in so many bytes.
const LSNS_AT_ONCE: u64 = 1024;
const AT_ONCE_BYTES: u64 = 256 << 20;

/// Bytes per second that a lender sends at least, once it has begun.
const LEAST_RATE: u64 = 256 << 10;

/// Time for the last packets to go out, and for the address to be free.
const GOODBYE: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::status::Hop;
    use crate::wire::version::Versions;

    #[test]
    fn only_who_has_more_of_the_same_log_is_asked() {
        let log = LogId([7; 16]);
        let at = |lsn| Position {
            lsn: Lsn(lsn),
            ..log.genesis()
        };
        let lacking = Unreadable {
            log,
            file: PathBuf::new(),
            offset: 0,
            bytes: 0,
            from: at(50),
            to: Lsn(90),
            rows_behind: 1,
        };
        let own = Hop {
            id: "own".to_owned(),
            name: "primary".to_owned(),
        };
        let config = ListenConfig::new(SocketAddr::from(([127, 0, 0, 1], 0)), own);
        let hello = |log: Option<LogId>, lsn| Hello {
            protocol_min: Versions::OWN.min,
            protocol_max: Versions::OWN.max,
            log: log.map(|log| log.0),
            lsn,
            node_id: "id".to_owned(),
            ..Hello::default()
        };
        let lacking = Question::of(&lacking);
        let code = |hello: &Hello| judge(hello, &config, &lacking).map_err(|error| error.code());
        assert_eq!(code(&hello(Some(log), 51)), Ok(Versions::OWN.max));
        assert_eq!(code(&hello(Some(log), 900)), Ok(Versions::OWN.max));
        assert_eq!(code(&hello(Some(log), 50)), Err(16));
        assert_eq!(code(&hello(None, 0)), Err(16));
        assert_eq!(code(&hello(Some(LogId([8; 16])), 51)), Err(4));
        let staged = Hello {
            bootstrapping: true,
            ..hello(Some(log), 51)
        };
        assert_eq!(code(&staged), Err(16));
        let copy = Hello {
            node_id: "own".to_owned(),
            ..hello(Some(log), 51)
        };
        assert_eq!(code(&copy), Err(17));
        // Of those that are known it is good to hear that they have no more.
        let more = |id: &str| Question {
            to: None,
            of: Some(HashSet::from([id.to_owned()])),
            ..lacking.clone()
        };
        let asked = |id, hello: &Hello| judge(hello, &config, &more(id)).is_ok();
        assert!(asked("id", &hello(Some(log), 51)) && asked("id", &hello(Some(log), 7)));
        assert!(!asked("other", &hello(Some(log), 51)) && !asked("id", &staged));
    }
}
