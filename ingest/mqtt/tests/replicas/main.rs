//! The promises about acknowledgements: they come in order, not before the secondaries that a
//! message asks for have it, and say what was reached. A listener on a real log; secondaries are
//! what the test says they have flushed. Must never sleep: a fence tells what has been taken in.

#![expect(clippy::expect_used, reason = "a test that cannot go on ends")]

mod client;

use client::{Client, Node, Reply};
use mqtt::{Ack, AckRoute, Config, TooFew};

/// One worker: what it has done for one client it has done for those before.
fn one_worker() -> Config {
    Config {
        workers: 1,
        ..Config::default()
    }
}

fn falling_back() -> Config {
    Config {
        too_few: TooFew::FallBack,
        ..one_worker()
    }
}

/// Everything that other clients of the worker have sent and that was taken in is durable, and
/// looked at, when this returns; the LSN below which it is.
fn settle(fence: &mut Client) -> u64 {
    fence.publish(1, 9, "fence/x", &["durable"]);
    let reply = fence.reply();
    assert_eq!((reply.first, reply.id, reply.ack), (0x40, 9, None));
    reply.lsn.expect("an LSN")
}

fn puback(id: u16, ack: Option<&str>) -> Reply {
    Reply {
        first: 0x40,
        id,
        ack: ack.map(str::to_owned),
        ..Reply::default()
    }
}

/// The next reply without its LSN, which must not be above `end`.
fn below(client: &mut Client, end: u64) -> Reply {
    let mut reply = client.reply();
    assert!(reply.lsn.take().is_some_and(|lsn| lsn <= end));
    reply
}

#[test]
fn a_message_is_acknowledged_only_when_a_secondary_has_it() {
    let node = Node::start(one_worker());
    let (mut client, mut fence) = (Client::v5(&node, "a"), Client::v5(&node, "fence"));
    let before = settle(&mut fence);
    client.publish(1, 1, "plant/x", &["replicated:1"]);
    client.hears_nothing();
    let end = settle(&mut fence);
    client.hears_nothing();
    // One that lags has everything before it.
    node.report(&[before]);
    settle(&mut fence);
    client.hears_nothing();
    node.report(&[end]);
    assert_eq!(below(&mut client, end), puback(1, Some("replicated:1")));
    let stats = node.at_rest();
    assert_eq!((stats.acknowledged, stats.acknowledged_replicated), (4, 1));
}

#[test]
fn acknowledgements_keep_the_order_of_arrival_whatever_they_wait_for() {
    let node = Node::start(one_worker());
    let (mut client, mut fence) = (Client::v5(&node, "a"), Client::v5(&node, "fence"));
    client.publish(1, 1, "plant/x", &["replicated:2"]);
    client.publish(1, 2, "plant/x", &["replicated:1"]);
    client.publish(1, 3, "plant/x", &[]);
    client.publish(1, 4, "plant/x", &["all"]);
    client.publish(2, 5, "plant/x", &["replicated:1"]);
    client.hears_nothing();
    let end = settle(&mut fence);
    // Enough for the second: whoever asks for one is answered, but not before the first.
    node.report(&[end + 100, 0]);
    fence.publish(1, 10, "fence/x", &["replicated:1"]);
    assert_eq!(below(&mut fence, end + 100).id, 10);
    client.hears_nothing();
    node.report(&[end, end]);
    assert_eq!(below(&mut client, end), puback(1, Some("replicated:2")));
    assert_eq!(below(&mut client, end), puback(2, Some("replicated:1")));
    assert_eq!(below(&mut client, end), puback(3, None));
    let refused = client.reply();
    assert_eq!((refused.id, refused.code), (4, 0x83));
    let received = below(&mut client, end);
    assert_eq!((received.first, received.id), (0x50, 5));
    assert_eq!(received.ack.as_deref(), Some("replicated:1"));
    client.release(5);
}

#[test]
fn with_too_few_secondaries_it_falls_back_and_says_so() {
    let node = Node::start(falling_back());
    let (mut client, mut fence) = (Client::v5(&node, "a"), Client::v5(&node, "fence"));
    client.publish(1, 1, "plant/x", &["replicated:1"]);
    assert_eq!(below(&mut client, u64::MAX), puback(1, Some("durable")));
    // One that is there and slow is waited for, until it goes.
    node.report(&[0]);
    client.publish(2, 2, "plant/x", &["replicated:1"]);
    client.publish(1, 3, "plant/x", &["replicated:2"]);
    client.hears_nothing();
    let end = settle(&mut fence);
    client.hears_nothing();
    node.report(&[]);
    let received = below(&mut client, end);
    assert_eq!((received.first, received.id), (0x50, 2));
    assert_eq!(received.ack.as_deref(), Some("durable"));
    assert_eq!(below(&mut client, end), puback(3, Some("durable")));
    let stats = node.at_rest();
    assert_eq!((stats.fell_back, stats.acknowledged_replicated), (3, 0));
}

#[test]
fn told_to_wait_it_waits_for_secondaries_that_are_not_there_yet() {
    let node = Node::start(Config {
        ack: Ack::Replicated(2),
        ..one_worker()
    });
    let (mut client, mut fence) = (Client::v5(&node, "a"), Client::v5(&node, "fence"));
    let before = settle(&mut fence);
    client.publish(1, 1, "plant/x", &[]);
    client.hears_nothing();
    let end = settle(&mut fence);
    client.hears_nothing();
    for flushed in [&[end][..], &[], &[end, before], &[end]] {
        node.report(flushed);
        settle(&mut fence);
        client.hears_nothing();
    }
    assert_eq!(node.listener.stats().waiting, 1);
    node.report(&[end, end, 0]);
    assert_eq!(below(&mut client, end), puback(1, Some("replicated:2")));
}

#[test]
fn the_first_route_that_means_the_topic_decides_unless_the_message_does() {
    let route = |filter: &str, ack| AckRoute {
        filter: filter.to_owned(),
        ack,
    };
    let node = Node::start(Config {
        ack: Ack::Replicated(3),
        routes: vec![
            route("plant/{site}/cheap", Ack::Durable),
            route("plant/#", Ack::Replicated(1)),
            route("#", Ack::Replicated(2)),
        ],
        ..falling_back()
    });
    let (mut old, mut new) = (Client::v3(&node, "old"), Client::v5(&node, "new"));
    node.report(&[u64::MAX, 0]);
    for (topic, ack) in [
        ("plant/7/cheap", None),
        ("plant/7/dear", Some("replicated:1")),
    ] {
        new.publish(1, 1, topic, &[]);
        assert_eq!(below(&mut new, u64::MAX), puback(1, ack));
        new.publish(1, 2, topic, &["durable"]);
        assert_eq!(below(&mut new, u64::MAX), puback(2, None));
        // 3.1.1 cannot ask and is told nothing.
        old.publish(1, 3, topic, &[]);
        assert_eq!(old.reply(), puback(3, None));
    }
    old.publish(1, 4, "other/x", &[]);
    old.hears_nothing();
    new.publish(1, 5, "other/x", &[]);
    new.hears_nothing();
    node.report(&[u64::MAX, u64::MAX]);
    assert_eq!(old.reply(), puback(4, None));
    assert_eq!(below(&mut new, u64::MAX), puback(5, Some("replicated:2")));
    let stats = node.at_rest();
    assert_eq!((stats.acknowledged_replicated, stats.acknowledged), (4, 8));
}

#[test]
fn what_nobody_can_promise_is_refused_and_not_stored() {
    let node = Node::start(one_worker());
    let mut client = Client::v5(&node, "a");
    client.publish(1, 1, "plant/x", &[]);
    let end = client.reply().lsn.expect("an LSN");
    let bad = [
        &["replicated:0"][..],
        &["replicated:9"],
        &["Durable"],
        &[""],
        &["durable", "replicated:1"],
    ];
    for (qos, first) in [(1, 0x40), (2, 0x50)] {
        for ack in bad {
            client.publish(qos, 2, "plant/x", ack);
            let reply = client.reply();
            assert_eq!((reply.first, reply.id, reply.code), (first, 2, 0x83));
            let reason = reply.reason.expect("a reason");
            assert!(reason.contains("replicated:1"), "{reason}");
        }
    }
    assert_eq!(node.end(), end);
    // The packet id of a refused QoS 2 message is free again.
    client.publish(2, 2, "plant/x", &[]);
    let reply = client.reply();
    assert_eq!(
        (reply.first, reply.code, reply.lsn),
        (0x50, 0, Some(end + 1))
    );
    client.release(2);
    // Nobody is told about QoS 0: what it asks for means nothing.
    client.publish(0, 0, "plant/x", &["replicated:9"]);
    client.hears_nothing();
    let stats = node.at_rest();
    assert_eq!((stats.refused_messages, stats.qos0, stats.rows), (10, 1, 3));
}

#[test]
fn a_client_that_wants_no_properties_gets_none() {
    let node = Node::start(falling_back());
    let mut client = Client::v5_terse(&node, "a");
    client.publish(1, 1, "plant/x", &[]);
    assert_eq!(client.reply(), puback(1, None));
    client.publish(1, 2, "plant/x", &["replicated:1"]);
    assert_eq!(client.reply(), puback(2, None));
    client.publish(1, 3, "plant/x", &["?"]);
    let refused = Reply {
        code: 0x83,
        ..puback(3, None)
    };
    assert_eq!(client.reply(), refused);
}

#[test]
fn a_qos_2_message_that_comes_again_is_stored_once_and_answered_in_turn() {
    let node = Node::start(one_worker());
    let mut client = Client::v5(&node, "a");
    client.publish(2, 1, "plant/x", &[]);
    let end = client.reply().lsn.expect("an LSN");
    client.publish(1, 2, "plant/x", &["replicated:1"]);
    client.publish(2, 1, "plant/x", &[]);
    client.publish(2, 1, "plant/x", &[]);
    client.hears_nothing();
    node.report(&[end + 1]);
    assert_eq!(below(&mut client, end + 1).id, 2);
    let repeated = client.reply();
    assert_eq!((repeated.first, repeated.id, repeated.lsn), (0x50, 1, None));
    client.release(1);
    let stats = node.at_rest();
    assert_eq!(
        (stats.acknowledged, stats.duplicates, stats.rows),
        (2, 2, 2)
    );
}

#[test]
fn a_full_window_of_waiting_messages_keeps_its_connection_and_lets_it_go() {
    let node = Node::start(Config {
        max_inflight: 4,
        ack: Ack::Replicated(1),
        ..one_worker()
    });
    let (mut client, mut greedy) = (Client::v5(&node, "a"), Client::v5(&node, "greedy"));
    for id in 1..=4 {
        client.publish(1, id, "plant/x", &[]);
    }
    client.hears_nothing();
    for id in 1..=5 {
        greedy.publish(1, id, "plant/x", &[]);
    }
    node.stats(|stats| stats.received == 9);
    drop(greedy);
    node.stats(|stats| stats.connections == 1 && stats.dropped == 5 && stats.waiting == 4);
    client.hears_nothing();
    node.report(&[u64::MAX]);
    for id in 1..=9 {
        assert_eq!(client.reply().id, id);
        if id <= 5 {
            client.publish(1, id + 4, "plant/x", &[]);
        }
    }
    let stats = node.at_rest();
    assert_eq!(
        (stats.received, stats.acknowledged, stats.dropped),
        (14, 9, 5)
    );
}

#[test]
fn stopping_waits_for_no_secondary_and_acknowledges_nothing_it_has_not() {
    let mut node = Node::start(Config {
        max_inflight: 2,
        ..one_worker()
    });
    let (mut client, mut fence) = (Client::v5(&node, "a"), Client::v5(&node, "fence"));
    client.publish(1, 1, "plant/x", &["replicated:1"]);
    client.publish(1, 2, "plant/x", &[]);
    client.hears_nothing();
    settle(&mut fence);
    // One more than it may have in flight: nothing more is read of this one.
    client.publish(1, 3, "plant/x", &[]);
    node.stats(|stats| stats.received == 4);
    node.listener.stop();
    assert_eq!(client.next(), None);
    let stats = node.at_rest();
    assert_eq!((stats.acknowledged, stats.dropped), (1, 3));
}

#[test]
fn every_message_is_in_one_place_whatever_happens_to_it() {
    let seed = fastrand::u64(..);
    println!("seed={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let node = Node::start(Config {
        workers: 2,
        too_few: if random.bool() {
            TooFew::Wait
        } else {
            TooFew::FallBack
        },
        ..Config::default()
    });
    let name = |at: usize| format!("client-{at}");
    let mut clients: Vec<Client> = (0..8).map(|at| Client::v5(&node, &name(at))).collect();
    let (mut sent, mut repeated) = (0, vec![0_u16; clients.len()]);
    let asks = [
        "durable",
        "replicated:1",
        "replicated:2",
        "replicated:8",
        "?",
    ];
    for id in 1..=300 {
        for (at, client) in clients.iter_mut().enumerate() {
            let qos = random.u8(..3);
            // Now and then the packet id of the last QoS 2 message.
            let id = match repeated[at] {
                last if qos == 2 && last > 0 && random.u8(..4) == 0 => last,
                _ => id,
            };
            if qos == 2 {
                repeated[at] = id;
            }
            let ask = asks[random.usize(..asks.len())];
            client.publish(qos, id, "plant/x", &[ask][..random.usize(..2)]);
            sent += 1;
        }
        match random.u8(..8) {
            0 => {
                let nodes = random.usize(..4);
                let ends: Vec<u64> = (0..nodes).map(|_| random.u64(..=node.end())).collect();
                node.report(&ends);
            }
            1 => {
                // All that it sent has been taken in: the count of what was sent stays exact.
                node.stats(|stats| stats.received == sent);
                let at = random.usize(..clients.len());
                clients[at] = Client::v5(&node, &format!("{}-{id}", name(at)));
                repeated[at] = 0;
            }
            _ => {}
        }
    }
    node.stats(|stats| stats.received == sent);
    node.report(&[u64::MAX; 8]);
    let stats = node.at_rest();
    assert_eq!(stats.received, sent);
    assert!(
        stats.acknowledged_replicated > 0 && stats.refused_messages > 0,
        "{stats:?}"
    );
    assert_eq!(stats.connections, 8);
}
