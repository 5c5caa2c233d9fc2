//! Whole trees, as a user sees them.

use super::*;

fn shown(json: &str) -> Vec<String> {
    let status: Status = serde_json::from_str(json).unwrap();
    let text = tree(&status);
    text.lines().map(str::to_owned).collect()
}

/// A node with a log, and more fields of it.
fn node(name: &str, role: &str, more: &str) -> String {
    format!(
        r#"{{"node": "{name}", "node_id": "", "role": "{role}", "version": "0.1.0",
        "uptime_s": 61, "log_id": "00", "epoch": 1, "lsn": 20, "oldest_lsn": 4,
        "committed_unix_ms": 0, "segments": 1, "segment_bytes": 1536{more}}}"#
    )
}

/// A secondary that is connected to the node that was asked.
fn secondary(name: &str, id: &str, state: &str, more: &str) -> String {
    format!(
        r#"{{"name": "{name}", "id": "{id}", "address": "10.0.0.2:9", "state": "{state}",
        "sent_lsn": 20, "received_lsn": 20, "flushed_lsn": 19, "applied_lsn": 18,
        "lag_rows": 2, "lag_bytes": 300, "lag_ms": 4, "connected_unix_ms": 0,
        "last_seen_unix_ms": 1700000000000{more}}}"#
    )
}

/// One that a relay tells of.
fn below(name: &str, id: &str, state: &str, via: &str) -> String {
    format!(
        r#"{{"name": "{name}", "id": "{id}", "address": "10.1.0.2:9", "state": "{state}",
        "applied_lsn": 17, "via": "{via}"}}"#
    )
}

/// How a secondary follows.
fn upstream(state: &str, more: &str) -> String {
    format!(
        r#", "upstream": {{"address": "p:7441", "state": "{state}", "lsn": 22,
        "received_lsn": 20, "flushed_lsn": 20, "applied_lsn": 20, "lag_rows": 2, "lag_ms": 9,
        "reconnects": 2, "last_contact_unix_ms": 0{more}}}"#
    )
}

#[test]
fn a_primary_stands_above_its_secondaries() {
    let (a, b) = (
        secondary("a", "", "streaming", ""),
        secondary("b", "", "catching_up", ""),
    );
    let json = node("p", "primary", &format!(r#", "secondaries": [{a}, {b}]"#));
    assert_eq!(
        shown(&json),
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
        below("leaf", "l1", "streaming", "r2"),
        below("relay-2", "r2", "streaming", "r1"),
        below("other", "l2", "disconnected", "r1"),
    ];
    let more = format!(
        r#", "serves": "0.0.0.0:7441", "below": [{}]"#,
        relayed.join(", ")
    );
    let relay = secondary("relay-1", "r1", "streaming", &more);
    let bare = secondary("b", "b1", "streaming", "");
    let json = node(
        "p",
        "primary",
        &format!(r#", "secondaries": [{relay}, {bare}]"#),
    );
    assert_eq!(
        shown(&json)[3..],
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
        below("s", "s1", "streaming", "r1"),
        below("t", "t1", "disconnected", "r1"),
    ];
    let more = format!(r#", "below": [{}]"#, relayed.join(", "));
    let all = [
        secondary("s", "s1", "disconnected", ""),
        secondary("relay", "r1", "streaming", &more),
        secondary("t", "t1", "streaming", ""),
    ];
    let json = node(
        "p",
        "primary",
        &format!(r#", "secondaries": [{}]"#, all.join(", ")),
    );
    assert_eq!(
        shown(&json)[3..],
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
        below("x", "x1", "streaming", "y1"),
        below("y", "y1", "streaming", "x1"),
        below("z", "z1", "streaming", "z1"),
        below("lost", "l1", "streaming", "nobody"),
    ];
    let more = format!(r#", "below": [{}]"#, relayed.join(", "));
    let relay = secondary("relay", "r1", "streaming", &more);
    let json = node("p", "primary", &format!(r#", "secondaries": [{relay}]"#));
    assert_eq!(
        shown(&json)[3..],
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
    let all = [
        secondary("a", "a1", "streaming", r#", "files_differ": true"#),
        secondary("b", "b1", "disconnected", r#", "reason": "no answer""#),
    ];
    let json = node(
        "p",
        "primary",
        &format!(r#", "secondaries": [{}]"#, all.join(", ")),
    );
    assert_eq!(
        shown(&json)[3..],
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
    let route = r#", "upstreams": ["p:7441", "q:7441"], "rooted": true,
        "route": [{"id": "r1", "name": "relay-1"}, {"id": "p1", "name": "primary-1"}]"#;
    let leaf = secondary("leaf", "l1", "streaming", "");
    let more = format!(
        r#", "secondaries": [{leaf}]{}"#,
        upstream("streaming", route)
    );
    assert_eq!(
        shown(&node("s", "secondary", &more)),
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
    let json = r#"{"node": "s", "node_id": "", "role": "secondary", "version": "0.1.0",
        "uptime_s": 7, "not_ready": "no log yet", "upstream": {"address": "p:7441",
        "state": "connecting", "lsn": 0, "received_lsn": 0, "flushed_lsn": 0, "applied_lsn": 0,
        "lag_rows": null, "lag_ms": null, "reconnects": 2, "last_contact_unix_ms": 0,
        "reason": "no answer"}}"#;
    assert_eq!(
        shown(json),
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
    let route = r#", "route": [{"id": "r1", "name": "relay-1"}]"#;
    let json = node("s", "secondary", &upstream("streaming", route));
    assert_eq!(
        shown(&json)[..3],
        [
            "no way to the primary  lsn 22 when heard",
            "`-- relay-1  relay",
            "    `-- s  secondary  streaming  epoch 1  lsn 20  lag 2 rows, 9 ms  <- asked",
        ]
    );
}

#[test]
fn an_upstream_of_an_earlier_version_tells_no_way() {
    let json = node("s", "secondary", &upstream("streaming", ""));
    assert_eq!(
        shown(&json)[..2],
        [
            "p:7441  upstream  lsn 22",
            "`-- s  secondary  streaming  epoch 1  lsn 20  lag 2 rows, 9 ms  <- asked",
        ]
    );
}

#[test]
fn joining_and_divergence_have_their_lines() {
    let shelved = |path: &str| {
        format!(r#"{{"path": "{path}", "from_lsn": 5, "to_lsn": 8, "rows": 3, "bytes": 90}}"#)
    };
    let paths: Vec<String> = (0..10).map(|at| shelved(&format!("d/{at}"))).collect();
    let more = format!(
        r#", "join": {{"files": 12, "files_held": 3, "bytes": 1288490189,
        "bytes_held": 41943040}}, "snapshots": 1, "divergences": 2, "shelved": [{}]"#,
        paths.join(", ")
    );
    let json = node("s", "secondary", &upstream("needs_snapshot", &more));
    let lines = shown(&json);
    assert_eq!(
        lines[3..10],
        [
            "        follows p:7441",
            "        joining: 3 of 12 files, 40.0 MiB of 1.2 GiB",
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
    let more = r#", "not_ready": "the disk is too full", "compacted_lsn": 10,
        "files": 1, "file_bytes": 2048, "file_rows": 9, "backlog_bytes": 1024,
        "disk_free_bytes": 5, "stalled": "the disk is too full", "compaction_error": "no room",
        "damaged": [{"name": "a.log", "reason": "a flipped bit"}],
        "scrub": {"passes": 2, "bytes": 3072, "faults": 1, "last_pass_unix_ms": 1700000000000},
        "accounting": {"rows": {"taken": 20, "dead_lettered": 0, "durable": 20},
        "lsn": {"durable": 20, "shipped": 19, "applied": 18, "queryable": null},
        "at_risk": {"rows": 5, "bytes": 300, "ms": 12}}"#;
    assert_eq!(
        shown(&node("p", "primary", more)),
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
    let safe = more.replace(
        r#""rows": 5, "bytes": 300, "ms": 12"#,
        r#""rows": 0, "bytes": 0, "ms": 0"#,
    );
    let lines = shown(&node("p", "primary", &safe));
    assert_eq!(
        lines[lines.len() - 1],
        "    nothing would be lost if this node vanished now"
    );
}

#[test]
fn how_far_the_log_has_come_is_told_where_it_is_known() {
    let more = r#", "accounting": {"lsn": {"durable": 20, "queryable": 20}}"#;
    assert_eq!(
        shown(&node("s", "secondary", more))[3..],
        ["    lsn: durable to 20, queryable to 20"]
    );
}
