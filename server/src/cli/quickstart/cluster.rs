//! The quickstart's nodes: a primary and its secondaries in one process, known to each other by
//! certificates that exist in memory only. Must never write a key to a disk.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use replica::certs::{Authority, CertRole};
use tempfile::TempDir;

use super::error::QuickstartError;
use crate::conf::{self, Following, Http, Mqtt, Serving, Shipping, Storage};
use crate::node::memory::half_of_machine;
use crate::node::primary::Primary;
use crate::node::secondary::Secondary;

/// Running nodes and where their data is.
pub(super) struct Cluster {
    primary: Primary,
    secondaries: Vec<Secondary>,
    mqtt_addr: SocketAddr,
    primary_http: SocketAddr,
    secondary_http: Vec<SocketAddr>,
    /// What each node may use, in bytes.
    memory: u64,
    /// Removed when dropped; `None`: the user's own directory, which stays.
    _temporary: Option<TempDir>,
}

impl Cluster {
    /// Starts a primary and `secondaries` on the usual ports where they are free.
    pub(super) async fn start(
        data: Option<&Path>,
        secondaries: u16,
    ) -> Result<Self, QuickstartError> {
        let (dir, temporary) = directory(data)?;
        let authority = Authority::new()?;
        let mqtt_addr = free(MQTT_PORT)?;
        let primary_http = free(PRIMARY_HTTP_PORT)?;
        let sans = [LOCALHOST.to_string()];
        let memory = half_of_machine() / (u64::from(secondaries) + 1);
        let memory = memory.max(conf::LEAST_MEMORY);
        let conf = conf::Primary {
            mqtt: Mqtt {
                listen: mqtt_addr,
                ..Mqtt::default()
            },
            http: Some(Http {
                listen: primary_http,
                ..Http::default()
            }),
            replication: Some(Shipping {
                certs: PathBuf::new(),
                serving: Serving::new(any_port()),
            }),
            storage: storage(),
            ..conf::Primary::default()
        };
        let identity = authority.issue("primary", CertRole::Primary, &sans)?;
        let primary = Primary::start(&node(&dir, "primary", memory), &conf, Some(identity)).await?;
        let mut cluster = Self {
            mqtt_addr: primary.mqtt_addr(),
            primary_http: primary.http_addr().unwrap_or(primary_http),
            primary,
            secondaries: Vec::new(),
            secondary_http: Vec::new(),
            memory,
            _temporary: temporary,
        };
        for number in 1..=secondaries {
            if let Err(error) = cluster.add(&dir, number, &authority).await {
                // The reason to stop is the better error to report.
                let _ = cluster.stop().await;
                return Err(error);
            }
        }
        Ok(cluster)
    }

    /// Where devices publish.
    pub(super) fn mqtt_addr(&self) -> SocketAddr {
        self.mqtt_addr
    }

    /// Where the first secondary answers.
    pub(super) fn secondary_url(&self) -> String {
        url(self
            .secondary_http
            .first()
            .copied()
            .unwrap_or(self.primary_http))
    }

    /// Everything below is on the primary's disk.
    pub(super) fn durable_lsn(&self) -> u64 {
        self.primary.log().durable().borrow().lsn.0
    }

    /// Returns the reason once the primary's log has failed.
    pub(super) async fn failed(&self) -> String {
        self.primary.failed().await
    }

    /// The URLs, and commands to try.
    pub(super) fn introduction(&self) -> String {
        let (host, port) = (self.mqtt_addr.ip(), self.mqtt_addr.port());
        let asked = self.secondary_url();
        let mut text = format!("\n  MQTT       mqtt://{}   (primary)\n", self.mqtt_addr);
        for addr in &self.secondary_http {
            text += &format!("  SQL        {}   (secondary)\n", url(*addr));
        }
        let primary = url(self.primary_http);
        text += &format!("  rows, too  {primary}/api/v1/ingest/TABLE   (primary)\n");
        text += &format!("  status     {primary}/api/v1/status   (primary; /metrics too)\n");
        text + &format!(
            "\nIn another terminal, publish a message and ask for it:\n\n  \
             mosquitto_pub -h {host} -p {port} -q 1 -t demo/hello \
             -m '{{\"temperature\": 21.5}}'\n  \
             curl -G {asked}/api/v3/query_sql --data-urlencode 'q=SELECT * FROM demo'\n\n\
             Rows over HTTP:\n\n  \
             curl {primary}/api/v1/ingest/demo -d '{{\"temperature\": 20.5}}'\n\n\
             The sensors' own rows:\n\n  \
             curl -G {asked}/api/v3/query_sql --data-urlencode 'format=csv' \\\n    \
             --data-urlencode 'q=SELECT * FROM sensors ORDER BY time DESC LIMIT 5'\n\n\
             Ctrl-C ends it.\n"
        )
    }

    /// Stops the primary first, so that the secondaries get everything it has.
    pub(super) async fn stop(self) -> Result<(), QuickstartError> {
        let stopped = self.primary.stop().await;
        for secondary in self.secondaries {
            secondary.stop().await?;
        }
        stopped?;
        Ok(())
    }

    async fn add(
        &mut self,
        dir: &Path,
        number: u16,
        authority: &Authority,
    ) -> Result<(), QuickstartError> {
        let name = format!("secondary-{number}");
        let identity = authority.issue(&name, CertRole::Secondary, &[LOCALHOST.to_string()])?;
        let listen = free(SECONDARY_HTTP_PORT + number - 1)?;
        let upstream = self.primary.replication_addr().unwrap_or(any_port());
        let conf = conf::Secondary {
            following: Following::new(vec![upstream.to_string()], PathBuf::new()),
            storage: storage(),
            http: Http {
                listen,
                ..Http::default()
            },
        };
        let node = node(dir, &name, self.memory);
        let secondary = Secondary::start(&node, &conf, Some(identity)).await?;
        self.secondary_http
            .push(secondary.http_addr().unwrap_or(listen));
        self.secondaries.push(secondary);
        Ok(())
    }
}

fn directory(data: Option<&Path>) -> Result<(PathBuf, Option<TempDir>), std::io::Error> {
    match data {
        Some(dir) => Ok((dir.to_owned(), None)),
        None => {
            let dir = tempfile::Builder::new()
                .prefix("headwater-quickstart-")
                .tempdir()?;
            Ok((dir.path().to_owned(), Some(dir)))
        }
    }
}

fn node(dir: &Path, name: &str, memory: u64) -> conf::Node {
    conf::Node {
        name: name.to_owned(),
        data_dir: dir.join(name),
        memory_limit: Some(memory),
    }
}

/// The usual port, or any when it is taken.
fn free(port: u16) -> Result<SocketAddr, std::io::Error> {
    let usual = SocketAddr::new(LOCALHOST, port);
    match TcpListener::bind(usual) {
        Ok(_) => Ok(usual),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Ok(any_port()),
        Err(error) => Err(error),
    }
}

fn any_port() -> SocketAddr {
    SocketAddr::new(LOCALHOST, 0)
}

fn url(addr: SocketAddr) -> String {
    format!("http://{addr}")
}

/// A demonstration needs no gigabyte in reserve.
fn storage() -> Storage {
    Storage {
        reserve_disk: Some(64 << 20),
        ..Storage::default()
    }
}

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const MQTT_PORT: u16 = 1883;
const SECONDARY_HTTP_PORT: u16 = 7440;
const PRIMARY_HTTP_PORT: u16 = 7460;
