//! The servers that Headwater takes MQTT beside: the do-nothing server and Mosquitto, each a
//! process with data of its own. Must never make either of them keep a message.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::error::{BenchError, Context};
use crate::node::data_dir::DataDir;
use crate::node::process::{Process, accepts, free_tcp};

/// A server that takes MQTT, with all it needs to live.
#[derive(Debug)]
pub struct Server {
    /// The process.
    pub process: Process,
    /// Where it takes MQTT.
    pub mqtt: SocketAddr,
    _dir: TempDir,
}

/// The do-nothing server, this program once more.
///
/// # Errors
/// When it does not come up.
pub fn start_noop(dir: &DataDir, workers: Option<usize>) -> Result<Server, BenchError> {
    let dir = dir.temp("noop")?;
    let own = std::env::current_exe().context("find this program")?;
    let mut command = Command::new(own);
    command
        .arg("noop")
        .arg("--until-stdin-closes")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    if let Some(workers) = workers {
        command.arg("--workers").arg(workers.to_string());
    }
    let mut process = Process::spawn("noop", &mut command, dir.path().join("noop.log"))?;
    let Some(stdout) = process.stdout() else {
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
pub fn start_mosquitto(dir: &DataDir) -> Result<Option<Server>, BenchError> {
    let Some(binary) = on_path("mosquitto") else {
        return Ok(None);
    };
    let dir = dir.temp("mosquitto")?;
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

fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}
