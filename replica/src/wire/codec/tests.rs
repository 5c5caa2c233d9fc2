//! Golden bytes of every message, and that no bytes whatever do harm. Golden bytes must never
//! change.

use super::*;
use crate::wire::message::*;
use crate::wire::{NodeCertificate, Statement, Statements};

/// Every message and its frame, byte for byte, made by another program.
fn golden() -> Vec<(Message, &'static str)> {
    [
        first_words(),
        later_words(),
        words_since_2(),
        words_since_3(),
        words_since_4(),
        words_since_5(),
    ]
    .concat()
}

fn first_words() -> Vec<(Message, &'static str)> {
    vec![
        (
            Message::Hello(Hello {
                protocol_min: 1,
                protocol_max: 1,
                format_version: 1,
                log: Some(LOG),
                epoch: 3,
                lsn: 70_000,
                chain: CHAIN,
                node: "secondary-1".to_owned(),
                node_id: "n-42".to_owned(),
                bootstrapping: true,
                compressions: 1,
                serves: "r:1".to_owned(),
            }),
            "3b0000000001010101a0a1a2a3a4a5a6a7a8a9aaabacadaeaf03fc70110100fdefcdab89674523010b7365636f6e646172792d31046e2d3432010103723a31",
        ),
        (
            Message::Hello(Hello {
                protocol_min: 1,
                protocol_max: 1,
                format_version: 1,
                node: "s".to_owned(),
                ..Hello::default()
            }),
            "0e0000000001010100000000017300000000",
        ),
        (
            Message::Welcome(Welcome {
                protocol: 1,
                log: LOG,
                epoch: 3,
                plan: WirePlan::Stream {
                    lsn: 70_000,
                    chain: CHAIN,
                },
                durable: 5_000_000_000,
                now_unix_ns: NOW,
            }),
            "340000000101a0a1a2a3a4a5a6a7a8a9aaabacadaeaf0300fc70110100fdefcdab8967452301fd00f2052a01000000fd2a9a0b7bfc392f2f",
        ),
    ]
}

fn later_words() -> Vec<(Message, &'static str)> {
    vec![
        (
            Message::Refuse(Refuse {
                code: 9,
                message: "too old".to_owned(),
                detail: "oldest=250".to_owned(),
            }),
            "15000000020907746f6f206f6c640a6f6c646573743d323530",
        ),
        (
            Message::Heartbeat(Heartbeat {
                durable: 251,
                committed_at_ns: NOW - 1,
                now_unix_ns: NOW,
            }),
            "1600000003fbfb00fd289a0b7bfc392f2ffd2a9a0b7bfc392f2f",
        ),
        (
            Message::CaughtUp(CaughtUp { at: 65_535 }),
            "0400000004fbffff",
        ),
        (
            Message::End(End {
                reason: "bye".to_owned(),
            }),
            "050000000603627965",
        ),
    ]
}

fn words_since_2() -> Vec<(Message, &'static str)> {
    vec![
        (
            Message::Fetch(Fetch {
                log: LOG,
                name: "00000000000000000042.log".to_owned(),
            }),
            "2a00000007a0a1a2a3a4a5a6a7a8a9aaabacadaeaf1830303030303030303030303030303030303034322e6c6f67",
        ),
        (
            Message::File(File {
                found: true,
                bytes: 70_000,
                reason: String::new(),
            }),
            "080000000801fc7011010000",
        ),
        (
            Message::File(File {
                found: false,
                bytes: 0,
                reason: "not it".to_owned(),
            }),
            "0a000000080000066e6f74206974",
        ),
    ]
}

fn words_since_4() -> Vec<(Message, &'static str)> {
    vec![
        (
            Message::CutOff(CutOff {
                reason: "no".to_owned(),
            }),
            "040000000f026e6f",
        ),
        (
            Message::PrimaryHttp(PrimaryHttp {
                address: "http://a:1".to_owned(),
            }),
            "0c000000100a687474703a2f2f613a31",
        ),
    ]
}

fn words_since_5() -> Vec<(Message, &'static str)> {
    let statement = Statement {
        node: 251,
        flushed: 300,
        chain: CHAIN,
        heard_ns: -1,
        scheme: 0x0403,
        signature: vec![9, 8],
    };
    vec![
        (
            Message::NodeCertificate(NodeCertificate { der: vec![1, 2, 3] }),
            "050000001103010203",
        ),
        (
            Message::Statements(Statements {
                nodes: vec![statement],
            }),
            "180000001201fbfb00fb2c01fdefcdab896745230101fb0304020908",
        ),
    ]
}

fn words_since_3() -> Vec<(Message, &'static str)> {
    let point = |lsn, chain| Point { lsn, chain };
    let hop = |id: &str, name: &str| WireHop {
        id: id.to_owned(),
        name: name.to_owned(),
    };
    vec![
        (
            Message::Route(Route {
                hops: vec![hop("i1", "relay"), hop("i0", "primary")],
                rooted: true,
            }),
            "1700000009020269310572656c6179026930077072696d61727901",
        ),
        (
            Message::Probe(Probe {
                points: vec![point(5, 1), point(70_000, CHAIN)],
            }),
            "120000000a020501fc70110100fdefcdab8967452301",
        ),
        (
            Message::Common(Common {
                index: Some(1),
                durable: point(300, CHAIN),
            }),
            "0f0000000b0101fb2c01fdefcdab8967452301",
        ),
        (
            Message::Common(Common {
                index: None,
                durable: point(0, 7),
            }),
            "040000000b000007",
        ),
        (
            Message::FetchFrom(FetchFrom {
                log: LOG,
                name: "manifest".to_owned(),
                from: 1 << 20,
            }),
            "1f0000000ca0a1a2a3a4a5a6a7a8a9aaabacadaeaf086d616e6966657374fc00001000",
        ),
        (
            report(),
            "270000000dfb2c01faf9fdefcdab896745230102fdefcdab8967452301c807644009fdefcdab8967452301",
        ),
        (
            downstreams(),
            "230000000e01026932046c65616609312e322e332e343a350973747265616d696e67f902693103",
        ),
        (
            welcome(WirePlan::Snapshot {
                lsn: 64,
                chain: CHAIN,
                files: 2,
                bytes: 70_000,
            }),
            "260000000103a0a1a2a3a4a5a6a7a8a9aaabacadaeaf030140fdefcdab896745230102fc701101006400",
        ),
        (
            welcome(WirePlan::Compare {}),
            "160000000103a0a1a2a3a4a5a6a7a8a9aaabacadaeaf03026400",
        ),
    ]
}

fn report() -> Message {
    Message::Report(Report {
        received: 300,
        flushed: 250,
        applied: 249,
        chain: CHAIN,
        descendants: vec![
            Disk {
                node: CHAIN,
                flushed: 200,
            },
            Disk {
                node: 7,
                flushed: 100,
            },
        ],
        compacted: 64,
        next: 9,
        digest: CHAIN,
    })
}

fn downstreams() -> Message {
    Message::Descendants(Descendants {
        nodes: vec![NodeSummary {
            id: "i2".to_owned(),
            name: "leaf".to_owned(),
            address: "1.2.3.4:5".to_owned(),
            state: "streaming".to_owned(),
            applied: 249,
            via: "i1".to_owned(),
        }],
        more: 3,
    })
}

fn welcome(plan: WirePlan) -> Message {
    Message::Welcome(Welcome {
        protocol: 3,
        log: LOG,
        epoch: 3,
        plan,
        durable: 100,
        now_unix_ns: 0,
    })
}

#[test]
fn a_hello_of_version_2_lacks_what_came_later() {
    let hex = "350000000001010101a0a1a2a3a4a5a6a7a8a9aaabacadaeaf03fc70110100fdefcdab89674523010b7365636f6e646172792d31046e2d3432";
    let (messages, error) = read(&bytes_of(hex));
    assert_eq!(error, None);
    let Some(Message::Hello(hello)) = messages.first() else {
        panic!("{messages:?}")
    };
    assert_eq!(hello.node_id, "n-42");
    assert!(!hello.bootstrapping && hello.compressions == 0 && hello.serves.is_empty());
}

fn bytes_of(hex: &str) -> Vec<u8> {
    let digits = |i: usize| u8::from_str_radix(&hex[i..i + 2], 16).expect("hex");
    (0..hex.len()).step_by(2).map(digits).collect()
}

/// Reads everything in `bytes` until the end or the first error.
fn read(bytes: &[u8]) -> (Vec<Message>, Option<CodecError>) {
    let mut reader = FrameReader::new();
    reader.push(bytes);
    let mut messages = Vec::new();
    loop {
        match reader.next_message() {
            Ok(Some(message)) => messages.push(message),
            Ok(None) => return (messages, None),
            Err(error) => return (messages, Some(error)),
        }
    }
}

#[test]
fn golden_bytes_both_ways() {
    for (message, hex) in golden() {
        let frame = bytes_of(hex);
        assert_eq!(encode(&message).as_ref(), Ok(&frame), "{message:?}");
        assert_eq!(read(&frame), (vec![message], None));
    }
}

#[test]
fn messages_come_out_of_any_chunking() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let stream: Vec<u8> = golden().iter().flat_map(|(_, hex)| bytes_of(hex)).collect();
    let expected: Vec<Message> = golden().into_iter().map(|(message, _)| message).collect();
    for _ in 0..300 {
        let (mut reader, mut got, mut at) = (FrameReader::new(), Vec::new(), 0);
        while at < stream.len() {
            let end = (at + random.usize(1..40)).min(stream.len());
            reader.push(&stream[at..end]);
            at = end;
            while let Some(message) = reader.next_message().expect("good frames") {
                got.push(message);
            }
        }
        assert_eq!(got, expected);
    }
}

/// Bytes of the fields that a Hello has gained.
fn added(message: &Message) -> usize {
    match message {
        Message::Hello(hello) => 3 + hello.serves.len(),
        _ => 0,
    }
}

#[test]
fn every_truncation_and_every_changed_byte_is_a_message_or_an_error() {
    for (message, hex) in golden() {
        let frame = bytes_of(hex);
        for end in 0..frame.len() {
            assert_eq!(
                read(&frame[..end]),
                (Vec::new(), None),
                "{message:?} cut at {end}"
            );
            // An older Hello ends where the newer fields begin.
            let older =
                matches!(message, Message::Hello(_)) && end == frame.len() - added(&message);
            if end > LENGTH_LEN && !older {
                let cut = decode(&frame[LENGTH_LEN..end]);
                assert!(cut.is_err(), "{message:?} cut at {end}: {cut:?}");
            }
        }
        for at in 0..frame.len() {
            for value in 0..=u8::MAX {
                let mut damaged = frame.clone();
                damaged[at] = value;
                let (messages, _) = read(&damaged);
                assert!(messages.len() <= 1);
                let _ = decode(&damaged[LENGTH_LEN..]);
            }
        }
    }
}

#[test]
fn random_bytes_never_panic() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..20_000 {
        let mut bytes = vec![0; random.usize(0..80)];
        random.fill(&mut bytes);
        if let Some(first) = bytes.first_mut() {
            *first %= 16;
        }
        if let Ok(message) = decode(&bytes) {
            assert!(encode(&message).is_ok(), "{message:?}");
        }
    }
}

#[test]
fn what_follows_the_last_message_is_handed_over() {
    let frame = bytes_of(golden()[0].1);
    let mut reader = FrameReader::new();
    reader.push(&frame);
    reader.push(b"a file");
    assert!(matches!(reader.next_message(), Ok(Some(_))));
    assert_eq!(reader.take_rest().as_ref(), b"a file");
    assert!(reader.take_rest().is_empty());
}

#[test]
fn a_length_is_refused_before_its_bytes_are_awaited() {
    for length in [
        0,
        u32::try_from(MAX_MESSAGE_LEN).expect("small") + 1,
        u32::MAX,
    ] {
        let (messages, error) = read(&length.to_le_bytes());
        assert!(messages.is_empty());
        assert!(matches!(error, Some(CodecError::Length { .. })), "{length}");
    }
}

#[test]
fn a_huge_string_is_refused_without_its_memory() {
    // End { reason } that announces 2^40 bytes of text.
    let bytes = bytes_of("06fd0000000000010000");
    assert!(matches!(decode(&bytes), Err(CodecError::Malformed(_))));
    let long = Message::End(End {
        reason: "x".repeat(MAX_MESSAGE_LEN),
    });
    assert!(matches!(encode(&long), Err(CodecError::Length { .. })));
}

#[test]
fn only_what_is_said_before_a_version_is_agreed_may_grow() {
    for (message, hex) in golden() {
        let mut bytes = bytes_of(hex).split_off(LENGTH_LEN);
        bytes.extend([7, 7]);
        let may_grow = matches!(message, Message::Hello(_) | Message::Refuse(_));
        let expected = if may_grow {
            Ok(message)
        } else {
            Err(CodecError::Trailing { extra: 2 })
        };
        assert_eq!(decode(&bytes), expected);
    }
}

#[test]
fn a_retired_number_is_no_message() {
    // What version 2 said of how far a secondary was.
    let bytes = bytes_of("05fb2c01faf9fdefcdab8967452301");
    assert!(matches!(decode(&bytes), Err(CodecError::Malformed(_))));
    assert!(matches!(decode(&[5]), Err(CodecError::Malformed(_))));
}

const LOG: [u8; 16] = [
    0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf,
];
const CHAIN: u64 = 0x0123_4567_89ab_cdef;
const NOW: i64 = 1_700_000_000_123_456_789;
