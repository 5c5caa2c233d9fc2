//! The listening socket and the worker threads behind it. Starts them, adds up their counters,
//! stops them in order: no new connections, last acknowledgements out, connections closed. Must
//! never let what goes wrong in one connection end another.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use futures::FutureExt;
use futures::channel::oneshot;
use ntex::io::Io;
use ntex::rt::{DefaultRuntime, System};
use ntex::service::cfg::SharedCfg;
use ntex::service::fn_service;
use ntex::time::Millis;
use tokio::sync::watch;
use wal::{Appenders, Log, Replicated, Tasks};

use crate::clients::Clients;
use crate::config::Config;
use crate::connection;
use crate::dead_letters::DeadLetter;
use crate::error::MqttError;
use crate::large::Readers;
use crate::places::slack;
use crate::receive::Reads;
use crate::stats::{Counters, Stats};
use crate::told::Told;
use crate::worker::{Signal, Worker};

/// What the listener shares with its workers.
struct Shared {
    config: Arc<Config>,
    clients: Arc<Clients>,
    told: Arc<Told>,
    readers: Readers,
    appenders: Appenders,
    reports: watch::Receiver<Replicated>,
    workers: Mutex<Vec<(Arc<Signal>, Arc<Counters>)>>,
}

/// A running MQTT listener; dropped, it stops.
#[must_use = "a listener stops when it is dropped"]
pub struct Listener {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Listener {
    /// Binds and begins to serve; messages go to appenders that `appenders` makes. `log` tells what
    /// secondaries have of it.
    ///
    /// # Errors
    /// When the address cannot be bound or the threads cannot be started.
    pub fn start(config: Config, appenders: Appenders, log: Log) -> Result<Self, MqttError> {
        let address = config.listen;
        let listen = |source| MqttError::Listen { address, source };
        let socket = bind(address).map_err(listen)?;
        let address = socket.local_addr().map_err(listen)?;
        let told = Arc::new(Told::new(config.dead_letter_rate));
        let config = Arc::new(config);
        let shared = Arc::new(Shared {
            clients: Arc::new(Clients::new(config.max_connections)),
            readers: Readers::start(&config, &told).map_err(MqttError::Thread)?,
            told,
            config,
            appenders,
            reports: log.replicated(),
            workers: Mutex::default(),
        });
        let (stop, stopped) = oneshot::channel();
        let (ready, started) = mpsc::channel();
        let run = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("mqtt".to_owned())
            .spawn(move || {
                let watched = run.config.tasks.vital("mqtt");
                if run_system(run, socket, ready, stopped) {
                    watched.finish();
                }
            })
            .map_err(MqttError::Thread)?;
        match started.recv_timeout(START_TIMEOUT) {
            Ok(Ok(())) => Ok(Self {
                address,
                shared,
                stop: Some(stop),
                thread: Some(thread),
            }),
            Ok(Err(source)) => Err(MqttError::Listen { address, source }),
            Err(_) => Err(MqttError::Start),
        }
    }

    /// The address in use, with the port chosen when the configured one was 0.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The sum of all workers' counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut sum = Stats::default();
        let workers = self
            .shared
            .workers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        workers
            .iter()
            .for_each(|(_, counters)| counters.add_to(&mut sum));
        sum
    }

    /// The newest message that could not be stored where it was meant to go, since the start.
    #[must_use]
    pub fn newest_dead_letter(&self) -> Option<DeadLetter> {
        self.shared.told.dead_letters.newest()
    }

    /// Stops reading, sends the acknowledgements that the disk owes, closes every connection; what
    /// waits for secondaries is not acknowledged. Blocks; the committer must still be running.
    pub fn stop(&mut self) {
        {
            let workers = self
                .shared
                .workers
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            workers.iter().for_each(|(signal, _)| signal.stop());
        }
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the MQTT thread panicked");
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Sockets of clients at one time: connections, and those that are told that there are too many.
#[must_use]
pub fn most_sockets(max_connections: usize) -> usize {
    max_connections.saturating_add(slack(max_connections))
}

fn bind(address: SocketAddr) -> std::io::Result<std::net::TcpListener> {
    use socket2::{Domain, Socket, TcpKeepalive, Type};
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    // Every connection has it from here: one whose other end is gone without a word ends, whatever
    // keep-alive its client has asked for.
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE);
    let keepalive = keepalive.with_interval(KEEPALIVE_INTERVAL);
    socket.set_tcp_keepalive(&keepalive.with_retries(KEEPALIVE_RETRIES))?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Returns once it is told to stop, or cannot start; false: because it has ended by itself.
fn run_system(
    shared: Arc<Shared>,
    socket: std::net::TcpListener,
    ready: mpsc::Sender<std::io::Result<()>>,
    stopped: oneshot::Receiver<()>,
) -> bool {
    let system = System::build()
        .name("mqtt")
        .disable_signals()
        .build(DefaultRuntime);
    system.block_on(async move {
        let workers = shared.config.workers;
        let most = most_sockets(shared.config.max_connections);
        let per_worker = most.div_ceil(workers.max(1));
        let factory = async move |_: ntex::server::Config| service(&shared);
        let server = ntex::server::build()
            .workers(workers)
            .maxconn(per_worker)
            .shutdown_timeout(SHUTDOWN)
            .disable_signals()
            .listen("mqtt", socket, factory);
        match server {
            Ok(server) => {
                let server = server.config("mqtt", Reads::new().first()).run();
                let _ = ready.send(Ok(()));
                let mut ending = pin!(server.clone());
                let told = futures::select_biased! {
                    _ = stopped.fuse() => true,
                    _ = ending.as_mut().fuse() => false,
                };
                server.stop(true).await;
                told
            }
            Err(error) => {
                let _ = ready.send(Err(error));
                true
            }
        }
    })
}

/// Makes one worker, on its own thread, and the service for its connections.
fn service(
    shared: &Arc<Shared>,
) -> impl ntex::service::ServiceFactory<Io, SharedCfg, Response = (), Error = (), InitError = ()> + use<>
{
    let worker = start_worker(shared);
    fn_service(move |io: Io| {
        let worker = Rc::clone(&worker);
        async move {
            // A bug in serving one connection must not take the worker's other connections along.
            let served = AssertUnwindSafe(connection::serve(io, worker)).catch_unwind();
            if served.await.is_err() {
                tracing::error!("serving an MQTT connection panicked");
            }
            Ok::<_, ()>(())
        }
    })
}

fn start_worker(shared: &Arc<Shared>) -> Rc<Worker> {
    let signal = Arc::new(Signal::default());
    let counters = Arc::new(Counters::default());
    let durable = Arc::clone(&signal);
    let appender = shared
        .appenders
        .appender(Box::new(move |group| durable.durable(group)));
    let worker = Rc::new(Worker::new(
        Arc::clone(&shared.config),
        Arc::clone(&shared.clients),
        Arc::clone(&counters),
        Arc::clone(&signal),
        Arc::clone(&shared.told),
        shared.readers.clone(),
        appender,
        shared.reports.clone(),
    ));
    let mut workers = shared
        .workers
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    workers.push((signal, counters));
    drop(workers);
    let tasks = &shared.config.tasks;
    run_beside(
        tasks,
        "mqtt-acknowledgements",
        Rc::clone(&worker).acknowledge_groups(),
    );
    run_beside(tasks, "mqtt-replicas", Rc::clone(&worker).watch_replicas());
    run_beside(tasks, "mqtt-timeouts", Rc::clone(&worker).watch_timeouts());
    worker
}

/// Runs what a worker cannot do without: devices would wait for ever for what it does not do.
fn run_beside(tasks: &Tasks, name: &'static str, task: impl Future<Output = ()> + 'static) {
    // Caught, so that the worker's connections are still closed in order.
    let watched = AssertUnwindSafe(tasks.vital(name).run(task)).catch_unwind();
    ntex::rt::spawn(async move { drop(watched.await) });
}

/// Connections the kernel holds for us while the acceptor is busy.
const BACKLOG: i32 = 4096;

/// Silence after which the system asks whether the other end is there, how often it asks then, and
/// how many times.
const KEEPALIVE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_RETRIES: u32 = 4;

/// How long stopping waits for connections to take their last bytes.
const SHUTDOWN: Millis = Millis(2_000);

const START_TIMEOUT: Duration = Duration::from_secs(10);
