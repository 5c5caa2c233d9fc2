//! The listener of a node that serves secondaries, a primary or a relay: takes connections and
//! gives each its own task; on a primary it also runs the one that repairs the node's files. It
//! owns the endpoint and the end of all those tasks; it must never let one secondary wait for
//! another.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use wal::{Due, Held, Tasks};

use crate::cert_watch;
use crate::certs::identity::Identity;
use crate::config::ListenConfig;
use crate::error::{CloseCode, LinkError, ReplicaError};
use crate::files::leases::Leases;
use crate::files::limit::Limits;
use crate::files::peers::Peers;
use crate::files::repair;
use crate::quic::{Endpoint, Incoming};
use crate::serve::admission::{self, Admission, Admitted};
use crate::serve::ended::{self, SessionEnd, SessionResult};
use crate::serve::error::ShipError;
use crate::serve::memory::Memory;
use crate::serve::registry::Registry;
use crate::serve::session;
use crate::serve::shared::{Said, Shipping};
use crate::serve::source::Source;
use crate::wire::blocks::Packer;

/// A listening node. Dropping it ends the connections too, but only [`Listener::stop`] waits for
/// that.
pub struct Listener {
    endpoint: Arc<Endpoint>,
    shipping: Arc<Shipping>,
    tasks: TaskTracker,
    local: SocketAddr,
    _stop_on_drop: DropGuard,
}

impl Listener {
    /// Binds and begins to serve secondaries of `source`'s log, which need not be there yet. Needs
    /// a tokio runtime around it.
    ///
    /// # Errors
    /// When the address cannot be bound, TLS not be set up, or there is no runtime.
    pub fn bind(
        config: ListenConfig,
        identity: &Identity,
        source: Source,
    ) -> Result<Self, ReplicaError> {
        Handle::try_current().map_err(|_| ReplicaError::NoRuntime)?;
        let address = config.listen;
        let endpoint =
            Endpoint::listen(address, identity, config.send_window_bytes, &config.memory)?;
        let unbound = |source: io::Error| ReplicaError::Bind { address, source };
        let local = endpoint.local_addr().map_err(unbound)?;
        let shutdown = CancellationToken::new();
        let remembered = config.max_secondaries.max(REMEMBERED);
        let source_is_primary = source.lineage().is_primary();
        let repairs = source.log().filter(|_| source_is_primary);
        let shipping = Arc::new(Shipping {
            registry: Registry::new(source.clone(), remembered, config.members),
            source,
            peers: Peers::new(),
            leases: Leases::new(),
            limits: Limits::new(config.max_rate, config.max_rate_per_secondary),
            packer: Arc::new(Packer::within(config.compression, &config.memory)),
            memory: Memory::new(config.memory),
            send_window: config.send_window_bytes,
            versions: config.versions,
            heartbeat: config.heartbeat.min(SLOWEST_HEARTBEAT),
            handshake_timeout: config.handshake_timeout,
            contact_timeout: config.contact_timeout,
            doubts: Arc::new(Semaphore::new(1)),
            quiet: Mutex::default(),
            shutdown: shutdown.clone(),
        });
        let listener = Self {
            endpoint: Arc::new(endpoint),
            shipping,
            tasks: TaskTracker::new(),
            local,
            _stop_on_drop: shutdown.drop_guard(),
        };
        let memory = listener.shipping.memory.clone();
        let places = memory.places(config.max_secondaries);
        let handshakes = memory.handshakes(HANDSHAKES);
        let acceptor = Acceptor {
            endpoint: Arc::clone(&listener.endpoint),
            shipping: Arc::clone(&listener.shipping),
            tasks: listener.tasks.clone(),
            handshakes: Admission::new(handshakes, (handshakes / 4).max(1)),
            connections: Admission::new(places, places),
        };
        let tasks = config.tasks;
        listener.keep(&tasks, "replication-accept", move || acceptor.clone().run());
        let listening = Some(Arc::clone(&listener.endpoint));
        let shutdown = listener.shipping.shutdown.clone();
        let watched = identity.clone();
        listener.keep(&tasks, "certificates", move || {
            cert_watch::keep(watched.clone(), listening.clone(), shutdown.clone())
        });
        // A relay's files are repaired from its own listener.
        if let Some(log) = repairs {
            let (peers, shutdown) = (
                listener.shipping.peers.clone(),
                listener.shipping.shutdown.clone(),
            );
            listener.keep(&tasks, "repair", move || {
                repair::run(log.clone(), peers.clone(), shutdown.clone())
            });
        }
        if let Some(reason) = identity.unfit(source_is_primary) {
            tracing::warn!(node = %config.own.name, %reason, "this node's certificate does not let it serve secondaries");
        } else if identity.role().is_none() {
            tracing::warn!(node = %config.own.name, "this node's certificate does not say what it may do: who has one like it can play the primary; `headwater certs node` makes one that says it");
        }
        tracing::info!(node = %config.own.name, address = %local, "listening for secondaries");
        Ok(listener)
    }

    /// A task that is begun again should it panic.
    fn keep<F: Future<Output = ()> + Send + 'static>(
        &self,
        tasks: &Tasks,
        name: &'static str,
        make: impl FnMut() -> F + Send + 'static,
    ) {
        let tasks = tasks.clone();
        self.tasks
            .spawn(async move { tasks.keep(name, make, sleep).await });
    }

    /// The address it is bound to.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The secondaries it knows.
    #[must_use]
    pub fn registry(&self) -> Registry {
        self.shipping.registry.clone()
    }

    /// Lets connected secondaries flush what they are behind, says goodbye and closes; takes two
    /// seconds at most.
    pub async fn stop(self) {
        let deadline = tokio::time::Instant::now() + STOP_LIMIT;
        self.shipping.shutdown.cancel();
        self.tasks.close();
        if timeout_at(deadline, self.tasks.wait()).await.is_err() {
            tracing::debug!("some secondaries or a repair did not end in time");
        }
        self.endpoint.close(CloseCode::Done, "this node stops");
        let _ = timeout(IDLE_LIMIT, self.endpoint.idle()).await;
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("local", &self.local)
            .field("registry", &self.shipping.registry)
            .finish_non_exhaustive()
    }
}

/// The accept loop and what it needs.
#[derive(Clone)]
struct Acceptor {
    endpoint: Arc<Endpoint>,
    shipping: Arc<Shipping>,
    tasks: TaskTracker,
    /// Those whose TLS handshake is not done, by their networks.
    handshakes: Admission<IpAddr>,
    /// All others, by their certificates.
    connections: Admission<u64>,
}

impl Acceptor {
    async fn run(self) {
        loop {
            let incoming = tokio::select! {
                incoming = self.endpoint.accept() => incoming,
                () = self.shipping.shutdown.cancelled() => return,
            };
            let Some(incoming) = incoming else { return };
            let network = admission::network(incoming.remote().ip());
            let Ok(handshake) = self.handshakes.take(network, 0) else {
                incoming.refuse();
                continue;
            };
            let handshake = (handshake, self.shipping.memory.handshake());
            let (shipping, connections) = (Arc::clone(&self.shipping), self.connections.clone());
            self.tasks.spawn(async move {
                let address = incoming.remote();
                let ended = handle(incoming, handshake, &connections, &shipping).await;
                if let Some(ended) = ended {
                    turned_away(address, &ended, &shipping);
                }
            });
        }
    }
}

/// How it ended, where no session came about.
async fn handle(
    incoming: Incoming,
    handshake: (Admitted<IpAddr>, Held),
    connections: &Admission<u64>,
    shipping: &Arc<Shipping>,
) -> Option<SessionResult> {
    let accepted = tokio::select! {
        accepted = timeout(TLS_TIMEOUT, incoming.accept()) => accepted,
        () = shipping.shutdown.cancelled() => return Some(Ok(SessionEnd::Stopping)),
    };
    drop(handshake);
    match accepted {
        Ok(Ok(link)) => {
            // Some are kept for those who have been here before.
            let kept = KEPT + shipping.registry.absent();
            let place = connections.take(link.key(), kept).ok();
            let memory = place.as_ref().and_then(|_| shipping.memory.admit());
            let peer = || link.peer().to_owned();
            let error = match (place, memory) {
                (Some(_place), Some(memory)) => {
                    return session::serve(link, memory, Arc::clone(shipping)).await;
                }
                (Some(_), None) => ShipError::NoMemory(peer()),
                (None, _) => ShipError::NoPlace(peer()),
            };
            let ended = Err(error);
            link.close(ended::close_code(&ended), &ended::reason(&ended));
            Some(ended)
        }
        Ok(Err(error)) => Some(Err(error.into())),
        Err(_) => Some(Err(ShipError::Silent(TLS_TIMEOUT))),
    }
}

/// Says why somebody got no session; what repeats with every connection is said less and less.
fn turned_away(address: SocketAddr, ended: &SessionResult, shipping: &Shipping) {
    let reason = ended::reason(ended);
    if let Err(ShipError::Link(LinkError::PeerCertificate { name, .. })) = ended
        && let Some(name) = name
    {
        shipping.registry.turned_away(name, address, &reason);
    }
    let said = Said::TurnedAway(address.ip(), ended::kind(ended));
    match shipping.due(said) {
        Due::Not => tracing::debug!(%address, %reason, "secondary turned away again"),
        _ if ended::is_ordinary(ended) => {
            tracing::info!(%address, %reason, "secondary disconnected");
        }
        Due::First => tracing::warn!(%address, %reason, "secondary turned away"),
        Due::Again(lasted) => {
            let (attempts, for_s) = (lasted.times, lasted.time.as_secs());
            tracing::warn!(%address, %reason, attempts, for_s, "secondary still turned away");
        }
    }
}

/// Secondaries remembered at least, connected or not.
const REMEMBERED: usize = 1024;

/// Secondaries give a primary up after a few seconds of silence.
const SLOWEST_HEARTBEAT: Duration = Duration::from_secs(1);

/// Time for a TLS handshake: secondaries give one up after 3 s.
const TLS_TIMEOUT: Duration = Duration::from_secs(4);

/// TLS handshakes under way at once; one network has a quarter of them. Each proves first that it
/// lives at its address.
const HANDSHAKES: usize = 256;

/// Places kept beside those of secondaries that are known and not connected.
const KEPT: usize = 16;

/// Time for all secondaries to take leave.
const STOP_LIMIT: Duration = Duration::from_millis(1_700);

/// Time for the last packets to go out.
const IDLE_LIMIT: Duration = Duration::from_millis(300);
