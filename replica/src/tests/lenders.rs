//! Nodes that lend blocks to one that lacks them. They must never make it hold more than it lacks,
//! nor keep the one that has them from its turn.

use bytes::Bytes;
use wal::Unreadable;

use super::faked::{Caller, WIDE, blocks_of, hello};
use super::hoards::{MIB, Watched};
use super::hostile::write_bulk;
use super::*;
use crate::Borrower;
use crate::files::lent::Lent;
use crate::quic::{ControlReceiver, ControlSender, Link};
use crate::wire::{File, Hello, Message};

/// What one that is asked for blocks answers.
pub(super) async fn asked(link: &Link) -> (ControlSender, ControlReceiver) {
    let (sender, mut receiver) = link.accept_fetch().await.expect("a question");
    let question = receiver.receive().await.expect("a message");
    assert!(
        matches!(question, Some(Message::FetchFrom(_))),
        "{question:?}"
    );
    (sender, receiver)
}

#[tokio::test]
async fn blocks_are_lent_as_the_log_has_them_piece_by_piece() {
    let cluster = Cluster::new();
    let mut primary = cluster.primary("primary", None).await;
    primary.write(0..10).await;
    let end = write_bulk(&mut primary, 9).await;
    let log = primary.log();
    let genesis = log.id().genesis();
    for to in [0, 1, 5, end.lsn.0 - 1, end.lsn.0, u64::MAX] {
        let all = log.export_blocks(genesis, Lsn(to), usize::MAX);
        let mut lent = Lent::of(&log, genesis, Lsn(to), u64::MAX).expect("held");
        let (announced, mut bytes, mut is_last) = (lent.left(), Vec::new(), false);
        while let Some(piece) = lent.next_piece().expect("reads") {
            assert!(!is_last && piece.len() <= wal::CHUNK_LEN);
            is_last = piece.len() < wal::CHUNK_LEN;
            bytes.extend_from_slice(&piece);
        }
        assert_eq!(announced, bytes.len() as u64);
        // One that reads more at once may go on a little further.
        assert!(all.expect("held").starts_with(&bytes) && lent.left() == 0);
        let reaches = blocks_of(&log)
            .iter()
            .any(|(start, _)| start.lsn >= Lsn(to));
        assert!(to == 0 || !bytes.is_empty() || !reaches, "{to}");
    }
    assert!(Lent::of(&log, genesis, end.lsn, 1 << 20).is_none());
    let elsewhere = Position {
        lsn: Lsn(3),
        ..genesis
    };
    assert!(Lent::of(&log, elsewhere, end.lsn, u64::MAX).is_none());
    primary.stop().await;
}

/// Answers the one question that comes: that so many bytes follow, and then `give`.
async fn lends<F: Future<Output = ()>>(
    own: crate::Identity,
    (address, said): (SocketAddr, Hello),
    bytes: u64,
    give: impl FnOnce(ControlSender) -> F,
) {
    let caller = Caller::connect_as(&own, address, WIDE).await;
    let mut control = caller.handshake(said).await;
    let answering = async {
        let (mut sender, _receiver) = asked(&caller.link).await;
        let answer = Message::File(File {
            found: true,
            bytes,
            reason: String::new(),
        });
        let _ = sender.send(&answer).await;
        give(sender).await;
        caller.link.closed().await;
    };
    tokio::select! {
        () = answering => {}
        _ = caller.link.closed() => {}
        () = async { while let Ok(Some(_)) = control.hear().await {} } => {}
    }
}

/// What it says it has comes byte by byte.
async fn drip(mut sender: ControlSender) {
    while sender.send_raw(Bytes::from_static(&[0])).await.is_ok() {
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn lenders_make_a_node_hold_no_more_than_it_lacks_and_the_honest_one_has_its_turn() {
    let (cluster, watched) = (Cluster::new(), Watched::of(16 * MIB));
    let mut primary = cluster.primary("primary", None).await;
    let end = write_bulk(&mut primary, 12).await;
    let log = primary.log();
    let genesis = log.id().genesis();
    let all = log.export_blocks(genesis, end.lsn, usize::MAX);
    let all = all.expect("held");
    let config = ListenConfig {
        memory: watched.share.clone(),
        handshake_timeout: Duration::from_millis(400),
        ..ListenConfig::new(any(), hop("closed"))
    };
    let mut borrower = Borrower::bind(config, &cluster.identity("closed")).expect("binds");
    let address = borrower.local_addr();
    let lacking = Unreadable {
        log: log.id(),
        file: PathBuf::new(),
        offset: 0,
        bytes: all.len() as u64,
        from: genesis,
        to: end.lsn,
        rows_behind: 0,
    };
    let says = |name: &str| Hello {
        log: Some(log.id().0),
        epoch: log.epoch().0,
        lsn: end.lsn.0,
        chain: end.chain.0,
        ..hello(name)
    };
    let most = all.len() as u64 + MIB;
    let mut lenders = Vec::new();
    for number in 0..8_usize {
        let name = format!("liar-{number}");
        let bytes = [1 << 30, u64::MAX, most + 1, most][number % 4];
        let (own, to) = (cluster.identity(&name), (address, says(&name)));
        lenders.push(tokio::spawn(lends(own, to, bytes, drip)));
    }
    let (own, to) = (cluster.identity("honest"), (address, says("honest")));
    let (bytes, lent) = (all.len() as u64, all.clone());
    let give = |mut sender: ControlSender| async move {
        for piece in lent.chunks(1 << 16) {
            let piece = Bytes::copy_from_slice(piece);
            sender.send_raw(piece).await.expect("sends");
        }
        sender.finish();
    };
    lenders.push(tokio::spawn(lends(own, to, bytes, give)));
    let blocks = timeout(Duration::from_secs(120), borrower.blocks(&lacking)).await;
    let (blocks, peer) = blocks.expect("in time");
    assert!(peer == "honest" && blocks == all, "{peer}");
    let (held, limit) = (watched.most(), watched.share.limit());
    assert!(held <= limit, "{held} of {limit}");
    drop(blocks);
    borrower.close().await;
    for lender in lenders {
        lender.await.expect("ends");
    }
    primary.stop().await;
    watched.ends_empty().await;
}
