//! Many light followers in one thread: their certificate, their sockets, and how far all of
//! them are.
//!
//! They end with the value that stands for them. Counts followers and bytes; must never know
//! the load.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Endpoint, EndpointConfig, MtuDiscoveryConfig, TransportConfig, VarInt};
use rustls::RootCertStore;
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::runtime::Builder;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::error::{BenchError, Context};
use crate::load::light::{Follower, Progress};

/// Who follows whom, and how.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Whom they follow, in turn.
    pub upstreams: Vec<SocketAddr>,
    /// Directory of a certificate of the cluster.
    pub certs: PathBuf,
    /// How many, at most `MOST_FOLLOWERS`.
    pub followers: usize,
    /// Whether they read nothing after the handshake.
    pub stalled: bool,
}

/// Followers that have all been welcomed.
#[derive(Debug)]
pub struct Lights {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    progress: Vec<Progress>,
    welcomed: AtomicUsize,
    failure: Mutex<Option<String>>,
}

impl Shared {
    /// Keeps the first failure.
    fn fail(&self, error: &BenchError) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert_with(|| error.to_string());
    }

    fn check(&self) -> Result<(), BenchError> {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        match &*failure {
            Some(reason) => Err(BenchError::Failed {
                what: "follow as a light follower".to_owned(),
                reason: reason.clone(),
            }),
            None => Ok(()),
        }
    }
}

impl Lights {
    /// Connects all of them.
    ///
    /// # Errors
    /// When one of them is refused, or not welcomed in time.
    pub fn start(plan: &Plan) -> Result<Self, BenchError> {
        if !(1..=MOST_FOLLOWERS).contains(&plan.followers) || plan.upstreams.is_empty() {
            return Err(BenchError::Usage(format!(
                "1 to {MOST_FOLLOWERS} light followers need somebody to follow"
            )));
        }
        let config = client_config(&plan.certs)?;
        let shared = Arc::new(Shared {
            progress: (0..plan.followers).map(|_| Progress::default()).collect(),
            welcomed: AtomicUsize::new(0),
            failure: Mutex::new(None),
        });
        let (stop, stopped) = watch::channel(false);
        let thread = {
            let (plan, shared) = (plan.clone(), Arc::clone(&shared));
            thread::spawn(move || {
                if let Err(error) = drive(&plan, &config, &shared, &stopped) {
                    shared.fail(&error);
                }
            })
        };
        let lights = Self {
            shared,
            stop,
            thread: Some(thread),
        };
        let limit = Instant::now() + JOIN_LIMIT;
        while lights.shared.welcomed.load(Ordering::Acquire) < plan.followers {
            lights.shared.check()?;
            if Instant::now() >= limit {
                return Err(BenchError::Invalid(
                    "not every light follower was welcomed in time".to_owned(),
                ));
            }
            thread::sleep(POLL);
        }
        Ok(lights)
    }

    /// Waits until each of them has everything below `lsn`.
    ///
    /// # Errors
    /// When one fails, or it takes longer than `limit`.
    pub fn wait_lsn(&self, lsn: u64, limit: Duration) -> Result<(), BenchError> {
        let limit = Instant::now() + limit;
        loop {
            self.check()?;
            let lagging = self
                .shared
                .progress
                .iter()
                .filter(|progress| progress.lsn.load(Ordering::Acquire) < lsn)
                .count();
            if lagging == 0 {
                return Ok(());
            }
            if Instant::now() >= limit {
                return Err(BenchError::Invalid(format!(
                    "{lagging} light followers did not reach {lsn} in time"
                )));
            }
            thread::sleep(POLL);
        }
    }

    /// Bytes of blocks that all of them received.
    pub fn bytes(&self) -> u64 {
        self.shared
            .progress
            .iter()
            .map(|progress| progress.bytes.load(Ordering::Relaxed))
            .sum()
    }

    /// Whether all of them still follow.
    ///
    /// # Errors
    /// The first failure.
    pub fn check(&self) -> Result<(), BenchError> {
        self.shared.check()
    }
}

impl Drop for Lights {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // It cannot be told better than that its followers are gone.
            let _ = thread.join();
        }
    }
}

/// Runs all followers until they are told to stop.
fn drive(
    plan: &Plan,
    config: &ClientConfig,
    shared: &Arc<Shared>,
    stop: &watch::Receiver<bool>,
) -> Result<(), BenchError> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start a runtime")?;
    runtime.block_on(async {
        let mut endpoints = Vec::new();
        for _ in 0..plan.followers.div_ceil(PER_SOCKET) {
            endpoints.push(endpoint()?);
        }
        let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
        let mut tasks = JoinSet::new();
        for (index, upstream) in (0..plan.followers).zip(plan.upstreams.iter().cycle()) {
            let one = One {
                index,
                endpoint: endpoints[index / PER_SOCKET].clone(),
                config: config.clone(),
                upstream: *upstream,
                stalled: plan.stalled,
                handshakes: Arc::clone(&handshakes),
                stop: stop.clone(),
            };
            let shared = Arc::clone(shared);
            tasks.spawn(async move {
                if let Err(error) = one.run(&shared).await {
                    shared.fail(&error);
                }
            });
        }
        while tasks.join_next().await.is_some() {}
        for endpoint in &endpoints {
            // A peer that is gone already is waited for in vain.
            let _ = timeout(LEAVE_LIMIT, endpoint.wait_idle()).await;
        }
        Ok(())
    })
}

/// What one follower needs.
struct One {
    index: usize,
    endpoint: Endpoint,
    config: ClientConfig,
    upstream: SocketAddr,
    stalled: bool,
    handshakes: Arc<Semaphore>,
    stop: watch::Receiver<bool>,
}

impl One {
    async fn run(self, shared: &Shared) -> Result<(), BenchError> {
        let permit = self.handshakes.acquire().await.context("wait for a turn")?;
        let follower = self.connect().await?;
        drop(permit);
        shared.welcomed.fetch_add(1, Ordering::Release);
        if self.stalled {
            follower.stall(self.stop).await
        } else {
            follower
                .follow(&shared.progress[self.index], self.stop)
                .await
        }
    }

    async fn connect(&self) -> Result<Follower, BenchError> {
        let name = format!("light-{}-{}", std::process::id(), self.index);
        let limit = Instant::now() + RETRY_LIMIT;
        loop {
            let config = self.config.clone();
            let connected = Follower::connect(&self.endpoint, config, self.upstream, &name).await;
            let give_up = Instant::now() >= limit || *self.stop.borrow();
            match connected {
                Err(_) if !give_up => sleep(RETRY_EVERY).await,
                connected => return connected,
            }
        }
    }
}

fn endpoint() -> Result<Endpoint, BenchError> {
    let socket =
        Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).context("open a UDP socket")?;
    // The system caps them without an error.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
    socket
        .set_nonblocking(true)
        .context("make a socket non-blocking")?;
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(&any.into()).context("bind a UDP socket")?;
    let mut config = EndpointConfig::default();
    config
        .max_udp_payload_size(MAX_DATAGRAM)
        .context("configure an endpoint")?;
    let runtime = Arc::new(quinn::TokioRuntime);
    Endpoint::new(config, None, socket.into(), runtime).context("open an endpoint")
}

fn client_config(certs: &Path) -> Result<ClientConfig, BenchError> {
    let read = |name: &str| {
        let path = certs.join(name);
        fs::read(&path).context(format!("read {}", path.display()))
    };
    let certificates = |name: &str| {
        CertificateDer::pem_slice_iter(&read(name)?)
            .collect::<Result<Vec<_>, _>>()
            .context(format!("read certificates in {name}"))
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates("ca.pem")? {
        roots.add(certificate).context("trust the cluster's CA")?;
    }
    let key = PrivateKeyDer::from_pem_slice(&read("key.pem")?).context("read key.pem")?;
    let mut tls =
        rustls::ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .context("configure TLS")?
            .with_root_certificates(roots)
            .with_client_auth_cert(certificates("cert.pem")?, key)
            .context("use the certificate")?;
    tls.alpn_protocols = vec![replica::wire::ALPN.to_vec()];
    tls.resumption = Resumption::disabled();
    let crypto = QuicClientConfig::try_from(tls).context("configure QUIC")?;
    let mut config = ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(transport()));
    Ok(config)
}

fn transport() -> TransportConfig {
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(MAX_DATAGRAM);
    let mut transport = TransportConfig::default();
    transport
        .initial_rtt(INITIAL_RTT)
        .max_idle_timeout(Some(VarInt::from_u32(IDLE_TIMEOUT_MS).into()))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .mtu_discovery_config(Some(mtu))
        .datagram_receive_buffer_size(None)
        .max_concurrent_uni_streams(VarInt::from_u32(1))
        .stream_receive_window(VarInt::from_u32(BLOCK_WINDOW))
        .receive_window(VarInt::from_u32(BLOCK_WINDOW + CONTROL_WINDOW));
    transport
}

/// What a primary remembers at most, with some room for secondaries beside.
pub const MOST_FOLLOWERS: usize = 1000;

/// A socket's receive buffer is small, and all followers get the same blocks at the same time.
const PER_SOCKET: usize = 50;

/// Handshakes at the same time, far below what an upstream takes.
const HANDSHAKES: usize = 32;

/// An upstream that has no log yet, or is busy with other handshakes, is asked again.
const RETRY_EVERY: Duration = Duration::from_millis(200);
const RETRY_LIMIT: Duration = Duration::from_secs(30);

/// All of them must be welcomed in this time.
const JOIN_LIMIT: Duration = Duration::from_secs(120);

const POLL: Duration = Duration::from_millis(5);

/// Time for upstreams to be told that their followers leave.
const LEAVE_LIMIT: Duration = Duration::from_secs(2);

/// As the product's own secondaries have them.
const MAX_DATAGRAM: u16 = 6000;
const IDLE_TIMEOUT_MS: u32 = 20_000;
const KEEP_ALIVE: Duration = Duration::from_secs(5);
const INITIAL_RTT: Duration = Duration::from_millis(10);
const CONTROL_WINDOW: u32 = 256 << 10;
const BLOCK_WINDOW: u32 = 16 << 20;
const SOCKET_BUFFER: usize = 8 << 20;
