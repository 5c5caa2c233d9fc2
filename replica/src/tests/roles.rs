//! Nodes that serve without the right to, by their certificates: a stolen key of a secondary must
//! never make rows, nor one of a relay a primary.

use super::faked::{Host, bytes_of, ends, send};
use super::*;
use crate::wire::{Heartbeat, Message, PROTOCOL_MAX, Route, WireHop};

/// A secondary of this upstream that asks again and again.
fn config(upstream: SocketAddr) -> FollowConfig {
    FollowConfig {
        backoff_min: Duration::from_millis(10),
        backoff_max: Duration::from_millis(20),
        contact_timeout: Duration::from_secs(60),
        ..FollowConfig::new(vec![upstream.to_string()], "secondary", "secondary")
    }
}

/// Waits until it is refused for this reason.
async fn refuses(following: &FollowTask, words: &str) {
    eventually("it does not follow", || {
        let status = following.status();
        let reason = status.reason.clone().unwrap_or_default();
        let refused = status.state == FollowPhase::Refused && reason.contains(words);
        if refused {
            Ok(())
        } else {
            Err(Box::new(status))
        }
    })
    .await;
    let status = following.status();
    assert_eq!((status.lag_rows, status.applied), (None, Lsn(0)));
}

fn raw(blocks: &[u8]) -> Vec<u8> {
    crate::wire::blocks::raw(&[bytes::Bytes::copy_from_slice(blocks)]).concat()
}

#[tokio::test]
async fn a_secondarys_certificate_does_not_play_the_primary() {
    let cluster = Cluster::new();
    let thief = cluster.identity_for("thief", CertRole::Secondary);
    let host = Host::listen_as(&thief);
    let own = cluster.identity_for("secondary", CertRole::Secondary);
    let following = cluster
        .follow_as("secondary", own, config(host.address))
        .await;
    // It leaves before it says a word.
    for _ in 0..3 {
        let link = host.incoming().await;
        ends(
            &link,
            0,
            "thief is not followed: its certificate lets it follow",
        )
        .await;
    }
    refuses(&following, "--role primary").await;
    assert!(following.log().borrow().is_none());
    following.stop().await;
}

#[tokio::test]
async fn a_relays_certificate_does_not_play_the_primary() {
    let cluster = Cluster::new();
    let mut primary = cluster.primary("primary", None).await;
    primary.write(0..20).await;
    let relay = cluster.identity_for("relay-1", CertRole::Relay);
    let host = Host::listen_as(&relay);
    let own = cluster.identity_for("secondary", CertRole::Secondary);
    let following = cluster
        .follow_as("secondary", own, config(host.address))
        .await;
    let mut guest = host.guest().await;
    let welcome = guest.welcome(PROTOCOL_MAX, &primary.log());
    guest.control.say(&Message::Welcome(welcome)).await;
    let itself = WireHop {
        id: "relay-1".to_owned(),
        name: "relay-1".to_owned(),
    };
    let says = Message::Route(Route {
        hops: vec![itself],
        rooted: true,
    });
    guest.control.say(&says).await;
    let words = "relay-1 is not followed: its certificate lets it relay";
    ends(&guest.link, 0, words).await;
    // So does the one that has no hops to tell of.
    let mut guest = host.guest().await;
    let welcome = guest.welcome(PROTOCOL_MAX, &primary.log());
    guest.control.say(&Message::Welcome(welcome)).await;
    let says = Message::Route(Route {
        hops: Vec::new(),
        rooted: true,
    });
    guest.control.say(&says).await;
    ends(&guest.link, 0, words).await;
    refuses(&following, "not be the primary").await;
    following.stop().await;
    primary.stop().await;
}

#[tokio::test]
async fn who_does_not_say_who_it_is_is_never_believed_to_be_the_primary() {
    let cluster = Cluster::new();
    let mut primary = cluster.primary("primary", None).await;
    let end = primary.write(0..20).await;
    let host = Host::listen_as(&cluster.identity_for("relay-1", CertRole::Relay));
    let own = cluster.identity_for("secondary", CertRole::Secondary);
    let following = cluster
        .follow_as("secondary", own, config(host.address))
        .await;
    let mut guest = host.guest().await;
    let welcome = guest.welcome(PROTOCOL_MAX, &primary.log());
    guest.control.say(&Message::Welcome(welcome)).await;
    let mut blocks = guest.blocks().await;
    send(&mut blocks, raw(&bytes_of(&primary.log())))
        .await
        .expect("sent");
    let beat = Heartbeat {
        durable: end.lsn.0,
        committed_at_ns: 1,
        now_unix_ns: 1,
    };
    guest.control.say(&Message::Heartbeat(beat)).await;
    eventually("blocks are taken", || {
        let status = following.status();
        if status.applied == end.lsn {
            Ok(())
        } else {
            Err(Box::new(status))
        }
    })
    .await;
    let status = following.status();
    assert_eq!(
        (status.lag_rows, status.lag_ms, status.rooted),
        (None, None, false)
    );
    following.stop().await;
    primary.stop().await;
}

#[tokio::test]
async fn each_node_does_what_its_certificate_allows() {
    let cluster = Cluster::new();
    let mut primary = cluster.primary("primary", None).await;
    let relaying = cluster
        .follow_as(
            "relay-1",
            cluster.identity_for("relay-1", CertRole::Relay),
            FollowConfig::new(vec![primary.address().to_string()], "relay-1", "relay-1"),
        )
        .await;
    let identity = cluster.identity_for("relay-1", CertRole::Relay);
    let listening = ListenConfig::new(any(), hop("relay-1"));
    let listener = Listener::bind(listening, &identity, relaying.source()).expect("listens");
    let own = cluster.identity_for("leaf", CertRole::Secondary);
    let leaf = cluster
        .follow_as("leaf", own, config(listener.local_addr()))
        .await;
    let leaf = Secondary {
        following: leaf,
        listener: None,
    };
    let end = primary.write(0..20).await;
    leaf.reaches(end).await;
    eventually("it knows the primary", || {
        let status = leaf.status();
        if status.rooted && status.lag_rows == Some(0) {
            Ok(())
        } else {
            Err(status)
        }
    })
    .await;
    leaf.stop().await;
    relaying.stop().await;
    listener.stop().await;
    primary.stop().await;
}

#[tokio::test]
async fn an_upstream_of_another_name_than_the_conf_says_is_not_followed() {
    let cluster = Cluster::new();
    let mut primary = cluster.primary("primary", None).await;
    let end = primary.write(0..20).await;
    let wrong = FollowConfig {
        upstream_names: vec!["primary-1".to_owned(), "prim".to_owned()],
        ..config(primary.address())
    };
    let following = cluster.follow("secondary", wrong.clone()).await;
    let words = "primary is not followed: replication.upstream_name allows primary-1, prim alone";
    refuses(&following, words).await;
    following.stop().await;
    let right = FollowConfig {
        upstream_names: vec!["primary-1".to_owned(), "primary".to_owned()],
        ..wrong
    };
    let secondary = Secondary {
        following: cluster.follow("secondary", right).await,
        listener: None,
    };
    secondary.reaches(end).await;
    secondary.stop().await;
    primary.stop().await;
}

#[tokio::test]
async fn certificates_without_a_role_are_believed_only_by_others_without() {
    let cluster = Cluster::new();
    let mut primary = cluster.primary("old", None).await;
    let end = primary.write(0..20).await;
    let (log, own) = (primary.log(), cluster.identity_without_role("old"));
    let source = Source::primary(log, hop("old"), String::new());
    let listening = ListenConfig::new(any(), hop("old"));
    let listener = Listener::bind(listening, &own, source).expect("listens");
    let upstream = config(listener.local_addr());
    let identity = cluster.identity_for("secondary", CertRole::Secondary);
    let following = cluster
        .follow_as("secondary", identity, upstream.clone())
        .await;
    refuses(&following, "says nothing of what it may do").await;
    following.stop().await;
    let identity = cluster.identity_without_role("secondary");
    let secondary = Secondary {
        following: cluster.follow_as("secondary", identity, upstream).await,
        listener: None,
    };
    secondary.reaches(end).await;
    secondary.stop().await;
    listener.stop().await;
    primary.stop().await;
}
