//! Whole nodes in this process, whose tasks are made to panic: the node says so everywhere and
//! begins them again, or ends. Must never take a node for well that has lost a task.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use replica::certs::{Authority, CertRole};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::conf::{self, Following, Http, Mqtt, Serving, Shipping, Storage};
use crate::node::parts::runtime;
use crate::node::primary::Primary;
use crate::node::secondary::Secondary;

/// A primary and a secondary that follows it.
struct Pair {
    runtime: Runtime,
    primary: Option<Primary>,
    secondary: Option<Secondary>,
    _dir: tempfile::TempDir,
}

impl Pair {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let runtime = runtime().unwrap();
        let authority = Authority::new().unwrap();
        let names = ["127.0.0.1".to_owned()];
        let http = || Http {
            listen: any_port(),
            ..Http::default()
        };
        let storage = || Storage {
            reserve_disk: Some(0),
            ..Storage::default()
        };
        let conf = conf::Primary {
            mqtt: Mqtt {
                listen: any_port(),
                workers: 1,
                ..Mqtt::default()
            },
            http: Some(http()),
            replication: Some(Shipping {
                certs: PathBuf::new(),
                serving: Serving::new(any_port()),
            }),
            storage: storage(),
            ..conf::Primary::default()
        };
        let identity = authority
            .issue("primary", CertRole::Primary, &names)
            .unwrap();
        let node = node(dir.path(), "primary");
        let primary = runtime.block_on(Primary::start(&node, &conf, Some(identity)));
        let primary = primary.unwrap();
        let upstream = primary.replication_addr().unwrap().to_string();
        let conf = conf::Secondary {
            following: Following::new(vec![upstream], PathBuf::new()),
            storage: storage(),
            http: http(),
        };
        let identity = authority
            .issue("secondary", CertRole::Secondary, &names)
            .unwrap();
        let node = self::node(dir.path(), "secondary");
        let secondary = runtime.block_on(Secondary::start(&node, &conf, Some(identity)));
        let pair = Self {
            primary: Some(primary),
            secondary: Some(secondary.unwrap()),
            runtime,
            _dir: dir,
        };
        for http in pair.http() {
            until("ready", || status_of(http, "/ready") == 200);
        }
        pair
    }

    fn http(&self) -> [SocketAddr; 2] {
        let primary = self.primary.as_ref().unwrap().http_addr().unwrap();
        [
            primary,
            self.secondary.as_ref().unwrap().http_addr().unwrap(),
        ]
    }

    fn tasks(&self) -> [wal::Tasks; 2] {
        [
            self.primary.as_ref().unwrap().tasks().clone(),
            self.secondary.as_ref().unwrap().tasks().clone(),
        ]
    }

    /// A row, so that whoever waits for rows has something to do.
    fn write(&self) {
        let body = "{\"a\": 1}";
        let request = format!(
            "POST /api/v1/ingest/t HTTP/1.0\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        ask(self.http()[0], &request);
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        if let Some(secondary) = self.secondary.take() {
            let _ = self.runtime.block_on(secondary.stop());
        }
        if let Some(primary) = self.primary.take() {
            let _ = self.runtime.block_on(primary.stop());
        }
    }
}

#[test]
fn tasks_that_panic_are_told_and_begun_again() {
    let pair = Pair::start();
    for (node, (http, tasks)) in pair.http().into_iter().zip(pair.tasks()).enumerate() {
        let names = RESTARTED[node];
        let known: Vec<&str> = tasks.counts().iter().map(|(name, _)| *name).collect();
        let expected = [names, VITAL[node], &["role-notes"]].concat();
        // That one has returned once an upstream was met.
        let new = |name: &&&str| !expected.contains(name);
        assert_eq!(known.iter().find(new), None, "what does its end mean?");
        for name in names {
            assert!(known.contains(name), "{name} does not run: {known:?}");
            tasks.fail(name);
        }
        for name in names {
            let line = format!("headwater_task_ends_total{{task={name:?}}} 1\n");
            until(name, || get(http, "/metrics").contains(&line));
            let status = get(http, "/api/v1/status");
            assert!(status.contains(&format!("\"task\":{name:?}")), "{status}");
        }
        let answer = get(http, "/ready");
        assert!(answer.starts_with("HTTP/1.0 503"), "{answer}");
        assert!(answer.contains("it is begun again"), "{answer}");
        until("ready again", || status_of(http, "/ready") == 200);
    }
}

#[test]
fn a_node_that_has_lost_a_vital_task_ends_and_is_not_ready() {
    for (node, names) in VITAL.into_iter().enumerate() {
        for name in names.iter().filter(|name| **name != OF_ANOTHER_RUNTIME) {
            let pair = Pair::start();
            pair.tasks()[node].fail(name);
            pair.write();
            let (primary, secondary) = (pair.primary.as_ref(), pair.secondary.as_ref());
            let ended = pair.runtime.block_on(async {
                let ended = async {
                    match node {
                        0 => primary.unwrap().failed().await,
                        _ => secondary.unwrap().failed().await,
                    }
                };
                timeout(LONG, ended).await
            });
            assert!(ended.expect(name).contains(name));
            assert_eq!(status_of(pair.http()[node], "/ready"), 503, "{name}");
            if node == 1 {
                let streams = || get(pair.http()[node], "/api/v1/status").contains("\"streaming\"");
                until("it does not say that all is well", || !streams());
            }
        }
    }
}

fn node(dir: &Path, name: &str) -> conf::Node {
    conf::Node {
        name: name.to_owned(),
        data_dir: dir.join(name),
        memory_limit: Some(conf::LEAST_MEMORY),
    }
}

fn any_port() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

fn ask(http: SocketAddr, request: &str) -> String {
    let mut socket = TcpStream::connect(http).unwrap();
    socket.set_read_timeout(Some(LONG)).unwrap();
    socket.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer
}

fn get(http: SocketAddr, path: &str) -> String {
    ask(http, &format!("GET {path} HTTP/1.0\r\n\r\n"))
}

fn status_of(http: SocketAddr, path: &str) -> u16 {
    let answer = get(http, path);
    let status = answer.split(' ').nth(1);
    status.and_then(|status| status.parse().ok()).unwrap()
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < LONG, "{what}");
        std::thread::yield_now();
    }
}

const LONG: Duration = Duration::from_secs(30);

/// What is begun again on a primary and on a secondary.
const RESTARTED: [&[&str]; 2] = [
    &[
        "certificates",
        "compactor",
        "cut-teller",
        "damage-teller",
        "http-accept",
        "members-list",
        "place-watch",
        "repair",
        "replication-accept",
        "room-teller",
        "schema-teller",
        "scrubber",
        "stall-teller",
    ],
    &[
        "certificates",
        "compaction-keeper",
        "compactor",
        "damage-keeper",
        "damage-teller",
        "http-accept",
        "place-watch",
        "repair",
        "room-teller",
        "schema-teller",
        "scrub-keeper",
        "scrubber",
        "stall-teller",
        "upstream-notes",
    ],
];

/// What ends them.
const VITAL: [&[&str]; 2] = [
    &[
        "committer",
        "mqtt-acknowledgements",
        "mqtt-large",
        "mqtt-replicas",
        "mqtt-timeouts",
        OF_ANOTHER_RUNTIME,
    ],
    &["follow", "follower"],
];

/// It has no step at which it could be made to panic: it ends with the threads that it runs.
const OF_ANOTHER_RUNTIME: &str = "mqtt";
