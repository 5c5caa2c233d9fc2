//! The rules of a `[[table]]`: how long rows stay, and which ones are taken. A row must never
//! be dropped in silence.

use std::time::{SystemTime, UNIX_EPOCH};

use tests::cluster::{Cluster, catch_up, settle};
use tests::eventually;
use tests::http::Http;
use tests::publisher::Device;

use crate::load;

/// This machine's clock, unix seconds.
fn now() -> i64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970");
    i64::try_from(now.as_secs()).expect("before 2262")
}

/// Waits until nothing but the fresh rows can be seen, however one looks.
fn only_the_fresh_are_left(http: &Http) {
    eventually("the old rows are gone", || {
        let counted = http.number("SELECT count(*) FROM short");
        let read = http.number("SELECT count(n + character_length(pad)) FROM short");
        if (counted, read) == (FRESH, FRESH) {
            Ok(())
        } else {
            Err((counted, read))
        }
    });
    assert_eq!(http.number("SELECT min(n) FROM short"), 0);
    assert_eq!(
        http.number("SELECT sum(n) FROM short"),
        FRESH * (FRESH - 1) / 2
    );
}

#[test]
fn rows_past_their_retention_are_gone_on_every_node_and_come_back() {
    let mut random = fastrand::Rng::with_seed(tests::seed());
    let mut cluster = Cluster::new();
    cluster.primary_setting("log.segment_size", "1 MiB");
    let primary = cluster.primary();
    let secondary = cluster.secondary("secondary", None);
    let mut device = Device::connect(cluster.mqtt(), "device");
    // Three segments of rows an hour old, numbered from 1000 on, and some of now.
    let began = now();
    for message in 0..6 {
        let numbers = 1_000 + message * 600..1_600 + message * 600;
        let old = load::rows(numbers, began - 3_600 - 5_000, &mut random);
        device.send("short/0", &old);
    }
    let fresh = load::rows(0..FRESH, began + 30, &mut random);
    device.send("short/0", &fresh);
    drop(device);
    catch_up(&primary, &secondary);
    primary.stop();

    // A retention that most rows are older than: they go by word alone.
    cluster.declare("[[table]]\nname = \"short\"\nretention = \"1 min\"");
    let primary = cluster.primary();
    let nodes = [Http::of(&primary), Http::of(&secondary)];
    eventually(
        "the cut waits",
        || match nodes[0].status()["waiting_cuts"][0]["table"].as_str() {
            Some("short") => Ok(()),
            other => Err(format!("{other:?}")),
        },
    );
    assert_eq!(nodes[0].number("SELECT count(*) FROM short"), FRESH + 3_600);
    let send = |path, kind, body: &str| nodes[0].send(path, kind, body).expect("answers");
    let said = send("/api/v1/tables/short/expire", "text/plain", "");
    assert_eq!(said.status, 204, "{said:?}");
    for http in &nodes {
        only_the_fresh_are_left(http);
        let sql = "SELECT CAST(cut AS BIGINT) FROM system.tables \
                   WHERE name = 'short' AND retention = '1 min'";
        let cut = http.number(sql) / 1_000_000_000;
        assert!(cut <= now() - 60 && cut >= began - 70, "cut at {cut}");
    }
    // An old row is refused by name, whichever way it comes.
    let mut device = Device::connect(cluster.mqtt(), "device");
    device.send("short/0", r#"{"time": "2020-01-01T00:00:00Z", "n": 1}"#);
    let letter = nodes[0].rows("SELECT reason FROM system.dead_letters");
    let reason = letter[0]["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("2020-01-01T00:00:00Z is older"), "{reason}");
    let old = r#"{"time": "2020-01-01T00:00:00Z", "n": 1}"#;
    let answer = send("/api/v1/ingest/short", "application/json", old);
    let too_old = |body: &str| body.contains("is older than what table");
    assert!(answer.status == 422 && too_old(&answer.body), "{answer:?}");
    let now_ns = now() * 1_000_000_000;
    let lines = format!("short n=5000i {now_ns}\nshort n=5001i 1577836800000000000\n");
    let answer = send("/api/v2/write?bucket=b", "text/plain", &lines);
    assert!(answer.status >= 400 && too_old(&answer.body), "{answer:?}");
    let stored = "SELECT count(*) FROM short WHERE n >= 5000";
    assert_eq!(nodes[0].number(stored), 1, "the line of now");

    // Nothing has left the files: without a retention all are back.
    load::seal(&mut device);
    drop(device);
    settle(&[&primary, &secondary]);
    primary.stop();
    cluster.undeclare();
    let primary = cluster.primary();
    for http in [Http::of(&primary), Http::of(&secondary)] {
        eventually("they are back", || {
            match http.number("SELECT count(*) FROM short") {
                count if count == FRESH + 3_601 => Ok(()),
                count => Err(count),
            }
        });
    }
}

#[test]
fn a_strict_table_sends_what_does_not_fit_to_the_dead_letters() {
    let mut cluster = Cluster::new();
    cluster.declare(MACHINE);
    let mut primary = cluster.primary();
    let fits = r#"{"site":"north","temperature":21,"count":3,"ok":true,"note":"x"}"#;
    let misfits = [
        (r#"{"site":"north","colour":"red"}"#, "\"colour\""),
        (r#"{"site":"north","count":"three"}"#, "\"count\""),
        (r#"{"site":"north","count":0.5}"#, "\"count\""),
        (r#"{"site":"north","ok":1}"#, "\"ok\""),
        (r#"{"site":"north","note":{"lang":"en"}}"#, "\"note_lang\""),
    ];
    for round in 1..=2 {
        let mut device = Device::connect(cluster.mqtt(), "machine-1");
        device.send("machine/1", fits);
        for (payload, _) in misfits {
            device.send("machine/1", payload);
        }
        device.send("machine/1", r#"{"site":"south","temperature":0.5}"#);
        let http = Http::of(&primary);
        let letters = http.rows("SELECT payload, reason FROM system.dead_letters ORDER BY time");
        assert_eq!(letters.len(), round * misfits.len(), "{letters:?}");
        for (letter, (payload, column)) in letters.iter().zip(misfits.iter().cycle()) {
            assert_eq!(letter["payload"], *payload);
            let reason = letter["reason"].as_str().unwrap_or_default();
            assert!(reason.contains(column), "{payload}: {reason}");
        }
        let rows = http.rows(
            r#"SELECT site, temperature, "count", ok, note FROM machine ORDER BY site, time"#,
        );
        assert_eq!(rows.len(), 2 * round, "{rows:?}");
        assert_eq!(rows[0]["site"], "north");
        assert_eq!(rows[0]["temperature"].as_f64(), Some(21.0));
        assert_eq!(rows[0]["count"], 3);
        assert_eq!(rows[0]["ok"], true);
        assert_eq!(rows[0]["note"], "x");
        assert_eq!(rows[round]["site"], "south");
        assert!(rows[round]["count"].is_null());
        // The rule is in the conf: it is there again after a restart.
        primary.stop();
        primary = cluster.primary();
    }
}

#[test]
fn sql_tells_the_roles_and_types_of_columns_and_large_integers_to_the_last_digit() {
    let mut cluster = Cluster::new();
    let primary = cluster.primary();
    let http = Http::of(&primary);
    let mut device = Device::connect(cluster.mqtt(), "device");
    for payload in [
        r#"{"serial":1724442618569203714,"site":"north","t":0.5,"n":1}"#,
        r#"{"serial":1724442618569203715,"t":-0.0,"n":2.0}"#,
        // Refused, so that neither of the others is rounded.
        r#"{"serial":0.5}"#,
        r#"{"serial":0.0}"#,
    ] {
        device.send("plant/1", payload);
    }
    let columns = "SELECT name, role, type FROM system.columns \
                   WHERE \"table\" = 'plant' ORDER BY position";
    let columns = http.rows(columns);
    let shown = columns.iter().map(|row| {
        let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
        format!("{} {} {}", text("name"), text("role"), text("type"))
    });
    let expected = [
        "time time time",
        "topic tag text",
        "serial field bigint",
        "site field text",
        "t field float",
        "n field int",
    ];
    assert!(shown.eq(expected), "{columns:?}");
    let tables = http.rows("SELECT tags, fields FROM system.tables WHERE name = 'plant'");
    assert_eq!(tables[0]["tags"], "topic");
    assert_eq!(
        tables[0]["fields"],
        "serial bigint, site text, t float, n int"
    );
    let rows = http.rows("SELECT serial FROM plant ORDER BY serial");
    let serials: Vec<Option<i64>> = rows.iter().map(|row| row["serial"].as_i64()).collect();
    let expected = [0, 1_724_442_618_569_203_714, 1_724_442_618_569_203_715];
    assert_eq!(serials, expected.map(Some));
    // One zero: no minus sign comes back, and both are one group.
    device.send("plant/1", r#"{"t":0.0}"#);
    let zeros = http.rows("SELECT t, count(*) AS n FROM plant WHERE t = 0 GROUP BY t");
    assert_eq!((zeros.len(), &zeros[0]["n"]), (1, &serde_json::json!(2)));
    let reason = "SELECT reason FROM system.dead_letters";
    let reason = http.rows(reason)[0]["reason"].to_string();
    assert!(
        reason.contains("serial") && reason.contains("beyond 2^53"),
        "{reason}"
    );
}

#[test]
fn a_renamed_column_is_renamed_on_every_node_and_in_every_file() {
    let mut cluster = Cluster::new();
    let primary = cluster.primary();
    let secondary = cluster.secondary("secondary", None);
    let nodes = [Http::of(&primary), Http::of(&secondary)];
    let mut device = Device::connect(cluster.mqtt(), "device");
    device.send("plant/1", r#"{"state":true,"n":1}"#);
    load::seal(&mut device);
    settle(&[&primary, &secondary]);
    let body = r#"{"from":"state","to":"on"}"#;
    let path = "/api/v1/tables/plant/rename-column";
    let renamed = nodes[0].send(path, "application/json", body);
    let renamed = renamed.expect("an answer");
    assert_eq!(renamed.status, 200, "{}", renamed.json());
    device.send("plant/1", r#"{"state":"ON","n":2}"#);
    catch_up(&primary, &secondary);
    for http in &nodes {
        let rows = http.rows("SELECT n, \"on\", state FROM plant ORDER BY n");
        let shown = [
            &rows[0]["on"],
            &rows[0]["state"],
            &rows[1]["on"],
            &rows[1]["state"],
        ];
        let expected = serde_json::json!([true, null, null, "ON"]);
        assert!(
            shown.into_iter().eq(expected.as_array().expect("a list")),
            "{rows:?}"
        );
    }
    let refused = nodes[1].send(path, "application/json", body);
    let refused = refused.expect("an answer");
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (403, "read_only")
    );
}

#[test]
fn a_column_becomes_text_on_every_node_and_takes_what_was_refused() {
    let mut cluster = Cluster::new();
    let primary = cluster.primary();
    let secondary = cluster.secondary("secondary", None);
    let nodes = [Http::of(&primary), Http::of(&secondary)];
    let mut device = Device::connect(cluster.mqtt(), "device");
    device.send("home/a", r#"{"n":1,"state":true,"t":21.5,"c":7}"#);
    load::seal(&mut device);
    settle(&[&primary, &secondary]);
    let refused = r#"{"n":3,"state":"ON","t":"warm","c":0.5}"#;
    device.send("home/b", refused);
    let letters = nodes[0].rows("SELECT reason FROM system.dead_letters");
    let reason = letters[0]["reason"].as_str().unwrap_or_default();
    let helps = "headwater table change-type \"home\" \"state\" text";
    assert!(reason.contains(helps), "{reason}");
    device.send("home/a", r#"{"n":2,"state":false,"t":0.25,"c":8}"#);
    let change = |http: &Http, column: &str, kind: &str| {
        let body = format!(r#"{{"column":"{column}","type":"{kind}"}}"#);
        let answer = http.send("/api/v1/tables/home/change-type", "application/json", &body);
        answer.expect("an answer")
    };
    for (column, kind) in [("state", "text"), ("t", "text"), ("c", "float")] {
        let changed = change(&nodes[0], column, kind);
        assert_eq!(changed.status, 200, "{changed:?}");
    }
    for (column, kind, status, code) in [
        ("c", "int", 422, "schema"),
        ("c", "float", 422, "schema"),
        ("none", "text", 404, "not_found"),
        ("c", "number", 400, "parameter"),
    ] {
        let refused = change(&nodes[0], column, kind);
        let found = (refused.status, refused.code());
        assert_eq!(found, (status, code.to_owned()), "{refused:?}");
    }
    assert_eq!(change(&nodes[1], "c", "text").code(), "read_only");
    device.send("home/b", refused);
    device.send("home/a", r#"{"n":4,"state":true,"t":3,"c":9}"#);
    catch_up(&primary, &secondary);
    let rows = "SELECT n, state, t, c FROM home ORDER BY n";
    let expected = serde_json::json!([
        {"n": 1, "state": "true", "t": "21.5", "c": 7.0},
        {"n": 2, "state": "false", "t": "0.25", "c": 8.0},
        {"n": 3, "state": "ON", "t": "warm", "c": 0.5},
        {"n": 4, "state": "true", "t": "3.0", "c": 9.0},
    ]);
    let check = |http: &Http, at: &str| {
        assert_eq!(serde_json::Value::from(http.rows(rows)), expected, "{at}");
        let sql = "SELECT count(*) FROM home WHERE state IN ('true', 'ON') AND t > '2'";
        assert_eq!(http.number(sql), 3, "{at}");
        let sql = "SELECT count(DISTINCT state) FROM home WHERE topic = 'home/a'";
        assert_eq!(http.number(sql), 2, "{at}");
        let verified = http.get("/api/v1/verify").json();
        assert_eq!(verified["faults"], serde_json::json!([]), "{at}");
    };
    nodes
        .iter()
        .for_each(|http| check(http, "blocks and files"));
    load::seal(&mut device);
    drop(device);
    settle(&[&primary, &secondary]);
    nodes.iter().for_each(|http| check(http, "files"));
    primary.stop();
    let primary = cluster.primary();
    let other = cluster.secondary("other", None);
    settle(&[&primary, &secondary, &other]);
    for node in [&primary, &secondary, &other] {
        check(&Http::of(node), "started again");
    }
}

#[test]
fn a_field_becomes_a_tag_on_every_node_and_is_looked_for_as_one() {
    let mut cluster = Cluster::new();
    let primary = cluster.primary();
    let secondary = cluster.secondary("secondary", None);
    let nodes = [Http::of(&primary), Http::of(&secondary)];
    let mut device = Device::connect(cluster.mqtt(), "device");
    for n in 0..40 {
        let site = ["north", "south"][n % 2];
        device.send(
            "plant/1",
            &format!(r#"{{"n":{n},"site":"{site}","room":{n}}}"#),
        );
        if n % 10 == 9 {
            load::seal(&mut device);
        }
    }
    settle(&[&primary, &secondary]);
    let change = |what: &str, body: &str| {
        let path = format!("/api/v1/tables/plant/{what}");
        let answer = nodes[0].send(&path, "application/json", body);
        answer.expect("an answer")
    };
    let refused = change("change-role", r#"{"column":"room","role":"tag"}"#);
    let helps = refused.body.contains("change-type");
    assert!(refused.status == 422 && helps, "{refused:?}");
    for (what, body) in [
        ("change-type", r#"{"column":"room","type":"text"}"#),
        ("change-role", r#"{"column":"room","role":"tag"}"#),
        ("change-role", r#"{"column":"site","role":"tag"}"#),
        ("change-role", r#"{"column":"topic","role":"field"}"#),
    ] {
        let changed = change(what, body);
        assert_eq!(changed.status, 200, "{changed:?}");
    }
    device.send("plant/1", r#"{"n":40,"site":"north","room":"hall"}"#);
    device.send("plant/2", r#"{"n":41,"site":7,"room":7}"#);
    catch_up(&primary, &secondary);
    let check = |http: &Http, at: &str| {
        for (filter, rows) in [
            ("site = 'north'", 21),
            ("site = '7' AND room = '7' AND topic = 'plant/2'", 1),
            ("room IN ('7', '39', 'hall')", 4),
            ("topic = 'plant/1'", 41),
            ("room = 'none'", 0),
        ] {
            let sql = format!("SELECT count(*) FROM plant WHERE {filter}");
            assert_eq!(http.number(&sql), rows, "{at}: {filter}");
        }
        let sql = "SELECT tags FROM system.tables WHERE name = 'plant'";
        assert_eq!(http.rows(sql)[0]["tags"], "site, room", "{at}");
        let verified = http.get("/api/v1/verify").json();
        assert_eq!(verified["faults"], serde_json::json!([]), "{at}");
    };
    nodes
        .iter()
        .for_each(|http| check(http, "blocks and files"));
    load::seal(&mut device);
    drop(device);
    settle(&[&primary, &secondary]);
    nodes.iter().for_each(|http| check(http, "files"));
    primary.stop();
    let primary = cluster.primary();
    let other = cluster.secondary("other", None);
    settle(&[&primary, &secondary, &other]);
    for node in [&primary, &secondary, &other] {
        check(&Http::of(node), "started again");
    }
}

#[test]
fn a_renamed_table_is_renamed_on_every_node_and_its_old_name_is_free() {
    let mut cluster = Cluster::new();
    cluster.declare("[[table]]\nname = \"kept\"\nretention = \"90 days\"");
    let primary = cluster.primary();
    let secondary = cluster.secondary("secondary", None);
    let nodes = [Http::of(&primary), Http::of(&secondary)];
    let mut device = Device::connect(cluster.mqtt(), "device");
    device.send("plant/1", r#"{"n":1}"#);
    load::seal(&mut device);
    settle(&[&primary, &secondary]);
    let rename = |http: &Http, from: &str, body: &str| {
        let path = format!("/api/v1/tables/{from}/rename");
        let answer = http.send(&path, "application/json", body);
        answer.expect("an answer")
    };
    let renamed = rename(&nodes[0], "plant", r#"{"to":"works"}"#);
    assert_eq!(renamed.status, 200, "{}", renamed.json());
    // The same connection goes on, and what it sends is of another type.
    device.send("plant/1", r#"{"n":"two"}"#);
    for (from, to) in [("kept", "other"), ("works", "kept")] {
        let refused = rename(&nodes[0], from, &format!(r#"{{"to":"{to}"}}"#));
        let named = refused.body.contains("[[table]]");
        assert!(refused.status == 422 && named, "{refused:?}");
    }
    let refused = rename(&nodes[1], "works", r#"{"to":"other"}"#);
    let found = (refused.status, refused.code());
    assert_eq!(found, (403, "read_only".to_owned()));
    catch_up(&primary, &secondary);
    let names = "SELECT string_agg(name, ',' ORDER BY name) AS names FROM system.tables \
                 WHERE name IN ('plant', 'works', 'other')";
    for http in &nodes {
        assert_eq!(http.rows("SELECT n FROM works")[0]["n"], 1);
        assert_eq!(http.rows("SELECT n FROM plant")[0]["n"], "two");
        assert_eq!(http.rows(names)[0]["names"], "plant,works");
    }
    // What was true before stays true of the files and after a restart.
    load::seal(&mut device);
    drop(device);
    settle(&[&primary, &secondary]);
    primary.stop();
    let primary = cluster.primary();
    for http in [Http::of(&primary), Http::of(&secondary)] {
        assert_eq!(http.rows("SELECT n FROM works")[0]["n"], 1);
        assert_eq!(http.rows("SELECT n FROM plant")[0]["n"], "two");
        let verified = http.get("/api/v1/verify").json();
        assert_eq!(verified["faults"], serde_json::json!([]), "{verified}");
    }
}

const FRESH: i64 = 50;

const MACHINE: &str = r#"
[[table]]
name = "machine"
strict = true
tags = ["site"]
columns = { temperature = "float", count = "int", ok = "bool", note = "text" }
"#;
