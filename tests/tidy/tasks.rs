//! No task or thread runs that nobody watches. Must never let a bare spawn in without the reason
//! why its end is noticed.

use crate::tree::files;

#[test]
fn every_task_is_watched_or_its_end_is_noticed_otherwise() {
    let mut found: Vec<(String, usize)> = Vec::new();
    for folder in ["server/src", "replica/src", "ingest", "query/src"] {
        for (path, text) in files(folder, "rs") {
            let beginnings = spawns(&text);
            if beginnings > 0 && !path.contains("/tests") && !path.contains("/fuzz") {
                found.push((path, beginnings));
            }
        }
    }
    let allowed: Vec<(String, usize)> = ALLOWED
        .iter()
        .map(|(path, count, _)| ((*path).to_owned(), *count))
        .collect();
    found.sort();
    assert_eq!(
        found, allowed,
        "spawns without their reasons: run them with wal::Tasks, or say in tests/tidy/tasks.rs how \
         their end is noticed"
    );
}

/// How often code that is no test starts a task or a thread.
fn spawns(text: &str) -> usize {
    let code = text.split("#[cfg(test)]\nmod tests {").next();
    let lines = code.unwrap_or_default().lines();
    let lines = lines.filter(|line| !line.trim_start().starts_with("//"));
    lines
        .filter(|line| STARTS.iter().any(|start| line.contains(start)))
        .count()
}

/// How code starts a task or a thread. `spawn_blocking` is awaited by who calls it.
const STARTS: [&str; 3] = ["spawn(", "spawn_local(", "spawn_on("];

/// File, spawns, and how their end is noticed.
const ALLOWED: [(&str, usize, &str); 21] = [
    (
        "ingest/mqtt/src/large.rs",
        1,
        "vital; what panics is caught, and ends its connection",
    ),
    (
        "ingest/mqtt/src/listener.rs",
        2,
        "the thread and what runs on its workers are vital",
    ),
    ("ingest/wal/src/compact/compactor.rs", 1, "begun again"),
    ("ingest/wal/src/integrity/scrub.rs", 1, "begun again"),
    (
        "ingest/wal/src/stored/home.rs",
        1,
        "removes a directory: what it leaves the next start removes",
    ),
    ("ingest/wal/src/write/committer.rs", 1, "vital"),
    ("ingest/wal/src/write/follower.rs", 1, "vital"),
    (
        "query/src/engine.rs",
        1,
        "one query: its reader gets an error",
    ),
    (
        "replica/src/files/leases.rs",
        1,
        "begun again with the next lease",
    ),
    (
        "replica/src/follow/bootstrap.rs",
        2,
        "a snapshot: its end makes the follow task begin anew, and it awaits the other",
    ),
    (
        "replica/src/follow/handle.rs",
        2,
        "the follow task is vital, the others are begun again",
    ),
    ("replica/src/follow/logs.rs", 1, "begun again"),
    (
        "replica/src/serve/borrow.rs",
        2,
        "before there is a node: begun again; whoever waits asks the next peer",
    ),
    (
        "replica/src/serve/listener.rs",
        2,
        "begun again; a session ends with its connection, which its peer makes anew",
    ),
    (
        "server/src/cli/against/mod.rs",
        1,
        "of a command: scoped, and joined",
    ),
    (
        "server/src/cli/quickstart/fleet.rs",
        2,
        "simulated devices, no part of a node",
    ),
    (
        "server/src/http/door/mod.rs",
        1,
        "one connection: its client sees it closed",
    ),
    ("server/src/http/mod.rs", 1, "begun again"),
    (
        "server/src/http/verifier.rs",
        1,
        "one request: who asked gets an error",
    ),
    ("server/src/node/kept.rs", 1, "begun again"),
    (
        "server/src/telemetry/sink.rs",
        1,
        "lines are dropped, and counted",
    ),
];
