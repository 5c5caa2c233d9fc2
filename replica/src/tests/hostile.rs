//! Slow, hanging and half-open secondaries against a real primary: they are shown out in bounded
//! time, hold a bounded part of it, must never count for anything any more, and cost the others
//! nothing.

use std::iter;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::faked::{Caller, Control, WIDE, Wire, blocks_of, ends, hello, report};
use super::*;
use crate::quic::FETCH_AHEAD_BYTES;
use crate::status::SecondaryStatus;
use crate::wire::{Hello, MAX_MESSAGE_LEN, PROTOCOL_MAX};

fn listening() -> ListenConfig {
    ListenConfig::new(any(), hop("primary"))
}

/// So many rows of bulk; where the log ends after them.
pub(super) async fn write_bulk(primary: &mut Primary, rows: i64) -> Position {
    let mut appender = primary.appender.take().expect("an appender");
    let written = spawn_blocking(move || {
        let mut random = fastrand::Rng::with_seed(1);
        let text: String = iter::repeat_with(|| random.alphanumeric())
            .take(BULK)
            .collect();
        for number in 0..rows {
            let row = Row {
                time: number,
                tags: &[("topic", "plant/a")],
                fields: &[
                    (Cow::Borrowed("n"), Value::Int(number)),
                    (Cow::Borrowed("bulk"), Value::Text(text.as_str().into())),
                ],
            };
            let group = appender.append("plant", &[row]).expect("fits");
            appender.wait(group).expect("durable");
        }
        appender
    });
    primary.appender = Some(written.await.expect("writes"));
    *primary.log().durable().borrow()
}

/// What the primary knows of this secondary.
pub(super) fn known(primary: &Primary, name: &str) -> Box<SecondaryStatus> {
    let all = primary.registry().secondaries();
    let one = all.into_iter().find(|one| one.name == name);
    Box::new(one.expect("a known secondary"))
}

/// How many bytes of the log it was sent.
fn sent_bytes(primary: &Primary, name: &str) -> u64 {
    let sent = known(primary, name).sent;
    let blocks = blocks_of(&primary.log()).into_iter();
    let sent = blocks.filter(|(start, _)| start.lsn < sent);
    sent.map(|(_, block)| block.len() as u64).sum()
}

/// Nodes that count as copies, and what the furthest of them has.
pub(super) fn copies(primary: &Primary) -> (u8, Lsn) {
    let replicated = *primary.log().replicated().borrow();
    (replicated.connected, replicated.by(1))
}

pub(super) async fn copies_become(primary: &Primary, expected: (u8, Lsn)) {
    eventually("the copies are counted", || match copies(primary) {
        copies if copies == expected => Ok(()),
        copies => Err(copies),
    })
    .await;
}

pub(super) async fn is_sent(primary: &Primary, name: &str, end: Position) {
    eventually("everything is sent", || match known(primary, name) {
        one if one.sent == end.lsn => Ok(()),
        one => Err(one),
    })
    .await;
}

/// A follower that has said Hello and was let in.
pub(super) async fn let_in(
    cluster: &Cluster,
    primary: &Primary,
    hello: Hello,
    window: u32,
) -> (Caller, Control) {
    let name = hello.node_id.clone();
    let caller = Caller::connect(cluster, &name, primary.address(), window).await;
    let mut control = caller.handshake(hello).await;
    control.welcomed().await;
    (caller, control)
}

#[tokio::test]
async fn who_takes_no_blocks_is_sent_a_windowful_and_given_up_once_silent_while_others_stay_live() {
    const WINDOW: u32 = 64 << 10;
    let cluster = Cluster::new();
    let config = ListenConfig {
        contact_timeout: Duration::from_secs(2),
        max_secondaries: 2,
        ..listening()
    };
    let mut primary = cluster.primary_with("primary", config).await;
    let genesis = primary.log().id().genesis();
    let (stalled, mut control) = let_in(&cluster, &primary, hello("stalled"), WINDOW).await;
    let silent = "the secondary said nothing for 2s";
    let hangs = CancellationToken::new();
    let talks = hangs.clone();
    // It reads nothing at all, and for a while still says that it has nothing.
    let talking = tokio::spawn(async move {
        while !talks.is_cancelled() {
            control.say(&report(genesis)).await;
            sleep(Duration::from_millis(20)).await;
        }
        ends(&stalled.link, 6, silent).await;
    });
    let upstream = [primary.address()];
    let honest = cluster.secondary("honest", &upstream).await;
    let end = write_bulk(&mut primary, 6).await;
    honest.reaches(end).await;
    copies_become(&primary, (2, end.lsn)).await;
    let one = known(&primary, "stalled");
    assert!(
        one.reason.is_none() && one.lag_rows == Some(end.lsn.0),
        "{one:?}"
    );
    let sent = sent_bytes(&primary, "stalled");
    assert!(sent <= u64::from(WINDOW) + STEP, "{sent} bytes");
    assert_eq!(primary.log().replicated().borrow().by(2), Lsn(0));
    // There are two places. Its own is free as soon as it is given up.
    let late = cluster.secondary("late", &upstream).await;
    eventually("the third is turned away", || match late.status() {
        status if status.reason.is_some() => Ok(()),
        status => Err(status),
    })
    .await;
    hangs.cancel();
    talking.await.expect("given up");
    let end = primary.write(0..10).await;
    honest.reaches(end).await;
    late.reaches(end).await;
    let one = known(&primary, "stalled");
    assert_eq!(
        (one.state, one.reason.as_deref()),
        (SecondaryState::Disconnected, Some(silent))
    );
    eventually("two copies are whole", || {
        let replicated = *primary.log().replicated().borrow();
        match (replicated.connected, replicated.by(2)) {
            copies if copies == (2, end.lsn) => Ok(()),
            copies => Err(copies),
        }
    })
    .await;
    honest.stop().await;
    late.stop().await;
    primary.stop().await;
}

#[tokio::test]
async fn a_connection_whose_datagrams_vanish_is_noticed_and_holds_no_more_than_its_send_window() {
    const WINDOW: u64 = 64 << 10;
    let cluster = Cluster::new();
    let config = ListenConfig {
        contact_timeout: Duration::from_secs(1),
        send_window_bytes: WINDOW,
        ..listening()
    };
    let mut primary = cluster.primary_with("primary", config).await;
    let wire = Wire::to(primary.address()).await;
    let gone = Caller::connect(&cluster, "gone", wire.address, WIDE).await;
    let mut control = gone.handshake(hello("gone")).await;
    control.welcomed().await;
    control.say(&report(primary.log().id().genesis())).await;
    copies_become(&primary, (1, Lsn(0))).await;
    wire.cut();
    let end = write_bulk(&mut primary, 30).await;
    eventually("the primary notices", || match known(&primary, "gone") {
        one if one.state == SecondaryState::Disconnected && one.reason.is_some() => Ok(()),
        one => Err(one),
    })
    .await;
    let one = known(&primary, "gone");
    assert_eq!(
        one.reason.as_deref(),
        Some("the secondary said nothing for 1s")
    );
    assert_eq!(copies(&primary), (0, Lsn(0)));
    let sent = sent_bytes(&primary, "gone");
    let files = u64::from(3 * FETCH_AHEAD_BYTES);
    assert!(
        sent <= WINDOW + files + STEP && one.sent < end.lsn,
        "{sent} bytes"
    );
    primary.stop().await;
}

#[tokio::test]
async fn a_node_that_comes_back_takes_over_from_its_own_half_open_connection() {
    let cluster = Cluster::new();
    let config = ListenConfig {
        // Nothing but the node itself tells the primary.
        contact_timeout: Duration::from_secs(600),
        max_secondaries: 2,
        ..listening()
    };
    let mut primary = cluster.primary_with("primary", config).await;
    let end = primary.write(0..20).await;
    let wire = Wire::to(primary.address()).await;
    let before = Caller::connect(&cluster, "node", wire.address, WIDE).await;
    let mut control = before.handshake(hello("node")).await;
    control.welcomed().await;
    is_sent(&primary, "node", end).await;
    control.say(&report(end)).await;
    copies_become(&primary, (1, end.lsn)).await;
    wire.cut();
    let (after, mut control) = let_in(&cluster, &primary, hello("node"), WIDE).await;
    // It counts by its own word on this connection alone.
    assert_eq!(copies(&primary), (0, Lsn(0)));
    let genesis = primary.log().id().genesis();
    control.say(&report(genesis)).await;
    copies_become(&primary, (1, Lsn(0))).await;
    // There are two places: whoever gets the second one got it from the old connection.
    let third = cluster.secondary("third", &[primary.address()]).await;
    let end = primary.write(20..40).await;
    // Before QUIC itself gives the old one up.
    let in_time = timeout(Duration::from_secs(15), third.reaches(end)).await;
    in_time.expect("the second place");
    copies_become(&primary, (2, end.lsn)).await;
    let one = known(&primary, "node");
    assert_eq!((one.state, one.reason), (SecondaryState::CatchingUp, None));
    after.leave();
    third.stop().await;
    primary.stop().await;
}

/// Begins a Hello of the longest length and goes on byte by byte for as long as it may.
async fn drip(caller: &Caller) {
    let mut control = caller.open().await.expect("a stream");
    let announced = u32::try_from(MAX_MESSAGE_LEN).expect("short");
    let mut next = announced.to_le_bytes().to_vec();
    while control.say_bytes(&next).await.is_ok() {
        next = vec![0];
        sleep(Duration::from_millis(5)).await;
    }
}

/// Opens streams with one byte on each for as long as it may.
async fn open_many(caller: &Caller) {
    let mut opened = Vec::new();
    while let Ok(mut control) = caller.open().await {
        // Fails once the primary has had enough.
        let _ = control.say_bytes(&[0]).await;
        opened.push(control);
    }
    assert!(opened.len() <= 4, "{} streams", opened.len());
}

#[tokio::test]
async fn who_never_finishes_hello_is_shown_out_and_keeps_nobody_out() {
    let cluster = Cluster::new();
    let config = ListenConfig {
        handshake_timeout: Duration::from_millis(500),
        ..listening()
    };
    let mut primary = cluster.primary_with("primary", config).await;
    let mut callers = JoinSet::new();
    for number in 0..24 {
        let name = format!("mute-{number}");
        let caller = Caller::connect(&cluster, &name, primary.address(), WIDE).await;
        callers.spawn(async move {
            match number % 3 {
                0 => {}
                1 => drip(&caller).await,
                _ => open_many(&caller).await,
            }
            ends(&caller.link, 6, "the secondary said nothing for 500ms").await;
        });
    }
    let honest = cluster.secondary("honest", &[primary.address()]).await;
    let end = primary.write(0..20).await;
    honest.reaches(end).await;
    while let Some(ended) = callers.join_next().await {
        ended.expect("shown out");
    }
    let all = primary.registry().secondaries();
    assert!(all.len() == 1 && all[0].name == "honest", "{all:?}");
    honest.stop().await;
    primary.stop().await;
}

#[tokio::test]
async fn a_full_house_has_room_again_once_those_who_say_nothing_are_out() {
    let cluster = Cluster::new();
    let config = ListenConfig {
        handshake_timeout: Duration::from_millis(500),
        max_secondaries: 3,
        ..listening()
    };
    let mut primary = cluster.primary_with("primary", config).await;
    let end = primary.write(0..20).await;
    let mut mutes = Vec::new();
    for number in 0..3 {
        let name = format!("mute-{number}");
        mutes.push(Caller::connect(&cluster, &name, primary.address(), WIDE).await);
    }
    let honest = cluster.secondary("honest", &[primary.address()]).await;
    honest.reaches(end).await;
    for mute in mutes {
        ends(&mute.link, 6, "the secondary said nothing for 500ms").await;
    }
    honest.stop().await;
    primary.stop().await;
}

#[tokio::test]
async fn who_takes_no_answer_to_hello_is_shown_out() {
    let cluster = Cluster::new();
    let config = ListenConfig {
        handshake_timeout: Duration::from_millis(300),
        ..listening()
    };
    let mut primary = cluster.primary_with("primary", config).await;
    primary.write(0..20).await;
    let welcome = hello("welcome");
    let refused = Hello {
        protocol_min: PROTOCOL_MAX + 1,
        protocol_max: PROTOCOL_MAX + 1,
        ..hello("refused")
    };
    let compared = Hello {
        log: Some(primary.log().id().0),
        epoch: primary.log().epoch().0,
        lsn: 1_000_000,
        ..hello("compared")
    };
    for hello in [welcome, refused, compared] {
        let name = hello.node_id.clone();
        // A window of one byte: no answer ever fits.
        let caller = Caller::connect(&cluster, &name, primary.address(), 1).await;
        let _control = caller.handshake(hello).await;
        ends(&caller.link, 6, "the secondary said nothing for 300ms").await;
        assert_ne!(known(&primary, &name).state, SecondaryState::CatchingUp);
    }
    primary.stop().await;
}

/// Text of one row of bulk, and so about the length of its block.
const BULK: usize = 256 << 10;
/// Most bytes that are read from the log in one step, which is one block of bulk: they are noted as
/// sent before they leave.
const STEP: u64 = (BULK + 1024) as u64;
