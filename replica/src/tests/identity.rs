//! Nodes that are not whom they should be, or cannot prove it: both ends say who was turned away and
//! why. A node must never be taken for another, nor two for one.

use super::*;
use crate::certs::Authority;

async fn follow_as(
    cluster: &Cluster,
    dir: &str,
    identity: Identity,
    id: &str,
    upstream: SocketAddr,
) -> FollowTask {
    let store = cluster.store(dir);
    let opening = store.clone();
    let existing = spawn_blocking(move || opening.open_existing()).await;
    let existing = existing.expect("runs").expect("opens");
    let config = FollowConfig {
        backoff_min: Duration::from_millis(20),
        backoff_max: Duration::from_millis(200),
        ..FollowConfig::new(vec![upstream.to_string()], identity.name(), id)
    };
    FollowTask::start(config, identity, store, existing)
}

/// Waits until it is refused; why.
async fn refused(following: &FollowTask) -> String {
    eventually("it is refused", || match following.status() {
        status if status.state == FollowPhase::Refused => Ok(()),
        status => Err(Box::new(status)),
    })
    .await;
    following.status().reason.unwrap_or_default()
}

fn says(text: &str, parts: &[&str]) {
    assert!(parts.iter().all(|part| text.contains(part)), "{text}");
}

#[tokio::test]
async fn both_ends_say_that_a_certificate_has_expired_or_is_not_valid_yet() {
    let cluster = Cluster::new();
    let mut primary = cluster.primary("primary", None).await;
    let registry = primary.registry();
    let end = primary.write(0..10).await;
    let secondary = cluster.secondary("s", &[primary.address()]).await;
    secondary.reaches(end).await;
    secondary.stop().await;
    for (from_s, until_s, what, advice) in [
        (-100, -50, "it has expired at 2", "headwater certs node"),
        (
            50,
            100,
            "it is not valid yet, only from 2",
            "compare the clocks",
        ),
    ] {
        let identity = cluster.authority.issue_dated("s", from_s, until_s);
        let identity = identity.expect("a certificate");
        let following = follow_as(&cluster, "s", identity, "s", primary.address()).await;
        let reason = refused(&following).await;
        says(&reason, &["primary does not accept", what, advice]);
        assert_eq!(following.status().lag_rows, None);
        eventually(
            "the primary says so",
            || match &registry.secondaries()[..] {
                [one] if one.state == SecondaryState::Refused => Ok(()),
                all => Err(all.to_vec()),
            },
        )
        .await;
        eventually("the primary says why", || {
            let reason = registry.secondaries()[0].reason.clone().unwrap_or_default();
            let says = reason.contains("the certificate of s is not accepted here")
                && reason.contains(what)
                && reason.contains("127.0.0.1");
            if says { Ok(()) } else { Err(reason) }
        })
        .await;
        following.stop().await;
    }
    primary.stop().await;
}

#[tokio::test]
async fn a_primary_of_another_ca_is_named_by_who_does_not_accept_it() {
    let cluster = Cluster::new();
    let primary = cluster.primary("primary", None).await;
    let other = Authority::new()
        .expect("a CA")
        .issue("s", crate::certs::CertRole::Primary, &[]);
    let other = other.expect("a certificate");
    let following = follow_as(&cluster, "s", other, "s", primary.address()).await;
    let reason = refused(&following).await;
    says(
        &reason,
        &[
            "the certificate of primary is not accepted here",
            "not of this cluster's CA",
        ],
    );
    following.stop().await;
    primary.stop().await;
}

#[tokio::test]
async fn of_two_nodes_with_one_identity_the_second_is_refused_and_the_first_goes_on() {
    let cluster = Cluster::new();
    let mut primary = cluster.primary("primary", None).await;
    let registry = primary.registry();
    let end = primary.write(0..10).await;
    let address = primary.address();
    let image = cluster.identity("image");
    let first = follow_as(&cluster, "first", image.clone(), "one-id", address).await;
    let streams = |following: &FollowTask| match following.status() {
        status if status.state == FollowPhase::Streaming && status.applied == end.lsn => Ok(()),
        status => Err(Box::new(status)),
    };
    eventually("the first one streams", || streams(&first)).await;
    let second = follow_as(&cluster, "second", image.clone(), "one-id", address).await;
    says(
        &refused(&second).await,
        &["one-id", "\"image\"", "127.0.0.1", "node-id"],
    );
    assert_eq!(first.status().reconnects, 0);
    let seen = registry.secondaries();
    says(
        seen[0].reason.as_deref().unwrap_or_default(),
        &["another node with this identity came from 127.0.0.1"],
    );
    assert_eq!(seen[0].state, SecondaryState::Streaming);
    // Once the first one is gone nothing speaks against the second.
    first.stop().await;
    eventually("the second one streams", || streams(&second)).await;
    second.stop().await;
    primary.stop().await;
}

#[tokio::test]
async fn a_copy_of_the_primarys_directory_is_called_a_copy() {
    let cluster = Cluster::new();
    let mut primary = cluster.primary("primary", None).await;
    let end = primary.write(0..10).await;
    let relay = cluster.relay("relay", &[primary.address()], any()).await;
    relay.reaches(end).await;
    for upstream in [primary.address(), relay.address()] {
        let copy = cluster.start("copy", "primary", &[upstream], None).await;
        let reason = refused(&copy.following).await;
        says(&reason, &["is a copy of that of \"primary\"", "node-id"]);
        copy.stop().await;
    }
    relay.stop().await;
    primary.stop().await;
}

/// A second primary with the log that the first one has now.
async fn fork(cluster: &Cluster, primary: Primary, name: &str) -> (Primary, Primary) {
    let address = primary.address();
    primary.stop().await;
    copy(&cluster.path("primary"), &cluster.path(name));
    let primary = cluster.primary("primary", Some(address)).await;
    (primary, cluster.primary(name, None).await)
}

#[tokio::test]
async fn a_node_with_two_upstreams_does_not_leave_its_history_for_another_of_the_same_epoch() {
    let cluster = Cluster::new();
    let mut primary = cluster.primary("primary", None).await;
    primary.write(0..10).await;
    let (mut primary, mut other) = fork(&cluster, primary, "other").await;
    let both = [primary.address(), other.address()];
    let secondary = cluster.secondary("s", &both).await;
    let end = primary.write(10..20).await;
    secondary.reaches(end).await;
    other.write(100..140).await;
    primary.stop().await;
    let reason = refused(&secondary.following).await;
    says(&reason, &["another history", "\"primary\"", "\"other\""]);
    // It knows that after a restart, too.
    secondary.stop().await;
    let secondary = cluster.secondary("s", &both).await;
    says(&refused(&secondary.following).await, &["another history"]);
    assert_eq!(numbers(&secondary.log()), (0..20).collect::<Vec<_>>());
    assert!(secondary.status().diverged.is_empty());
    let mut primary = cluster.primary("primary", Some(both[0])).await;
    let end = primary.write(20..30).await;
    secondary.reaches(end).await;
    assert_eq!(numbers(&secondary.log()), (0..30).collect::<Vec<_>>());
    secondary.stop().await;
    // An operator who names one upstream has decided.
    let secondary = cluster.secondary("s", &both[1..]).await;
    eventually("it follows the other", || match secondary.status() {
        status if status.divergences == 1 && status.state == FollowPhase::Streaming => Ok(()),
        status => Err(status),
    })
    .await;
    let expected: Vec<i64> = (0..10).chain(100..140).collect();
    assert_eq!(numbers(&secondary.log()), expected);
    secondary.stop().await;
    primary.stop().await;
    other.stop().await;
}
