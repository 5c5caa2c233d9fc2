//! Child processes: started with a log of their own, ended when their handle is dropped, never others.
//!
//! Also the two servers Headwater is measured against, and where temporary data lies: below a
//! directory the user chose, so that it is on the disk that is to be measured.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::error::{BenchError, Context};
use crate::machine;

const START_LIMIT: Duration = Duration::from_secs(60);

const START_POLL: Duration = Duration::from_millis(10);

/// Lines of a failed server's log that are worth showing.
const LOG_TAIL: usize = 12;

/// One child process.
#[derive(Debug)]
pub struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
    // Held open: `noop` ends when it closes.
    _stdin: Option<ChildStdin>,
}

impl Process {
    /// Starts a program whose standard error goes to `log`.
    pub(crate) fn spawn(
        name: &'static str,
        command: &mut Command,
        log: PathBuf,
    ) -> Result<Self, BenchError> {
        let stderr = File::create(&log).context(format!("create {}", log.display()))?;
        let mut child = command
            .stderr(stderr)
            .spawn()
            .context(format!("start {}", command.get_program().display()))?;
        let stdin = child.stdin.take();
        Ok(Self {
            name,
            child,
            log,
            _stdin: stdin,
        })
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// CPU seconds so far.
    ///
    /// # Errors
    /// When the process has ended.
    pub fn cpu_seconds(&self) -> Result<f64, BenchError> {
        machine::cpu_seconds(self.pid())
    }

    /// Waits until `ready` says so, as long as the process lives.
    ///
    /// # Errors
    /// When it ends, or takes too long.
    pub fn wait_until(&mut self, ready: impl Fn() -> bool) -> Result<(), BenchError> {
        let limit = Instant::now() + START_LIMIT;
        while !ready() {
            if let Some(status) = self.child.try_wait().context("ask for a process's state")? {
                return Err(self.failure(&format!("{} ended with {status}", self.name)));
            }
            if Instant::now() >= limit {
                return Err(self.failure(&format!("{} is not ready in time", self.name)));
            }
            thread::sleep(START_POLL);
        }
        Ok(())
    }

    pub(crate) fn failure(&self, what: &str) -> BenchError {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = &lines[lines.len().saturating_sub(LOG_TAIL)..];
        BenchError::Invalid(format!("{what}; the end of its log:\n{}", tail.join("\n")))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only when the process is gone, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server that takes MQTT, with all it needs to live.
#[derive(Debug)]
pub struct Server {
    /// The process.
    pub process: Process,
    /// Where it takes MQTT.
    pub mqtt: SocketAddr,
    _dir: TempDir,
}

/// The do-nothing server, a sibling of this program.
///
/// # Errors
/// When it does not come up.
pub fn start_noop(dir: &Path, workers: Option<usize>) -> Result<Server, BenchError> {
    let dir = temp_dir(dir, "noop")?;
    let mut command = Command::new(sibling("noop")?);
    command
        .arg("--until-stdin-closes")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    if let Some(workers) = workers {
        command.arg("--workers").arg(workers.to_string());
    }
    let mut process = Process::spawn("noop", &mut command, dir.path().join("noop.log"))?;
    let Some(stdout) = process.child.stdout.take() else {
        return Err(process.failure("noop has no standard output"));
    };
    let mut line = String::new();
    BufReader::new(stdout)
        .read_line(&mut line)
        .context("read the port of noop")?;
    let Ok(port) = line.trim().parse::<u16>() else {
        return Err(process.failure("noop did not print a port"));
    };
    let mqtt = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    process.wait_until(|| accepts(mqtt))?;
    Ok(Server {
        process,
        mqtt,
        _dir: dir,
    })
}

/// Mosquitto without persistence, when it is on PATH.
///
/// # Errors
/// When it is there and does not come up.
pub fn start_mosquitto(dir: &Path) -> Result<Option<Server>, BenchError> {
    let Some(binary) = on_path("mosquitto") else {
        return Ok(None);
    };
    let dir = temp_dir(dir, "mosquitto")?;
    let mqtt = free_tcp()?;
    let conf = dir.path().join("mosquitto.conf");
    let text = format!(
        "listener {} 127.0.0.1\nallow_anonymous true\npersistence false\n\
         max_inflight_messages 0\nmax_queued_messages 0\nlog_type error\n",
        mqtt.port()
    );
    fs::write(&conf, text).context(format!("write {}", conf.display()))?;
    let mut command = Command::new(binary);
    command
        .arg("-c")
        .arg(&conf)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let mut process = Process::spawn("mosquitto", &mut command, dir.path().join("mosquitto.log"))?;
    process.wait_until(|| accepts(mqtt))?;
    Ok(Some(Server {
        process,
        mqtt,
        _dir: dir,
    }))
}

/// Where measured data lies: as told, or `bench-data` beside the directory of this program.
///
/// # Errors
/// When it cannot be made.
pub fn data_dir(dir: Option<PathBuf>) -> Result<PathBuf, BenchError> {
    let dir = match dir {
        Some(dir) => dir,
        None => sibling("..")?.join("bench-data"),
    };
    fs::create_dir_all(&dir).context(format!("make {}", dir.display()))?;
    dir.canonicalize()
        .context(format!("find {}", dir.display()))
}

/// A temporary directory below `parent`, removed when it is dropped.
///
/// # Errors
/// When it cannot be made.
pub fn temp_dir(parent: &Path, name: &str) -> Result<TempDir, BenchError> {
    tempfile::Builder::new()
        .prefix(&format!("{name}-"))
        .tempdir_in(parent)
        .context(format!("make a directory in {}", parent.display()))
}

/// A program in the directory of this one.
pub(crate) fn sibling(name: &str) -> Result<PathBuf, BenchError> {
    let own = std::env::current_exe().context("find this program")?;
    Ok(own.with_file_name(name))
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}

/// A path as a TOML string; its escapes are those of JSON.
pub(crate) fn quoted(path: &Path) -> String {
    serde_json::Value::from(path.to_string_lossy()).to_string()
}

/// Whether something listens there.
pub(crate) fn accepts(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
}

/// A port nobody listens on at this moment.
pub(crate) fn free_tcp() -> Result<SocketAddr, BenchError> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .context("find a free TCP port")
}

/// A UDP port nobody uses at this moment.
pub(crate) fn free_udp() -> Result<SocketAddr, BenchError> {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|socket| socket.local_addr())
        .context("find a free UDP port")
}
