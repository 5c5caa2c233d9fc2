//! What becomes of a node whose log nobody reads, and of what its clients make it say. Must never
//! leave a process behind.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStderr, Command, Stdio};

use serde_json::Value;
use tests::eventually;
use tests::http::Http;
use tests::node::{conf, program};
use tests::raw::{Raw, publish};
use tests::raw_http::ask;

/// A primary whose log the test reads, or does not.
struct Logged {
    child: Child,
    log: Option<BufReader<ChildStderr>>,
    mqtt: String,
    http: Http,
    address: String,
    _dir: tempfile::TempDir,
}

impl Drop for Logged {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Logged {
    fn start(filter: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let mut child = Command::new(program())
            .args(["serve", "--log", "json", "--conf"])
            .arg(conf("primary.toml"))
            .args([
                "--set",
                "mqtt.listen=127.0.0.1:0",
                "--set",
                "http.listen=127.0.0.1:0",
            ])
            .args(["--set", "log.reserve_disk=16 MiB", "--set"])
            .arg(format!(
                "node.data_dir={}",
                dir.path().join("data").display()
            ))
            .env("HEADWATER_LOG", filter)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts");
        let mut log = BufReader::new(child.stderr.take().expect("piped"));
        let (mqtt, address) = loop {
            let mut line = String::new();
            assert!(log.read_line(&mut line).expect("reads") > 0, "it ended");
            let line: Value = serde_json::from_str(&line).expect("JSON");
            if line["message"] == "the primary is up" {
                let text = |name: &str| line[name].as_str().expect("text").to_owned();
                break (text("mqtt"), text("http"));
            }
        };
        let http = Http::at(&address);
        Self {
            child,
            log: Some(log),
            mqtt,
            http,
            address,
            _dir: dir,
        }
    }

    /// Its work goes on: rows are acknowledged, queries answered.
    fn works(&self, table: &str) {
        let mut device = Raw::v3(&self.mqtt, table);
        device.send(&publish(1, &format!("{table}/a"), &[], br#"{"v":1}"#));
        device.packet().expect("a PUBACK");
        let sql = format!("SELECT count(*) FROM {table}");
        assert_eq!(self.http.number(&sql), 1);
    }

    fn lost(&self) -> f64 {
        let lost = self.http.metric("headwater_log_lines_lost_total");
        lost.expect("the metric")
    }

    /// Ends with SIGTERM, in time, as if somebody read what it says.
    fn stops(&mut self) {
        let sent = Command::new("kill")
            .arg(self.child.id().to_string())
            .status();
        assert!(sent.expect("kill runs").success());
        eventually("it ends", || match self.child.try_wait() {
            Ok(Some(status)) => {
                assert!(status.success(), "{status}");
                Ok(())
            }
            other => Err(other),
        });
    }
}

#[test]
fn a_node_works_on_when_the_reader_of_its_log_goes_away() {
    let mut logged = Logged::start("info,server=debug,mqtt=debug");
    // As `2>&1 | head` does.
    drop(logged.log.take());
    for round in 0..20 {
        logged.works(&format!("t{round}"));
        // Each of these is a line.
        let answer = logged.http.post("text/plain", "SELECT nothing");
        assert_eq!(answer.status, 400);
    }
    eventually("lines are lost and counted", || {
        let mut odd = Raw::open(&logged.mqtt);
        odd.send(b"no MQTT at all");
        match logged.lost() {
            lost if lost > 0.0 => Ok(()),
            lost => Err(lost),
        }
    });
    logged.works("last");
    assert_eq!(logged.http.get("/ready").status, 200);
    logged.stops();
}

#[test]
fn a_node_works_on_when_nobody_reads_its_log() {
    let mut logged = Logged::start("debug");
    eventually("its pipe is full", || {
        for _ in 0..200 {
            // Each of these is a line.
            let answer = ask(&logged.address, "no HTTP at all\r\n\r\n");
            assert_eq!(answer.expect("an answer").0, 400);
        }
        match logged.lost() {
            lost if lost > 0.0 => Ok(()),
            lost => Err(lost),
        }
    });
    logged.works("plant");
    logged.stops();
}

#[test]
fn what_clients_send_cannot_forge_a_line_nor_fill_the_log() {
    let mut logged = Logged::start("debug");
    let forged = "x\n{\"level\":\"ERROR\",\"message\":\"forged\"}\n\u{1b}[2J";
    let long = format!("SELECT '{}{forged}' FROM nowhere", "y".repeat(200_000));
    for _ in 0..3 {
        logged.http.post("text/plain", &long);
    }
    let request = logged.http.get("/health");
    assert_eq!(request.status, 200);
    let sent = Command::new("kill")
        .arg(logged.child.id().to_string())
        .status();
    assert!(sent.expect("kill runs").success());
    let mut lines = 0;
    loop {
        let mut line = String::new();
        let log = logged.log.as_mut().expect("it is read");
        if log.read_line(&mut line).expect("UTF-8") == 0 {
            break;
        }
        lines += 1;
        assert!(line.len() < 16 << 10, "{} bytes", line.len());
        let fields: Value = serde_json::from_str(&line).expect("JSON");
        assert_ne!(fields["message"], "forged");
        assert!(
            !line.contains('\u{1b}') && !line.contains("\\u001b"),
            "{line}"
        );
    }
    assert!(lines > 3, "{lines}");
}
