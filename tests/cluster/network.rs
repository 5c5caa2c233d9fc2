//! What a bad network does, two hosts keep: real processes, each in a network namespace of its
//! own, with a line between them that loses, delays and breaks off. In the end both nodes hold
//! the same bytes, and an acknowledged row must never be missing on either.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::Duration;

use serde_json::Value;
use tests::cluster::{Cluster, caught_up};
use tests::digest;
use tests::eventually;
use tests::http::Http;
use tests::netns::Host;
use tests::node::Node;
use tests::proxy::{Proxy, Weather};
use tests::publisher::{Device, Fleet};

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
        // It lives longer than its address, and the tests come by another.
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

    /// Whatever becomes of its cable.
    fn secondary(&self) -> Http {
        Http::at(&format!("{}:7440", self.site.watched()))
    }

    /// How the secondary follows, as it says itself.
    fn following(&self) -> Value {
        self.secondary().status()["upstream"].clone()
    }

    /// Waits until the secondary says that it is in this state.
    fn is(&self, state: &str) {
        eventually(state, || {
            let following = self.following();
            if following["state"] == state {
                Ok(())
            } else {
                Err(following)
            }
        });
    }

    /// Connections that the secondary has tried to make after its first.
    fn reconnects(&self) -> u64 {
        let following = self.following();
        following["reconnects"].as_u64().expect("a number")
    }

    /// Pulls the cable for some milliseconds, or for up to 200. Then the secondary catches up, or
    /// the next accident does not leave it the time.
    fn flicker(&mut self) {
        let ms = 2.0 * 100_f64.powf(self.random.f64());
        self.site.plug(false);
        // The accident itself: there is nothing to wait for.
        sleep(Duration::from_secs_f64(ms / 1000.0));
        self.site.plug(true);
        if self.random.bool() {
            caught_up(&self.primary(), &self.secondary());
        }
    }

    /// Pulls the cable until the secondary has given its connection up and has missed rows, and
    /// plugs it in until it has made up for them over another one.
    fn cut_off(&self) {
        self.is("streaming");
        let before = self.reconnects();
        self.site.plug(false);
        self.is("connecting");
        let (ahead, behind) = (self.primary().lsn(), self.secondary().lsn());
        assert!(ahead > behind, "nothing missed: {ahead}, {behind}");
        self.site.plug(true);
        self.is("streaming");
        assert!(self.reconnects() > before, "over the same connection");
        caught_up(&self.primary(), &self.secondary());
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

/// A device that publishes one row after the other until told to stop: there is always something on
/// the line, however long it takes, and never more than can be asked for in the end.
struct Meter {
    stop: Arc<AtomicBool>,
    readings: JoinHandle<Vec<i64>>,
}

impl Meter {
    fn start(net: &Net) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, numbers) = (Arc::clone(&stop), Arc::clone(&net.numbers));
        let mut device = Device::connect(net.cluster.mqtt(), "meter");
        let readings = std::thread::spawn(move || {
            let mut acknowledged = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let number = numbers.fetch_add(1, Ordering::Relaxed);
                let pad = "x".repeat(PAD);
                device.send("load/meter", &format!(r#"{{"n":{number},"pad":"{pad}"}}"#));
                acknowledged.push(number);
                // Its clock: nothing waits for it.
                sleep(Duration::from_millis(2));
            }
            acknowledged
        });
        Self { stop, readings }
    }

    /// The numbers that were acknowledged.
    fn finish(self) -> Vec<i64> {
        self.stop.store(true, Ordering::Relaxed);
        self.readings.join().expect("a device")
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
fn a_line_with_200_ms_there_and_back_that_loses_packets_too_loses_no_row() {
    let Some(mut net) = Net::new() else { return };
    net.line.weather(Weather {
        loss: 0.05,
        delay: Duration::from_millis(100),
        ..Weather::default()
    });
    net.store(600);
    net.seen_as("streaming");
    caught_up(&net.primary(), &net.secondary());
    let lost = net.line.lost();
    assert!(lost > 3, "only {lost} packets lost");
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
    let meter = Meter::start(&net);
    net.is("streaming");
    let before = net.reconnects();
    let mut is_long = [false; CUTS];
    is_long[..LONG_CUTS].fill(true);
    net.random.shuffle(&mut is_long);
    for is_long in is_long {
        if is_long {
            net.cut_off();
        } else {
            net.flicker();
        }
    }
    net.acknowledged.extend(meter.finish());
    let made_again = net.reconnects() - before;
    assert!(made_again >= LONG_CUTS as u64, "only {made_again} times");
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

/// Bytes of padding in each message.
const PAD: usize = 400;

/// How often a cable is pulled, and how often of these until the connection is given up.
const CUTS: usize = 100;
const LONG_CUTS: usize = 5;
