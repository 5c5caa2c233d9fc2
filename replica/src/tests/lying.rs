//! Secondaries that say to a real primary what is no message, what has no place or what cannot be:
//! the connection ends with a code and a reason, others do not notice, and a liar must never count
//! for more than it was sent.

use super::faked::{Caller, WIDE, blocks_of, ends, hello, report, report_of, soon};
use super::hostile::{copies, copies_become, is_sent, let_in, write_bulk};
use super::*;
use crate::wire::{
    CaughtUp, Common, Descendants, Disk, End, Fetch, FetchFrom, File, Heartbeat, Hello, Message,
    PROTOCOL_MAX, Probe, Refuse, Report, Route, Welcome, WirePlan, codec,
};

/// Bytes that are no message: how the connection ends and with which words.
fn no_messages() -> Vec<(&'static str, Vec<u8>, u64, &'static str)> {
    let beat = codec::encode(&Message::Heartbeat(Heartbeat::default())).expect("encodes");
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut garbage = vec![0; 300];
    random.fill(&mut garbage);
    // A length that is allowed, and no variant that there is.
    garbage[..4].copy_from_slice(&200_u32.to_le_bytes());
    garbage[4] = random.u8(100..251);
    let trailing = {
        let mut frame = beat.clone();
        frame.push(0);
        frame[0] += 1;
        frame
    };
    let cut = beat[..beat.len() - 1].to_vec();
    let unreadable = "a control message cannot be read";
    vec![
        (
            "longest",
            vec![0xff; 4],
            1,
            "a control message of 4294967295 bytes",
        ),
        (
            "oversized",
            vec![1, 0, 1, 0],
            1,
            "a control message of 65537 bytes",
        ),
        ("empty", vec![0; 4], 1, "a control message of 0 bytes"),
        ("garbage", garbage, 1, unreadable),
        ("unknown", vec![1, 0, 0, 0, 99], 1, unreadable),
        (
            "trailing",
            trailing,
            1,
            "a control message has 1 bytes after its fields",
        ),
        ("truncated", cut, 0, "the peer ended the stream"),
    ]
}

#[tokio::test]
async fn bytes_that_are_no_message_end_the_connection_before_memory_is_taken_for_them() {
    let cluster = Cluster::new();
    let mut primary = cluster.primary("primary", None).await;
    let honest = cluster.secondary("honest", &[primary.address()]).await;
    for (what, bytes, code, words) in no_messages() {
        for is_in in [false, true] {
            println!("{what}, let in: {is_in}");
            let (caller, mut control) = if is_in {
                let_in(&cluster, &primary, hello("odd"), WIDE).await
            } else {
                let caller = Caller::connect(&cluster, "odd", primary.address(), WIDE).await;
                let control = caller.open().await.expect("a stream");
                (caller, control)
            };
            control.say_bytes(&bytes).await.expect("says it");
            if code == 0 {
                control.finish();
            }
            ends(&caller.link, code, words).await;
        }
    }
    let end = primary.write(0..20).await;
    honest.reaches(end).await;
    assert_eq!(honest.status().reconnects, 0);
    honest.stop().await;
    primary.stop().await;
}

/// Everything that can be said, but for what a secondary says once it is let in.
fn out_of_place() -> Vec<Message> {
    vec![
        Message::Hello(hello("odd")),
        Message::Welcome(Welcome {
            protocol: PROTOCOL_MAX,
            log: [0; 16],
            epoch: 0,
            plan: WirePlan::Compare {},
            durable: 0,
            now_unix_ns: 0,
        }),
        Message::Refuse(Refuse::default()),
        Message::Heartbeat(Heartbeat::default()),
        Message::CaughtUp(CaughtUp::default()),
        Message::End(End::default()),
        Message::Fetch(Fetch::default()),
        Message::File(File::default()),
        Message::Route(Route::default()),
        Message::Probe(Probe::default()),
        Message::Common(Common::default()),
        Message::FetchFrom(FetchFrom::default()),
    ]
}

/// The name of a message, as in its debug text.
fn name_of(message: &Message) -> String {
    let text = format!("{message:?}");
    text.split('(').next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_message_out_of_place_ends_the_connection_and_is_named() {
    let cluster = Cluster::new();
    let primary = cluster.primary("primary", None).await;
    let later = [
        Message::Report(Report::default()),
        Message::Descendants(Descendants::default()),
    ];
    let mut cases: Vec<(Option<Hello>, Message)> = Vec::new();
    let not_first = out_of_place().into_iter().skip(1).chain(later);
    cases.extend(not_first.map(|message| (None, message)));
    cases.extend(
        out_of_place()
            .into_iter()
            .map(|message| (Some(hello("odd")), message)),
    );
    for (first, message) in cases {
        let name = name_of(&message);
        println!("{name}, let in: {}", first.is_some());
        let (caller, mut control) = match first {
            Some(hello) => let_in(&cluster, &primary, hello, WIDE).await,
            None => {
                let caller = Caller::connect(&cluster, "odd", primary.address(), WIDE).await;
                let control = caller.open().await.expect("a stream");
                (caller, control)
            }
        };
        control.say(&message).await;
        let expected = format!("the secondary broke the protocol: an unexpected {name}");
        ends(&caller.link, 1, &expected).await;
    }
    primary.stop().await;
}

#[tokio::test]
async fn a_report_never_counts_for_more_than_was_sent() {
    let cluster = Cluster::new();
    let mut primary = cluster.primary("primary", None).await;
    let end = primary.write(0..20).await;
    let beyond = Position {
        lsn: Lsn(end.lsn.0 + 1),
        ..end
    };
    let forever = Position {
        lsn: Lsn(u64::MAX),
        ..end
    };
    let elsewhere = Position {
        chain: wal::Chain(!end.chain.0),
        ..end
    };
    let (less, all) = (end.lsn.0 - 1, report_of(end));
    let many = Report {
        descendants: vec![Disk::default(); 9],
        ..all.clone()
    };
    let impossible = [
        (report(beyond), "it reports received"),
        (report(forever), "it reports received"),
        (
            Message::Report(Report {
                received: less,
                ..all.clone()
            }),
            "it reports received",
        ),
        (
            Message::Report(Report {
                flushed: less,
                ..all.clone()
            }),
            "it reports received",
        ),
        (report(elsewhere), "its log differs from this node's"),
        (Message::Report(many), "it reports too many disks"),
    ];
    for (message, words) in impossible {
        let (liar, mut control) = let_in(&cluster, &primary, hello("liar"), WIDE).await;
        is_sent(&primary, "liar", end).await;
        control.say(&message).await;
        ends(&liar.link, 1, words).await;
        assert_eq!(copies(&primary), (0, Lsn(0)), "{message:?}");
    }
    // Blocks that are there, but were not sent: nothing of them fits into its window.
    let (liar, mut control) = let_in(&cluster, &primary, hello("liar"), 100).await;
    let end = write_bulk(&mut primary, 2).await;
    control.say(&report(end)).await;
    ends(&liar.link, 1, "it reports received").await;
    assert_eq!(copies(&primary), (0, Lsn(0)));
    primary.stop().await;
}

#[tokio::test]
async fn a_report_that_goes_back_counts_for_less_and_nobody_below_for_more_than_the_node_itself() {
    let cluster = Cluster::new();
    let mut primary = cluster.primary("primary", None).await;
    let end = primary.write(0..20).await;
    let (half, _) = blocks_of(&primary.log())[10];
    let (node, mut control) = let_in(&cluster, &primary, hello("node"), WIDE).await;
    is_sent(&primary, "node", end).await;
    for at in [half, end, half, half, end] {
        control.say(&report(at)).await;
        copies_become(&primary, (1, at.lsn)).await;
    }
    let disk = |node| Disk {
        node,
        flushed: u64::MAX,
    };
    let boast = Report {
        descendants: (1..=8).map(disk).collect(),
        ..report_of(half)
    };
    control.say(&Message::Report(boast)).await;
    control.say(&report(end)).await;
    // Nobody counts by the word of another.
    copies_become(&primary, (1, end.lsn)).await;
    node.leave();
    primary.stop().await;
}

#[tokio::test]
async fn fetches_that_make_no_sense_end_alone() {
    let cluster = Cluster::new();
    let mut primary = cluster.primary("primary", None).await;
    let end = primary.write(0..20).await;
    let (node, mut control) = let_in(&cluster, &primary, hello("node"), WIDE).await;
    is_sent(&primary, "node", end).await;
    let outside = codec::encode(&Message::Fetch(Fetch {
        log: primary.log().id().0,
        name: "../primary/node-id".to_owned(),
    }));
    let mut cases: Vec<Vec<u8>> = no_messages().into_iter().map(|case| case.1).collect();
    cases.push(outside.expect("encodes"));
    // More than may be open at once, one after the other.
    for bytes in cases.iter().cycle().take(40) {
        let mut fetch = soon("a stream", node.open()).await.expect("a stream");
        // Both may fail: the primary has had enough of it.
        let _ = fetch.say_bytes(bytes).await;
        fetch.finish();
        if let Ok(Some(answer)) = fetch.hear().await {
            let Message::File(file) = answer else {
                panic!("not a file: {answer:?}");
            };
            assert!(!file.found && file.bytes == 0, "{file:?}");
        }
    }
    control.say(&report(end)).await;
    copies_become(&primary, (1, end.lsn)).await;
    node.leave();
    primary.stop().await;
}
