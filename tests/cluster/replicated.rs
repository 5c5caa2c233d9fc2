//! An acknowledgement that was asked to wait for secondaries: it comes when they have the row
//! on their disks, must never come before, and it says what was reached.

use tests::cluster::{Cluster, catch_up};
use tests::eventually;
use tests::http::Http;
use tests::node::Node;
use tests::raw::{Raw, publish};

/// What a message with this user property asks for.
fn asking(ack: &str) -> Vec<u8> {
    let mut property = vec![0x26];
    for text in ["ack", ack] {
        property.extend_from_slice(&[0, u8::try_from(text.len()).expect("short")]);
        property.extend_from_slice(text.as_bytes());
    }
    let mut properties = vec![u8::try_from(property.len()).expect("short")];
    properties.extend_from_slice(&property);
    properties
}

/// The PUBACK of message `id`: what it says was reached; empty when it says nothing of it.
fn reached(raw: &mut Raw, id: u16) -> String {
    let ack = raw.packet().expect("a PUBACK");
    assert_eq!((ack[0], &ack[2..4]), (0x40, &id.to_be_bytes()[..]));
    assert_eq!(ack.get(4).copied().unwrap_or(0), 0, "refused: {ack:?}");
    let name = b"\x26\x00\x03ack";
    let found = ack.windows(name.len()).position(|window| window == name);
    let value = found.map(|at| &ack[at + name.len()..]);
    let text = value.map(|value| &value[2..2 + usize::from(value[1])]);
    String::from_utf8_lossy(text.unwrap_or_default()).into_owned()
}

/// Waits until so many messages are stored and not acknowledged yet.
fn waiting(http: &Http, count: u64) {
    eventually("messages that wait", || {
        let messages = http.status()["accounting"]["messages"].clone();
        if messages["waiting"] == count {
            Ok(())
        } else {
            Err(messages)
        }
    });
}

/// Waits until the primary sees a secondary that follows closely.
fn streaming(primary: &Node) {
    eventually("the secondary streams", || {
        let secondaries = Http::of(primary).status()["secondaries"].clone();
        if secondaries[0]["state"] == "streaming" {
            Ok(())
        } else {
            Err(secondaries)
        }
    });
}

/// Waits until queries see so many rows; never more.
fn shows(node: &Node, count: i64) {
    eventually("the rows", || {
        let seen = Http::of(node).number("SELECT count(*) FROM plant");
        assert!(seen <= count, "{seen} rows");
        if seen == count { Ok(()) } else { Err(seen) }
    });
}

#[test]
fn a_message_waits_for_a_secondary_and_what_was_acknowledged_outlives_the_primary() {
    let mut cluster = Cluster::new();
    cluster.primary_setting("mqtt.ack", "replicated:1");
    let primary = cluster.primary();
    let (mut raw, _) = Raw::v5(cluster.mqtt(), "device");
    raw.send(&publish(1, "plant/a", &[0], ROW));
    let http = Http::of(&primary);
    eventually("the row is stored", || {
        match http.query("SELECT count(*) AS c FROM plant", &[("format", "json")]) {
            answer if answer.status == 200 && answer.json()[0]["c"] == 1 => Ok(()),
            answer => Err(answer.body),
        }
    });
    waiting(&http, 1);
    assert_eq!(http.status()["accounting"]["messages"]["acknowledged"], 0);

    let secondary = cluster.secondary("secondary", None);
    assert_eq!(reached(&mut raw, 1), "replicated:1");
    waiting(&http, 0);

    // Who asks for less waits for less, and is not kept waiting by its neighbour's secondary.
    secondary.kill();
    let (mut other, _) = Raw::v5(cluster.mqtt(), "other");
    other.send(&publish(1, "plant/b", &asking("durable"), ROW));
    assert_eq!(reached(&mut other, 1), "");
    raw.send(&publish(2, "plant/a", &[0], ROW));
    waiting(&http, 1);
    let secondary = cluster.secondary("secondary", None);
    assert_eq!(reached(&mut raw, 2), "replicated:1");

    primary.kill();
    shows(&secondary, 3);
    secondary.kill();
    shows(&cluster.secondary("secondary", None), 3);
}

#[test]
fn a_primary_that_may_fall_back_does_and_says_so() {
    let mut cluster = Cluster::new();
    cluster.primary_setting("replication.too_few", "fall_back");
    let primary = cluster.primary();
    let (mut raw, _) = Raw::v5(cluster.mqtt(), "device");
    raw.send(&publish(1, "plant/a", &[0], ROW));
    assert_eq!(reached(&mut raw, 1), "");
    raw.send(&publish(2, "plant/a", &asking("replicated:1"), ROW));
    assert_eq!(reached(&mut raw, 2), "durable");

    let secondary = cluster.secondary("secondary", None);
    catch_up(&primary, &secondary);
    streaming(&primary);
    raw.send(&publish(3, "plant/a", &asking("replicated:1"), ROW));
    assert_eq!(reached(&mut raw, 3), "replicated:1");
    raw.send(&publish(4, "plant/a", &asking("replicated:2"), ROW));
    assert_eq!(reached(&mut raw, 4), "durable");
    let metric = |name: &str| Http::of(&primary).metric(name);
    assert_eq!(metric("headwater_mqtt_messages_fell_back_total"), Some(2.0));
    assert_eq!(
        metric("headwater_mqtt_messages_replicated_total"),
        Some(1.0)
    );
    catch_up(&primary, &secondary);
    shows(&primary, 4);
    shows(&secondary, 4);
}

const ROW: &[u8] = br#"{"t":1}"#;
