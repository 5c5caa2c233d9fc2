//! Connections: accepting, places, timeouts and cutting off. Owns what a client can hold open, and
//! for how long; must never look into a request, nor wait for a place to become free.

mod answer;
mod asked;
mod listen;
mod places;
mod progress;
mod watched;

use std::io::ErrorKind;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wal::{Due, Quiet, Share};

use answer::Answer;
use asked::Asked;
pub(crate) use asked::NoMemory;
pub(crate) use listen::listen;
pub(crate) use places::Peer;
use places::{Patience, Place, Places};
use watched::Watched;

/// What the accepting task owns.
pub(crate) struct Acceptor {
    pub(crate) listener: TcpListener,
    pub(crate) seats: Seats,
    /// Answers those who have a place.
    pub(crate) router: Router,
    /// Answers those who have none, once: whether the node lives, and that it has no place.
    pub(crate) spare_router: Router,
    pub(crate) connections: TaskTracker,
    /// Asks connections to end after the request in flight.
    pub(crate) stopping: CancellationToken,
    /// Ends connections at once.
    pub(crate) killed: CancellationToken,
}

/// The places of a node's connections.
#[derive(Clone, Debug)]
pub(crate) struct Seats {
    main: Arc<Places>,
    /// For one request each, where the others are taken.
    spare: Arc<Places>,
    memory: Share,
    /// For requests that wait for the node to become fresh.
    waits: Arc<Semaphore>,
}

impl Seats {
    /// So many at one time, and a few more; a reader who takes nothing for `reader` loses its
    /// connection to who has none. Their requests are held in `memory`.
    pub(crate) fn new(limit: usize, reader: Duration, memory: &Share) -> Self {
        let spare = (limit / 32).clamp(LEAST_SPARE, MOST_SPARE);
        let patience = Patience {
            when_needed: reader,
            ..PATIENCE
        };
        Self {
            main: Arc::new(Places::new(limit, limit / 4, patience, memory.clone())),
            spare: Arc::new(Places::new(spare, spare, SPARE_PATIENCE, memory.clone())),
            memory: memory.clone(),
            waits: Arc::new(Semaphore::new((limit / 4).max(1))),
        }
    }

    /// The right to keep a place while nothing is done; none where a quarter of all places is kept
    /// like that.
    pub(crate) fn wait(&self) -> Option<SemaphorePermit<'_>> {
        self.waits.try_acquire().ok()
    }

    /// Largest body of a request that leaves others some memory.
    pub(crate) fn largest_body(&self) -> usize {
        usize::try_from(self.memory.limit() / 4).unwrap_or(usize::MAX)
    }

    /// What there is and what became of it.
    pub(crate) fn stats(&self) -> SeatStats {
        let (main, spare) = (self.main.ended(), self.spare.ended());
        let mut ended = main;
        for ((_, count), (_, more)) in ended.iter_mut().zip(spare) {
            *count += more;
        }
        SeatStats {
            taken: self.main.taken(),
            limit: self.main.limit(),
            ended,
            without_place: self.main.turned_away(),
        }
    }
}

/// What became of places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SeatStats {
    pub(crate) taken: usize,
    pub(crate) limit: usize,
    /// Connections that were ended from this side, by why.
    pub(crate) ended: [(&'static str, u64); 6],
    /// Connections that found all places taken by others that moved.
    pub(crate) without_place: u64,
}

/// Accepts until told to stop. Everybody is accepted at once: who waits in the system's backlog
/// could not even be told that there is no place.
pub(crate) async fn accept(acceptor: Arc<Acceptor>) {
    let stopping = acceptor.stopping.clone();
    tokio::select! {
        () = accept_all(&acceptor) => {}
        () = stopping.cancelled() => {}
    }
}

async fn accept_all(acceptor: &Acceptor) {
    let (mut quiet, mut pause) = (Quiet::default(), ACCEPT_PAUSE);
    let mut look = tokio::time::interval(LOOK);
    loop {
        make_way(&acceptor.seats).await;
        let accepted = tokio::select! {
            accepted = acceptor.listener.accept() => accepted,
            _ = look.tick() => {
                let now = Instant::now();
                acceptor.seats.main.sweep(now);
                acceptor.seats.spare.sweep(now);
                continue;
            }
        };
        match accepted {
            Ok((socket, from)) => {
                pause = ACCEPT_PAUSE;
                let_in(acceptor, socket, from.ip(), &mut quiet).await;
            }
            Err(error) if is_gone(error.kind()) => {}
            Err(error) => {
                // Mostly too many open files: who is idle can give some back.
                let now = Instant::now();
                acceptor.seats.main.make_room(now);
                if let Due::First | Due::Again(_) = quiet.note(Trouble::Accept(error.kind()), now) {
                    tracing::warn!(%error, "cannot accept an HTTP connection; newcomers wait");
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// Gives those time that have been told to end, so that what follows finds their places free.
async fn make_way(seats: &Seats) {
    for _ in 0..MOST_MOMENTS {
        if !seats.main.is_crowded() && !seats.spare.is_crowded() {
            return;
        }
        tokio::time::sleep(MOMENT).await;
    }
}

/// What the accepting task complains of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    Accept(ErrorKind),
    Full,
}

/// The peer went before it was accepted: that says nothing of the next one.
fn is_gone(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted
    )
}

async fn let_in(acceptor: &Acceptor, socket: TcpStream, from: IpAddr, quiet: &mut Quiet<Trouble>) {
    let (peer, now) = (Peer::from(from), Instant::now());
    let place = acceptor.seats.main.enter(peer, now);
    let has_place = place.is_some();
    if !has_place && let Due::First | Due::Again(_) = quiet.note(Trouble::Full, now) {
        let (places, held) = (acceptor.seats.main.limit(), acceptor.seats.main.taken());
        tracing::warn!(
            places,
            held,
            %from,
            "all places of HTTP connections are taken; newcomers are answered 503, and on /health, \
             /ready, /metrics and /api/v1/status as ever"
        );
    }
    let (place, router) = match place {
        Some(place) => (Some(place), &acceptor.router),
        None => (spare(&acceptor.seats, peer).await, &acceptor.spare_router),
    };
    // Where even those few are all at work for long there is nobody left to say so.
    if let Some(place) = place {
        acceptor.connections.spawn(connection(
            socket,
            peer,
            router.clone(),
            has_place.then(|| Arc::clone(&acceptor.seats.main)),
            acceptor.stopping.clone(),
            acceptor.killed.clone(),
            place,
        ));
    }
}

/// One of the few places for those who have none: the requests that are answered there are short,
/// and others can wait for them where they are.
async fn spare(seats: &Seats, peer: Peer) -> Option<Place> {
    for _ in 0..MOST_TRIES {
        let place = seats.spare.enter(peer, Instant::now());
        if place.is_some() {
            return place;
        }
        tokio::time::sleep(MOMENT).await;
    }
    None
}

async fn connection(
    socket: TcpStream,
    peer: Peer,
    router: Router,
    main: Option<Arc<Places>>,
    stopping: CancellationToken,
    killed: CancellationToken,
    place: Place,
) {
    listen::prepare(&socket);
    let standing = Arc::clone(place.standing());
    let watched = Watched::new(socket, Arc::clone(&standing));
    let router = TowerToHyperService::new(router);
    let service = service_fn(|mut request: Request<Incoming>| {
        standing.asked();
        request.extensions_mut().insert(peer);
        let request = request.map(|body| Asked::new(body, Arc::clone(&standing), main.clone()));
        let (answer, standing) = (router.call(request), Arc::clone(&standing));
        async move {
            let answered = answer.await;
            answered.map(|answer| answer.map(|body: Body| Answer::new(body, standing)))
        }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        // The places keep the time.
        .header_read_timeout(None)
        .keep_alive(main.is_some())
        .max_header_size(LARGEST_HEAD)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(watched), service);
    let mut serving = pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = place.standing().ended() => return,
        () = stopping.cancelled() => {
            serving.as_mut().graceful_shutdown();
            tokio::select! {
                ended = serving.as_mut() => ended,
                () = place.standing().ended() => return,
                () = killed.cancelled() => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an HTTP connection ended early");
    }
}

/// How long a connection may stand still.
const PATIENCE: Patience = Patience {
    idle: Duration::from_secs(60),
    idle_when_short: Duration::from_secs(5),
    head: Duration::from_secs(20),
    body: Duration::from_secs(40),
    answer: Duration::from_secs(60),
    work: None,
    head_when_needed: Duration::from_secs(2),
    when_needed: Duration::from_secs(3),
};
/// The same of one that has a place for one request only.
const SPARE_PATIENCE: Patience = Patience {
    idle: Duration::from_secs(2),
    idle_when_short: Duration::from_secs(2),
    head: Duration::from_secs(2),
    body: Duration::from_secs(2),
    answer: Duration::from_secs(5),
    work: Some(Duration::from_secs(2)),
    // Whoever asks how the node is does so in one packet.
    head_when_needed: Duration::ZERO,
    when_needed: Duration::from_millis(500),
};
/// Places beyond the limit.
const LEAST_SPARE: usize = 2;
const MOST_SPARE: usize = 32;
/// How often is looked for those that stand still.
const LOOK: Duration = Duration::from_millis(500);
/// Largest head of a request: a URL as long as there can be, and headers.
const LARGEST_HEAD: usize = 80 << 10;
/// What is read ahead of a handler, and encoded ahead of a reader, per connection.
const BUFFER: usize = 128 << 10;
/// How long newcomers wait for those that have been told to end.
const MOMENT: Duration = Duration::from_millis(1);
const MOST_MOMENTS: u32 = 100;
/// And for a place to answer one request: longer than one that stands still may keep it.
const MOST_TRIES: u32 = 600;
/// How long to wait after an error, at first and at most.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
