//! Connections: accepting, timeouts and cutting off. Owns what a client can hold open, and for
//! how long; must never look into a request.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wal::{Due, Quiet};

/// What the accepting task owns.
pub(crate) struct Acceptor {
    pub(crate) listener: TcpListener,
    pub(crate) max_connections: usize,
    pub(crate) router: Router,
    pub(crate) connections: TaskTracker,
    /// Asks connections to end after the request in flight.
    pub(crate) stopping: CancellationToken,
    /// Ends connections at once.
    pub(crate) killed: CancellationToken,
}

/// Accepts until told to stop. At the connection limit, newcomers wait in the system's backlog.
pub(crate) async fn accept(acceptor: Acceptor) {
    let stopping = acceptor.stopping.clone();
    tokio::select! {
        () = accept_all(&acceptor) => {}
        () = stopping.cancelled() => {}
    }
}

async fn accept_all(acceptor: &Acceptor) {
    let slots = Arc::new(Semaphore::new(acceptor.max_connections));
    let (mut quiet, mut pause) = (Quiet::default(), ACCEPT_PAUSE);
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
            return;
        };
        match acceptor.listener.accept().await {
            Ok((socket, _)) => {
                pause = ACCEPT_PAUSE;
                let serving = connection(
                    socket,
                    acceptor.router.clone(),
                    acceptor.stopping.clone(),
                    acceptor.killed.clone(),
                    slot,
                );
                acceptor.connections.spawn(serving);
            }
            Err(error) => {
                // Mostly too many open files: waiting lets some of them close.
                if let Due::First | Due::Again(_) = quiet.note(error.kind(), Instant::now()) {
                    tracing::warn!(%error, "cannot accept an HTTP connection; newcomers wait");
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

async fn connection(
    socket: TcpStream,
    router: Router,
    stopping: CancellationToken,
    killed: CancellationToken,
    _slot: OwnedSemaphorePermit,
) {
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(socket), TowerToHyperService::new(router));
    let mut serving = pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = stopping.cancelled() => {
            serving.as_mut().graceful_shutdown();
            tokio::select! {
                ended = serving.as_mut() => ended,
                () = killed.cancelled() => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an HTTP connection ended early");
    }
}

/// How long a client may take to send the head of a request, and to send the next one.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long to wait after an error, at first and at most.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
