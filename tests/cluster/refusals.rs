//! Nodes that must not follow each other say so, clearly, on both sides, and must never change
//! anything.

use tests::cluster::{Cluster, catch_up};
use tests::http::Http;
use tests::node::Node;
use tests::raw::{Raw, publish};
use tests::{copy_dir, eventually};

fn store(cluster: &Cluster, rows: u16) {
    let mut raw = Raw::v3(cluster.mqtt(), "device");
    for id in 1..=rows {
        raw.send(&publish(id, "plant/a", &[], br#"{"t":1}"#));
        raw.packet().expect("a PUBACK");
    }
}

/// Waits until the secondary's status names this state; returns the reason.
fn state(secondary: &Node, state: &str) -> String {
    let http = Http::of(secondary);
    eventually(state, || {
        let status = http.get("/api/v1/status").json();
        if status["upstream"]["state"] == state {
            Ok(())
        } else {
            Err(status)
        }
    });
    let status = http.get("/api/v1/status").json();
    status["upstream"]["reason"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

#[test]
fn a_certificate_of_another_cluster_is_refused() {
    let (mut mine, other) = (Cluster::new(), Cluster::new());
    let primary = mine.primary();
    store(&mine, 5);
    let secondary = other.secondary("secondary", Some(mine.replication()));
    let reason = state(&secondary, "refused");
    assert!(reason.contains("certificate"), "{reason}");
    assert_eq!(Http::of(&primary).number("SELECT count(*) FROM plant"), 5);
    assert_eq!(Http::of(&secondary).get("/ready").status, 503);
}

#[test]
fn a_secondary_of_another_log_is_refused_and_keeps_its_data() {
    let mut cluster = Cluster::new();
    let primary = cluster.primary();
    store(&cluster, 5);
    let secondary = cluster.secondary("secondary", None);
    catch_up(&primary, &secondary);
    primary.kill();
    std::fs::remove_dir_all(cluster.path("primary")).expect("removes");
    let _primary = cluster.primary();
    store(&cluster, 2);
    let reason = state(&secondary, "refused");
    assert!(reason.contains("log"), "{reason}");
    assert_eq!(Http::of(&secondary).number("SELECT count(*) FROM plant"), 5);
    assert!(
        secondary.lines().iter().any(|line| line.contains("log")),
        "not logged"
    );
}

#[test]
fn a_diverged_secondary_puts_its_tail_aside_and_follows_again() {
    let mut cluster = Cluster::new();
    let primary = cluster.primary();
    store(&cluster, 5);
    primary.stop();
    let backup = cluster.path("backup");
    copy_dir(&cluster.path("primary"), &backup);
    let primary = cluster.primary();
    store(&cluster, 7);
    let secondary = cluster.secondary("secondary", None);
    catch_up(&primary, &secondary);
    primary.stop();
    std::fs::remove_dir_all(cluster.path("primary")).expect("removes");
    copy_dir(&backup, &cluster.path("primary"));
    let primary = cluster.primary();
    store(&cluster, 30);
    let http = Http::of(&secondary);
    eventually("it follows again", || {
        let status = http.status();
        let diverged = &status["upstream"]["diverged"];
        if status["upstream"]["divergences"] == 1 && diverged[0]["rows"] == 7 {
            Ok(())
        } else {
            Err(status)
        }
    });
    catch_up(&primary, &secondary);
    assert_eq!(http.number("SELECT count(*) FROM plant"), 35);
    assert!(
        secondary.lines().iter().any(|line| line.contains("aside")),
        "not logged"
    );
    assert_eq!(Http::of(&primary).number("SELECT count(*) FROM plant"), 35);
}

#[test]
fn a_data_directory_serves_one_process() {
    let mut cluster = Cluster::new();
    let _primary = cluster.primary();
    let second = std::process::Command::new(tests::node::program())
        .args([
            "serve",
            "--conf",
            concat!(env!("CARGO_MANIFEST_DIR"), "/../conf/primary.toml"),
        ])
        .args([
            "--set",
            "mqtt.listen=127.0.0.1:0",
            "--set",
            "http.listen=127.0.0.1:0",
        ])
        .arg("--set")
        .arg(format!(
            "node.data_dir={}",
            cluster.path("primary").display()
        ))
        .output()
        .expect("runs");
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(said.contains("in use") || said.contains("lock"), "{said}");
}
