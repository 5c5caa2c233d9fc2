//! Bad input gets a clear answer, ends at most its own connection, and must never lose
//! anything.

use serde_json::Value;
use tests::cluster::Cluster;
use tests::eventually;
use tests::http::Http;
use tests::node::Node;
use tests::raw::{Raw, connect, packet, publish};

fn primary(cluster: &mut Cluster) -> (Node, Http) {
    let node = cluster.primary();
    let http = Http::of(&node);
    (node, http)
}

fn acknowledged(raw: &mut Raw, id: u16, topic: &str, payload: &[u8]) {
    raw.send(&publish(id, topic, &[], payload));
    let ack = raw.packet().expect("a PUBACK");
    assert_eq!(ack, [0x40, 2, (id >> 8) as u8, id as u8], "for {topic}");
}

/// An object with the columns `c0`, `c1`, ...
fn columns(count: usize) -> String {
    let fields: Vec<String> = (0..count).map(|n| format!("\"c{n}\":{n}")).collect();
    format!("{{{}}}", fields.join(","))
}

/// The dead letter holds the message as it came, and says why.
fn is_letter(letter: &Value, topic: &str, payload: &[u8], reason: &str) {
    let text = |name: &str| letter[name].as_str().unwrap_or_default().to_owned();
    let said = text("reason");
    assert!(said.contains(reason), "{topic}: {said}");
    assert_eq!(
        (text("topic").as_str(), text("client").as_str()),
        (topic, "device-7")
    );
    match std::str::from_utf8(payload) {
        Ok(payload) => assert_eq!(text("payload"), payload),
        Err(_) => assert_eq!(
            (text("payload"), text("encoding")),
            ("fffe7b".into(), "hex".into())
        ),
    }
}

#[test]
fn what_does_not_parse_or_fit_goes_to_the_dead_letters_and_is_acknowledged() {
    let mut cluster = Cluster::new();
    let (_node, http) = primary(&mut cluster);
    let mut raw = Raw::v3(cluster.mqtt(), "device-7");
    acknowledged(
        &mut raw,
        1,
        "plant/a",
        br#"{"t":21.5,"n":1,"s":"x","b":true}"#,
    );
    let deep = format!("{}1{}", "{\"a\":".repeat(1000), "}".repeat(1000));
    let wide = columns(2000);
    let cases: [(&str, &[u8], &str); 18] = [
        ("plant/a", b"not\njson", "no JSON: it has several lines"),
        ("plant/a", b"cpu,host=a v=1 1", "looks like line protocol"),
        ("plant/a", b"null", "no value that can be stored"),
        ("plant/a", b"{\"t\":", "invalid JSON"),
        ("plant/a", b"", "payload is empty"),
        ("plant/a", b"\xff\xfe{", "begins as UTF-16"),
        ("plant/a", deep.as_bytes(), "recursion limit"),
        ("plant/a", br#"{"t":NaN}"#, "invalid JSON"),
        (
            "plant/a",
            br#"{"n":99999999999999999999999}"#,
            "exceeds 64 bits",
        ),
        (
            "plant/a",
            br#"{"t":"warm"}"#,
            "holds a float, the value is text",
        ),
        (
            "plant/a",
            br#"{"b":1}"#,
            "holds a boolean, the value is an integer",
        ),
        ("plant/a", br#"{"t":1,"t":2}"#, "given twice"),
        (
            "plant/a",
            br#"{"c":{"x":1},"c_x":2}"#,
            "c.x and c_x are one column",
        ),
        ("plant/a", br#"{"topic":"x"}"#, "under another name"),
        (
            "plant/a",
            br#"{"t":1,"time":"noon"}"#,
            "it is the row's time",
        ),
        ("wide/a", wide.as_bytes(), "more than 1024 columns"),
        ("//", br#"{"t":1}"#, "only empty levels"),
        ("system.segments/a", br#"{"t":1}"#, "is reserved"),
    ];
    for (at, (topic, payload, _)) in cases.iter().enumerate() {
        acknowledged(
            &mut raw,
            100 + u16::try_from(at).expect("few"),
            topic,
            payload,
        );
    }
    acknowledged(&mut raw, 2, "plant/a", br#"{"t":22.5}"#);
    acknowledged(&mut raw, 3, "/sys/pump//status", br#"{"t":1}"#);
    let slashed = http.rows("SELECT topic FROM sys");
    assert_eq!(slashed[0]["topic"], "/sys/pump//status");
    let letters = http.rows("SELECT * FROM system.dead_letters");
    assert_eq!(letters.len(), cases.len());
    for (letter, (topic, payload, reason)) in letters.iter().zip(&cases) {
        is_letter(letter, topic, payload, reason);
    }
    assert_eq!(http.number("SELECT count(*) FROM plant"), 2);
    assert_eq!(http.number("SELECT count(*) FROM plant WHERE t > 20"), 2);
}

#[test]
fn a_thousand_new_columns_are_stored_and_queried() {
    let mut cluster = Cluster::new();
    let (_node, http) = primary(&mut cluster);
    let mut raw = Raw::v3(cluster.mqtt(), "wide");
    acknowledged(&mut raw, 1, "wide/a", columns(1000).as_bytes());
    acknowledged(&mut raw, 2, "wide/a", br#"{"c999":0.5}"#);
    let rows = http.rows("SELECT c0, c500, c999 FROM wide ORDER BY c999");
    assert_eq!(rows[1]["c500"], 500);
    assert_eq!(rows[0]["c999"], 0.5);
    assert!(rows[0]["c0"].is_null());
}

#[test]
fn malformed_packets_close_only_their_connection() {
    let mut cluster = Cluster::new();
    let (mut node, http) = primary(&mut cluster);
    let mut bystander = Raw::v3(cluster.mqtt(), "bystander");
    let longer_topic = [&b"\x32\x05\x00\x20ab\x00"[..], &[b'x'; 40]].concat();
    let too_long = packet(0x32, &vec![b'x'; 2 << 20]);
    let v3: [(&str, &[u8]); 7] = [
        ("a PUBLISH shorter than its header", &longer_topic),
        ("a packet beyond the limit", &too_long),
        ("a second CONNECT", &connect(4, "again", &[])),
        ("an empty topic", &publish(1, "", &[], b"{}")),
        ("a topic with wildcards", &publish(1, "a/+", &[], b"{}")),
        ("an overlong remaining length", b"\xc0\xff\xff\xff\xff\xff"),
        ("a packet only a server sends", b"\x20\x02\x00\x00"),
    ];
    for (what, bytes) in v3 {
        let mut raw = Raw::v3(cluster.mqtt(), "malformed");
        raw.send(bytes);
        assert_eq!(raw.packet(), None, "{what} did not end the connection");
    }
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x32\x00"] {
        let mut raw = Raw::open(cluster.mqtt());
        raw.send(bytes);
        assert_eq!(raw.packet(), None, "{bytes:?}");
    }
    let mut raw = Raw::open(cluster.mqtt());
    raw.send(b"\x10\x0c\x00\x04MQTT\x03\x02\x00\x3c\x00\x00");
    let refused = raw.packet();
    assert_eq!(refused.as_deref(), Some(&[0x20, 2, 0, 1][..]), "a version");
    assert_eq!(raw.packet(), None);
    let (mut v5, _) = Raw::v5(cluster.mqtt(), "five");
    v5.send(&publish(1, "a/b", b"\xff\xff\xff\x7f", b""));
    assert_eq!(
        v5.packet().map(|bytes| (bytes[0], bytes[2])),
        Some((0xe0, 0x81)),
        "malformed"
    );
    let (mut v5, _) = Raw::v5(cluster.mqtt(), "six");
    v5.send(&too_long);
    assert_eq!(
        v5.packet().map(|bytes| (bytes[0], bytes[2])),
        Some((0xe0, 0x95)),
        "too large"
    );
    acknowledged(&mut bystander, 9, "plant/a", br#"{"t":1}"#);
    assert_eq!(http.number("SELECT count(*) FROM plant"), 1);
    assert!(node.is_up());
}

#[test]
fn packets_of_any_size_up_to_the_limit_arrive_whole_however_they_are_cut() {
    let mut cluster = Cluster::new();
    let (_node, http) = primary(&mut cluster);
    let mut random = fastrand::Rng::with_seed(tests::seed());
    let mut raw = Raw::v3(cluster.mqtt(), "big");
    let sizes = [0, 100, 16_000, 65_000, 70_000, 300_000, 1_000_000];
    for (at, size) in sizes.iter().enumerate() {
        let id = u16::try_from(at + 1).expect("few");
        let payload = format!(r#"{{"n":{at},"s":"{}"}}"#, "y".repeat(*size));
        let bytes = publish(id, "big/a", &[], payload.as_bytes());
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let cut = random.usize(1..=rest.len());
            raw.send(&rest[..cut]);
            rest = &rest[cut..];
        }
        assert_eq!(
            raw.packet().expect("a PUBACK"),
            [0x40, 2, 0, id as u8],
            "{size} bytes"
        );
    }
    let rows = http.rows("SELECT character_length(s) AS size FROM big ORDER BY n");
    let stored: Vec<u64> = rows.iter().filter_map(|row| row["size"].as_u64()).collect();
    assert!(
        stored
            .iter()
            .zip(&sizes)
            .all(|(stored, sent)| *stored == *sent as u64),
        "{stored:?}"
    );
}

#[test]
fn mqtt_5_acknowledgements_carry_the_lsn_to_read_at() {
    let mut cluster = Cluster::new();
    let (_node, http) = primary(&mut cluster);
    let (mut raw, _) = Raw::v5(cluster.mqtt(), "five");
    for id in 1..=20 {
        raw.send(&publish(id, "plant/a", &[0], br#"{"t":1}"#));
        let ack = raw.packet().expect("a PUBACK");
        let lsn = ack
            .windows(3)
            .position(|bytes| bytes == b"lsn")
            .expect("the property")
            + 5;
        let lsn = std::str::from_utf8(&ack[lsn..]).expect("digits");
        let answer = http.query("SELECT count(*) AS n FROM plant", &[("min_lsn", lsn)]);
        assert_eq!(answer.json()[0]["n"], id, "at {lsn}");
    }
}

#[test]
fn qos_2_is_stored_once_and_qos_0_without_an_answer() {
    let mut cluster = Cluster::new();
    let (_node, http) = primary(&mut cluster);
    let mut raw = Raw::v3(cluster.mqtt(), "two");
    let mut message = publish(5, "plant/a", &[], br#"{"t":1}"#);
    message[0] = 0x34;
    raw.send(&message);
    assert_eq!(raw.packet().expect("PUBREC"), [0x50, 2, 0, 5]);
    message[0] = 0x3c;
    raw.send(&message);
    assert_eq!(raw.packet().expect("PUBREC again"), [0x50, 2, 0, 5]);
    raw.send(&[0x62, 2, 0, 5]);
    assert_eq!(raw.packet().expect("PUBCOMP"), [0x70, 2, 0, 5]);
    raw.send(b"\x30\x10\x00\x07plant/a{\"t\":2}");
    raw.send(b"\xc0\x00");
    assert_eq!(raw.packet().expect("PINGRESP"), [0xd0, 0]);
    eventually("both rows", || {
        match http.number("SELECT count(*) FROM plant") {
            2 => Ok(()),
            seen => Err(seen),
        }
    });
}

#[test]
fn a_client_id_that_connects_again_takes_over() {
    let mut cluster = Cluster::new();
    let (_node, _http) = primary(&mut cluster);
    let (mut older, _) = Raw::v5(cluster.mqtt(), "same");
    let mut newer = Raw::v3(cluster.mqtt(), "same");
    assert_eq!(
        older.packet().map(|bytes| (bytes[0], bytes[2])),
        Some((0xe0, 0x8e))
    );
    acknowledged(&mut newer, 1, "plant/a", br#"{"t":1}"#);
}

#[test]
fn a_subscription_is_refused_cleanly() {
    let mut cluster = Cluster::new();
    let (_node, _http) = primary(&mut cluster);
    let mut raw = Raw::v3(cluster.mqtt(), "subscriber");
    raw.send(b"\x82\x08\x00\x07\x00\x03a/#\x01");
    assert_eq!(raw.packet().expect("SUBACK"), [0x90, 3, 0, 7, 0x80]);
    acknowledged(&mut raw, 1, "plant/a", br#"{"t":1}"#);
}
