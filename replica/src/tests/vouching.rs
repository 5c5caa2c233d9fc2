//! Who counts as a copy: nodes that vouch for themselves, each once. However much one node tells of
//! others, or calls itself, it must never count for more than its own certificate.

use super::faked::{Caller, Control, WIDE, hello, report, report_of};
use super::hostile::{copies, copies_become, is_sent, let_in};
use super::*;
use crate::certs::Authority;
use crate::wire::statement::{MAX_CERTIFICATE, MAX_CERTIFICATES, MAX_SIGNATURE, fnv, to_sign};
use crate::wire::{Disk, Message, NodeCertificate, Report, Statement, Statements};

/// What this node says of itself.
fn statement(of: &Identity, log: wal::LogId, at: Position, heard_ns: i64) -> Statement {
    let signed = of.sign(&to_sign(log, at, heard_ns));
    let (scheme, signature) = signed.expect("signs");
    Statement {
        node: fnv(&of.certificate_der().expect("a certificate")),
        flushed: at.lsn.0,
        chain: at.chain.0,
        heard_ns,
        scheme,
        signature,
    }
}

fn now() -> i64 {
    wal::clock::unix_nanos()
}

async fn show(control: &mut Control, of: &Identity) {
    let der = of.certificate_der().expect("a certificate");
    let shown = Message::NodeCertificate(NodeCertificate { der });
    control.say(&shown).await;
}

async fn tell(control: &mut Control, nodes: Vec<Statement>) {
    let told = Message::Statements(Statements { nodes });
    control.say(&told).await;
}

/// Says something that counts, so that what was said before has been heard.
async fn is_heard(primary: &Primary, control: &mut Control, at: Position, expected: u8) {
    let genesis = primary.log().id().genesis();
    control.say(&report(genesis)).await;
    eventually("it goes back", || {
        let all = primary.registry().secondaries();
        if all.iter().any(|one| one.flushed == genesis.lsn) {
            Ok(())
        } else {
            Err(all)
        }
    })
    .await;
    control.say(&report(at)).await;
    copies_become(primary, (expected, at.lsn)).await;
}

#[tokio::test]
async fn one_certificate_is_one_copy_however_many_nodes_it_says_it_is() {
    let cluster = Cluster::new();
    let mut primary = cluster.primary("primary", None).await;
    let end = primary.write(0..20).await;
    let thief = cluster.identity("thief");
    let mut all = Vec::new();
    for nth in 0..8 {
        let caller = Caller::connect_as(&thief, primary.address(), WIDE).await;
        let mut control = caller.handshake(hello(&format!("node-{nth}"))).await;
        control.welcomed().await;
        eventually("everything is sent", || {
            let all = primary.registry().secondaries();
            let is_sent = all.iter().all(|one| one.sent == end.lsn);
            if is_sent { Ok(()) } else { Err(all) }
        })
        .await;
        let disk = |node| Disk {
            node,
            flushed: u64::MAX,
        };
        let boast = Report {
            descendants: (1..=8).map(disk).collect(),
            ..report_of(end)
        };
        control.say(&Message::Report(boast)).await;
        copies_become(&primary, (1, end.lsn)).await;
        all.push((caller, control));
    }
    let log = primary.log();
    let replicated = *log.replicated().borrow();
    assert_eq!((replicated.by(1), replicated.by(2)), (end.lsn, Lsn(0)));
    for (caller, _) in all {
        caller.leave();
    }
    primary.stop().await;
}

#[tokio::test]
async fn nobody_counts_by_what_another_has_signed_or_what_nobody_has() {
    let cluster = Cluster::new();
    let mut primary = cluster.primary("primary", None).await;
    let end = primary.write(0..20).await;
    let (log, address) = (primary.log().id(), primary.address());
    let relay = cluster.identity("relay");
    let caller = Caller::connect_as(&relay, address, WIDE).await;
    let mut control = caller.handshake(hello("relay")).await;
    control.welcomed().await;
    is_sent(&primary, "relay", end).await;
    let leaf = cluster.identity("leaf");
    let stranger = Authority::new().expect("a CA");
    let stranger = stranger.issue("leaf", CertRole::Secondary, &[]);
    let stranger = stranger.expect("a certificate");
    let expired = cluster.authority.issue_dated("old", -100, -50);
    let expired = expired.expect("a certificate");
    // Not shown before.
    let honest = |at, heard_ns| statement(&leaf, log, at, heard_ns);
    tell(&mut control, vec![honest(end, now())]).await;
    is_heard(&primary, &mut control, end, 1).await;
    for identity in [&leaf, &stranger, &expired, &relay] {
        show(&mut control, identity).await;
    }
    let by_the_relay = Statement {
        node: honest(end, 0).node,
        ..statement(&relay, log, end, now())
    };
    let further = Position {
        lsn: Lsn(end.lsn.0 - 1),
        ..end
    };
    let changed = Statement {
        flushed: end.lsn.0,
        ..honest(further, now())
    };
    let renewed = Statement {
        heard_ns: now(),
        ..honest(end, now() - 60_000_000_000)
    };
    let elsewhere = Position {
        chain: wal::Chain(!end.chain.0),
        ..end
    };
    for forged in [
        by_the_relay,
        changed,
        renewed,
        honest(elsewhere, now()),
        honest(end, now() - 60_000_000_000),
        honest(end, now() + 60_000_000_000),
        honest(end, 0),
        honest(end, i64::MIN),
        statement(&leaf, wal::LogId([9; 16]), end, now()),
        statement(&stranger, log, end, now()),
        statement(&expired, log, end, now()),
        // It counts already.
        statement(&relay, log, end, now()),
    ] {
        println!("{forged:?}");
        tell(&mut control, vec![forged]).await;
        is_heard(&primary, &mut control, end, 1).await;
    }
    // An honest one, and for no more than the one behind which it is.
    tell(&mut control, vec![honest(end, now())]).await;
    copies_become(&primary, (2, end.lsn)).await;
    let (half, _) = super::faked::blocks_of(&primary.log())[10];
    control.say(&report(half)).await;
    copies_become(&primary, (2, half.lsn)).await;
    caller.leave();
    primary.stop().await;
}

#[tokio::test]
async fn what_is_too_long_or_too_much_ends_the_connection() {
    let cluster = Cluster::new();
    let mut primary = cluster.primary("primary", None).await;
    primary.write(0..5).await;
    let long = Statement {
        signature: vec![0; MAX_SIGNATURE + 1],
        ..Statement::default()
    };
    for nodes in [vec![Statement::default(); 9], vec![long]] {
        let (odd, mut control) = let_in(&cluster, &primary, hello("odd"), WIDE).await;
        tell(&mut control, nodes).await;
        super::faked::ends(&odd.link, 1, "it hands on more statements, or longer ones").await;
    }
    let (odd, mut control) = let_in(&cluster, &primary, hello("odd"), WIDE).await;
    for nth in 0..=MAX_CERTIFICATES {
        let mut der = vec![0; MAX_CERTIFICATE + 1];
        der[..8].copy_from_slice(&nth.to_le_bytes());
        let shown = Message::NodeCertificate(NodeCertificate { der });
        // It may have had enough.
        let _ = control.try_say(&shown).await;
    }
    super::faked::ends(&odd.link, 1, "it shows more certificates than").await;
    assert_eq!(copies(&primary), (0, Lsn(0)));
    primary.stop().await;
}

#[tokio::test]
async fn every_node_behind_relays_counts_once_by_its_own_word() {
    let cluster = Cluster::new();
    let mut primary = cluster.primary("primary", None).await;
    let first = cluster.relay("relay-1", &[primary.address()], any()).await;
    let second = cluster.relay("relay-2", &[first.address()], any()).await;
    let leaves = [
        cluster.secondary("leaf-1", &[first.address()]).await,
        cluster.secondary("leaf-2", &[second.address()]).await,
        cluster.secondary("leaf-3", &[second.address()]).await,
    ];
    for round in 0..3 {
        let end = primary.write(round * 10..round * 10 + 10).await;
        eventually("all of them count", || {
            let replicated = *primary.log().replicated().borrow();
            let seen = (replicated.connected, replicated.by(5), replicated.by(6));
            if seen == (5, end.lsn, Lsn(0)) {
                Ok(())
            } else {
                Err(seen)
            }
        })
        .await;
    }
    let [one, two, three] = leaves;
    three.stop().await;
    eventually("who is gone counts no more", || {
        let replicated = *primary.log().replicated().borrow();
        if replicated.connected == 4 {
            Ok(())
        } else {
            Err(replicated.connected)
        }
    })
    .await;
    for node in [one, two, second, first] {
        node.stop().await;
    }
    primary.stop().await;
}
