//! A primary with blocks in its newest segment that it cannot read and cannot do without: it waits
//! for a secondary that has them, and until then takes nothing and says so. An acknowledged row must
//! never be lost.

use std::fs;
use std::path::PathBuf;

use tests::cluster::{Cluster, catch_up};
use tests::http::Http;
use tests::node::{self, Node};
use tests::publisher::Device;

use crate::load::PAD;
use crate::repair::{end_sound_and_equal, files, numbered};

/// Publishes rows `from..to`, one after the other: each is a group of its own.
fn publish(cluster: &Cluster, from: i64, to: i64) {
    let mut device = Device::connect(cluster.mqtt(), "one by one");
    let pad = "x".repeat(PAD);
    for number in from..to {
        device.send("load", &format!(r#"{{"n":{number},"pad":"{pad}"}}"#));
    }
}

fn newest(cluster: &Cluster) -> PathBuf {
    let newest = files(&cluster.log_dir("primary"), ".log").pop();
    newest.expect("a segment")
}

/// Where the blocks of a segment begin.
fn blocks(bytes: &[u8]) -> Vec<usize> {
    let (mut at, mut found) = (0, Vec::new());
    while at < bytes.len() {
        at += match wal::BlockHeader::decode(&bytes[at..]) {
            Ok(header) => {
                found.push(at);
                header.total_len()
            }
            Err(_) => 8,
        };
    }
    found
}

/// Writes something else over `len` bytes.
fn overwrite(bytes: &mut [u8], at: usize, len: usize) {
    println!("damages {len} bytes at {at}");
    bytes[at..at + len]
        .iter_mut()
        .for_each(|byte| *byte ^= 0x5a);
}

/// Whether the node has said this.
fn has_said(node: &Node, what: &str) -> bool {
    node.lines().iter().any(|line| line.contains(what))
}

#[test]
fn a_primary_with_headers_that_cannot_be_read_has_them_from_its_secondary() {
    const ROUNDS: i64 = 6;
    const EACH: i64 = 40;
    let mut random = fastrand::Rng::with_seed(tests::seed());
    let mut cluster = Cluster::new();
    let mut primary = cluster.primary();
    let secondary = cluster.secondary("secondary", None);
    for round in 0..ROUNDS {
        publish(&cluster, round * EACH, (round + 1) * EACH);
        catch_up(&primary, &secondary);
        primary.kill();
        let file = newest(&cluster);
        let mut bytes = fs::read(&file).expect("reads");
        let blocks = blocks(&bytes);
        // Of the last groups nothing would tell that they had been whole.
        let among = blocks.len() - 4;
        for _ in 0..1 + round % 3 {
            let block = random.usize(..among);
            // What the block before says of it would be turned back.
            let field = [4 + random.usize(..18), 32 + random.usize(..30)];
            let at = blocks[block] + field[random.usize(..2)];
            let most = blocks[among] - at;
            let len = random.usize(3..if round % 2 == 0 { 16 } else { 2_000 });
            overwrite(&mut bytes, at, len.min(most));
        }
        fs::write(&file, bytes).expect("writes");
        primary = cluster.primary();
        assert!(
            has_said(&primary, "the log is NOT open"),
            "it was unreadable"
        );
        assert!(has_said(&primary, "have come from a secondary"));
        numbered(&primary, (round + 1) * EACH);
    }
    publish(&cluster, ROUNDS * EACH, ROUNDS * EACH + EACH);
    numbered(&primary, (ROUNDS + 1) * EACH);
    catch_up(&primary, &secondary);
    numbered(&secondary, (ROUNDS + 1) * EACH);
    end_sound_and_equal(&cluster, primary, secondary);
}

/// How a log loses what was acknowledged last, with nothing behind it that would tell.
#[derive(Clone, Copy, Debug)]
enum Loss {
    /// A byte of the last block rots.
    Rot,
    /// A write of the next row is cut short behind that.
    RotAndTorn,
    /// The last blocks are gone, in the middle of one.
    Torn,
    /// The same between two blocks, after a stop in order.
    Gone,
}

fn lose(cluster: &Cluster, loss: Loss, random: &mut fastrand::Rng) {
    let file = newest(cluster);
    let mut bytes = fs::read(&file).expect("reads");
    let blocks = blocks(&bytes);
    let last = blocks[blocks.len() - 1];
    let few = blocks[blocks.len() - random.usize(1..6)];
    match loss {
        Loss::Rot => overwrite(&mut bytes, last + random.usize(0..200), 40),
        Loss::RotAndTorn => {
            overwrite(&mut bytes, last + wal::BLOCK_HEADER_LEN + 20, 9);
            let next = bytes[few..few + 120].to_vec();
            bytes.extend(next);
        }
        Loss::Torn => bytes.truncate(few + random.usize(1..200)),
        Loss::Gone => bytes.truncate(few),
    }
    println!("{loss:?}: {} bytes are left", bytes.len());
    fs::write(&file, bytes).expect("writes");
}

#[test]
fn a_primary_that_has_lost_its_end_has_it_back_from_its_secondary_before_it_takes_more() {
    const EACH: i64 = 40;
    let mut random = fastrand::Rng::with_seed(tests::seed());
    let mut cluster = Cluster::new();
    let mut primary = cluster.primary();
    let secondary = cluster.secondary("secondary", None);
    let losses = [
        Loss::Rot,
        Loss::Torn,
        Loss::Gone,
        Loss::RotAndTorn,
        Loss::Rot,
    ];
    let mut rows = 0;
    for loss in losses {
        publish(&cluster, rows, rows + EACH);
        rows += EACH;
        catch_up(&primary, &secondary);
        match loss {
            Loss::Gone => primary.stop(),
            _ => primary.kill(),
        }
        lose(&cluster, loss, &mut random);
        primary = cluster.primary();
        assert!(has_said(&primary, "nothing is taken yet"), "{loss:?}");
        assert!(
            has_said(&primary, "a secondary has given it back"),
            "{loss:?}"
        );
        numbered(&primary, rows);
    }
    publish(&cluster, rows, rows + EACH);
    numbered(&primary, rows + EACH);
    catch_up(&primary, &secondary);
    numbered(&secondary, rows + EACH);
    assert_eq!(Http::of(&primary).status()["epoch"], 1);
    end_sound_and_equal(&cluster, primary, secondary);
    let kept = cluster
        .log_dir("secondary")
        .parent()
        .expect("a directory")
        .join("diverged");
    assert!(!kept.exists(), "the histories have split");
}

#[test]
fn a_primary_whose_secondaries_are_away_says_that_it_asks_and_then_opens_its_log() {
    let mut cluster = Cluster::new();
    let primary = cluster.primary();
    let secondary = cluster.secondary("secondary", None);
    publish(&cluster, 0, 40);
    catch_up(&primary, &secondary);
    secondary.stop();
    primary.kill();
    let file = newest(&cluster);
    let mut bytes = fs::read(&file).expect("reads");
    bytes.extend_from_slice(&[7; 50]);
    fs::write(&file, bytes).expect("writes");
    let mut primary = cluster.primary_until("nothing is taken yet");
    let http = Http::of(&primary);
    let ready = http.get("/ready");
    assert_eq!(ready.status, 503);
    assert!(
        ready.body.contains("secondary will be asked for it"),
        "{}",
        ready.body
    );
    primary.comes_up();
    assert!(has_said(
        &primary,
        "not all secondaries have answered in time"
    ));
    numbered(&primary, 40);
    primary.stop();
}

#[test]
fn a_primary_that_lacks_blocks_waits_says_so_and_can_be_stopped() {
    let mut cluster = Cluster::new();
    let primary = cluster.primary();
    let secondary = cluster.secondary("secondary", None);
    publish(&cluster, 0, 100);
    catch_up(&primary, &secondary);
    secondary.stop();
    // The secondary lacks these.
    publish(&cluster, 100, 120);
    primary.stop();
    let file = newest(&cluster);
    let mut bytes = fs::read(&file).expect("reads");
    let damaged = blocks(&bytes)[30];
    overwrite(&mut bytes, damaged + 20, 30);
    fs::write(&file, &bytes).expect("writes");

    let primary = cluster.primary_until("the log is NOT open");
    let http = Http::of(&primary);
    assert_eq!(http.get("/health").status, 200);
    let ready = http.get("/ready");
    assert_eq!(ready.status, 503);
    for part in [
        "headwater repair node.data_dir",
        "until a secondary",
        &format!("offset {damaged}"),
    ] {
        assert!(ready.body.contains(part), "{}", ready.body);
    }
    let status = http.status();
    assert!(
        status["not_ready"]
            .to_string()
            .contains("headwater repair node.data_dir"),
        "{status}"
    );
    assert_eq!(status["role"], "primary");
    assert!(http.metric("headwater_log_unreadable_lsns") > Some(0.0));
    assert_eq!(http.query("SELECT 1", &[]).status, 503);
    let url = format!("http://{}", primary.address("http"));
    let (_, text) = node::run(&["status", "--url", &url]);
    assert!(text.contains("cannot be read"), "{text}");
    primary.signal("HUP");
    primary.stop();
    assert_eq!(fs::read(&file).expect("reads"), bytes, "nothing is written");

    let mut primary = cluster.primary_until("the log is NOT open");
    // One without a log does not help either.
    let empty = cluster.secondary("other", None);
    let secondary = cluster.secondary("secondary", None);
    primary.comes_up();
    numbered(&primary, 120);
    publish(&cluster, 120, 140);
    for node in [&secondary, &empty] {
        catch_up(&primary, node);
        numbered(node, 140);
    }
    empty.stop();
    end_sound_and_equal(&cluster, primary, secondary);
}

#[test]
fn a_primary_whose_newest_segment_is_gone_has_it_back_from_a_secondary_that_had_more() {
    let mut cluster = Cluster::new();
    let primary = cluster.primary();
    let secondary = cluster.secondary("secondary", None);
    publish(&cluster, 0, 50);
    catch_up(&primary, &secondary);
    secondary.stop();
    primary.stop();
    let primary = cluster.primary();
    assert!(!has_said(&primary, "nothing is taken yet"));
    primary.stop();
    fs::remove_file(newest(&cluster)).expect("removes");
    let mut primary = cluster.primary_until("nothing is taken yet");
    let ready = Http::of(&primary).get("/ready");
    assert!(
        ready.body.contains("secondary will be asked for it")
            || ready.body.contains("secondary had it up to LSN"),
        "{}",
        ready.body
    );
    let secondary = cluster.secondary("secondary", None);
    primary.comes_up();
    numbered(&primary, 50);
    publish(&cluster, 50, 60);
    catch_up(&primary, &secondary);
    numbered(&secondary, 60);
    secondary.stop();
    // Some of those who stop a process tell its group as well.
    primary.signal("TERM");
    primary.stop();
}
