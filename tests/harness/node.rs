//! One node as a real process, started from the program that the build made. Ended with SIGKILL
//! or SIGTERM by its own id, killed when dropped; must never end another process.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A running node.
#[derive(Debug)]
pub struct Node {
    child: Child,
    addresses: HashMap<String, String>,
    log: Arc<Mutex<Vec<String>>>,
}

/// What a node's process runs in, beside its conf.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// A network namespace, by its name; none: that of the tests.
    pub namespace: Option<String>,
    /// More variables of its environment.
    pub environment: Vec<(String, String)>,
}

impl Place {
    fn command(&self) -> Command {
        let mut command = match &self.namespace {
            Some(name) => {
                // `ip` becomes the program: the process keeps its id.
                let mut command = Command::new("ip");
                command.args(["netns", "exec", name]).arg(program());
                command
            }
            None => Command::new(program()),
        };
        command.envs(self.environment.iter().cloned());
        command
    }
}

/// The program under test, beside the directory of the test binaries.
pub fn program() -> PathBuf {
    let test = std::env::current_exe().expect("the test's own path");
    let dir = test
        .parent()
        .and_then(Path::parent)
        .expect("the target directory");
    let program = dir.join("headwater");
    assert!(
        program.exists(),
        "{} is not built: run cargo build first",
        program.display()
    );
    program
}

/// A conf file of this repository.
pub fn conf(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    root.join("conf").join(name)
}

/// Runs a command of the program to its end: its exit code, and all that it wrote.
pub fn run(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(program())
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("the program runs");
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.code(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

impl Node {
    /// Starts a node from a conf file and settings; waits until it is up.
    ///
    /// # Panics
    /// When it ends or says nothing instead; its log is in the message.
    pub fn start(conf: &Path, settings: &[(&str, String)]) -> Self {
        Self::start_in(&Place::default(), conf, settings)
    }

    /// The same in this place.
    ///
    /// # Panics
    /// When it ends or says nothing instead; its log is in the message.
    pub fn start_in(place: &Place, conf: &Path, settings: &[(&str, String)]) -> Self {
        Self::start_until(UP, place, conf, settings)
    }

    /// The same, up to another line than the one that says that it is up.
    ///
    /// # Panics
    /// When it ends or says nothing instead; its log is in the message.
    pub fn start_until(
        said: &'static str,
        place: &Place,
        conf: &Path,
        settings: &[(&str, String)],
    ) -> Self {
        let mut command = place.command();
        command.args(["serve", "--log", "json", "--conf"]).arg(conf);
        for (key, value) in settings {
            command.args(["--set", &format!("{key}={value}")]);
        }
        let mut child = command
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let stderr = child.stderr.take().expect("piped");
        let log = Arc::new(Mutex::new(Vec::new()));
        let (up, is_up) = mpsc::channel();
        let lines = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if let Some(found) = addresses(&line, said) {
                    let _ = up.send(found);
                }
                lines
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(line);
            }
        });
        match is_up.recv_timeout(Duration::from_secs(20)) {
            Ok(addresses) => Self {
                child,
                addresses,
                log,
            },
            Err(_) => {
                let _ = child.kill();
                let _ = child.wait();
                panic!("the node did not come up: {log:?}");
            }
        }
    }

    /// Waits until it is up, which was started until something else.
    pub fn comes_up(&mut self) {
        let mut found = HashMap::new();
        crate::eventually("the node is up", || {
            let lines = self.lines();
            let up = lines.iter().rev().find_map(|line| addresses(line, UP));
            up.map(|up| found = up).ok_or(lines)
        });
        self.addresses = found;
    }

    /// An address the node announced: `mqtt`, `http` or `replication`.
    pub fn address(&self, what: &str) -> String {
        self.addresses
            .get(what)
            .unwrap_or_else(|| panic!("no {what} address"))
            .clone()
    }

    /// Ends the process as a power cut would.
    pub fn kill(mut self) {
        self.child.kill().expect("kills");
        self.child.wait().expect("ends");
    }

    /// Ends the process with SIGTERM; it must exit with 0.
    pub fn stop(mut self) {
        self.signal("TERM");
        let status = self.child.wait().expect("ends");
        assert!(status.success(), "{status}: {:?}", self.lines());
    }

    /// Sends the process a signal: `STOP`, `CONT`, `TERM`.
    pub fn signal(&self, signal: &str) {
        let sent = Command::new("kill")
            .arg(format!("-{signal}"))
            .arg(self.child.id().to_string())
            .status()
            .expect("kill runs");
        assert!(sent.success());
    }

    /// Whether the process lives.
    pub fn is_up(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// The exit code of a process that has ended by itself.
    pub fn exit_code(&mut self) -> Option<i32> {
        self.child.try_wait().ok().flatten()?.code()
    }

    /// The process id, for looking at `/proc`.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What the node has logged so far.
    pub fn lines(&self) -> Vec<String> {
        self.log
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The end of the line that says that a node is up.
const UP: &str = "is up";

/// The addresses in the line whose message says this.
fn addresses(line: &str, said: &str) -> Option<HashMap<String, String>> {
    let fields: serde_json::Value = serde_json::from_str(line).ok()?;
    fields
        .get("message")?
        .as_str()?
        .contains(said)
        .then_some(())?;
    let text = |name: &str| Some((name.to_owned(), fields.get(name)?.as_str()?.to_owned()));
    Some(
        ["mqtt", "http", "replication"]
            .into_iter()
            .filter_map(text)
            .collect(),
    )
}
