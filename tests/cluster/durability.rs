//! A PUBACK is a promise: whatever happens to the process afterwards, the row must never be
//! gone.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use tests::cluster::{Cluster, catch_up};
use tests::http::Http;
use tests::publisher::Fleet;
use tests::workload;

/// Times the primary is killed; `ROUNDS` in the environment asks for more.
fn rounds() -> u64 {
    std::env::var("ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(8)
}

fn numbers(http: &Http, table: &str) -> Vec<i64> {
    let rows = http.rows(&format!("SELECT n FROM {table}"));
    let numbers = rows.iter().map(|row| row["n"].as_i64().expect("a number"));
    let mut numbers: Vec<i64> = numbers.collect();
    // SQL promises no order without ORDER BY.
    numbers.sort_unstable();
    numbers
}

#[test]
fn every_acknowledged_message_survives_kill_9() {
    let mut random = fastrand::Rng::with_seed(tests::seed());
    let mut cluster = Cluster::new();
    let mut primary = cluster.primary();
    let secondary = cluster.secondary("secondary", None);
    let next = Arc::new(AtomicI64::new(0));
    let mut acknowledged = Vec::new();
    for _ in 0..rounds() {
        let fleet = Fleet::start(cluster.mqtt(), "load", 4, &next, i64::MAX, 0);
        fleet.wait_for(random.u64(200..3000));
        primary.kill();
        acknowledged.extend(fleet.join());
        primary = cluster.primary();
    }
    assert!(acknowledged.len() > 1000);
    catch_up(&primary, &secondary);
    let mut seen = Vec::new();
    for node in [&primary, &secondary] {
        let stored = numbers(&Http::of(node), "load");
        let distinct: HashSet<i64> = stored.iter().copied().collect();
        let lost: Vec<&i64> = acknowledged
            .iter()
            .filter(|n| !distinct.contains(n))
            .collect();
        assert!(
            lost.is_empty(),
            "{} acknowledged messages lost: {lost:?}",
            lost.len()
        );
        assert_eq!(distinct.len(), stored.len(), "stored twice");
        seen.push(stored);
    }
    assert!(seen[0] == seen[1], "the secondary answers differently");
}

#[test]
fn an_orderly_stop_loses_nothing_and_exits_with_0() {
    let mut cluster = Cluster::new();
    let primary = cluster.primary();
    let next = Arc::new(AtomicI64::new(0));
    let fleet = Fleet::start(cluster.mqtt(), "load", 3, &next, i64::MAX, 0);
    fleet.wait_for(2000);
    primary.stop();
    let acknowledged = fleet.join();
    let primary = cluster.primary();
    let stored: HashSet<i64> = numbers(&Http::of(&primary), "load").into_iter().collect();
    assert!(acknowledged.iter().all(|n| stored.contains(n)));
    primary.stop();
}

#[test]
fn rows_of_one_client_are_in_the_log_in_the_order_it_sent_them() {
    let mut cluster = Cluster::new();
    let primary = cluster.primary();
    let secondary = cluster.secondary("secondary", None);
    let next = Arc::new(AtomicI64::new(0));
    let acknowledged = Fleet::start(cluster.mqtt(), workload::TABLE, 1, &next, 6000, 0).join();
    assert!(
        acknowledged.iter().copied().eq(0..6000),
        "acknowledged out of order"
    );
    catch_up(&primary, &secondary);
    primary.stop();
    secondary.stop();
    for name in ["primary", "secondary"] {
        let dir = cluster.path(name);
        let opened = wal::open_primary(wal::OsDisk::new(), &dir, &wal::Config::default());
        let (committer, _) = opened.expect("opens");
        let found = workload::numbers(committer.log()).expect("reads");
        assert!(found.into_iter().eq(0..6000), "out of order on the {name}");
        committer.stop().expect("stops");
    }
}
