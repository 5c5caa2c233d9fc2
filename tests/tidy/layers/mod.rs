//! The order of a crate's folders, and that no files name each other in a circle.
//!
//! A file may name what stands in its own group or in one before it, by whatever path, and nothing
//! that leads back to itself. Tests inside a crate look at it from outside and are not asked. A
//! re-export is where its item is; who only hands a name on does not depend on it. Must never list
//! a file that is not there, or leave one out.

mod crate_tree;
mod made_up;
mod module;
mod tokens;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate_tree::{CrateTree, Edge};
use module::Path;

use crate::tree::files;

pub(crate) use module::Module;

/// The groups of a crate's modules, the lowest first; the crate's root stands above all of them.
struct Layers {
    package: &'static str,
    /// A module stands for all below it that no group names by itself.
    groups: &'static [&'static [&'static str]],
}

#[test]
fn files_name_only_what_stands_below_them_and_never_in_a_circle() {
    let mut wrong = Vec::new();
    for layers in &LAYERS {
        let package = layers.package;
        let src = format!("{package}/src/");
        let sources = files(&src, "rs")
            .into_iter()
            .filter_map(|(path, text)| Some((path.strip_prefix(&src)?.to_owned(), text)))
            .collect();
        let complaints = complaints(layers.groups, &sources);
        wrong.extend(complaints.iter().map(|line| format!("{package}: {line}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What is wrong with a crate: its files by their paths below `src`, against the groups.
fn complaints(groups: &[&[&str]], sources: &BTreeMap<String, String>) -> Vec<String> {
    let tree = CrateTree::new(sources);
    let edges = tree.edges();
    let mut wrong = unlisted(groups, &tree);
    for edge in &edges {
        let rank = |module: &Path| rank(groups, module);
        let (from, to) = (rank(&edge.from), rank(&edge.to).max(named(groups, edge)));
        if from.is_some() && to > from {
            wrong.push(format!(
                "{} names {} upwards: {}",
                shown(&edge.from),
                shown(&edge.to),
                edge.path
            ));
        }
    }
    wrong.extend(circles(&edges));
    wrong.dedup();
    wrong
}

/// The group that a path names, the crate's root aside: everything is handed on there.
fn named(groups: &[&[&str]], edge: &Edge) -> Option<usize> {
    if edge.through.is_empty() {
        None
    } else {
        rank(groups, &edge.through)
    }
}

/// The number of a module's group, the root's above all.
fn rank(groups: &[&[&str]], module: &Path) -> Option<usize> {
    if module.is_empty() {
        return Some(groups.len());
    }
    (1..=module.len()).rev().find_map(|len| {
        let name = module[..len].join("::");
        groups
            .iter()
            .position(|group| group.contains(&name.as_str()))
    })
}

/// Files in no group, and names in groups that are no file.
fn unlisted(groups: &[&[&str]], tree: &CrateTree) -> Vec<String> {
    let names: BTreeSet<String> = tree.files().map(|module| module.join("::")).collect();
    let stale = groups
        .iter()
        .flat_map(|group| group.iter())
        .filter(|name| !names.contains(**name))
        .map(|name| format!("{name} has a layer and is not there"));
    let free = tree
        .files()
        .filter(|module| rank(groups, module).is_none())
        .map(|module| format!("{} has no layer", shown(module)));
    stale.chain(free).collect()
}

/// For every file that is in circles one of them, the shortest, unless it has been told already.
fn circles(edges: &BTreeSet<Edge>) -> Vec<String> {
    let mut next: BTreeMap<&Path, BTreeSet<&Path>> = BTreeMap::new();
    for edge in edges.iter().filter(|edge| !edge.handed_on) {
        next.entry(&edge.from).or_default().insert(&edge.to);
    }
    let mut seen: BTreeSet<&Path> = BTreeSet::new();
    let mut found = Vec::new();
    for start in next.keys() {
        if seen.contains(start) {
            continue;
        }
        if let Some(circle) = circle(start, &next) {
            seen.extend(&circle);
            let names: Vec<String> = circle.iter().map(|module| shown(module)).collect();
            found.push(format!("circle: {} -> {}", names.join(" -> "), names[0]));
        }
    }
    found
}

/// The shortest way from a file back to itself.
fn circle<'a>(
    start: &'a Path,
    next: &BTreeMap<&'a Path, BTreeSet<&'a Path>>,
) -> Option<Vec<&'a Path>> {
    let mut before: BTreeMap<&Path, &Path> = BTreeMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(file) = queue.pop_front() {
        for &to in next.get(file).into_iter().flatten() {
            if to == start {
                let mut circle = vec![file];
                while let Some(file) = before.get(circle[circle.len() - 1]) {
                    circle.push(file);
                }
                circle.reverse();
                return Some(circle);
            }
            if !before.contains_key(to) {
                before.insert(to, file);
                queue.push_back(to);
            }
        }
    }
    None
}

fn shown(module: &Path) -> String {
    if module.is_empty() {
        "lib.rs".to_owned()
    } else {
        module.join("::")
    }
}

/// The order of each crate.
const LAYERS: [Layers; 7] = [
    Layers {
        package: "benches",
        groups: &[
            &["error"],
            &["machine", "stats"],
            &["load"],
            &["node"],
            &["yardstick"],
            &["measure"],
        ],
    },
    Layers {
        package: "ingest/wal",
        groups: &[
            &[
                "ids",
                "bytes",
                "clock",
                "local_time",
                "quiet",
                "share",
                "tasks",
            ],
            &["error", "disk"],
            &["durable", "paths", "damage", "room"],
            &["stored"],
            &["format"],
            &["config"],
            &["parquet"],
            &["read"],
            &["write", "compact"],
            &["open"],
            &["integrity"],
            &["replace"],
        ],
    },
    Layers {
        package: "ingest/intake",
        groups: &[
            &["error", "number", "zone"],
            &["timestamp"],
            &["stats", "record", "write"],
            &["unpack", "decoded"],
            &["json", "csv", "line", "warn"],
            &["sniff", "place"],
            &["payload"],
            &["append"],
            &["service"],
        ],
    },
    Layers {
        package: "ingest/mqtt",
        groups: &[
            &[
                "error",
                "frame",
                "filter",
                "ack",
                "replica_waits",
                "memory",
                "partial",
                "places",
                "allowance",
                "clip",
                "ids",
            ],
            &["first_packet", "assembly"],
            &["codec", "stats", "config", "topic", "aliases", "liveness"],
            &[
                "queue",
                "replica_waiters",
                "clients",
                "dead_letters",
                "refusals",
                "receive",
            ],
            &["handshake", "dead_letter", "told", "session"],
            &["store"],
            &["explain", "large"],
            &["reply"],
            &["ack_pass"],
            &["worker"],
            &["arrival"],
            &["connection"],
            &["listener"],
        ],
    },
    Layers {
        package: "replica",
        groups: &[
            &["lag", "backoff", "fault", "part"],
            &["wire"],
            &["error"],
            &["certs"],
            &["config", "status"],
            &["quic"],
            &["cert_watch"],
            &["files"],
            &["serve", "follow"],
        ],
    },
    Layers {
        package: "query",
        groups: &[
            &["names", "locate", "wording", "coding", "types", "each_expr"],
            &["at_zone"],
            &["error"],
            &["node", "running"],
            &["config", "params", "stats", "rewrite"],
            &["seat", "stop", "resident"],
            &["account"],
            &["guard", "admit", "version"],
            &["show", "dialect", "columns", "zone"],
            &["shadow", "naming", "weight"],
            &["mark"],
            &["prepare"],
            &["watch"],
            &["bounds"],
            &["scan"],
            &["catalog"],
            &["statement"],
            &["pump"],
            &["encode"],
            &["engine"],
        ],
    },
    Layers {
        package: "server",
        groups: &[
            &["conf"],
            &["signals", "telemetry"],
            &["report"],
            &["api"],
            &["http"],
            &["node"],
            &["cli"],
        ],
    },
];
