//! Whole trees, as a user sees them. Must never need a node.

use serde_json::{Map, Value, json};

use super::*;

/// A part of a status as it travels; what a test is about is added to it.
#[derive(Clone)]
struct Told(Map<String, Value>);

impl From<Told> for Value {
    fn from(told: Told) -> Self {
        Self::Object(told.0)
    }
}

impl Told {
    fn of(fields: Value) -> Self {
        match fields {
            Value::Object(fields) => Self(fields),
            other => panic!("{other}"),
        }
    }

    /// The node that is asked, without a log.
    fn empty(name: &str, role: &str) -> Self {
        Self::of(json!({
            "node": name, "node_id": "", "role": role, "version": "0.1.0", "uptime_s": 61,
        }))
    }

    /// The node that is asked.
    fn node(name: &str, role: &str) -> Self {
        Self::empty(name, role).and(json!({
            "log_id": "00", "epoch": 1, "lsn": 20, "oldest_lsn": 4, "committed_unix_ms": 0,
            "segments": 1, "segment_bytes": 1536,
        }))
    }

    /// A primary with these.
    fn primary<const N: usize>(secondaries: [Self; N]) -> Self {
        Self::node("p", "primary").with("secondaries", secondaries)
    }

    /// A secondary that follows like this.
    fn following(upstream: Self) -> Self {
        Self::node("s", "secondary").with("upstream", upstream)
    }

    /// A secondary that is connected to the node that was asked.
    fn secondary(name: &str, id: &str, state: &str) -> Self {
        Self::of(json!({
            "name": name, "id": id, "address": "10.0.0.2:9", "state": state, "sent_lsn": 20,
            "received_lsn": 20, "flushed_lsn": 19, "applied_lsn": 18, "lag_rows": 2,
            "lag_bytes": 300, "lag_ms": 4, "connected_unix_ms": 0,
            "last_seen_unix_ms": 1_700_000_000_000_u64,
        }))
    }

    /// One that a relay tells of.
    fn below(name: &str, id: &str, state: &str, via: &str) -> Self {
        Self::of(json!({
            "name": name, "id": id, "address": "10.1.0.2:9", "state": state, "applied_lsn": 17,
            "via": via,
        }))
    }

    /// How a secondary follows.
    fn upstream(state: &str) -> Self {
        Self::of(json!({
            "address": "p:7441", "state": state, "lsn": 22, "received_lsn": 20, "flushed_lsn": 20,
            "applied_lsn": 20, "lag_rows": 2, "lag_ms": 9, "reconnects": 2,
            "last_contact_unix_ms": 0,
        }))
    }

    fn with(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.0.insert(field.to_owned(), value.into());
        self
    }

    /// With all these fields.
    fn and(mut self, fields: Value) -> Self {
        self.0.extend(Self::of(fields).0);
        self
    }

    /// The lines of the tree.
    fn lines(self) -> Vec<String> {
        let status: Status = serde_json::from_value(self.into()).unwrap();
        tree(&status).lines().map(str::to_owned).collect()
    }
}

#[test]
fn dead_letters_and_messages_that_wait_are_told() {
    let mqtt = json!({
        "address": "127.0.0.1:1883", "connections": 1, "received": 9, "acknowledged": 4, "rows": 6,
        "dead_letters": 3, "newest_dead_letter": {"topic": "a/b", "client": "c",
        "reason": "the payload is empty", "unix_ms": 1_700_000_000_000_u64},
        "awaiting_secondaries": 2, "awaiting_since_unix_ms": 1_700_000_001_000_u64,
    });
    assert_eq!(
        Told::node("p", "primary")
            .with("mqtt", mqtt.clone())
            .lines()[3..],
        [
            "    3 dead letters since it started (system.dead_letters); newest \
             2023-11-14T22:13:20Z, topic a/b: the payload is empty",
            "    WAITING FOR SECONDARIES: 2 messages on disk here, not acknowledged, the first \
             since 2023-11-14T22:13:21Z",
        ]
    );
    let mut quiet = mqtt;
    for count in ["dead_letters", "awaiting_secondaries"] {
        quiet[count] = json!(0);
    }
    assert_eq!(
        Told::node("p", "primary").with("mqtt", quiet).lines().len(),
        3
    );
}

#[test]
fn a_primary_stands_above_its_secondaries() {
    let primary = Told::primary([
        Told::secondary("a", "", "streaming"),
        Told::secondary("b", "", "catching_up"),
    ]);
    assert_eq!(
        primary.lines(),
        [
            "p  primary  epoch 1  lsn 20  <- asked",
            "|   version 0.1.0, up 1 min",
            "|   1 segment, 1.5 KiB, from lsn 4",
            "|-- a  secondary  10.0.0.2:9  streaming  lsn 18  lag 2 rows, 300 bytes, 4 ms",
            "`-- b  secondary  10.0.0.2:9  catching_up  lsn 18  lag 2 rows, 300 bytes, 4 ms",
        ]
    );
}

#[test]
fn relays_stand_above_those_who_follow_them() {
    let relayed = [
        Told::below("leaf", "l1", "streaming", "r2"),
        Told::below("relay-2", "r2", "streaming", "r1"),
        Told::below("other", "l2", "disconnected", "r1"),
    ];
    let relay = Told::secondary("relay-1", "r1", "streaming");
    let primary = Told::primary([
        relay
            .with("serves", "0.0.0.0:7441")
            .with("descendants", relayed),
        Told::secondary("b", "b1", "streaming"),
    ]);
    assert_eq!(
        primary.lines()[3..],
        [
            "|-- relay-1  relay  10.0.0.2:9  streaming  lsn 18  lag 2 rows, 300 bytes, 4 ms",
            "|   |   serves 0.0.0.0:7441",
            "|   |-- relay-2  relay  10.1.0.2:9  streaming  lsn 17  lag 3 rows",
            "|   |   `-- leaf  secondary  10.1.0.2:9  streaming  lsn 17  lag 3 rows",
            "|   `-- other  secondary  10.1.0.2:9  disconnected  lsn 17  lag 3 rows",
            "`-- b  secondary  10.0.0.2:9  streaming  lsn 18  lag 2 rows, 300 bytes, 4 ms",
        ]
    );
}

#[test]
fn a_node_stands_where_it_is_connected_and_only_there() {
    // `s` was here before it went to the relay; `t` was there before it came here.
    let relayed = [
        Told::below("s", "s1", "streaming", "r1"),
        Told::below("t", "t1", "disconnected", "r1"),
    ];
    let primary = Told::primary([
        Told::secondary("s", "s1", "disconnected"),
        Told::secondary("relay", "r1", "streaming").with("descendants", relayed),
        Told::secondary("t", "t1", "streaming"),
    ]);
    assert_eq!(
        primary.lines()[3..],
        [
            "|-- relay  relay  10.0.0.2:9  streaming  lsn 18  lag 2 rows, 300 bytes, 4 ms",
            "|   `-- s  secondary  10.1.0.2:9  streaming  lsn 17  lag 3 rows",
            "`-- t  secondary  10.0.0.2:9  streaming  lsn 18  lag 2 rows, 300 bytes, 4 ms",
        ]
    );
}

#[test]
fn relays_that_name_each_other_are_shown_none_the_less() {
    let relayed = [
        Told::below("x", "x1", "streaming", "y1"),
        Told::below("y", "y1", "streaming", "x1"),
        Told::below("z", "z1", "streaming", "z1"),
        Told::below("lost", "l1", "streaming", "nobody"),
    ];
    let relay = Told::secondary("relay", "r1", "streaming").with("descendants", relayed);
    assert_eq!(
        Told::primary([relay]).lines()[3..],
        [
            "|-- relay  relay  10.0.0.2:9  streaming  lsn 18  lag 2 rows, 300 bytes, 4 ms",
            "|   `-- lost  secondary  10.1.0.2:9  streaming  lsn 17  lag 3 rows",
            "|-- x  secondary  10.1.0.2:9  streaming  lsn 17  lag 3 rows",
            "|-- y  secondary  10.1.0.2:9  streaming  lsn 17  lag 3 rows",
            "`-- z  secondary  10.1.0.2:9  streaming  lsn 17  lag 3 rows",
        ]
    );
}

#[test]
fn what_is_wrong_with_a_secondary_is_told() {
    let primary = Told::primary([
        Told::secondary("a", "a1", "streaming").with("files_differ", true),
        Told::secondary("b", "b1", "disconnected").with("reason", "no answer"),
    ]);
    assert_eq!(
        primary.lines()[3..],
        [
            "|-- a  secondary  10.0.0.2:9  streaming  lsn 18  lag 2 rows, 300 bytes, 4 ms",
            "|       ITS FILES ARE NOT THOSE OF THIS NODE: headwater verify --against",
            "`-- b  secondary  10.0.0.2:9  disconnected  lsn 18  lag 2 rows, 300 bytes, 4 ms",
            "        disconnected: no answer",
            "        last seen 2023-11-14T22:13:20Z",
        ]
    );
}

#[test]
fn a_secondary_stands_below_the_whole_way_to_its_primary() {
    let upstream = Told::upstream("streaming").and(json!({
        "upstreams": ["p:7441", "q:7441"], "rooted": true,
        "route": [{"id": "r1", "name": "relay-1"}, {"id": "p1", "name": "primary-1"}],
    }));
    let leaf = Told::secondary("leaf", "l1", "streaming");
    assert_eq!(
        Told::following(upstream)
            .with("secondaries", [leaf])
            .lines(),
        [
            "primary-1  primary  lsn 22",
            "`-- relay-1  relay",
            "    `-- s  relay  streaming  epoch 1  lsn 20  lag 2 rows, 9 ms  <- asked",
            "        |   version 0.1.0, up 1 min",
            "        |   follows p:7441 (of p:7441, q:7441)",
            "        |   1 segment, 1.5 KiB, from lsn 4",
            "        `-- leaf  secondary  10.0.0.2:9  streaming  lsn 18  \
             lag 2 rows, 300 bytes, 4 ms",
        ]
    );
}

#[test]
fn no_way_to_the_primary_is_said_at_the_top() {
    let upstream = Told::upstream("connecting").and(json!({
        "lsn": 0, "received_lsn": 0, "flushed_lsn": 0, "applied_lsn": 0, "lag_rows": null,
        "lag_ms": null, "reason": "no answer",
    }));
    let bare = Told::empty("s", "secondary").and(json!({
        "uptime_s": 7, "not_ready": "no log yet",
    }));
    assert_eq!(
        bare.with("upstream", upstream).lines(),
        [
            "no way to the primary  lsn 0 when heard",
            "`-- p:7441  upstream  not reached",
            "    `-- s  secondary  connecting  no log yet  lag unknown rows, unknown ms  <- asked",
            "            version 0.1.0, up 7 s",
            "            not ready: no log yet",
            "            follows p:7441",
            "            connecting: no answer",
        ]
    );
    let route = json!([{"id": "r1", "name": "relay-1"}]);
    let upstream = Told::upstream("streaming").with("route", route);
    assert_eq!(
        Told::following(upstream).lines()[..3],
        [
            "no way to the primary  lsn 22 when heard",
            "`-- relay-1  relay",
            "    `-- s  secondary  streaming  epoch 1  lsn 20  lag 2 rows, 9 ms  <- asked",
        ]
    );
}

#[test]
fn who_is_turned_away_or_away_claims_no_lag() {
    let upstream = Told::upstream("refused").and(json!({
        "lag_rows": null, "reason": "its certificate is revoked",
    }));
    assert_eq!(
        Told::following(upstream).lines()[..3],
        [
            "no way to the primary  lsn 22 when heard",
            "`-- p:7441  upstream  REFUSED",
            "    `-- s  secondary  refused  epoch 1  lsn 20  lag unknown rows, 9 ms  <- asked",
        ]
    );
    let unknown = json!({"lag_rows": null, "lag_bytes": null, "lag_ms": null});
    let refused = Told::secondary("a", "a1", "refused").and(unknown);
    assert_eq!(
        Told::primary([refused]).lines()[3],
        "`-- a  secondary  10.0.0.2:9  refused  lsn 18  lag unknown rows, unknown ms"
    );
}

#[test]
fn an_upstream_of_an_earlier_version_tells_no_way() {
    assert_eq!(
        Told::following(Told::upstream("streaming")).lines()[..2],
        [
            "p:7441  upstream  lsn 22",
            "`-- s  secondary  streaming  epoch 1  lsn 20  lag 2 rows, 9 ms  <- asked",
        ]
    );
}

#[test]
fn joining_and_divergence_have_their_lines() {
    let diverged = |at: u64| {
        let path = format!("d/{at}");
        json!({"path": path, "from_lsn": 5, "to_lsn": 8, "rows": 3, "bytes": 90})
    };
    let upstream = Told::upstream("needs_snapshot").and(json!({
        "bootstrap": {"files": 12, "files_held": 3, "bytes": 1_288_490_189, "bytes_held": 41_943_040},
        "snapshots": 1, "divergences": 2, "diverged": (0..10).map(diverged).collect::<Vec<_>>(),
    }));
    let lines = Told::following(upstream).lines();
    assert_eq!(
        lines[3..10],
        [
            "        follows p:7441",
            "        bootstrapping: 3 of 12 files, 40.0 MiB of 1.2 GiB",
            "        1 snapshot taken in since it started",
            "        DIVERGED 2 times since it started",
            "        kept aside: 2 more, not shown",
            "        kept aside: d/2: 3 rows, 90 bytes, lsn 5 to 8",
            "        kept aside: d/3: 3 rows, 90 bytes, lsn 5 to 8",
        ]
    );
    assert_eq!(lines.len(), 17);
}

#[test]
fn files_faults_and_what_is_at_risk_have_their_lines() {
    let accounting = |rows: u64, bytes: u64, ms: u64| {
        json!({
            "rows": {"taken": 20, "dead_lettered": 0, "durable": 20},
            "lsn": {"durable": 20, "shipped": 19, "applied": 18, "queryable": null},
            "at_risk": {"rows": rows, "bytes": bytes, "ms": ms},
        })
    };
    let node = Told::node("p", "primary").and(json!({
        "not_ready": "the disk is too full", "compacted_lsn": 10, "files": 1, "file_bytes": 2048,
        "file_rows": 9, "backlog_bytes": 1024, "disk_free_bytes": 5,
        "stalled": "the disk is too full", "compaction_error": "no room",
        "damaged": [{"name": "a.log", "reason": "a flipped bit"}],
        "scrub": {
            "passes": 2, "bytes": 3072, "faults": 1, "last_pass_unix_ms": 1_700_000_000_000_u64,
        },
    }));
    let risky = node.clone().with("accounting", accounting(5, 300, 12));
    assert_eq!(
        risky.lines(),
        [
            "p  primary  epoch 1  lsn 20  <- asked",
            "    version 0.1.0, up 1 min",
            "    not ready: the disk is too full",
            "    1 segment, 1.5 KiB, from lsn 4",
            "    compacted to lsn 10: 1 file, 2.0 KiB, 9 rows; 1.0 KiB to go",
            "    stalled: the disk is too full",
            "    compaction fails: no room",
            "    5 bytes of disk free",
            "    DAMAGED: a.log: a flipped bit",
            "    scrub: 3.0 KiB read, 1 fault found; all was read 2 times, last by \
             2023-11-14T22:13:20Z",
            "    lsn: durable to 20, shipped to 19, applied to 18, NOT ALL QUERYABLE",
            "    would be lost if this node vanished now: 5 rows, 300 bytes, 12 ms",
        ]
    );
    let lines = node.with("accounting", accounting(0, 0, 0)).lines();
    assert_eq!(
        lines[lines.len() - 1],
        "    nothing would be lost if this node vanished now"
    );
}

#[test]
fn how_far_the_log_has_come_is_told_where_it_is_known() {
    let lsn = json!({"lsn": {"durable": 20, "queryable": 20}});
    let node = Told::node("s", "secondary").with("accounting", lsn);
    assert_eq!(
        node.lines()[3..],
        ["    lsn: durable to 20, queryable to 20"]
    );
}

#[test]
fn a_certificate_tells_what_is_wrong_with_it_and_the_ca_what_its_end_means() {
    let day = 86_400;
    let now = i64::try_from(wal::clock::unix_ms() / 1000).unwrap();
    let lines = |from: i64, until: i64, ca: i64| {
        let at = |days: i64| now + days * day + 60;
        let (from_unix_s, until_unix_s, ca_until_unix_s) = (at(from), at(until), at(ca));
        certificate_lines(&CertificateStatus {
            name: "p".to_owned(),
            from_unix_s,
            until_unix_s,
            ca_until_unix_s,
            role: "relay".to_owned(),
        })
    };
    for (from, until, ca, parts) in [
        (-2, 400, 900, &["certificate of \"p\": until"][..]),
        (-2, -1, 900, &["CERTIFICATE OF \"p\" HAS EXPIRED"]),
        (3, 400, 900, &["IS NOT VALID YET: only from"]),
        (
            -2,
            400,
            50,
            &["400 days 0 h left, role relay", "ONLY 50 days 0 h left"],
        ),
        (
            -2,
            400,
            -5,
            &["400 days 0 h left", "go on accepting each other"],
        ),
    ] {
        let lines = lines(from, until, ca);
        assert_eq!(lines.len(), parts.len(), "{lines:?}");
        for (line, part) in lines.iter().zip(parts) {
            assert!(line.contains(part), "{lines:?}");
        }
    }
}
