//! Secondaries that need no hand on them: they join a log whose beginning is gone, while rows
//! come in and whatever interrupts them, they are remembered and can be forgotten, and anyone
//! can see that they equal their primary. What is on one alone must never be lost.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use serde_json::{Value, json};
use tests::cluster::{Cluster, catch_up, settle};
use tests::digest;
use tests::eventually;
use tests::http::Http;
use tests::node::{self, Node};
use tests::proxy::Proxy;
use tests::publisher::{Device, Fleet};

use crate::load::{self, READ_ALL};
use crate::repair::{files, flip};

/// A primary whose log begins after [`MESSAGES`] messages: they are in files only.
fn without_its_beginning(cluster: &mut Cluster) -> Node {
    cluster.primary_setting("log.segment_size", "1 MiB");
    cluster.primary_setting("log.keep_segments", "0 B");
    let primary = cluster.primary();
    load::publish(cluster.mqtt(), MESSAGES);
    retired(&primary);
    primary
}

/// Waits until every full segment of the primary is in files and gone, and the files are merged.
pub(crate) fn retired(primary: &Node) {
    settle(&[primary]);
    eventually("the head of the log is gone and files are merged", || {
        let status = Http::of(primary).status();
        let number = |name: &str| status[name].as_u64();
        let (oldest, compacted) = (number("oldest_lsn"), number("compacted_lsn"));
        if oldest > Some(0) && oldest == compacted && number("files") < Some(8) {
            Ok(())
        } else {
            Err(status)
        }
    });
}

/// What a secondary says of whom it follows.
pub(crate) fn upstream(node: &Node) -> Value {
    Http::of(node).status()["upstream"].clone()
}

/// Waits until the node follows closely, by a snapshot.
fn joined(node: &Node) {
    eventually("it has joined", || {
        let upstream = upstream(node);
        let snapshots = upstream["snapshots"].as_u64();
        if upstream["state"] == "streaming" && snapshots >= Some(1) {
            Ok(())
        } else {
            Err(upstream)
        }
    });
}

#[test]
fn several_nodes_with_empty_disks_join_at_once_while_rows_come_in() {
    let mut cluster = Cluster::new();
    cluster.certify("third");
    let primary = without_its_beginning(&mut cluster);
    let numbers = Arc::new(AtomicI64::new(0));
    let fleet = Fleet::start(cluster.mqtt(), "live", 2, &numbers, i64::MAX, 200);
    fleet.wait_for(100);
    let nodes = ["secondary", "other", "third"].map(|name| cluster.secondary(name, None));
    nodes.iter().for_each(joined);
    fleet.wait_for(fleet.acknowledged() + 100);
    let acknowledged = fleet.finish().len();
    for node in &nodes {
        catch_up(&primary, node);
        let http = Http::of(node);
        assert_eq!(Value::from(http.rows(READ_ALL)), load::all(MESSAGES));
        let live = http.rows("SELECT count(*) AS c, count(DISTINCT n) AS d FROM live");
        assert_eq!(live, [json!({"c": acknowledged, "d": acknowledged})]);
        digest::equal(&Http::of(&primary), &http);
    }
}

#[test]
fn a_join_goes_on_where_kill_9_has_left_it() {
    const KILLS: u64 = 8;
    let mut random = fastrand::Rng::with_seed(tests::seed());
    let mut cluster = Cluster::new();
    // Slow enough to be met at every stage of it.
    cluster.primary_setting("replication.max_rate_per_secondary", "4 MiB");
    cluster.primary_setting("replication.compression", "none");
    let primary = without_its_beginning(&mut cluster);
    let status = Http::of(&primary).status();
    let number = |name: &str| status[name].as_u64().expect("a number");
    let whole = number("file_bytes") + number("segment_bytes");
    let proxy = Proxy::start(cluster.replication());
    let mut held = 0;
    for _ in 0..KILLS {
        let secondary = cluster.secondary("secondary", Some(&proxy.address()));
        let more = random.u64(0..whole / KILLS);
        let seen = more_is_held(&secondary, held + more);
        secondary.kill();
        let Some(seen) = seen else { break };
        // What was once here was not asked for again.
        assert!(seen >= held, "{seen} after {held}");
        held = seen;
    }
    assert!(held > 0, "it was never met while it joined");
    let secondary = cluster.secondary("secondary", Some(&proxy.address()));
    catch_up(&primary, &secondary);
    let rows = Http::of(&secondary).rows(READ_ALL);
    assert_eq!(Value::from(rows), load::all(MESSAGES));
    digest::equal(&Http::of(&primary), &Http::of(&secondary));
    // With each kill at most what was on its way, and a chunk of each of two files.
    let most = whole * 5 / 4 + KILLS * (5 << 19);
    let carried = proxy.carried();
    assert!(carried < most, "{carried} bytes for {whole}, {KILLS} kills");
}

/// Waits until so many bytes of a snapshot are here, or all; how many. None: it is in force.
fn more_is_held(secondary: &Node, wanted: u64) -> Option<u64> {
    let mut held = None;
    eventually("the snapshot grows", || {
        let upstream = upstream(secondary);
        let number = |name: &str| upstream["bootstrap"][name].as_u64();
        held = number("bytes_held");
        let enough = held.is_some() && held >= number("bytes").min(Some(wanted));
        let in_force = upstream["state"] == "streaming";
        if enough || in_force {
            Ok(())
        } else {
            Err(upstream)
        }
    });
    held
}

/// Names and states of the secondaries that the primary lists.
fn members(primary: &Node) -> BTreeSet<(String, String)> {
    let status = Http::of(primary).status();
    let all = status["secondaries"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let text = |one: &Value, name: &str| one[name].as_str().unwrap_or_default().to_owned();
    all.iter()
        .map(|one| (text(one, "name"), text(one, "state")))
        .collect()
}

fn listed(primary: &Node, expected: &[(&str, &str)]) {
    let owned = |(name, state): &(&str, &str)| ((*name).to_owned(), (*state).to_owned());
    let expected: BTreeSet<_> = expected.iter().map(owned).collect();
    eventually("the list of secondaries", || match members(primary) {
        members if members == expected => Ok(()),
        members => Err(members),
    });
}

#[test]
fn a_primary_remembers_its_secondaries_until_they_are_forgotten() {
    let mut cluster = Cluster::new();
    let primary = cluster.primary();
    Device::connect(cluster.mqtt(), "device").send("plant/a", r#"{"t":1}"#);
    let secondary = cluster.secondary("secondary", None);
    let other = cluster.secondary("other", None);
    for node in [&secondary, &other] {
        catch_up(&primary, node);
    }
    listed(
        &primary,
        &[("secondary", "streaming"), ("other", "streaming")],
    );
    let path = "/api/v1/secondaries/secondary";
    let refused = Http::of(&primary).delete(path);
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (409, "connected")
    );
    secondary.stop();
    listed(
        &primary,
        &[("secondary", "disconnected"), ("other", "streaming")],
    );

    // A restart of the primary changes nothing, and one that comes back is no second one.
    primary.stop();
    let primary = cluster.primary();
    listed(
        &primary,
        &[("secondary", "disconnected"), ("other", "streaming")],
    );
    let secondary = cluster.secondary("secondary", None);
    listed(
        &primary,
        &[("secondary", "streaming"), ("other", "streaming")],
    );
    secondary.stop();
    listed(
        &primary,
        &[("secondary", "disconnected"), ("other", "streaming")],
    );

    let http = Http::of(&primary);
    assert_eq!(http.delete(path).status, 204);
    assert_eq!(http.delete(path).status, 404);
    listed(&primary, &[("other", "streaming")]);
    primary.stop();
    let primary = cluster.primary();
    listed(&primary, &[("other", "streaming")]);
}

/// `headwater verify` of one running node against another.
fn verify(node: &Node, against: &Node) -> (Option<i32>, String) {
    let (node, against) = (Http::of(node), Http::of(against));
    node::run(&["verify", "--url", node.url(), "--against", against.url()])
}

#[test]
fn a_flipped_byte_is_seen_from_the_other_node_and_repaired_once_they_meet() {
    let mut cluster = Cluster::new();
    cluster.primary_setting("log.segment_size", "1 MiB");
    let primary = cluster.primary();
    let secondary = cluster.secondary("secondary", None);
    load::publish(cluster.mqtt(), 8);
    settle(&[&primary, &secondary]);
    digest::equal(&Http::of(&primary), &Http::of(&secondary));
    for (node, against) in [(&primary, &secondary), (&secondary, &primary)] {
        let (code, text) = verify(node, against);
        assert_eq!(code, Some(0), "{text}");
    }
    secondary.stop();
    let log = cluster.log_dir("secondary");
    flip(&files(&log, ".log")[1]);
    flip(&files(&log.join("parquet"), ".parquet")[1]);

    // Alone it cannot be repaired.
    let secondary = cluster.secondary("secondary", Some("127.0.0.1:9"));
    let (code, text) = verify(&primary, &secondary);
    assert_eq!(code, Some(1), "{text}");
    let (code, text) = verify(&secondary, &primary);
    assert_eq!(code, Some(1), "{text}");
    secondary.stop();

    let secondary = cluster.secondary("secondary", None);
    eventually("verifying finds no difference any more", || {
        match verify(&primary, &secondary) {
            (Some(0), _) => Ok(()),
            other => Err(other),
        }
    });
    digest::equal(&Http::of(&primary), &Http::of(&secondary));
    assert!(Http::of(&secondary).metric("headwater_log_repaired_total") >= Some(2.0));
}

#[test]
fn scrubbing_finds_a_flipped_byte_by_itself_and_a_peer_repairs_it() {
    let mut cluster = Cluster::new();
    cluster.primary_setting("log.segment_size", "1 MiB");
    cluster.secondary_setting("log.scrub_rate", "64 MiB");
    let primary = cluster.primary();
    let secondary = cluster.secondary("secondary", None);
    load::publish(cluster.mqtt(), 8);
    settle(&[&primary, &secondary]);
    secondary.stop();
    // Its rows are in files: no query reads it.
    flip(&files(&cluster.log_dir("secondary"), ".log")[1]);
    let secondary = cluster.secondary("secondary", None);
    let http = Http::of(&secondary);
    eventually("it is found and repaired", || {
        let seen = [
            "headwater_scrub_faults_total",
            "headwater_log_repaired_total",
            "headwater_log_damaged",
        ]
        .map(|name| http.metric(name));
        if seen == [Some(1.0), Some(1.0), Some(0.0)] {
            Ok(())
        } else {
            Err(seen)
        }
    });
    digest::equal(&Http::of(&primary), &http);
}

const MESSAGES: i64 = 20;
