//! A node whose files, memory or lengths of files the system limits goes on: it waits, says so and
//! takes what comes when it can. Must never raise a limit of the machine.

use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use serde_json::json;
use tests::cluster::{Cluster, catch_up};
use tests::http::Http;
use tests::node::Node;
use tests::publisher::Fleet;

/// From now on, for a process that runs.
fn limit(node: &Node, limit: &str) {
    let pid = node.id().to_string();
    let set = Command::new("prlimit")
        .args(["--pid", &pid, limit])
        .output();
    let set = set.expect("prlimit of util-linux");
    assert!(set.status.success(), "{set:?}");
}

fn publish(cluster: &Cluster, from: i64, to: i64) {
    let next = Arc::new(AtomicI64::new(from));
    let fleet = Fleet::start(cluster.mqtt(), "load", 2, &next, to, 1_000);
    let rows = usize::try_from(to - from).expect("few");
    assert_eq!(fleet.join().len(), rows);
}

fn holds(http: &Http, count: i64) {
    let sql = "SELECT count(*) AS c, count(DISTINCT n) AS d FROM load";
    assert_eq!(http.rows(sql), [json!({"c": count, "d": count})]);
}

#[test]
fn clients_that_use_up_all_descriptors_end_no_node() {
    let mut cluster = Cluster::new();
    cluster.primary_setting("log.segment_size", "1 MiB");
    let primary = cluster.primary();
    let secondary = cluster.secondary("secondary", None);
    publish(&cluster, 0, 100);
    // Less than what the conf wants and the start has seen.
    for node in [&primary, &secondary] {
        limit(node, "--nofile=96:96");
    }
    let addresses = [
        cluster.mqtt().to_owned(),
        primary.address("http"),
        secondary.address("http"),
    ];
    let idle: Vec<TcpStream> = addresses
        .iter()
        .flat_map(|address| (0..100).filter_map(move |_| TcpStream::connect(address).ok()))
        .collect();
    // Some segments, for which files have to be opened.
    let (next, to) = (Arc::new(AtomicI64::new(100)), 5_000);
    let fleet = Fleet::start(cluster.mqtt(), "load", 2, &next, to, 1_000);
    drop(idle);
    assert_eq!(fleet.join().len(), 4_900);
    catch_up(&primary, &secondary);
    for node in [&primary, &secondary] {
        holds(&Http::of(node), 5_000);
        let failed = node
            .lines()
            .into_iter()
            .find(|line| line.contains("has failed"));
        assert_eq!(failed, None);
    }
    secondary.stop();
    primary.stop();
}

#[test]
fn files_that_may_not_grow_are_a_stall_that_passes() {
    let mut cluster = Cluster::new();
    cluster.primary_setting("log.segment_size", "4 MiB");
    let primary = cluster.primary();
    let http = Http::of(&primary);
    publish(&cluster, 0, 100);
    limit(&primary, "--fsize=262144:unlimited");
    let next = Arc::new(AtomicI64::new(100));
    let fleet = Fleet::start(cluster.mqtt(), "load", 2, &next, 3_000, 1_000);
    tests::eventually("it says so", || {
        match http.metric("headwater_log_stalled") {
            Some(1.0) => Ok(()),
            seen => Err(seen),
        }
    });
    assert_eq!(http.get("/ready").status, 503);
    limit(&primary, "--fsize=unlimited:unlimited");
    assert_eq!(fleet.join().len(), 2_900);
    holds(&http, 3_000);
    assert_eq!(http.get("/ready").status, 200);
    primary.stop();
}
