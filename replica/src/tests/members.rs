//! Who a primary knows, and who it takes for somebody else. A restart must never make it forget.

use super::*;
use crate::Forgotten;

#[tokio::test]
async fn a_node_that_comes_back_takes_its_place_and_one_that_is_gone_can_be_forgotten() {
    let cluster = Cluster::new();
    let mut primary = cluster.primary("primary", None).await;
    let end = primary.write(0..10).await;
    let registry = primary.registry();
    for _ in 0..3 {
        let secondary = cluster.secondary("secondary", &[primary.address()]).await;
        eventually("its position is known", || {
            match &registry.secondaries()[..] {
                [one] if one.state == SecondaryState::Streaming && one.flushed == end.lsn => Ok(()),
                all => Err(all.to_vec()),
            }
        })
        .await;
        secondary.stop().await;
    }
    eventually("it is gone", || match &registry.secondaries()[..] {
        [one] if one.state == SecondaryState::Disconnected && one.flushed == end.lsn => Ok(()),
        all => Err(all.to_vec()),
    })
    .await;
    let members = registry.members();
    assert_eq!(members.len(), 1);
    assert_eq!(
        (members[0].name.as_str(), members[0].position),
        ("secondary", end)
    );
    assert_eq!(registry.forget("nobody"), Forgotten::Unknown);
    assert_eq!(registry.forget("secondary"), Forgotten::Done);
    assert!(registry.secondaries().is_empty());
    primary.stop().await;
}

#[tokio::test]
async fn a_copied_directory_is_refused_while_the_original_is_connected() {
    let cluster = Cluster::new();
    let mut primary = cluster.primary("primary", None).await;
    let end = primary.write(0..10).await;
    let upstream = [primary.address()];
    let original = cluster.start("original", "one-id", &upstream, None).await;
    original.reaches(end).await;
    let copy = cluster.start("copy", "one-id", &upstream, None).await;
    eventually("the copy is refused", || match copy.status() {
        status if status.state == FollowPhase::Refused => Ok(()),
        status => Err(status),
    })
    .await;
    let reason = copy.status().reason.unwrap_or_default();
    assert!(
        reason.contains("original") && reason.contains("node-id"),
        "{reason}"
    );
    assert_eq!(original.status().state, FollowPhase::Streaming);
    copy.stop().await;
    original.stop().await;
    primary.stop().await;
}
