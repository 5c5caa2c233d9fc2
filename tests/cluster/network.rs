//! What a bad network does, two hosts keep: real processes, each in a network namespace of its own,
//! with a line between them that loses, delays and breaks off. In the end both nodes hold the same
//! bytes, and every acknowledged row is on both.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use tests::cluster::{Cluster, caught_up};
use tests::digest;
use tests::eventually;
use tests::http::Http;
use tests::netns::Host;
use tests::node::Node;
use tests::proxy::{Proxy, Weather};
use tests::publisher::Fleet;

/// Bytes of padding in each message.
const PAD: usize = 400;

/// A primary and a secondary on hosts of their own. Packets between them pass the tests' own host
/// over two cables and, there, a line with a weather.
struct Net {
    primary: Option<Node>,
    secondary: Option<Node>,
    line: Proxy,
    site: Host,
    _home: Host,
    cluster: Cluster,
    random: fastrand::Rng,
    numbers: Arc<AtomicI64>,
    acknowledged: Vec<i64>,
}

impl Net {
    /// `None`, with a note, where there can be no such hosts.
    fn new() -> Option<Self> {
        let (home, site) = (Host::new()?, Host::new()?);
        let seed = tests::seed();
        let mut cluster = Cluster::new();
        cluster.place("primary", home.place());
        cluster.place("secondary", site.place());
        let at = |port: u16| format!("{}:{port}", home.address());
        cluster.primary_setting("mqtt.listen", at(1883));
        cluster.primary_setting("mqtt.insecure_anonymous", true);
        cluster.primary_setting("http.listen", at(7440));
        cluster.primary_setting("http.insecure_anonymous", true);
        cluster.primary_setting("replication.listen", at(7441));
        // So that there is as much on the line as in the log.
        cluster.primary_setting("replication.compression", "none");
        cluster.primary_setting("log.segment_size", "1 MiB");
        // It lives longer than its address.
        cluster.secondary_setting("http.listen", "0.0.0.0:7440");
        cluster.secondary_setting("http.insecure_anonymous", true);
        let primary = cluster.primary();
        let front = format!("{}:7441", site.gateway());
        let line = Proxy::between(&front, cluster.replication(), seed);
        let secondary = cluster.secondary("secondary", Some(&line.address()));
        Some(Self {
            primary: Some(primary),
            secondary: Some(secondary),
            line,
            site,
            _home: home,
            cluster,
            random: fastrand::Rng::with_seed(seed),
            numbers: Arc::default(),
            acknowledged: Vec::new(),
        })
    }

    fn primary(&self) -> Http {
        Http::of(self.primary.as_ref().expect("it runs"))
    }

    /// Wherever it is now.
    fn secondary(&self) -> Http {
        Http::at(&format!("{}:7440", self.site.address()))
    }

    /// Two clients that publish until told to stop.
    fn publish(&self) -> Fleet {
        let numbers = &self.numbers;
        Fleet::start(self.cluster.mqtt(), "load", 2, numbers, i64::MAX, PAD)
    }

    /// About so many rows more, all of them acknowledged.
    fn store(&mut self, rows: u64) {
        let fleet = self.publish();
        fleet.wait_for(rows);
        self.finish(fleet);
    }

    fn finish(&mut self, fleet: Fleet) {
        self.acknowledged.extend(fleet.finish());
    }

    /// Waits until the primary sees its one secondary in this state.
    fn seen_as(&self, state: &str) {
        eventually(state, || {
            let secondaries = self.primary().status()["secondaries"].clone();
            match secondaries.as_array().map(Vec::as_slice) {
                Some([one]) if one["state"] == state => Ok(()),
                _ => Err(secondaries),
            }
        });
    }

    /// Waits until the secondary has been away for longer than it waits itself for a word.
    fn misses_its_secondary(&self) {
        eventually("the primary misses its secondary", || {
            let secondaries = self.primary().status()["secondaries"].clone();
            if secondaries[0]["lag_ms"].as_u64() > Some(4_000) {
                Ok(())
            } else {
                Err(secondaries)
            }
        });
    }

    fn kill_primary(&mut self) {
        self.primary.take().expect("it runs").kill();
    }

    fn kill_secondary(&mut self) {
        self.secondary.take().expect("it runs").kill();
    }

    fn start_primary(&mut self) {
        self.primary = Some(self.cluster.primary());
    }

    fn start_secondary(&mut self) {
        let upstream = self.line.address();
        self.secondary = Some(self.cluster.secondary("secondary", Some(&upstream)));
    }

    /// Both have every acknowledged row, each row once, and the same bytes on their disks.
    fn ends_equal(self) {
        let (primary, secondary) = (self.primary(), self.secondary());
        caught_up(&primary, &secondary);
        for node in [&primary, &secondary] {
            let rows = node.rows("SELECT n FROM load");
            let numbers: HashSet<i64> = rows.iter().filter_map(|row| row["n"].as_i64()).collect();
            assert_eq!(numbers.len(), rows.len(), "stored twice on {}", node.url());
            let acknowledged = self.acknowledged.iter();
            let lost: Vec<_> = acknowledged.filter(|n| !numbers.contains(n)).collect();
            assert!(lost.is_empty(), "lost on {}: {lost:?}", node.url());
        }
        assert!(self.acknowledged.len() > 100, "{}", self.acknowledged.len());
        digest::equal(&primary, &secondary);
    }
}

#[test]
fn a_partition_stops_nobody_and_is_made_up_for() {
    let Some(mut net) = Net::new() else { return };
    net.store(200);
    net.seen_as("streaming");
    net.site.plug(false);
    net.store(500);
    net.misses_its_secondary();
    net.site.plug(true);
    net.seen_as("streaming");
    net.ends_equal();
}

#[test]
fn a_line_that_loses_and_reorders_packets_loses_no_row() {
    let Some(mut net) = Net::new() else { return };
    net.line.weather(Weather {
        loss: 0.05,
        reorder: 0.05,
        ..Weather::default()
    });
    net.store(4000);
    caught_up(&net.primary(), &net.secondary());
    assert!(
        net.line.lost() > 10,
        "only {} packets lost",
        net.line.lost()
    );
    net.ends_equal();
}

#[test]
fn a_line_with_200_ms_there_and_back_is_followed() {
    let Some(mut net) = Net::new() else { return };
    net.line.weather(Weather {
        delay: Duration::from_millis(100),
        ..Weather::default()
    });
    net.store(2000);
    net.seen_as("streaming");
    let lsn = net.primary().lsn().to_string();
    let answer = net.secondary().query("SELECT 1", &[("min_lsn", &lsn)]);
    assert_eq!(answer.status, 200, "{}", answer.body);
    net.ends_equal();
}

#[test]
fn a_secondary_that_moves_to_another_address_stays_the_same_node() {
    let Some(mut net) = Net::new() else { return };
    for _ in 0..2 {
        net.store(300);
        net.seen_as("streaming");
        let old = net.site.address();
        net.site.change_address();
        assert_ne!(net.site.address(), old);
        net.store(300);
        // One that followed all the time is not told from one that connected again.
        caught_up(&net.primary(), &net.secondary());
    }
    net.seen_as("streaming");
    net.ends_equal();
}

#[test]
fn a_cable_that_is_pulled_a_hundred_times_loses_no_row() {
    let Some(mut net) = Net::new() else { return };
    let fleet = net.publish();
    fleet.wait_for(100);
    for _ in 0..100 {
        net.site.plug(false);
        // The accident is the promise here: nothing is waited for.
        std::thread::sleep(Duration::from_millis(net.random.u64(0..10)));
        net.site.plug(true);
        std::thread::sleep(Duration::from_millis(net.random.u64(0..80)));
    }
    net.finish(fleet);
    net.ends_equal();
}

#[test]
fn nodes_killed_in_turn_lose_nothing_that_was_acknowledged() {
    let Some(mut net) = Net::new() else { return };
    for round in 0..10 {
        let fleet = net.publish();
        fleet.wait_for(net.random.u64(50..500));
        if round % 2 == 0 {
            net.kill_primary();
            net.acknowledged.extend(fleet.join());
            net.start_primary();
        } else {
            net.kill_secondary();
            net.finish(fleet);
            net.start_secondary();
        }
    }
    net.ends_equal();
}
