//! A secondary's log is the primary's, byte for byte, whatever happened on the way: a difference
//! of one byte must never pass.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use tests::cluster::{Cluster, catch_up};
use tests::http::Http;
use tests::proxy::Proxy;
use tests::publisher::Fleet;

#[test]
fn segment_files_are_equal_after_restarts_of_both_sides_and_cut_connections() {
    let mut random = fastrand::Rng::with_seed(tests::seed());
    let mut cluster = Cluster::new();
    cluster.primary_setting("log.segment_size", "1 MiB");
    let mut primary = cluster.primary();
    let proxy = Proxy::start(cluster.replication());
    let mut secondary = cluster.secondary("secondary", Some(&proxy.address()));
    let next = Arc::new(AtomicI64::new(0));
    let mut acknowledged = 0;
    for _ in 0..10 {
        let fleet = Fleet::start(cluster.mqtt(), "load", 2, &next, i64::MAX, PAD);
        fleet.wait_for(random.u64(100..900));
        let action = random.u8(..5);
        println!("action {action}");
        match action {
            0 => {
                secondary.kill();
                secondary = cluster.secondary("secondary", Some(&proxy.address()));
            }
            1 => {
                secondary.stop();
                secondary = cluster.secondary("secondary", Some(&proxy.address()));
            }
            2 => {
                primary.kill();
                primary = cluster.primary();
            }
            3 => {
                primary.stop();
                primary = cluster.primary();
            }
            _ => {
                proxy.cut(true);
                fleet.wait_for(1200);
                proxy.cut(false);
            }
        }
        acknowledged += fleet.finish().len();
    }
    catch_up(&primary, &secondary);
    let stored = Http::of(&secondary).number("SELECT count(*) FROM load");
    assert!(
        stored >= i64::try_from(acknowledged).expect("few"),
        "{stored} of {acknowledged}"
    );
    secondary.stop();
    primary.stop();
    let (mine, theirs) = (cluster.log_files("primary"), cluster.log_files("secondary"));
    assert!(mine.len() > 3, "{} segments", mine.len());
    let names = |files: &[(String, Vec<u8>)]| files.iter().map(|f| f.0.clone()).collect::<Vec<_>>();
    assert_eq!(names(&mine), names(&theirs));
    for ((name, left), (_, right)) in mine.iter().zip(&theirs) {
        assert!(left == right, "{name} differs");
    }
}

#[test]
fn a_secondary_that_was_away_catches_up_from_segment_files() {
    let mut cluster = Cluster::new();
    cluster.primary_setting("log.segment_size", "1 MiB");
    let primary = cluster.primary();
    let next = Arc::new(AtomicI64::new(0));
    let acknowledged = Fleet::start(cluster.mqtt(), "load", 4, &next, 8000, PAD).join();
    assert_eq!(acknowledged.len(), 8000);
    let first = cluster.secondary("secondary", None);
    let second = cluster.secondary("other", None);
    for secondary in [&first, &second] {
        catch_up(&primary, secondary);
        assert_eq!(
            Http::of(secondary).number("SELECT count(*) FROM load"),
            8000
        );
    }
    tests::eventually("both stream", || {
        let status = Http::of(&primary).get("/api/v1/status").json();
        let secondaries = status["secondaries"].as_array().expect("a list").clone();
        let streams = |secondary: &serde_json::Value| secondary["state"] == "streaming";
        if secondaries.len() == 2 && secondaries.iter().all(streams) {
            Ok(())
        } else {
            Err(status)
        }
    });
}

/// Bytes of padding in each message, so that segments fill.
const PAD: usize = 900;
