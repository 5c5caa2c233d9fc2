//! The HTTP server: paths, listening and shutting down. Owns which handler answers what; must
//! never run a query on the threads that serve connections.

mod accept;
mod app;
mod body;
mod digest;
mod door;
mod error;
mod failures;
mod freshness;
mod gate;
mod headers;
mod health;
mod hidden;
mod influx;
mod ingest;
mod node;
mod request;
mod secondaries;
mod series;
mod site;
mod sql;
mod tables;
#[cfg(test)]
mod tests;
mod told;
mod verifier;
mod verify;
mod write_memory;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{Method, Uri};
use axum::middleware::from_fn_with_state;
use axum::routing::{delete, get, post};
use query::{Engine, QueryError};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wal::Share;

use app::App;
use door::{Acceptor, Seats};
use error::{ApiError, Failure};
pub(crate) use hidden::Hidden;
pub(crate) use node::HttpNode;
pub(crate) use site::Sites;
use told::Told;
use verifier::Verifier;
use write_memory::WriteMemory;

/// What the HTTP server is told at start.
#[derive(Debug, Clone)]
pub(crate) struct HttpConfig {
    /// Port 0 takes any free port.
    pub(crate) listen: SocketAddr,
    /// Connections at one time; a few more are answered once.
    pub(crate) max_connections: usize,
    /// For rows on their way in, where the node takes any.
    pub(crate) writes: Share,
    /// For requests that are being read or answered.
    pub(crate) memory: Share,
    /// What it is called, and whose pages may ask it.
    pub(crate) sites: Sites,
    /// What its answers do not tell.
    pub(crate) hidden: Hidden,
    /// The node's: the one that accepts connections is one of them.
    pub(crate) tasks: wal::Tasks,
    /// For its engine.
    pub(crate) query: query::Config,
}

/// Why the HTTP server cannot start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    #[error("cannot listen on http.listen = {address}: {reason}")]
    Listen { address: SocketAddr, reason: String },
    #[error(transparent)]
    Engine(#[from] QueryError),
}

/// A listening HTTP server with its query engine.
pub(crate) struct HttpServer {
    address: SocketAddr,
    stopping: CancellationToken,
    killed: CancellationToken,
    connections: TaskTracker,
    accepting: JoinHandle<()>,
}

impl HttpServer {
    /// Binds `config.listen` and serves on the Tokio runtime this is called in; queries run on
    /// threads of their own.
    ///
    /// # Errors
    /// When the address cannot be used, or the engine cannot start.
    pub(crate) fn start(config: &HttpConfig, node: Arc<dyn HttpNode>) -> Result<Self, HttpError> {
        let runtime = Handle::try_current().map_err(|e| QueryError::Start(e.to_string()))?;
        let cannot = |error| cannot_listen(config.listen, &error);
        let listener = door::listen(config.listen).map_err(cannot)?;
        let address = listener.local_addr().map_err(cannot)?;
        let asked: Arc<dyn query::Node> = Arc::<dyn HttpNode>::clone(&node);
        let engine = Engine::new(&config.query, asked)?;
        let seats = Seats::new(
            config.max_connections,
            config.query.reader_timeout,
            &config.memory,
        );
        let app = Arc::new(App {
            failures: Arc::default(),
            memory: WriteMemory::new(config.writes.clone()),
            node,
            engine,
            verifier: Verifier::default(),
            seats: seats.clone(),
            sites: config.sites.clone(),
            hidden: config.hidden.clone(),
            metrics: Told::default(),
            status: Told::default(),
        });
        let (stopping, killed) = (CancellationToken::new(), CancellationToken::new());
        let connections = TaskTracker::new();
        let acceptor = Arc::new(Acceptor {
            listener,
            seats,
            router: router(Arc::clone(&app)),
            spare_router: spare_router(app),
            connections: connections.clone(),
            stopping: stopping.clone(),
            killed: killed.clone(),
        });
        let tasks = config.tasks.clone();
        let accepting = runtime.spawn(async move {
            let accept = || door::accept(Arc::clone(&acceptor));
            tasks.keep("http-accept", accept, tokio::time::sleep).await;
        });
        tracing::info!(%address, "HTTP is listening");
        Ok(Self {
            address,
            stopping,
            killed,
            connections,
            accepting,
        })
    }

    /// The address in use, with the port that was taken for port 0.
    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more requests, lets those in flight end for a while, then cuts them off.
    pub(crate) async fn stop(self) {
        self.stopping.cancel();
        if let Err(error) = self.accepting.await {
            tracing::warn!(%error, "the HTTP listener had already failed");
        }
        self.connections.close();
        if tokio::time::timeout(DRAIN, self.connections.wait())
            .await
            .is_err()
        {
            tracing::warn!(open = self.connections.len(), "cutting off HTTP requests");
            self.killed.cancel();
            self.connections.wait().await;
        }
    }
}

impl fmt::Debug for HttpServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpServer")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

fn router(app: Arc<App>) -> Router {
    Router::new()
        .route(
            "/api/v3/query_sql",
            get(sql::query_sql).post(sql::query_sql),
        )
        .route("/api/v1/verify", get(verify::verify))
        .route("/api/v1/digest", get(digest::digest))
        .route(
            "/api/v1/secondaries/{name_or_id}",
            delete(secondaries::forget),
        )
        .route("/api/v1/tables/{table}/expire", post(tables::expire))
        .route("/api/v1/tables/{table}/drop", post(tables::drop_table))
        .route("/api/v1/tables/{table}/rename", post(tables::rename))
        .route(
            "/api/v1/tables/{table}/change-role",
            post(tables::change_role),
        )
        .route(
            "/api/v1/tables/{table}/change-type",
            post(tables::change_type),
        )
        .route(
            "/api/v1/tables/{table}/rename-column",
            post(tables::rename_column),
        )
        .merge(probes())
        .merge(influx::routes())
        .merge(ingest::routes())
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(Arc::clone(&app), gate::check))
        .layer(from_fn_with_state(Arc::clone(&app), headers::set_headers))
        .with_state(app)
}

/// What tells whether the node lives, can serve, and how it is.
fn probes() -> Router<Arc<App>> {
    Router::new()
        .route("/health", get(health::alive))
        .route("/health/primary", get(health::primary))
        .route("/health/secondary", get(health::secondary))
        .route("/ready", get(health::ready))
        .route("/metrics", get(health::metrics))
        .route("/api/v1/status", get(health::status))
}

/// For those who have no place.
fn spare_router(app: Arc<App>) -> Router {
    probes()
        .fallback(no_place)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(Arc::clone(&app), gate::check))
        .layer(from_fn_with_state(Arc::clone(&app), headers::set_headers))
        .with_state(app)
}

async fn no_place() -> Failure {
    Failure::from(ApiError::NoPlace)
}

async fn unknown_path(uri: Uri) -> Failure {
    Failure::from(ApiError::UnknownPath(uri.path().to_owned()))
}

async fn wrong_method(method: Method, uri: Uri) -> Failure {
    Failure::from(ApiError::Method {
        method: method.to_string(),
        path: uri.path().to_owned(),
    })
}

fn cannot_listen(address: SocketAddr, error: &std::io::Error) -> HttpError {
    HttpError::Listen {
        address,
        reason: error.to_string(),
    }
}

/// How long requests in flight may take when the server stops.
const DRAIN: Duration = Duration::from_secs(5);
