//! Secondaries of secondaries: the same bytes and the same answers at every level, another way
//! when one breaks, and never a ring.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use serde_json::{Value, json};
use tests::cluster::{Cluster, catch_up};
use tests::digest;
use tests::http::Http;
use tests::node::{self, Node};
use tests::publisher::{Device, Fleet};
use tests::{eventually, eventually_within};

fn cluster(names: &[&str]) -> Cluster {
    let mut cluster = Cluster::new();
    cluster.primary_setting("log.segment_size", "1 MiB");
    names.iter().for_each(|name| cluster.certify(name));
    cluster
}

/// Names of the nodes on the way from `node` to the primary, as it knows them.
fn route(node: &Node) -> Vec<String> {
    let upstream = Http::of(node).status()["upstream"].clone();
    let hops = upstream["route"].as_array().cloned().unwrap_or_default();
    let name = |hop: &Value| hop["name"].as_str().unwrap_or_default().to_owned();
    hops.iter().map(name).collect()
}

fn follows_by(node: &Node, wanted: &[&str]) {
    eventually_within(RETURN, "the way to the primary", || match route(node) {
        route if route == wanted => Ok(()),
        route => Err(route),
    });
}

/// What the nodes answer for the LSN `lsn`: the same on all.
fn agree(nodes: [&Node; 4], lsn: u64) {
    let sql = "SELECT count(*) AS c, sum(n) AS s, min(n) AS lo, max(n) AS hi FROM load";
    let lsn = lsn.to_string();
    let ask = |node: &Node| {
        let answer = Http::of(node).query(sql, &[("format", "json"), ("as_of_lsn", &lsn)]);
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_eq!(answer.header("X-Headwater-Lsn"), lsn);
        answer.json()
    };
    let answers = nodes.map(ask);
    assert!(
        answers.iter().all(|answer| *answer == answers[0]),
        "as of {lsn}: {answers:?}"
    );
}

#[test]
fn three_levels_hold_the_same_bytes_and_answer_the_same_as_of_an_lsn() {
    let mut cluster = cluster(&["relay-1", "relay-2", "leaf"]);
    let primary = cluster.primary();
    let first = cluster.relay("relay-1", None, ANY);
    let second = cluster.relay("relay-2", Some(&first.address("replication")), ANY);
    let leaf = cluster.secondary("leaf", Some(&second.address("replication")));
    let nodes = [&primary, &first, &second, &leaf];

    let mut random = fastrand::Rng::with_seed(tests::seed());
    let numbers = Arc::new(AtomicI64::new(0));
    let fleet = Fleet::start(cluster.mqtt(), "load", 2, &numbers, i64::MAX, 400);
    fleet.wait_for(100);
    for node in nodes {
        catch_up(&primary, node);
    }
    let mut seen = Vec::new();
    for _ in 0..12 {
        fleet.wait_for(fleet.acknowledged() + 200);
        seen.push(Http::of(&primary).lsn());
        agree(nodes, seen[seen.len() - 1]);
        agree(
            nodes,
            seen[random.usize(seen.len().saturating_sub(4)..seen.len())],
        );
    }
    let acknowledged = fleet.finish().len();

    for node in &nodes[1..] {
        catch_up(&primary, node);
        digest::equal(&Http::of(&primary), &Http::of(node));
    }
    let stored = Http::of(&leaf).number("SELECT count(DISTINCT n) FROM load");
    assert_eq!(usize::try_from(stored), Ok(acknowledged));
    follows_by(&leaf, &["relay-2", "relay-1", "primary"]);
    topology(&primary);
    for node in [leaf, second, first, primary] {
        node.stop();
    }
    let mine = cluster.log_files("primary");
    for name in ["relay-1", "relay-2", "leaf"] {
        assert!(mine == cluster.log_files(name), "{name} differs");
    }
}

/// The primary knows everybody below it, and shows it.
fn topology(primary: &Node) {
    let http = Http::of(primary);
    eventually("the primary knows its tree", || {
        let sql = "SELECT peer, via, hops FROM system.replication ORDER BY hops";
        let rows = http.query(sql, &[("format", "json")]).json();
        let expected = json!([
            {"peer": "relay-1", "via": "primary", "hops": 1},
            {"peer": "relay-2", "via": "relay-1", "hops": 2},
            {"peer": "leaf", "via": "relay-2", "hops": 3},
        ]);
        if rows == expected { Ok(()) } else { Err(rows) }
    });
    let (code, text) = node::run(&["status", "--url", http.url()]);
    assert_eq!(code, Some(0), "{text}");
    let line = |name: &str| text.lines().position(|line| line.contains(name));
    let lines = ["primary", "relay-1", "relay-2", "leaf"].map(line);
    assert!(lines.is_sorted() && lines[0].is_some(), "{text}");
}

#[test]
fn a_leaf_falls_back_to_its_next_upstream_and_returns_to_the_first() {
    let mut cluster = cluster(&["relay", "leaf"]);
    cluster.secondary_setting("replication.return_after", "1 s");
    let primary = cluster.primary();
    let relay = cluster.relay("relay", None, ANY);
    let address = relay.address("replication");
    let both = format!("{address},{}", cluster.replication());
    let leaf = cluster.secondary("leaf", Some(&both));
    let mut device = Device::connect(cluster.mqtt(), "device");
    device.send("plant/a", r#"{"t":1}"#);
    catch_up(&primary, &leaf);
    follows_by(&leaf, &["relay", "primary"]);

    relay.kill();
    device.send("plant/a", r#"{"t":2}"#);
    catch_up(&primary, &leaf);
    follows_by(&leaf, &["primary"]);

    let relay = cluster.relay("relay", None, &address);
    follows_by(&leaf, &["relay", "primary"]);
    device.send("plant/a", r#"{"t":3}"#);
    catch_up(&primary, &leaf);
    for node in [&primary, &relay, &leaf] {
        catch_up(&primary, node);
        assert_eq!(Http::of(node).number("SELECT count(*) FROM plant"), 3);
    }
}

#[test]
fn a_ring_is_refused_and_its_nodes_go_on_answering() {
    let mut cluster = cluster(&["first", "second"]);
    let primary = cluster.primary();
    let first = cluster.relay("first", None, ANY);
    let address = first.address("replication");
    let second = cluster.relay("second", Some(&address), ANY);
    Device::connect(cluster.mqtt(), "device").send("plant/a", r#"{"t":1}"#);
    catch_up(&primary, &second);
    first.stop();
    primary.stop();

    let first = cluster.relay("first", Some(&second.address("replication")), &address);
    let refused = |status: &Value| {
        let reason = status["reason"].as_str().unwrap_or_default();
        status["state"] == "refused" && reason.contains("ring")
    };
    eventually("one of them sees the ring", || {
        let both = [&first, &second].map(|node| Http::of(node).status()["upstream"].clone());
        if both.iter().any(refused) {
            Ok(())
        } else {
            Err(both)
        }
    });
    for node in [&first, &second] {
        assert_eq!(Http::of(node).number("SELECT count(*) FROM plant"), 1);
    }
}

const ANY: &str = "127.0.0.1:0";

/// Longer than a secondary follows another upstream before it tries the first again.
const RETURN: Duration = Duration::from_secs(50);
