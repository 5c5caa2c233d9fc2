//! Damaged bytes are found, never served as an answer, and replaced by what a peer holds.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use tests::cluster::{Cluster, catch_up, settle};
use tests::eventually;
use tests::http::Http;
use tests::node::{self, Node};
use tests::publisher::Fleet;

use crate::load::{self, PAD, READ_ALL};

/// Six segments, and so six files: too few to be merged.
/// Names and contents of one kind of a node's files.
type Listing = fn(&Cluster, &str) -> Vec<(String, Vec<u8>)>;

/// Both nodes hold the same rows, all of them in Parquet files and in segments that are kept.
fn pair() -> (Cluster, Node, Node) {
    let mut cluster = Cluster::new();
    cluster.primary_setting("log.segment_size", "1 MiB");
    let primary = cluster.primary();
    let secondary = cluster.secondary("secondary", None);
    load::publish(cluster.mqtt(), MESSAGES);
    settle(&[&primary, &secondary]);
    (cluster, primary, secondary)
}

/// Files of `dir` whose names end like this, in the order of their names.
pub(crate) fn files(dir: &Path, suffix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).expect("the directory");
    let mut found: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| name(path).ends_with(suffix))
        .collect();
    found.sort();
    assert!(!found.is_empty(), "no {suffix} in {}", dir.display());
    found
}

fn parquet(cluster: &Cluster, node: &str) -> PathBuf {
    files(&cluster.log_dir(node).join("parquet"), ".parquet").swap_remove(2)
}

fn name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// Flips a bit well inside the file: of a segment among the rows of a block.
pub(crate) fn flip(path: &Path) {
    let bytes = fs::read(path).expect("reads");
    let third = bytes.len() / 3;
    let at = match block_before(&bytes, third) {
        Some((block, header)) if name(path).ends_with(".log") => {
            block + wal::BLOCK_HEADER_LEN + header.body_len as usize / 2
        }
        _ => third,
    };
    flip_at(path, at);
}

fn flip_at(path: &Path, at: usize) {
    let mut bytes = fs::read(path).expect("reads");
    bytes[at] ^= 0x10;
    fs::write(path, bytes).expect("writes");
    println!("flipped a bit at {at} of {}", path.display());
}

/// The last block of rows that starts before an offset of a segment.
fn block_before(bytes: &[u8], offset: usize) -> Option<(usize, wal::BlockHeader)> {
    let starts = (0..offset).rev().filter(|at| at.is_multiple_of(8));
    let mut blocks = starts.filter_map(|at| {
        let header = wal::BlockHeader::decode(&bytes[at..]).ok()?;
        Some((at, header))
    });
    blocks.find(|(_, header)| header.kind == wal::BlockKind::Data)
}

/// `headwater verify` of a node's directory.
fn verify(cluster: &Cluster, node: &str) -> (Option<i32>, String) {
    node::run(&["verify", &cluster.path(node).display().to_string()])
}

/// Verification of a stopped node fails and names the file.
fn is_found_damaged(cluster: &Cluster, node: &str, file: &Path) {
    let (code, text) = verify(cluster, node);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains(&name(file)), "{text}");
}

/// Waits for the right answer. Until then there are errors, but no other answer.
fn answers_rightly_in_the_end(node: &Node) {
    let http = Http::of(node);
    let expected = load::all(MESSAGES);
    eventually("the right answer", || {
        let answer = http.query(READ_ALL, &[("format", "json")]);
        if answer.status == 200 {
            assert_eq!(answer.json(), expected, "a wrong answer");
            return Ok(());
        }
        assert_eq!(answer.status, 500, "{}", answer.body);
        assert_eq!(answer.code(), "storage", "{}", answer.body);
        Err(answer.body)
    });
}

/// Waits until the node has replaced one file and knows of no damage any more.
fn is_repaired(node: &Node) {
    let http = Http::of(node);
    eventually("the file is replaced", || {
        let damaged = http.status()["damaged"].clone();
        let repaired = http.metric("headwater_log_repaired_total");
        let known = http.metric("headwater_log_damaged");
        if damaged == serde_json::json!([]) && known == Some(0.0) && repaired == Some(1.0) {
            Ok(())
        } else {
            Err((damaged, known, repaired))
        }
    });
    let report = http.get("/api/v1/verify").json();
    assert_eq!(report["faults"], serde_json::json!([]));
}

/// Stops both nodes: their directories verify, and hold the same segments and files.
pub(crate) fn end_sound_and_equal(cluster: &Cluster, primary: Node, secondary: Node) {
    catch_up(&primary, &secondary);
    secondary.stop();
    primary.stop();
    for node in ["primary", "secondary"] {
        let (code, text) = verify(cluster, node);
        assert_eq!(code, Some(0), "{text}");
        assert!(text.contains("all good"), "{text}");
    }
    let kinds: [Listing; 2] = [Cluster::log_files, Cluster::parquet_files];
    for kind in kinds {
        let (mine, theirs) = (kind(cluster, "primary"), kind(cluster, "secondary"));
        assert_eq!(mine.len(), theirs.len());
        for ((name, left), (other, right)) in mine.iter().zip(&theirs) {
            assert!(name == other && left == right, "{name} differs");
        }
    }
}

#[test]
fn a_damaged_parquet_file_on_a_secondary_is_fetched_again() {
    let (cluster, primary, secondary) = pair();
    secondary.stop();
    let file = parquet(&cluster, "secondary");
    flip(&file);
    is_found_damaged(&cluster, "secondary", &file);
    let secondary = cluster.secondary("secondary", None);
    answers_rightly_in_the_end(&secondary);
    is_repaired(&secondary);
    end_sound_and_equal(&cluster, primary, secondary);
}

#[test]
fn a_damaged_parquet_file_on_a_primary_is_fetched_from_its_secondary() {
    let (mut cluster, primary, secondary) = pair();
    primary.stop();
    let file = parquet(&cluster, "primary");
    flip(&file);
    is_found_damaged(&cluster, "primary", &file);
    let primary = cluster.primary();
    answers_rightly_in_the_end(&primary);
    is_repaired(&primary);
    end_sound_and_equal(&cluster, primary, secondary);
}

#[test]
fn a_damaged_segment_on_a_secondary_is_fetched_again() {
    let (cluster, primary, secondary) = pair();
    secondary.stop();
    let file = files(&cluster.log_dir("secondary"), ".log").swap_remove(1);
    flip(&file);
    is_found_damaged(&cluster, "secondary", &file);
    let secondary = cluster.secondary("secondary", None);
    // Nothing reads a segment whose rows are in files: verifying finds the damage.
    let report = Http::of(&secondary).get("/api/v1/verify").json();
    let fault = report["faults"][0]["file"].as_str().unwrap_or_default();
    assert!(fault.ends_with(&name(&file)), "{report}");
    is_repaired(&secondary);
    answers_rightly_in_the_end(&secondary);
    end_sound_and_equal(&cluster, primary, secondary);
}

#[test]
fn a_lost_parquet_file_is_fetched_again() {
    let (cluster, primary, secondary) = pair();
    secondary.stop();
    let file = parquet(&cluster, "secondary");
    fs::remove_file(&file).expect("removes");
    is_found_damaged(&cluster, "secondary", &file);
    let secondary = cluster.secondary("secondary", None);
    answers_rightly_in_the_end(&secondary);
    is_repaired(&secondary);
    end_sound_and_equal(&cluster, primary, secondary);
}

/// Rows `0..count`, each once.
pub(crate) fn numbered(node: &Node, count: i64) {
    let sql = "SELECT count(*) AS c, count(DISTINCT n) AS d, min(n) AS lo, max(n) AS hi, \
               sum(character_length(pad)) AS p FROM load";
    let expected = serde_json::json!(
        [{"c": count, "d": count, "lo": 0, "hi": count - 1, "p": count * 900}]
    );
    eventually("all rows, each once", || {
        let answer = Http::of(node).query(sql, &[("format", "json")]);
        if answer.status == 200 && answer.json() == expected {
            Ok(())
        } else {
            Err(answer.body)
        }
    });
}

#[test]
fn a_primary_with_a_flipped_bit_in_the_middle_of_its_log_starts_and_is_repaired() {
    let mut cluster = Cluster::new();
    let primary = cluster.primary();
    let secondary = cluster.secondary("secondary", None);
    let next = Arc::new(AtomicI64::new(0));
    let acknowledged = Fleet::start(cluster.mqtt(), "load", 4, &next, 3000, PAD).join();
    assert_eq!(acknowledged.len(), 3000);
    catch_up(&primary, &secondary);
    secondary.stop();
    primary.stop();
    let newest = files(&cluster.log_dir("primary"), ".log").pop();
    let newest = newest.expect("a segment");
    flip(&newest);
    is_found_damaged(&cluster, "primary", &newest);

    // Alone it says what is missing, answers nothing wrong, and goes on taking rows.
    let primary = cluster.primary();
    let http = Http::of(&primary);
    let damaged = http.status()["damaged"].clone();
    assert_eq!(damaged[0]["name"], name(&newest), "{damaged}");
    let answer = http.query("SELECT count(*) FROM load", &[]);
    assert_eq!((answer.status, answer.code().as_str()), (500, "storage"));
    let next = Arc::new(AtomicI64::new(3000));
    let more = Fleet::start(cluster.mqtt(), "load", 1, &next, 3050, PAD).join();
    assert_eq!(more.len(), 50);

    let secondary = cluster.secondary("secondary", None);
    is_repaired(&primary);
    numbered(&primary, 3050);
    numbered(&secondary, 3050);
    settle(&[&primary, &secondary]);
    numbered(&primary, 3050);
    end_sound_and_equal(&cluster, primary, secondary);
}

#[test]
fn a_primary_with_a_flipped_bit_in_a_header_of_its_log_starts_with_all_rows() {
    let mut cluster = Cluster::new();
    let primary = cluster.primary();
    let next = Arc::new(AtomicI64::new(0));
    let acknowledged = Fleet::start(cluster.mqtt(), "load", 4, &next, 300, PAD).join();
    assert_eq!(acknowledged.len(), 300);
    primary.stop();
    let newest = files(&cluster.log_dir("primary"), ".log").pop();
    let newest = newest.expect("a segment");
    let bytes = fs::read(&newest).expect("reads");
    let (block, _) = block_before(&bytes, bytes.len() / 3).expect("a block");
    for field in [0, 5, 12, 24, 40, 56, 64, 72, 80] {
        flip_at(&newest, block + field);
        is_found_damaged(&cluster, "primary", &newest);
        let primary = cluster.primary();
        numbered(&primary, 300);
        primary.stop();
        if files(&cluster.log_dir("primary"), ".log").len() > 1 {
            break;
        }
    }
}

#[test]
fn verify_reads_a_stopped_node_and_leaves_a_running_one_alone() {
    let (cluster, primary, secondary) = pair();
    for (node, name) in [(&primary, "primary"), (&secondary, "secondary")] {
        let (code, text) = verify(&cluster, name);
        assert_eq!(code, Some(1), "{text}");
        let holder = format!("in use by process {}", node.id());
        assert!(text.contains(&holder), "{text}");
        let url = format!("http://{}", node.address("http"));
        let (code, text) = node::run(&["verify", "--url", &url]);
        assert_eq!(code, Some(0), "{text}");
        assert!(
            text.contains("6 files") && text.contains("all good"),
            "{text}"
        );
    }
    end_sound_and_equal(&cluster, primary, secondary);
    let (code, text) = node::run(&["verify", &cluster.path("certs").display().to_string()]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("holds no log"), "{text}");
}

const MESSAGES: i64 = 12;
