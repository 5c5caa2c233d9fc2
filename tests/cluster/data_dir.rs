//! A data directory that is taken away, or is not the right one: a node must never go on as if
//! nothing had happened.

use std::fs;
use std::path::Path;

use tests::cluster::{Cluster, catch_up};
use tests::eventually;
use tests::http::Http;
use tests::node::{self, Node};

use crate::field::{holds, publish};
use crate::repair::files;

/// Waits until the node has ended by itself, with 1 and a line that says why.
fn ends_by_itself(mut node: Node) {
    eventually(
        "the node ends",
        || if node.is_up() { Err(()) } else { Ok(()) },
    );
    assert_eq!(node.exit_code(), Some(1));
    let lines = node.lines().join("\n");
    assert!(
        lines.contains("is not what this process has opened"),
        "{lines}"
    );
}

#[test]
fn a_node_whose_files_are_taken_away_ends_and_says_so() {
    type Change = fn(&Path, &Path);
    let changes: [Change; 4] = [
        |data, _| fs::remove_dir_all(data).expect("removes"),
        |data, _| fs::rename(data, data.with_extension("moved")).expect("renames"),
        |data, _| {
            fs::rename(data, data.with_extension("moved")).expect("renames");
            fs::create_dir(data).expect("makes");
        },
        |_, log| {
            let newest = files(log, ".log").pop().expect("a segment");
            fs::remove_file(newest).expect("removes");
        },
    ];
    for change in changes {
        let mut cluster = Cluster::new();
        let primary = cluster.primary();
        let secondary = cluster.secondary("secondary", None);
        publish(&cluster, 0..50, 0);
        catch_up(&primary, &secondary);
        for (name, node) in [("secondary", secondary), ("primary", primary)] {
            change(&cluster.path(name), &cluster.log_dir(name));
            ends_by_itself(node);
        }
    }
}

#[test]
fn a_primary_with_an_empty_directory_is_not_ready_while_its_secondary_holds_a_log() {
    let mut cluster = Cluster::new();
    let primary = cluster.primary();
    let secondary = cluster.secondary("secondary", None);
    publish(&cluster, 0..50, 0);
    catch_up(&primary, &secondary);
    primary.stop();
    // The volume is not mounted.
    fs::rename(cluster.path("primary"), cluster.path("elsewhere")).expect("renames");
    let primary = cluster.primary();
    assert!(
        primary.lines().join("\n").contains("NEW, EMPTY"),
        "{:?}",
        primary.lines()
    );
    let http = Http::of(&primary);
    eventually("it is not ready", || {
        let answer = http.get("/ready");
        let told = answer.body.contains("holds log") && answer.body.contains("secondary");
        if answer.status == 503 && told {
            Ok(())
        } else {
            Err(answer)
        }
    });
    assert_eq!(http.metric("headwater_replication_foreign_logs"), Some(1.0));
    assert!(http.status()["not_ready"].as_str().is_some());
    holds(&secondary, 50);

    // One that follows shows that it is the right one after all.
    let other = cluster.secondary("other", None);
    catch_up(&primary, &other);
    eventually("it is ready", || {
        let answer = http.get("/ready");
        if answer.status == 200 {
            Ok(())
        } else {
            Err(answer)
        }
    });
    other.stop();
    secondary.stop();
    primary.stop();

    // Who never wants this says so.
    fs::remove_dir_all(cluster.path("primary")).expect("removes");
    let conf = node::conf("primary.toml").display().to_string();
    let data = cluster.path("primary");
    let setting = format!("node.data_dir={}", data.display());
    let never = [
        "serve",
        "--conf",
        &conf,
        "--set",
        &setting,
        "--set",
        "log.create=never",
    ];
    let (code, text) = node::run(&never);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("is the volume mounted"), "{text}");
    assert!(!data.exists());
}

#[test]
fn a_log_of_which_nothing_is_left_is_a_new_one_and_is_told_so() {
    let mut cluster = Cluster::new();
    let primary = cluster.primary();
    publish(&cluster, 0..50, 0);
    holds(&primary, 50);
    primary.stop();
    let data = cluster.path("primary");
    let log = fs::read_dir(&data)
        .expect("lists")
        .flatten()
        .find(|entry| entry.file_name().to_string_lossy().starts_with("log-"));
    let log = log.expect("a log").path();
    for segment in files(&log, ".log") {
        fs::write(segment, []).expect("empties");
    }
    let conf = node::conf("primary.toml").display().to_string();
    let setting = format!("node.data_dir={}", data.display());
    let never = ["serve", "--conf", &conf, "--set", &setting];
    let never = [&never[..], &["--set", "log.create=never"]].concat();
    let (code, text) = node::run(&never);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("there is no log in"), "{text}");

    let primary = cluster.primary();
    let lines = primary.lines().join("\n");
    assert!(lines.contains("NEW, EMPTY one was made"), "{lines}");
    primary.stop();
}
