//! A node with an empty disk, or one that was away for too long, bootstraps by itself while rows
//! come in. It must never stop answering from what it had.

use super::*;

#[tokio::test]
async fn a_node_with_an_empty_disk_bootstraps_from_a_log_whose_head_is_gone() {
    let cluster = Cluster::new();
    let mut primary = cluster.primary("primary", None).await;
    primary.write(0..200).await;
    primary.retire().await;
    primary.write(200..250).await;
    let secondary = cluster.secondary("secondary", &[primary.address()]).await;
    let end = primary.write(250..300).await;
    secondary.reaches(end).await;
    assert_eq!(numbers(&secondary.log()), (0..300).collect::<Vec<_>>());
    assert_eq!(secondary.status().snapshots, 1);
    let end = primary.write(300..310).await;
    secondary.reaches(end).await;
    eventually("it streams", || match secondary.status() {
        status if status.state == FollowPhase::Streaming && status.bootstrap.is_none() => Ok(()),
        status => Err(status),
    })
    .await;
    secondary.stop().await;
    // What was bootstrapped is an ordinary log: it goes on from its own end.
    let secondary = cluster.secondary("secondary", &[primary.address()]).await;
    let end = primary.write(310..320).await;
    secondary.reaches(end).await;
    assert_eq!(secondary.status().snapshots, 0);
    assert_eq!(numbers(&secondary.log()), (0..320).collect::<Vec<_>>());
    secondary.stop().await;
    primary.stop().await;
}

#[tokio::test]
async fn several_nodes_bootstrap_at_once_and_their_files_become_the_primarys() {
    let cluster = Cluster::new();
    let mut primary = cluster.primary("primary", None).await;
    primary.write(0..300).await;
    primary.retire().await;
    let upstream = [primary.address()];
    let (a, b, c) = tokio::join!(
        cluster.secondary("a", &upstream),
        cluster.secondary("b", &upstream),
        cluster.secondary("c", &upstream),
    );
    let end = primary.write(300..400).await;
    compact(&primary.log()).await;
    let mark = primary.log().files_mark();
    for secondary in [a, b, c] {
        secondary.reaches(end).await;
        compact(&secondary.log()).await;
        assert_eq!(
            secondary.log().files_digest(mark.compacted, mark.next),
            Some(mark.digest)
        );
        assert_eq!(numbers(&secondary.log()), (0..400).collect::<Vec<_>>());
        secondary.stop().await;
    }
    primary.stop().await;
}

#[tokio::test]
async fn a_node_that_was_away_too_long_answers_from_its_old_data_until_the_swap() {
    let cluster = Cluster::new();
    let mut primary = cluster.primary("primary", None).await;
    let end = primary.write(0..20).await;
    let secondary = cluster.secondary("secondary", &[primary.address()]).await;
    secondary.reaches(end).await;
    let registry = primary.registry();
    eventually("the primary knows how far it is", || {
        match &registry.secondaries()[..] {
            [one] if one.flushed == end.lsn => Ok(()),
            all => Err(all.to_vec()),
        }
    })
    .await;
    secondary.stop().await;
    primary.write(20..300).await;
    primary.retire().await;
    let secondary = cluster.secondary("secondary", &[primary.address()]).await;
    let old = secondary.log();
    assert_eq!(numbers(&old), (0..20).collect::<Vec<_>>());
    let end = primary.write(300..310).await;
    secondary.reaches(end).await;
    assert_eq!(numbers(&secondary.log()), (0..310).collect::<Vec<_>>());
    // Who reads the old log goes on reading it.
    assert_eq!(numbers(&old), (0..20).collect::<Vec<_>>());
    let status = secondary.status();
    assert_eq!(status.snapshots, 1);
    // Everything it had is in the primary's log, which has seen it there.
    assert!(status.diverged.is_empty(), "{:?}", status.diverged);
    secondary.stop().await;
    primary.stop().await;
}

#[tokio::test]
async fn a_join_that_is_interrupted_again_and_again_comes_to_its_end() {
    let cluster = Cluster::new();
    let mut primary = cluster.primary("primary", None).await;
    primary.write(0..600).await;
    primary.retire().await;
    let mut next = 600;
    for _ in 0..20 {
        let secondary = cluster.secondary("secondary", &[primary.address()]).await;
        let pause = Duration::from_millis(fastrand::u64(0..30));
        let _ = timeout(pause, std::future::pending::<()>()).await;
        primary.write(next..next + 5).await;
        next += 5;
        secondary.stop().await;
    }
    let secondary = cluster.secondary("secondary", &[primary.address()]).await;
    let end = primary.write(next..next + 5).await;
    secondary.reaches(end).await;
    assert_eq!(numbers(&secondary.log()), (0..next + 5).collect::<Vec<_>>());
    secondary.stop().await;
    primary.stop().await;
}
