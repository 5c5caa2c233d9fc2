//! Versions that differ by one understand each other in both directions; beyond that a peer is told
//! no, says so, and does not come back in haste. The build after this one is played by nodes that
//! offer one version more. The tests own how such peers are made up; they must never depend on what
//! a version means.

use std::time::Instant;

use bytes::Bytes;

use super::faked::{
    Caller, Control, Guest, Host, Taker, WIDE, blocks_of, bytes_of, ends, grown, hello,
    older_hello, report, report_of, send,
};
use super::*;
use crate::backoff::Backoff;
use crate::wire::{
    Hello, Message, PROTOCOL_MAX, PROTOCOL_MIN, Refuse, Route, Versions, Welcome, WireHop, blocks,
};

/// Takes blocks and reports them, and hears nothing that this version does not know, until it has
/// everything below `end`.
async fn follow_as_before(
    caller: &Caller,
    control: &mut Control,
    taker: &mut Taker,
    end: Position,
) {
    while taker.at.lsn < end.lsn {
        tokio::select! {
            at = taker.take(&caller.link) => control.say(&report(at)).await,
            heard = control.hear() => match heard {
                Ok(Some(
                    Message::Heartbeat(_)
                    | Message::CaughtUp(_)
                    | Message::Route(_)
                    | Message::PrimaryHttp(_),
                )) => {}
                other => panic!("no word of version {BEFORE}: {other:?}"),
            },
        }
    }
    assert_eq!(taker.at, end);
}

#[tokio::test]
async fn a_follower_of_the_version_before_gets_every_block_plain_and_live_and_counts() {
    let cluster = Cluster::new();
    let config = ListenConfig {
        versions: NEXT,
        ..ListenConfig::new(any(), hop("primary"))
    };
    let mut primary = cluster.primary_with("primary", config).await;
    let end = primary.write(0..30).await;
    let newer = next_build(&cluster, "newer", primary.address()).await;
    let older = Caller::connect(&cluster, "older", primary.address(), WIDE).await;
    let offer = Hello {
        protocol_min: BEFORE,
        protocol_max: BEFORE,
        ..hello("older")
    };
    let mut control = older.handshake(offer).await;
    let log = primary.log();
    let welcome = control.welcomed().await;
    assert_eq!((welcome.protocol, welcome.log), (BEFORE, log.id().0));
    let mut taker = Taker::of(log.id());
    follow_as_before(&older, &mut control, &mut taker, end).await;
    let mut end = end;
    for round in 0..3 {
        let first = 30 + round * 10;
        end = primary.write(first..first + 10).await;
        follow_as_before(&older, &mut control, &mut taker, end).await;
    }
    assert!(taker.bytes == bytes_of(&log), "not the bytes of the log");
    newer.reaches(end).await;
    eventually("both count", || {
        let all = primary.registry().secondaries();
        let seen = all.iter().map(|one| (one.protocol, one.flushed, one.state));
        let seen: Vec<_> = seen.collect();
        let expected =
            [NEXT.max, BEFORE].map(|version| (version, end.lsn, SecondaryState::Streaming));
        let copies = log.replicated().borrow().by(2);
        if seen == expected && copies == end.lsn {
            Ok(())
        } else {
            Err((seen, copies))
        }
    })
    .await;
    older.leave();
    newer.stop().await;
    primary.stop().await;
}

/// Hears what a secondary says, until all below `end` is on its disk and can be queried.
async fn hear_as_before(guest: &mut Guest, end: Position) {
    let all = report_of(end);
    loop {
        let heard = tokio::select! {
            heard = guest.control.hear() => heard,
            asked = guest.link.accept_fetch() => panic!("it asks: {:?}", asked.map(drop)),
        };
        match heard {
            Ok(Some(Message::Report(said))) => {
                assert!(said.received <= end.lsn.0, "{said:?}");
                if said.applied == all.applied && said.chain == all.chain {
                    return;
                }
            }
            other => panic!("no word of version {BEFORE}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_secondary_follows_an_upstream_of_the_version_before_in_its_words() {
    let cluster = Cluster::new();
    let mut primary = cluster.primary("primary", None).await;
    let mut end = primary.write(0..30).await;
    let log = primary.log();
    let host = Host::listen(&cluster, "host");
    let secondary = follower(&cluster, "secondary", &host, NEXT).await;
    let mut guest = host.guest().await;
    assert_eq!(guest.hello.versions(), NEXT);
    let welcome = Message::Welcome(guest.welcome(BEFORE, &log));
    guest.control.say(&welcome).await;
    let route = Route {
        hops: vec![WireHop {
            id: "host".to_owned(),
            name: "host".to_owned(),
        }],
        rooted: true,
    };
    guest.control.say(&Message::Route(route)).await;
    let mut stream = guest.blocks().await;
    let mut sent = 0;
    for round in 0..4 {
        for (_, block) in blocks_of(&log).into_iter().skip(sent) {
            let frames = blocks::raw(&[Bytes::from(block)]).concat();
            send(&mut stream, frames).await.expect("sent");
            sent += 1;
        }
        guest.caught_up(&log).await;
        hear_as_before(&mut guest, end).await;
        secondary.reaches(end).await;
        eventually("it streams", || match secondary.status() {
            status if status.state == FollowPhase::Streaming && status.rooted => Ok(()),
            status => Err(status),
        })
        .await;
        let first = 30 + round * 10;
        end = primary.write(first..first + 10).await;
    }
    let status = secondary.status();
    assert_eq!(
        (status.reconnects, status.route[0].name.as_str()),
        (0, "host")
    );
    assert_eq!(numbers(&secondary.log()), (0..60).collect::<Vec<_>>());
    secondary.stop().await;
    primary.stop().await;
}

#[tokio::test]
async fn nodes_of_two_builds_follow_each_other_in_the_version_of_the_older() {
    let cluster = Cluster::new();
    let newer = ListenConfig {
        versions: NEXT,
        ..ListenConfig::new(any(), hop("newer"))
    };
    let mut newer = cluster.primary_with("newer", newer).await;
    let mut older = cluster.primary("older", None).await;
    let below_newer = cluster.secondary("below-newer", &[newer.address()]).await;
    let below_older = next_build(&cluster, "below-older", older.address()).await;
    let (end_newer, end_older) = (newer.write(0..30).await, older.write(0..30).await);
    below_newer.reaches(end_newer).await;
    below_older.reaches(end_older).await;
    for primary in [&newer, &older] {
        let all = primary.registry().secondaries();
        assert_eq!(all[0].protocol, BEFORE, "{all:?}");
    }
    below_newer.stop().await;
    below_older.stop().await;
    newer.stop().await;
    older.stop().await;
}

/// A secondary of the build after this one.
async fn next_build(cluster: &Cluster, name: &str, upstream: SocketAddr) -> Secondary {
    let config = FollowConfig {
        versions: NEXT,
        ..FollowConfig::new(vec![upstream.to_string()], name, name)
    };
    Secondary {
        following: cluster.follow(name, config).await,
        listener: None,
    }
}

/// A follower whose Hello offers this version alone hears why that is refused, and all know it.
async fn is_refused(cluster: &Cluster, primary: &Primary, version: u16, hello: Vec<u8>) {
    let name = format!("follower-{version}");
    let caller = Caller::connect(cluster, &name, primary.address(), WIDE).await;
    let mut control = caller.open().await.expect("a stream");
    control.say_bytes(&hello).await.expect("says Hello");
    let Ok(Some(Message::Refuse(refuse))) = control.hear().await else {
        panic!("not refused");
    };
    let detail = format!("min={PROTOCOL_MIN} max={PROTOCOL_MAX}");
    assert_eq!((refuse.code, &refuse.detail), (1, &detail));
    let said = &refuse.message;
    let both = [(version, version), (PROTOCOL_MIN, PROTOCOL_MAX)];
    for (min, max) in both {
        assert!(said.contains(&format!("{min} to {max}")), "{said}");
    }
    assert_eq!(control.hear().await, Ok(None), "nothing follows");
    ends(&caller.link, 2, &format!("refused: {said}")).await;
    let all = primary.registry().secondaries();
    let known = all.iter().find(|one| one.name == name).expect("known");
    assert_eq!(
        (known.state, known.reason.as_ref(), known.protocol),
        (SecondaryState::Refused, Some(said), 0)
    );
}

#[tokio::test]
async fn a_follower_of_a_version_too_old_or_too_new_is_told_so_and_counts_for_nothing() {
    let cluster = Cluster::new();
    let mut primary = cluster.primary("primary", None).await;
    primary.write(0..10).await;
    let offering = |version| Hello {
        protocol_min: version,
        protocol_max: version,
        ..hello(&format!("follower-{version}"))
    };
    let old = older_hello(&offering(TOO_OLD));
    let new = grown(&Message::Hello(offering(TOO_NEW)));
    tokio::join!(
        is_refused(&cluster, &primary, TOO_OLD, old),
        is_refused(&cluster, &primary, TOO_NEW, new),
    );
    let replicated = *primary.log().replicated().borrow();
    assert_eq!((replicated.connected, replicated.by(1)), (0, Lsn(0)));
    primary.stop().await;
}

/// A secondary of a host, whose pauses are those of this file.
async fn follower(cluster: &Cluster, name: &str, host: &Host, versions: Versions) -> Secondary {
    let config = FollowConfig {
        versions,
        backoff_min: BACKOFF_MIN,
        backoff_max: BACKOFF_MAX,
        // A host says little after Welcome.
        contact_timeout: Duration::from_secs(60),
        ..FollowConfig::new(vec![host.address.to_string()], name, name)
    };
    Secondary {
        following: cluster.follow(name, config).await,
        listener: None,
    }
}

/// Waits until the secondary shows this state and a reason with these words.
async fn shows(secondary: &Secondary, state: FollowPhase, words: &str) {
    eventually("it shows why it does not follow", || {
        let status = secondary.status();
        let reason = status.reason.as_deref().unwrap_or_default();
        if status.state == state && reason.contains(words) {
            Ok(())
        } else {
            Err(status)
        }
    })
    .await;
}

/// Refuses a secondary as an upstream does that speaks this version alone.
async fn refuse_again_and_again(cluster: &Cluster, version: u16) {
    let name = format!("follower-{version}");
    let host = Host::listen(cluster, "host");
    let secondary = follower(cluster, &name, &host, Versions::OWN).await;
    let message = format!("no common protocol version: this primary speaks {version}");
    let refuse = Message::Refuse(Refuse {
        code: 1,
        message: message.clone(),
        detail: String::new(),
    });
    let mut refused_at: Option<Instant> = None;
    for attempt in 0..3 {
        let mut guest = host.guest().await;
        if let Some(refused_at) = refused_at {
            // The longest pause from the first refusal on, of which jitter leaves half.
            let pause = guest.came - refused_at;
            assert!(pause >= BACKOFF_MAX / 2, "{pause:?} after a refusal");
            assert_eq!(secondary.status().state, FollowPhase::Refused, "it stays");
        }
        assert_eq!(secondary.status().reconnects, attempt);
        // Before the refusal leaves: the pause begins after it has come.
        refused_at = Some(Instant::now());
        let sent = guest.control.say_bytes(&grown(&refuse)).await;
        sent.expect("sent");
        ends(&guest.link, 0, &message).await;
        shows(&secondary, FollowPhase::Refused, &message).await;
    }
    secondary.stop().await;
}

#[tokio::test]
async fn an_upstream_too_old_or_too_new_is_shown_as_refusing_and_asked_as_seldom_as_may_be() {
    let cluster = Cluster::new();
    tokio::join!(
        refuse_again_and_again(&cluster, TOO_OLD),
        refuse_again_and_again(&cluster, TOO_NEW),
    );
}

/// Welcomes a secondary to a version that it did not offer.
async fn welcome_to(cluster: &Cluster, version: u16, log: &Log) {
    let name = format!("follower-{version}");
    let host = Host::listen(cluster, "host");
    let secondary = follower(cluster, &name, &host, Versions::OWN).await;
    // The least that the pauses may be.
    let mut pauses = Backoff::new(BACKOFF_MIN, BACKOFF_MAX);
    let mut answered_at: Option<Instant> = None;
    for attempt in 0..4 {
        let mut guest = host.guest().await;
        if let Some(answered_at) = answered_at {
            let pause = guest.came - answered_at;
            let least = pauses.pause(0.0);
            assert!(pause >= least, "{pause:?} before attempt {attempt}");
        }
        assert_eq!(secondary.status().reconnects, attempt);
        answered_at = Some(Instant::now());
        let welcome = Welcome {
            protocol: version,
            ..guest.welcome(BEFORE, log)
        };
        guest.control.say(&Message::Welcome(welcome)).await;
        let expected = "it chose a version that was not offered";
        ends(&guest.link, 1, expected).await;
        shows(&secondary, FollowPhase::Connecting, expected).await;
    }
    assert!(secondary.following.log().borrow().is_none(), "no log");
    assert_eq!(pauses.pause(1.0), BACKOFF_MAX, "the pauses have grown");
    secondary.stop().await;
}

#[tokio::test]
async fn an_upstream_that_picks_a_version_never_offered_is_left_for_longer_each_time() {
    let cluster = Cluster::new();
    let primary = cluster.primary("primary", None).await;
    let log = primary.log();
    tokio::join!(
        welcome_to(&cluster, TOO_OLD, &log),
        welcome_to(&cluster, TOO_NEW, &log),
    );
    drop(log);
    primary.stop().await;
}

/// What the build after this one speaks.
const NEXT: Versions = Versions {
    min: PROTOCOL_MAX,
    max: PROTOCOL_MAX + 1,
};
/// The version before that build's own.
const BEFORE: u16 = PROTOCOL_MAX;
/// Those next to what this build speaks.
const TOO_OLD: u16 = PROTOCOL_MIN - 1;
const TOO_NEW: u16 = PROTOCOL_MAX + 1;
/// Far from each other, and long beside the time that a connection takes to close.
const BACKOFF_MIN: Duration = Duration::from_millis(250);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
