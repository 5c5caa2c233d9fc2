//! On a disk that is full a node must never acknowledge anything, everything stored can be
//! asked for, and once there is room again the node goes on by itself.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use serde_json::json;
use tests::cluster::{Cluster, catch_up, settle};
use tests::eventually;
use tests::http::Http;
use tests::node;
use tests::publisher::Fleet;

/// A file system of 24 MiB, until dropped.
pub(crate) struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None`, as a test that is skipped, where this process may not mount.
    pub(crate) fn mount(at: &Path) -> Option<Self> {
        fs::create_dir_all(at).expect("a directory");
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", "size=24m", "tmpfs"]);
        match command.arg(at).output() {
            Ok(output) if output.status.success() => Some(Self(at.to_owned())),
            refused => {
                tests::skip(&format!("no file system can be mounted here: {refused:?}"));
                None
            }
        }
    }

    fn fat_file(&self) -> PathBuf {
        self.0.join("fat")
    }

    /// Takes so many bytes.
    pub(crate) fn take(&self, bytes: u64) {
        let bytes = usize::try_from(bytes).expect("a small disk");
        fs::write(self.fat_file(), vec![7; bytes]).expect("fits");
    }

    /// Takes all that is left.
    fn take_all(&self) {
        let mut file = File::create(self.fat_file()).expect("a file");
        let chunk = vec![7; 64 << 10];
        while file.write_all(&chunk).is_ok() {}
    }

    pub(crate) fn give_back(&self) {
        fs::remove_file(self.fat_file()).expect("removes");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a process that is about to end must not keep it.
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

/// The clients publish the numbers `from..to`.
fn publish(cluster: &Cluster, from: i64, to: i64) -> Fleet {
    let next = Arc::new(AtomicI64::new(from));
    Fleet::start(cluster.mqtt(), "load", CLIENTS, &next, to, PAD)
}

/// Waits until the node says that it commits nothing for want of room, or that it does again.
fn stalled(http: &Http, wanted: bool) {
    let (metric, ready) = if wanted { (1.0, 503) } else { (0.0, 200) };
    eventually("stalled or not", || {
        let seen = (
            http.metric("headwater_log_stalled"),
            http.get("/ready").status,
        );
        if seen == (Some(metric), ready) {
            Ok(())
        } else {
            Err(seen)
        }
    });
    assert_eq!(http.status()["stalled"].is_null(), !wanted);
}

/// Rows `0..count`, each once.
fn holds(http: &Http, count: i64) {
    let sql = "SELECT count(*) AS c, count(DISTINCT n) AS d, min(n) AS lo, max(n) AS hi FROM load";
    let expected = json!({"c": count, "d": count, "lo": 0, "hi": count - 1});
    assert_eq!(http.rows(sql), [expected]);
}

#[test]
fn below_the_reserve_nothing_is_acknowledged_and_reads_go_on() {
    let mut cluster = Cluster::new();
    let Some(disk) = SmallDisk::mount(&cluster.path("primary")) else {
        return;
    };
    cluster.primary_setting("log.segment_size", "1 MiB");
    cluster.primary_setting("log.reserve_disk", "4 MiB");
    let node = cluster.primary();
    let http = Http::of(&node);
    assert_eq!(publish(&cluster, 0, 1000).join().len(), 1000);
    let free = http.status()["disk_free_bytes"].as_u64();
    disk.take(free.expect("known") - (2 << 20));
    stalled(&http, true);
    let refused = http.send("/write", "text/plain", "load n=-1i");
    let refused = refused.expect("an answer");
    let told = (refused.status, refused.code());
    assert_eq!(told, (503, "stalled".to_owned()), "{}", refused.body);

    let fleet = publish(&cluster, 1000, 3000);
    eventually(
        "the messages have come in",
        || match http.status()["mqtt"]["received"].as_u64() {
            Some(received) if received == 1000 + IN_FLIGHT => Ok(()),
            seen => Err(seen),
        },
    );
    for _ in 0..20 {
        holds(&http, 1000);
    }
    stalled(&http, true);
    assert_eq!(fleet.acknowledged(), 0);

    disk.give_back();
    assert_eq!(fleet.join().len(), 2000);
    stalled(&http, false);
    holds(&http, 3000);
    let told = node.lines().join("\n");
    for line in ["the log takes nothing", "there is room again"] {
        assert!(told.contains(line), "{told}");
    }
    node.stop();
    let node = cluster.primary();
    let http = Http::of(&node);
    holds(&http, 3000);

    // A node that starts without room is never ready, not even before its first message.
    let free = http.status()["disk_free_bytes"].as_u64();
    node.stop();
    disk.take(free.expect("known") - (2 << 20));
    let node = cluster.primary();
    let http = Http::of(&node);
    let ready = http.get("/ready");
    assert_eq!(ready.status, 503, "{}", ready.body);
    assert!(ready.body.contains("log.reserve_disk"), "{}", ready.body);
    disk.give_back();
    stalled(&http, false);
}

#[test]
fn a_disk_that_is_full_to_the_last_byte_loses_nothing_and_heals() {
    let mut cluster = Cluster::new();
    let Some(disk) = SmallDisk::mount(&cluster.path("primary")) else {
        return;
    };
    cluster.primary_setting("log.segment_size", "1 MiB");
    cluster.primary_setting("log.reserve_disk", "0 B");
    let mut node = cluster.primary();
    let http = Http::of(&node);
    assert_eq!(publish(&cluster, 0, 1500).join().len(), 1500);
    settle(&[&node]);
    disk.take_all();

    let fleet = publish(&cluster, 1500, 5000);
    stalled(&http, true);
    let acknowledged = i64::try_from(fleet.acknowledged()).expect("few");
    let rows = http.number("SELECT count(*) FROM load");
    assert!(
        rows >= 1500 + acknowledged && rows < 5000,
        "{acknowledged} acknowledged, {rows} rows"
    );
    assert!(node.is_up());

    disk.give_back();
    assert_eq!(fleet.join().len(), 3500);
    stalled(&http, false);
    holds(&http, 5000);

    // Full again, with messages on their way, and then the power goes.
    disk.take_all();
    let fleet = publish(&cluster, 5000, 8000);
    stalled(&http, true);
    node.kill();
    let mut acknowledged = fleet.join();
    disk.give_back();
    let node = cluster.primary();
    let http = Http::of(&node);
    let rows = http.rows("SELECT n FROM load WHERE n >= 5000");
    let stored: Vec<i64> = rows.iter().filter_map(|row| row["n"].as_i64()).collect();
    acknowledged.retain(|number| !stored.contains(number));
    assert!(acknowledged.is_empty(), "lost {acknowledged:?}");
    let sql = "SELECT count(DISTINCT n) FROM load WHERE n < 5000";
    assert_eq!(http.number(sql), 5000);
    node.stop();
    let (code, text) = node::run(&["verify", &cluster.path("primary").display().to_string()]);
    assert_eq!(code, Some(0), "{text}");
}

#[test]
fn a_secondary_without_room_answers_and_its_probe_says_why_nothing_comes() {
    let mut cluster = Cluster::new();
    let Some(disk) = SmallDisk::mount(&cluster.path("secondary")) else {
        return;
    };
    let primary = cluster.primary();
    let secondary = cluster.secondary("secondary", None);
    let http = Http::of(&secondary);
    assert_eq!(publish(&cluster, 0, 500).join().len(), 500);
    catch_up(&primary, &secondary);
    let held_up = |wanted: bool| {
        eventually("the probe says it", || {
            let ready = http.get("/ready");
            if ready.status == 200 && ready.body.contains("the disk is") == wanted {
                Ok(())
            } else {
                Err(ready)
            }
        });
    };
    held_up(false);
    disk.take_all();
    assert_eq!(publish(&cluster, 500, 1500).join().len(), 1000);
    held_up(true);
    let rows = http.number("SELECT count(*) FROM load");
    assert!((500..1500).contains(&rows), "{rows}");
    disk.give_back();
    catch_up(&primary, &secondary);
    held_up(false);
    holds(&http, 1500);
}

const PAD: usize = 900;
const CLIENTS: usize = 2;
/// What the clients together have in flight.
const IN_FLIGHT: u64 = 128;
