//! Log shipping in the field: each way in which it is known to fail, and what happens here
//! instead. Must never wait for a time where it can wait for a position.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::{Duration, Instant};

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use serde_json::Value;
use tests::cluster::{Cluster, catch_up, settle};
use tests::digest;
use tests::http::Http;
use tests::node::Node;
use tests::proxy::Proxy;
use tests::publisher::{Device, Fleet};
use tests::{copy_dir, eventually};

use crate::full_disk::SmallDisk;
use crate::healing::{retired, upstream};
use crate::load::{self, READ_ALL, ROWS};
use crate::repair::{files, flip};

/// Rows of `table`, each with its own number, from `numbers`.
fn send(cluster: &Cluster, table: &str, numbers: std::ops::Range<i64>) {
    let mut device = Device::connect(cluster.mqtt(), table);
    for n in numbers {
        device.send(&format!("{table}/a"), &format!(r#"{{"n":{n}}}"#));
    }
}

/// So many rows of `load`, of two clients, all acknowledged.
pub(crate) fn publish(cluster: &Cluster, numbers: std::ops::Range<i64>, pad: usize) {
    let next = Arc::new(AtomicI64::new(numbers.start));
    let count = usize::try_from(numbers.end - numbers.start).expect("a range");
    let fleet = Fleet::start(cluster.mqtt(), "load", 2, &next, numbers.end, pad);
    assert_eq!(fleet.join().len(), count);
}

/// Rows `0..count` of `load`, each once.
pub(crate) fn holds(node: &Node, count: i64) {
    let sql = "SELECT count(*) AS c, count(DISTINCT n) AS d, min(n) AS lo, max(n) AS hi FROM load";
    let expected = serde_json::json!({"c": count, "d": count, "lo": 0, "hi": count - 1});
    assert_eq!(Http::of(node).rows(sql), [expected]);
}

/// The numbers of `table` in everything that a node has put aside, as anyone can read them.
fn put_aside(data_dir: &Path, table: &str) -> BTreeSet<i64> {
    let disk: Arc<dyn wal::Disk> = wal::OsDisk::new();
    let mut found = BTreeSet::new();
    let mut dirs = vec![data_dir.join("diverged")];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).expect("lists") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                dirs.push(path);
                continue;
            }
            if path.extension().is_none_or(|extension| extension != "log") {
                continue;
            }
            for (schema, block) in wal::segment_blocks(&disk, &path).expect("reads") {
                if schema.name == table {
                    let n = schema.column("n").expect("the column of numbers");
                    let batch = block.read(&schema, &[n]).expect("reads");
                    let numbers = batch.column(0).as_primitive::<Int64Type>().values();
                    found.extend(numbers.iter());
                }
            }
        }
    }
    found
}

/// The primary of a secondary that holds five rows of `kept`, and seven of `lost` that the primary
/// lost when it was put back to an older copy of itself. The secondary was away until nothing was
/// left in the primary's log that it could go on from.
fn long_gone(cluster: &mut Cluster) -> Node {
    cluster.primary_setting("log.segment_size", "1 MiB");
    cluster.primary_setting("log.keep_segments", "0 B");
    cluster.primary_setting("replication.max_rate_per_secondary", "2 MiB");
    let primary = cluster.primary();
    send(cluster, "kept", 0..5);
    primary.stop();
    copy_dir(&cluster.path("primary"), &cluster.path("backup"));
    let primary = cluster.primary();
    send(cluster, "lost", 0..7);
    let secondary = cluster.secondary("secondary", None);
    catch_up(&primary, &secondary);
    secondary.stop();
    primary.stop();
    fs::remove_dir_all(cluster.path("primary")).expect("removes");
    copy_dir(&cluster.path("backup"), &cluster.path("primary"));
    let primary = cluster.primary();
    load::publish(cluster.mqtt(), 12);
    retired(&primary);
    primary
}

#[test]
fn away_for_longer_than_the_log_is_kept_old_data_answers_and_nothing_is_dropped() {
    let mut cluster = Cluster::new();
    let primary = long_gone(&mut cluster);
    let secondary = cluster.secondary("secondary", None);
    let http = Http::of(&secondary);
    let mut states = BTreeSet::new();
    eventually("the snapshot is in force", || {
        // At every moment there is an answer, and the rows of before are in it.
        assert_eq!(http.number("SELECT count(*) FROM kept"), 5);
        let old = http.query("SELECT count(*) FROM lost", &[]);
        let upstream = upstream(&secondary);
        states.insert(upstream["state"].as_str().unwrap_or_default().to_owned());
        if upstream["snapshots"] == 1 {
            return Ok(());
        }
        assert_eq!(old.status, 200, "{}", old.body);
        Err(upstream)
    });
    assert!(states.contains("needs_snapshot"), "{states:?}");
    catch_up(&primary, &secondary);
    assert_eq!(Value::from(http.rows(READ_ALL)), load::all(12));
    assert_eq!(http.query("SELECT count(*) FROM lost", &[]).status, 404);
    digest::equal(&Http::of(&primary), &http);

    // What only this node had is in files that can be read, and it says which.
    let diverged = upstream(&secondary)["diverged"].clone();
    assert!(diverged[0]["rows"].as_u64() >= Some(7), "{diverged}");
    let place = diverged[0]["path"].as_str().unwrap_or_default();
    let place = place.strip_prefix("node.data_dir/").expect("a place in it");
    assert!(cluster.path("secondary").join(place).exists(), "{diverged}");
    let aside = put_aside(&cluster.path("secondary"), "lost");
    assert!(aside.into_iter().eq(0..7), "{diverged}");
}

#[test]
fn rows_recovered_after_a_crash_reach_every_peer() {
    let mut cluster = Cluster::new();
    let primary = cluster.primary();
    let proxy = Proxy::start(cluster.replication());
    let secondary = cluster.secondary("secondary", Some(&proxy.address()));
    publish(&cluster, 0..200, 100);
    catch_up(&primary, &secondary);
    proxy.cut(true);
    publish(&cluster, 200..700, 100);
    primary.kill();
    // And a write that the crash cut short: the beginning of a block, after its segment's header.
    let newest = files(&cluster.log_dir("primary"), ".log").pop();
    let newest = newest.expect("a segment");
    let bytes = fs::read(&newest).expect("reads");
    let header = bytes[12..16].try_into().map(u32::from_le_bytes);
    let header = usize::try_from(header.expect("four bytes")).expect("a length");
    let mut file = fs::OpenOptions::new()
        .append(true)
        .open(&newest)
        .expect("opens");
    file.write_all(&bytes[header..header + 60]).expect("writes");
    drop(file);

    let primary = cluster.primary();
    assert_eq!(
        Http::of(&primary).metric("headwater_log_torn_tails_total"),
        Some(1.0)
    );
    holds(&primary, 700);
    proxy.cut(false);
    // Nothing new is written: what was recovered is shipped for its own sake.
    catch_up(&primary, &secondary);
    holds(&secondary, 700);
    digest::equal(&Http::of(&primary), &Http::of(&secondary));
}

#[test]
fn a_flipped_byte_upstream_is_counted_never_applied_and_not_asked_for_in_a_loop() {
    let mut cluster = Cluster::new();
    cluster.primary_setting("log.segment_size", "1 MiB");
    cluster.primary_setting("log.scrub_rate", "64 MiB");
    let primary = cluster.primary();
    let whole = cluster.secondary("other", None);
    load::publish(cluster.mqtt(), 8);
    settle(&[&primary, &whole]);
    whole.stop();
    primary.stop();
    flip(&files(&cluster.log_dir("primary"), ".log")[1]);

    let primary = cluster.primary();
    let begun = Instant::now();
    let secondary = cluster.secondary("secondary", None);
    let asked = || upstream(&secondary)["reconnects"].as_u64().unwrap_or(0);
    eventually(
        "the primary counts it, the secondary has tried again",
        || {
            let counted = Http::of(&primary).metric("headwater_scrub_faults_total");
            let damaged = Http::of(&primary).metric("headwater_log_damaged");
            match (counted, damaged, asked()) {
                (Some(1.0), Some(1.0), 3..) => Ok(()),
                seen => Err(seen),
            }
        },
    );
    let upstream = upstream(&secondary);
    assert!(upstream["reason"].is_string(), "{upstream}");
    // What comes before it may be there, two messages to a segment; nothing that comes after.
    let sql = "SELECT count(*) AS c, max(n) AS hi FROM load";
    let rows = Http::of(&secondary)
        .query(sql, &[("format", "json")])
        .json();
    let (count, last) = (rows[0]["c"].as_i64(), rows[0]["hi"].as_i64());
    assert!(count <= Some(2 * ROWS) && last < Some(2 * ROWS), "{rows}");
    // Each pause is longer than the one before.
    let most = 6 + begun.elapsed().as_secs();
    assert!(
        asked() <= most,
        "{} times in {:?}",
        asked(),
        begun.elapsed()
    );

    // A node that holds those bytes makes all three whole.
    let whole = cluster.secondary("other", None);
    for node in [&whole, &secondary] {
        catch_up(&primary, node);
        assert_eq!(Value::from(Http::of(node).rows(READ_ALL)), load::all(8));
        digest::equal(&Http::of(&primary), &Http::of(node));
    }
    assert_eq!(
        Http::of(&primary).metric("headwater_log_damaged"),
        Some(0.0)
    );
}

#[test]
fn a_secondary_killed_ten_times_as_it_catches_up_is_sent_the_log_once() {
    const MESSAGES: i64 = 24;
    const KILLS: u64 = 10;
    let mut random = fastrand::Rng::with_seed(tests::seed());
    let mut cluster = Cluster::new();
    cluster.primary_setting("log.segment_size", "1 MiB");
    cluster.primary_setting("replication.compression", "none");
    cluster.primary_setting("replication.max_rate_per_secondary", "8 MiB");
    let primary = cluster.primary();
    load::publish(cluster.mqtt(), MESSAGES);
    let status = Http::of(&primary).status();
    let bytes = status["segment_bytes"].as_u64().expect("a number");
    let slice = Http::of(&primary).lsn() / (KILLS + 1);
    let proxy = Proxy::start(cluster.replication());
    for kill in 0..KILLS {
        let secondary = cluster.secondary("secondary", Some(&proxy.address()));
        let goal = slice * kill + random.u64(1..=slice);
        eventually("it has come further", || {
            match Http::of(&secondary).try_lsn() {
                Some(lsn) if lsn >= goal => Ok(()),
                seen => Err((seen, goal)),
            }
        });
        secondary.kill();
    }
    let secondary = cluster.secondary("secondary", Some(&proxy.address()));
    catch_up(&primary, &secondary);
    assert_eq!(
        Value::from(Http::of(&secondary).rows(READ_ALL)),
        load::all(MESSAGES)
    );
    assert_eq!(upstream(&secondary)["snapshots"], 0);
    let carried = proxy.carried();
    assert!(carried < 2 * bytes, "{carried} bytes for a log of {bytes}");
    secondary.stop();
    primary.stop();
    let (mine, theirs) = (cluster.log_files("primary"), cluster.log_files("secondary"));
    assert!(mine == theirs, "the logs differ");
}

/// The most memory that a process ever had, in bytes.
fn peak(node: &Node) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", node.id())).expect("reads");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kib.and_then(|kib| kib.trim().parse::<u64>().ok())
        .expect("a number")
        << 10
}

#[test]
fn a_long_log_is_opened_in_little_memory_and_the_time_it_took_is_told() {
    let mut cluster = Cluster::new();
    cluster.primary_setting("log.segment_size", "1 MiB");
    // Nothing but opening is to be measured.
    cluster.primary_setting("log.scrub_rate", "0");
    let primary = cluster.primary();
    send(&cluster, "plant", 0..1);
    primary.stop();
    let primary = cluster.primary();
    let empty = peak(&primary);
    load::publish(cluster.mqtt(), 40);
    settle(&[&primary]);
    let bytes = Http::of(&primary).status()["segment_bytes"].as_u64();
    let bytes = bytes.expect("a number");
    assert!(bytes > 20 << 20, "{bytes}");
    primary.kill();

    let primary = cluster.primary();
    let full = peak(&primary);
    let more = full.saturating_sub(empty);
    assert!(more < bytes / 2, "{more} bytes more for a log of {bytes}");
    let lines = primary.lines();
    for said in ["opening the log", "took_ms"] {
        assert!(
            lines.iter().any(|line| line.contains(said)),
            "{said}: {lines:?}"
        );
    }
}

#[test]
fn a_secondary_that_stops_reading_blocks_nobody_and_catches_up() {
    let mut cluster = Cluster::new();
    cluster.primary_setting("replication.compression", "none");
    let primary = cluster.primary();
    let secondary = cluster.secondary("secondary", None);
    let other = cluster.secondary("other", None);
    publish(&cluster, 0..100, 900);
    for node in [&secondary, &other] {
        catch_up(&primary, node);
    }
    secondary.signal("STOP");
    let stopped = Instant::now();
    // More than fits between the two.
    publish(&cluster, 100..2100, 16 << 10);
    catch_up(&primary, &other);
    eventually("two seconds are over", || match stopped.elapsed() {
        time if time >= Duration::from_secs(2) => Ok(()),
        time => Err(time),
    });
    secondary.signal("CONT");
    catch_up(&primary, &secondary);
    for node in [&primary, &secondary, &other] {
        holds(node, 2100);
    }
    digest::equal(&Http::of(&primary), &Http::of(&secondary));
}

#[test]
fn a_secondary_with_a_full_disk_blocks_nobody_and_catches_up() {
    let mut cluster = Cluster::new();
    let Some(disk) = SmallDisk::mount(&cluster.path("secondary")) else {
        return;
    };
    let reserve = ("log.reserve_disk", "4 MiB".to_owned());
    let primary = cluster.primary();
    let secondary = cluster.secondary_with("secondary", None, &[reserve]);
    let other = cluster.secondary("other", None);
    publish(&cluster, 0..100, 900);
    catch_up(&primary, &secondary);
    let http = Http::of(&secondary);
    let free = http.status()["disk_free_bytes"].as_u64();
    disk.take(free.expect("known") - (2 << 20));
    publish(&cluster, 100..3100, 900);
    catch_up(&primary, &other);
    holds(&primary, 3100);
    holds(&other, 3100);
    eventually("it says that its disk is full, and answers", || {
        let stalled = http.metric("headwater_log_stalled");
        let rows = http.number("SELECT count(*) FROM load");
        assert!((100..3100).contains(&rows), "{rows} rows");
        if stalled == Some(1.0) {
            Ok(())
        } else {
            Err(stalled)
        }
    });
    disk.give_back();
    catch_up(&primary, &secondary);
    holds(&secondary, 3100);
    digest::equal(&Http::of(&primary), &http);
}

#[test]
fn a_peer_that_is_refused_asks_once_in_a_while_and_is_sent_no_copy() {
    let mut cluster = Cluster::new();
    let primary = cluster.primary();
    send(&cluster, "plant", 0..5);
    let secondary = cluster.secondary("secondary", None);
    catch_up(&primary, &secondary);
    secondary.stop();
    primary.kill();
    // Another log at the same address: as little can be agreed on as between two versions that have
    // nothing in common, and the same waits follow.
    fs::remove_dir_all(cluster.path("primary")).expect("removes");
    let _primary = cluster.primary();
    load::publish(cluster.mqtt(), 4);
    let proxy = Proxy::start(cluster.replication());
    let secondary = cluster.secondary("secondary", Some(&proxy.address()));
    let asked = |wanted: u64| {
        eventually("it was refused", || match upstream(&secondary) {
            upstream if upstream["state"] == "refused" && upstream["reconnects"] == wanted => {
                Ok(())
            }
            upstream => Err(upstream),
        });
    };
    asked(0);
    let refused = Instant::now();
    asked(1);
    let pause = refused.elapsed();
    assert!(
        pause > Duration::from_secs(4),
        "asked again after {pause:?}"
    );
    let carried = proxy.carried();
    assert!(carried < 64 << 10, "{carried} bytes for refusals");
    assert_eq!(Http::of(&secondary).number("SELECT count(*) FROM plant"), 5);
    assert!(!cluster.path("secondary").join("incoming").exists());
}
