//! Names of tables and columns that clients make up: bounded for each client and for the node, and
//! nobody else pays for them; an operator takes them away again. Must never need a name to be
//! refused for an honest row to be taken.

use serde_json::{Value, json};
use tests::cluster::{Cluster, catch_up, settle};
use tests::http::{Answer, Http};
use tests::node::run;
use tests::publisher::Device;
use tests::raw::{Raw, publish};

/// Sends messages, so many at a time as may be in flight; every one is acknowledged.
fn send_all(raw: &mut Raw, messages: impl Iterator<Item = (String, String)>) {
    let messages: Vec<(String, String)> = messages.collect();
    for window in messages.chunks(500) {
        for ((topic, payload), id) in window.iter().zip(1..) {
            raw.send(&publish(id, topic, &[], payload.as_bytes()));
        }
        for (_, id) in window.iter().zip(1_u16..) {
            let [high, low] = id.to_be_bytes();
            assert_eq!(raw.packet().expect("a PUBACK"), [0x40, 2, high, low]);
        }
    }
}

fn no_quotas(cluster: &mut Cluster) {
    cluster.primary_setting("ingest.new_tables_per_minute", 0);
    cluster.primary_setting("ingest.new_columns_per_minute", 0);
}

fn drop_table(http: &Http, table: &str) -> Answer {
    let path = format!("/api/v1/tables/{table}/drop");
    let body = json!({ "all_rows_of": table }).to_string();
    let answer = http.send(&path, "application/json", &body);
    answer.expect("an answer")
}

/// Tables up to the limit, before the first dead letter.
#[test]
fn tables_that_are_made_up_leave_the_dead_letters_their_place() {
    let mut cluster = Cluster::new();
    no_quotas(&mut cluster);
    let primary = cluster.primary();
    let mut honest = Device::connect(cluster.mqtt(), "honest");
    honest.send("plant/1", r#"{"n":0}"#);
    let mut greedy = Raw::v3(cluster.mqtt(), "greedy");
    let message = |number: i64| (format!("t{number}/1"), r#"{"v":1}"#.to_owned());
    send_all(&mut greedy, (0..10_000).map(message));
    let letters = |http: &Http| http.number("SELECT count(*) FROM system.dead_letters");
    // The last one found no place; what is no row finds its place, too, and ends no session.
    let http = Http::of(&primary);
    assert_eq!(letters(&http), 1);
    for _ in 0..3 {
        honest.send("plant/1", "{");
        honest.send("plant/1", r#"{"n":1}"#);
    }
    assert_eq!(letters(&http), 4);
    drop((honest, greedy));
    primary.stop();
    let primary = cluster.primary();
    let secondary = cluster.secondary("secondary", None);
    let mut honest = Device::connect(cluster.mqtt(), "honest");
    honest.send("plant/1", "{");
    honest.send("mine/1", r#"{"n":1}"#);
    honest.send("plant/1", r#"{"n":1}"#);
    catch_up(&primary, &secondary);
    for node in [&primary, &secondary] {
        let http = Http::of(node);
        assert_eq!(letters(&http), 6);
        assert_eq!(http.number("SELECT sum(n) FROM plant"), 4);
    }
    // An operator makes room.
    assert_eq!(drop_table(&Http::of(&primary), "t7").status, 200);
    honest.send("mine/1", r#"{"n":1}"#);
    assert_eq!(Http::of(&primary).number("SELECT sum(n) FROM mine"), 1);
    secondary.stop();
    primary.stop();
}

#[test]
fn who_makes_names_up_has_a_quota_and_others_have_theirs() {
    let mut cluster = Cluster::new();
    let primary = cluster.primary();
    let http = Http::of(&primary);
    let mut greedy = Raw::v3(cluster.mqtt(), "greedy");
    let message = |number: i64| (format!("t{number}/1"), r#"{"v":1}"#.to_owned());
    send_all(&mut greedy, (0..2_000).map(message));
    let tables = "SELECT count(*) FROM system.tables WHERE name LIKE 't%'";
    let made = http.number(tables);
    // A little comes back as time goes by.
    assert!((300..1_500).contains(&made), "{made}");
    let letters = "SELECT count(*) FROM system.dead_letters WHERE client = 'greedy' \
                   AND reason LIKE '%ingest.new_tables_per_minute%'";
    assert_eq!(http.number(letters), 2_000 - made);
    let mut honest = Device::connect(cluster.mqtt(), "honest");
    honest.send("mine/1", r#"{"n":1}"#);
    assert_eq!(http.number("SELECT count(*) FROM mine"), 1);
    // Over HTTP whoever sends is the address, and told to come again.
    let wide = |table: usize| {
        let fields = (0..1_000).map(|number| (format!("c{number}"), json!(1)));
        let row = Value::Object(fields.collect()).to_string();
        let path = format!("/api/v1/ingest/w{table}");
        let answer = http.send(&path, "application/json", &row);
        answer.expect("an answer")
    };
    let answers: Vec<Answer> = (0..5).map(wide).collect();
    assert_eq!(answers[0].status, 200, "{:?}", answers[0]);
    let refused = answers.iter().find(|answer| answer.status != 200);
    let refused = refused.expect("more than 3000 columns");
    assert_eq!(
        (refused.status, refused.code()),
        (429, "too_many_new".to_owned())
    );
    assert!(!refused.header("retry-after").is_empty());
    primary.stop();
}

#[test]
fn a_dropped_table_is_gone_on_every_node_and_its_name_is_free() {
    let mut cluster = Cluster::new();
    cluster.declare("[[table]]\nname = \"kept\"");
    cluster.primary_setting("log.segment_size", "1 MiB");
    let primary = cluster.primary();
    let secondary = cluster.secondary("secondary", None);
    let nodes = [Http::of(&primary), Http::of(&secondary)];
    let mut device = Device::connect(cluster.mqtt(), "device");
    device.send("plant/1", r#"{"n":1}"#);
    crate::load::seal(&mut device);
    device.send("plant/1", r#"{"n":2}"#);
    settle(&[&primary, &secondary]);
    let before = nodes[0].lsn();
    for (http, table, status, told) in [
        (&nodes[1], "plant", 403, "read_only"),
        (&nodes[0], "kept", 422, "[[table]]"),
        (&nodes[0], "none", 404, "no table"),
        (&nodes[0], "system.dead_letters", 422, "Headwater's own"),
    ] {
        let refused = drop_table(http, table);
        let named = refused.body.contains(told);
        assert!(refused.status == status && named, "{table}: {refused:?}");
    }
    let path = "/api/v1/tables/plant/drop";
    let unmeant = nodes[0].send(path, "application/json", r#"{"all_rows_of":"plan"}"#);
    assert_eq!(unmeant.expect("an answer").status, 400);
    let url = nodes[0].url();
    let (code, _) = run(&["table", "drop", "plant", "--url", url]);
    assert_ne!(code, Some(0), "not without a word that it is meant");
    let (code, told) = run(&["table", "drop", "plant", "--lose-all-rows", "--url", url]);
    assert_eq!(code, Some(0), "{told}");
    // The same connection goes on, and what it sends is of another type.
    device.send("plant/1", r#"{"n":"three"}"#);
    catch_up(&primary, &secondary);
    let rows = [json!({"n": "three"})];
    for http in &nodes {
        assert_eq!(http.rows("SELECT n FROM plant"), rows);
        let view = http.query(
            "SELECT n FROM plant ORDER BY n",
            &[("as_of_lsn", &before.to_string())],
        );
        assert_eq!(view.json(), json!([{"n": 1}, {"n": 2}]), "{view:?}");
    }
    crate::load::seal(&mut device);
    drop(device);
    settle(&[&primary, &secondary]);
    assert_eq!(
        cluster.parquet_files("primary"),
        cluster.parquet_files("secondary")
    );
    primary.stop();
    let primary = cluster.primary();
    // A node that was never there, and one that was away.
    let other = cluster.secondary("other", None);
    settle(&[&primary, &secondary, &other]);
    for http in [&primary, &secondary, &other].map(Http::of) {
        assert_eq!(http.rows("SELECT n FROM plant"), rows);
        let verified = http.get("/api/v1/verify").json();
        assert_eq!(verified["faults"], json!([]), "{verified}");
    }
    other.stop();
    secondary.stop();
    primary.stop();
}
