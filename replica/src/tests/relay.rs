//! A secondary serves others; rings are refused; upstreams are tried in order. A relay must never
//! pass on a byte that differs from what it got.

use super::*;

#[tokio::test]
async fn a_relay_serves_the_same_bytes_and_everybody_knows_the_way() {
    let cluster = Cluster::new();
    let mut primary = cluster.primary("primary", None).await;
    let relay = cluster.relay("relay", &[primary.address()], any()).await;
    let leaf = cluster.secondary("leaf", &[relay.address()]).await;
    let end = primary.write(0..100).await;
    leaf.reaches(end).await;
    assert_eq!(numbers(&leaf.log()), (0..100).collect::<Vec<_>>());
    eventually("the leaf knows its way", || {
        let status = leaf.status();
        if status.rooted && status.route == [hop("relay"), hop("primary")] {
            Ok(())
        } else {
            Err(status)
        }
    })
    .await;
    eventually("the primary knows the leaf", || {
        let all = primary.registry().secondaries();
        let [relay] = &all[..] else {
            return Err(all);
        };
        match &relay.descendants[..] {
            [leaf] if leaf.name == "leaf" && leaf.via == "relay" => Ok(()),
            _ => Err(all),
        }
    })
    .await;
    eventually("two copies are counted", || {
        let replicated = *primary.log().replicated().borrow();
        if replicated.by(2) >= end.lsn {
            Ok(())
        } else {
            Err(Box::new(replicated))
        }
    })
    .await;
    leaf.stop().await;
    relay.stop().await;
    primary.stop().await;
}

#[tokio::test]
async fn a_leaf_bootstraps_from_by_snapshot_from_a_relay() {
    let cluster = Cluster::new();
    let mut primary = cluster.primary("primary", None).await;
    primary.write(0..200).await;
    primary.retire().await;
    let relay = cluster.relay("relay", &[primary.address()], any()).await;
    let leaf = cluster.secondary("leaf", &[relay.address()]).await;
    let end = primary.write(200..210).await;
    leaf.reaches(end).await;
    assert_eq!(numbers(&leaf.log()), (0..210).collect::<Vec<_>>());
    assert_eq!(leaf.status().snapshots, 1);
    leaf.stop().await;
    relay.stop().await;
    primary.stop().await;
}

#[tokio::test]
async fn lag_is_told_of_the_primary_and_grows_when_the_relay_loses_it() {
    let cluster = Cluster::new();
    let mut primary = cluster.primary("primary", None).await;
    let relay = cluster.relay("relay", &[primary.address()], any()).await;
    let leaf = cluster.secondary("leaf", &[relay.address()]).await;
    let end = primary.write(0..10).await;
    leaf.reaches(end).await;
    eventually("where rows are taken", || {
        let told = [relay.status(), leaf.status()].map(|status| status.primary_http);
        let wanted = "http://primary.example:7440";
        if told.iter().all(|told| told == wanted) {
            Ok(())
        } else {
            Err(told)
        }
    })
    .await;
    eventually("no lag", || match leaf.status().lag_ms {
        Some(0) => Ok(()),
        lag => Err(lag),
    })
    .await;
    primary.stop().await;
    eventually("lag grows", || match leaf.status().lag_ms {
        Some(lag) if lag > 1_200 => Ok(()),
        lag => Err(lag),
    })
    .await;
    let status = leaf.status();
    assert!(
        !status.rooted && status.state == FollowPhase::CutOff && status.lag_rows.is_none(),
        "{status:?}"
    );
    let reason = status.reason.as_deref().unwrap_or_default();
    assert!(
        reason.starts_with("relay has no way to the primary: connecting: "),
        "{reason}"
    );
    let below = relay.listener.as_ref().expect("a relay").registry();
    let seen = below.secondaries();
    assert!(
        seen[0].lag_rows.is_none() && seen[0].lag_ms > Some(1_200),
        "{seen:?}"
    );
    leaf.stop().await;
    relay.stop().await;
}

#[tokio::test]
async fn a_ring_is_refused_and_said() {
    let cluster = Cluster::new();
    let mut primary = cluster.primary("primary", None).await;
    let first = cluster.relay("first", &[primary.address()], any()).await;
    let end = primary.write(0..10).await;
    first.reaches(end).await;
    let address = first.address();
    let second = cluster.relay("second", &[address], any()).await;
    second.reaches(end).await;
    first.stop().await;
    primary.stop().await;
    // Now the first one follows the second, which follows the first.
    let first = cluster.relay("first", &[second.address()], address).await;
    eventually("one of the two sees the ring", || {
        let both = [first.status(), second.status()];
        let refused = |status: &FollowStatus| {
            let reason = status.reason.as_deref().unwrap_or_default();
            status.state == FollowPhase::Refused && reason.contains("ring")
        };
        if both.iter().any(|status| refused(status)) {
            Ok(())
        } else {
            Err(both)
        }
    })
    .await;
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn the_next_upstream_helps_out_until_the_first_is_back() {
    let cluster = Cluster::new();
    let mut primary = cluster.primary("primary", None).await;
    let relay = cluster.relay("relay", &[primary.address()], any()).await;
    let address = relay.address();
    let leaf = cluster
        .secondary("leaf", &[address, primary.address()])
        .await;
    let end = primary.write(0..10).await;
    leaf.reaches(end).await;
    relay.stop().await;
    let end = primary.write(10..20).await;
    leaf.reaches(end).await;
    eventually("it follows the primary itself", || {
        let status = leaf.status();
        if status.route == [hop("primary")] && status.upstream == status.upstreams[1] {
            Ok(())
        } else {
            Err(status)
        }
    })
    .await;
    let relay = cluster.relay("relay", &[primary.address()], address).await;
    eventually("it goes back to the relay", || {
        let status = leaf.status();
        if status.route == [hop("relay"), hop("primary")] {
            Ok(())
        } else {
            Err(status)
        }
    })
    .await;
    let end = primary.write(20..30).await;
    leaf.reaches(end).await;
    leaf.stop().await;
    relay.stop().await;
    primary.stop().await;
}

#[tokio::test]
async fn a_node_ahead_of_a_relay_waits_and_puts_nothing_aside() {
    let cluster = Cluster::new();
    let mut primary = cluster.primary("primary", None).await;
    let end = primary.write(0..10).await;
    let relay = cluster.relay("relay", &[primary.address()], any()).await;
    let leaf = cluster.secondary("leaf", &[primary.address()]).await;
    relay.reaches(end).await;
    let address = relay.address();
    relay.stop().await;
    let end = primary.write(10..20).await;
    leaf.reaches(end).await;
    leaf.stop().await;
    primary.stop().await;
    // The relay comes back without the primary, behind the leaf.
    let nowhere = [SocketAddr::from(([127, 0, 0, 1], 9))];
    let relay = cluster.relay("relay", &nowhere, address).await;
    let leaf = cluster.secondary("leaf", &[address]).await;
    eventually("it says why it waits", || match leaf.status() {
        status if status.reason.is_some() => Ok(()),
        status => Err(status),
    })
    .await;
    let status = leaf.status();
    assert_eq!(
        (status.divergences, status.diverged.len()),
        (0, 0),
        "{status:?}"
    );
    assert_eq!(numbers(&leaf.log()), (0..20).collect::<Vec<_>>());
    leaf.stop().await;
    relay.stop().await;
}
