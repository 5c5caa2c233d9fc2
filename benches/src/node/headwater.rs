//! Headwater nodes under test: certificates, conf files, primaries and secondaries.
//!
//! A secondary may be a relay, or follow through something in between. Must never use the released
//! binary but through its command line, its conf and its HTTP surface.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use tempfile::TempDir;

use crate::error::{BenchError, Context};
use crate::machine;
use crate::node::data_dir::DataDir;
use crate::node::http::Http;
use crate::node::process::{Process, accepts, free_tcp, free_udp, quoted, sibling};

/// How to start Headwater.
#[derive(Clone, Debug, Args)]
pub struct Headwater {
    /// The released binary; by default the one beside this program.
    #[arg(
        long = "headwater",
        value_name = "HEADWATER",
        default_value_os_t = sibling("headwater").unwrap_or_default(),
        hide_default_value = true,
        value_parser = present
    )]
    binary: PathBuf,
    #[command(flatten)]
    pub data: DataDir,
    /// `section.key=value` for the primary, as often as needed.
    #[arg(long)]
    pub set: Vec<String>,
}

/// A running primary.
#[derive(Debug)]
pub struct Primary {
    /// The process.
    pub process: Process,
    /// Where it takes MQTT.
    pub mqtt: SocketAddr,
    /// Its SQL.
    pub http: Http,
    data: PathBuf,
    shipping: Option<Shipping>,
    _dir: TempDir,
}

/// Where secondaries connect, and who they must be.
#[derive(Clone, Debug)]
struct Shipping {
    address: SocketAddr,
    certs: PathBuf,
}

/// A running secondary.
#[derive(Debug)]
pub struct Secondary {
    /// The process.
    pub process: Process,
    /// Its SQL.
    pub http: Http,
    /// Where others can follow it, if it relays.
    pub serves: Option<SocketAddr>,
    dir: TempDir,
}

/// How a secondary is set up.
#[derive(Clone, Copy, Debug, Default)]
pub struct Follow<'a> {
    /// Its name, in its certificate too.
    pub name: &'a str,
    /// Whom it follows instead of the primary: a relay, or something between the two.
    pub upstream: Option<SocketAddr>,
    /// Whether others may follow it.
    pub relays: bool,
}

impl Headwater {
    /// The same with more pairs for primaries, which win over those that were there.
    #[must_use]
    pub fn with(&self, set: &[&str]) -> Self {
        let mut other = self.clone();
        other.set.extend(set.iter().map(|pair| (*pair).to_owned()));
        other
    }

    /// The same with pairs for primaries that those that were there win over.
    #[must_use]
    pub fn with_defaults(&self, set: &[&str]) -> Self {
        let mut other = self.clone();
        other.set = set.iter().map(|pair| (*pair).to_owned()).collect();
        other.set.extend(self.set.iter().cloned());
        other
    }

    /// A primary without secondaries, on an empty disk.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn primary(&self) -> Result<Primary, BenchError> {
        let dir = self.data.temp("primary")?;
        let data = dir.path().join("data");
        self.start_primary(dir, &data, None)
    }

    /// A primary that lets secondaries in, on an empty disk.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn shipping_primary(&self) -> Result<Primary, BenchError> {
        let dir = self.data.temp("primary")?;
        let data = dir.path().join("data");
        let shipping = self.shipping(dir.path())?;
        self.start_primary(dir, &data, Some(shipping))
    }

    /// A primary that lets secondaries in, over the log in `data`.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn shipping_primary_over(&self, data: &Path) -> Result<Primary, BenchError> {
        let dir = self.data.temp("primary")?;
        let shipping = self.shipping(dir.path())?;
        self.start_primary(dir, data, Some(shipping))
    }

    /// Makes a cluster CA and the primary's certificate.
    fn shipping(&self, dir: &Path) -> Result<Shipping, BenchError> {
        let certs = dir.join("certs");
        self.certs(&["init"], &certs, &[])?;
        self.certificate(&certs, "primary")?;
        Ok(Shipping {
            address: free_udp()?,
            certs,
        })
    }

    /// The directory of a node's certificate, which is made unless it is there.
    fn certificate(&self, certs: &Path, name: &str) -> Result<PathBuf, BenchError> {
        let home = certs.join(name);
        if !home.is_dir() {
            self.certs(
                &["node"],
                certs,
                &[name, "--san", "127.0.0.1", "--san", "localhost"],
            )?;
        }
        Ok(home)
    }

    /// The directory of a certificate under which something that is no node of ours may follow.
    ///
    /// # Errors
    /// When the primary lets nobody in, or the certificate cannot be made.
    pub fn guest(&self, primary: &Primary, name: &str) -> Result<PathBuf, BenchError> {
        self.certificate(&primary.shipping()?.certs, name)
    }

    fn certs(&self, verb: &[&str], dir: &Path, rest: &[&str]) -> Result<(), BenchError> {
        let output = Command::new(&self.binary)
            .arg("certs")
            .args(verb)
            .arg(dir)
            .args(rest)
            .stdin(Stdio::null())
            .output()
            .context("run headwater certs")?;
        if output.status.success() {
            return Ok(());
        }
        Err(BenchError::Failed {
            what: "make certificates".to_owned(),
            reason: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        })
    }

    fn start_primary(
        &self,
        dir: TempDir,
        data: &Path,
        shipping: Option<Shipping>,
    ) -> Result<Primary, BenchError> {
        let (mqtt, http) = (free_tcp()?, free_tcp()?);
        let mut conf = format!(
            "[node]\nname = \"primary\"\nrole = \"primary\"\ndata_dir = {}\n\n\
             [mqtt]\nlisten = \"{mqtt}\"\n\n[http]\nlisten = \"{http}\"\n",
            quoted(data)
        );
        if let Some(shipping) = &shipping {
            conf.push_str(&format!(
                "\n[replication]\nlisten = \"{}\"\ncerts = {}\n",
                shipping.address,
                quoted(&shipping.certs.join("primary"))
            ));
        }
        let mut process = self.serve("primary", dir.path(), &conf, &self.set)?;
        let client = Http::new(http);
        process.wait_until(|| accepts(mqtt) && client.status("/ready") == Some(200))?;
        Ok(Primary {
            process,
            mqtt,
            http: client,
            data: data.to_owned(),
            shipping,
            _dir: dir,
        })
    }

    /// A secondary of `primary` on an empty disk; returns as soon as its process runs.
    ///
    /// # Errors
    /// When the primary lets no secondaries in, or the process cannot be started.
    pub fn secondary(&self, primary: &Primary) -> Result<Secondary, BenchError> {
        let follow = Follow {
            name: "secondary",
            ..Follow::default()
        };
        self.follow(primary, &follow)
    }

    /// A secondary in `primary`'s cluster on an empty disk; returns as soon as its process runs.
    ///
    /// # Errors
    /// When the primary lets no secondaries in, or the process cannot be started.
    pub fn follow(&self, primary: &Primary, follow: &Follow<'_>) -> Result<Secondary, BenchError> {
        let shipping = primary.shipping()?;
        let certs = self.certificate(&shipping.certs, follow.name)?;
        let dir = self.data.temp("secondary")?;
        let http = free_tcp()?;
        let serves = if follow.relays {
            Some(free_udp()?)
        } else {
            None
        };
        let listen = serves.map_or_else(String::new, |at| format!("listen = \"{at}\"\n"));
        let conf = format!(
            "[node]\nname = \"{}\"\nrole = \"secondary\"\ndata_dir = {}\n\n\
             [replication]\nupstream = \"{}\"\n{listen}certs = {}\n\n\
             [http]\nlisten = \"{http}\"\n",
            follow.name,
            quoted(&dir.path().join("data")),
            follow.upstream.unwrap_or(shipping.address),
            quoted(&certs)
        );
        let process = self.serve("secondary", dir.path(), &conf, &[])?;
        Ok(Secondary {
            process,
            http: Http::new(http),
            serves,
            dir,
        })
    }

    fn serve(
        &self,
        name: &'static str,
        dir: &Path,
        conf: &str,
        set: &[String],
    ) -> Result<Process, BenchError> {
        let file = dir.join("headwater.toml");
        fs::write(&file, conf).context(format!("write {}", file.display()))?;
        let mut command = Command::new(&self.binary);
        command
            .arg("serve")
            .arg("--conf")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        for pair in set {
            command.arg("--set").arg(pair);
        }
        Process::spawn(name, &mut command, dir.join("headwater.log"))
    }
}

impl Primary {
    /// Where secondaries connect.
    ///
    /// # Errors
    /// When it lets none in.
    pub fn replication(&self) -> Result<SocketAddr, BenchError> {
        Ok(self.shipping()?.address)
    }

    fn shipping(&self) -> Result<&Shipping, BenchError> {
        self.shipping
            .as_ref()
            .ok_or_else(|| BenchError::Usage("this primary lets no secondaries in".to_owned()))
    }

    /// Lengths of its files whose names end in `.extension`.
    ///
    /// # Errors
    /// When its directory cannot be listed.
    pub fn files(&self, extension: &str) -> Result<Vec<u64>, BenchError> {
        machine::files_of(&self.data, extension)
    }

    /// The position of everything acknowledged so far.
    ///
    /// # Errors
    /// When the primary cannot be reached or does not tell.
    pub fn lsn(&self) -> Result<u64, BenchError> {
        self.http
            .lsn()?
            .ok_or_else(|| BenchError::Invalid("the primary's answer has no LSN".to_owned()))
    }
}

impl Secondary {
    /// Waits until it serves SQL, from whatever position.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn wait_ready(&mut self) -> Result<(), BenchError> {
        let http = self.http.clone();
        self.process
            .wait_until(|| matches!(http.lsn(), Ok(Some(_))))
    }

    /// Waits until its answers are for `lsn` or later, asking every `poll`.
    ///
    /// # Errors
    /// When that takes longer than `limit`.
    pub fn wait_lsn(&self, lsn: u64, poll: Duration, limit: Duration) -> Result<(), BenchError> {
        if self.reaches(lsn, poll, limit) {
            return Ok(());
        }
        let reached = match self.http.lsn() {
            Ok(Some(at)) => at.to_string(),
            _ => "nothing".to_owned(),
        };
        Err(self
            .process
            .failure(&format!("the secondary reached {reached} of {lsn} in time")))
    }

    /// Whether its answers are for `lsn` or later within `limit`, asking every `poll`.
    pub fn reaches(&self, lsn: u64, poll: Duration, limit: Duration) -> bool {
        let limit = Instant::now() + limit;
        loop {
            // Until its first contact with the primary a secondary may refuse connections.
            let at = self.http.lsn().unwrap_or(None);
            if at.is_some_and(|at| at >= lsn) {
                return true;
            }
            if Instant::now() >= limit {
                return false;
            }
            thread::sleep(poll);
        }
    }

    /// Bytes on its disk.
    ///
    /// # Errors
    /// When its directory cannot be read.
    pub fn bytes(&self) -> Result<u64, BenchError> {
        machine::dir_bytes(&self.dir.path().join("data"))
    }
}

/// A binary that can be started.
fn present(path: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(path);
    if path.is_file() {
        Ok(path)
    } else {
        Err("not there: build it with cargo build --release, or name it".to_owned())
    }
}
