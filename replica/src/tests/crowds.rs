//! Crowds at an upstream's door: half handshakes, one certificate under many names, ids that are made
//! up. Whoever behaves must never be kept out by them.

use super::faked::{Caller, WIDE, Wire, ends, hello};
use super::*;
use crate::quic::Endpoint;

#[tokio::test]
async fn half_handshakes_take_no_place_of_a_secondary_and_no_more_than_a_share_of_their_own() {
    let cluster = Cluster::new();
    let config = ListenConfig {
        max_secondaries: 2,
        ..ListenConfig::new(any(), hop("primary"))
    };
    let mut primary = cluster.primary_with("primary", config).await;
    let end = primary.write(0..20).await;
    let thief = cluster.identity("thief");
    let from = SocketAddr::from(([127, 0, 0, 2], 0));
    let mut halves = Vec::new();
    for _ in 0..100 {
        // Its address is proved, and then nothing more comes.
        let wire = Wire::half(primary.address(), from).await;
        let memory = wal::Share::unlimited("replication");
        let endpoint = Endpoint::dial(wire.address, &thief, WIDE, &memory).expect("dials");
        let at = wire.address;
        let dialing = tokio::spawn(async move { endpoint.connect(at).await.map(drop) });
        halves.push((wire, dialing));
    }
    for (wire, _) in &halves {
        wire.is_half().await;
    }
    let honest = cluster.secondary("honest", &[primary.address()]).await;
    // Long before any of them is given up.
    let in_time = timeout(Duration::from_secs(3), honest.reaches(end)).await;
    in_time.expect("it is let in at once");
    for (_, dialing) in halves {
        dialing.abort();
    }
    honest.stop().await;
    primary.stop().await;
}

#[tokio::test]
async fn one_certificate_does_not_fill_the_house() {
    let cluster = Cluster::new();
    let config = ListenConfig {
        max_secondaries: 12,
        ..ListenConfig::new(any(), hop("primary"))
    };
    let mut primary = cluster.primary_with("primary", config).await;
    let end = primary.write(0..20).await;
    let thief = cluster.identity("thief");
    let mut inside = Vec::new();
    for nth in 0..12 {
        let caller = Caller::connect_as(&thief, primary.address(), WIDE).await;
        if nth >= 6 {
            ends(&caller.link, 2, "all places for secondaries are taken").await;
            continue;
        }
        let mut control = caller.handshake(hello(&format!("node-{nth}"))).await;
        control.welcomed().await;
        inside.push((caller, control));
    }
    for name in ["honest", "another", "third"] {
        let honest = cluster.secondary(name, &[primary.address()]).await;
        honest.reaches(end).await;
        honest.stop().await;
    }
    for (caller, _) in inside {
        caller.leave();
    }
    primary.stop().await;
}
