//! Child processes: started with a log of their own, ended when their handle is dropped. Must never
//! end or signal a process that it did not start.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{BenchError, Context};
use crate::machine;

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

    /// Its standard output, once, if it was piped.
    pub(crate) fn stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
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

/// A program in the directory of this one.
pub(crate) fn sibling(name: &str) -> Result<PathBuf, BenchError> {
    let own = std::env::current_exe().context("find this program")?;
    Ok(own.with_file_name(name))
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

const START_LIMIT: Duration = Duration::from_secs(60);

const START_POLL: Duration = Duration::from_millis(10);

/// Lines of a failed server's log that are worth showing.
const LOG_TAIL: usize = 12;
