//! Peers that want to make a node hold as much as they can: whatever they announce, keep open or do
//! not take, it must never hold more than its share of the memory and the one block that it cannot
//! go on without, and an honest peer must have its way meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tokio::task::JoinHandle;
use wal::Share;

use super::faked::{Caller, Guest, Host, WIDE, blocks_of, ends, hello, report, send};

use super::hostile::{let_in, write_bulk};
use super::lenders::asked;
use super::*;
use crate::files::blocks_name;
use crate::files::fetch;
use crate::wire::{
    Descendants, FetchFrom, File, Heartbeat, Hello, MAX_MESSAGE_LEN, Message, NodeSummary,
    PROTOCOL_MAX,
};

/// What a share held at most while it was watched.
pub(super) struct Watched {
    pub(super) share: Share,
    most: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Watched {
    pub(super) fn of(limit: u64) -> Self {
        let (share, most) = (
            Share::new("replication", limit),
            Arc::<AtomicU64>::default(),
        );
        let (seen, noted) = (share.clone(), Arc::clone(&most));
        let task = tokio::spawn(async move {
            loop {
                noted.fetch_max(seen.used(), Ordering::Relaxed);
                sleep(Duration::from_micros(200)).await;
            }
        });
        Self { share, most, task }
    }

    pub(super) fn most(&self) -> u64 {
        self.most.load(Ordering::Relaxed)
    }

    /// Nothing is held any more.
    pub(super) async fn ends_empty(self) {
        eventually("everything is given back", || match self.share.used() {
            0 => Ok(()),
            used => Err(used),
        })
        .await;
        self.task.abort();
    }
}

pub(super) const MIB: u64 = 1 << 20;
const LIMIT: u64 = 4 * MIB;

/// A row of so many bytes of text in each of so many rows of one block.
async fn write_block(primary: &mut Primary, rows: i64, bytes: usize) -> Position {
    let mut appender = primary.appender.take().expect("an appender");
    let written = spawn_blocking(move || {
        let text = "a".repeat(bytes);
        let fields = [
            (Cow::Borrowed("n"), Value::Int(7)),
            (Cow::Borrowed("bulk"), Value::Text(text.as_str().into())),
        ];
        let rows: Vec<Row<'_>> = (0..rows)
            .map(|number| Row {
                time: number,
                tags: &[("topic", "plant/a")],
                fields: &fields,
            })
            .collect();
        let group = appender.append("plant", &rows).expect("fits");
        appender.wait(group).expect("durable");
        drop(rows);
        appender
    });
    primary.appender = Some(written.await.expect("writes"));
    *primary.log().durable().borrow()
}

fn framed(kind: u8, length: usize, raw_length: usize, content: &[u8]) -> Vec<u8> {
    let mut frame = vec![kind];
    for length in [length, raw_length] {
        let length = u32::try_from(length).expect("short");
        frame.extend_from_slice(&length.to_le_bytes());
    }
    frame.extend_from_slice(content);
    frame
}

fn packed(bytes: &[u8], announced: usize) -> Vec<u8> {
    let packed = zstd::bulk::compress(bytes, 1).expect("packs");
    framed(1, packed.len(), announced, &packed)
}

/// A secondary with little memory that follows this host.
async fn small(cluster: &Cluster, host: &Host, share: &Share) -> Secondary {
    let config = FollowConfig {
        backoff_min: Duration::from_millis(10),
        backoff_max: Duration::from_millis(20),
        contact_timeout: Duration::from_secs(60),
        memory: share.clone(),
        ..FollowConfig::new(vec![host.address.to_string()], "secondary", "secondary")
    };
    Secondary {
        following: cluster.follow("secondary", config).await,
        listener: None,
    }
}

async fn welcomed(host: &Host, log: &Log) -> Guest {
    let mut guest = host.guest().await;
    let welcome = guest.welcome(PROTOCOL_MAX, log);
    guest.control.say(&Message::Welcome(welcome)).await;
    guest
}

#[tokio::test]
async fn an_upstream_makes_a_node_hold_its_share_and_one_block_at_most() {
    let (cluster, watched) = (Cluster::new(), Watched::of(LIMIT));
    let mut primary = cluster.primary("primary", None).await;
    primary.write(0..1).await;
    let end = write_block(&mut primary, 40, 256 << 10).await;
    let log = primary.log();
    let all = blocks_of(&log);
    let (_, large) = all
        .iter()
        .max_by_key(|(_, block)| block.len())
        .expect("blocks")
        .clone();
    assert!(
        large.len() > 10 << 20 && zstd::bulk::compress(&large, 1).expect("packs").len() < 1 << 20
    );
    let before: Vec<u8> = all
        .iter()
        .take_while(|(_, block)| *block != large)
        .flat_map(|(_, block)| block.clone())
        .collect();
    let before = framed(0, before.len(), before.len(), &before);
    let (host, mut spoilt) = (Host::listen(&cluster, "host"), large.clone());
    let last = spoilt.len() - 1;
    spoilt[last] ^= 1;
    let secondary = small(&cluster, &host, &watched.share).await;
    // Again and again what becomes much of little, and in the end is no block.
    for round in 0..6 {
        let guest = welcomed(&host, &log).await;
        let mut blocks = guest.blocks().await;
        if round == 0 {
            send(&mut blocks, before.clone()).await.expect("sent");
        }
        for _ in 0..20 {
            let _ = send(&mut blocks, packed(&spoilt, spoilt.len())).await;
        }
        ends(&guest.link, 4, "do not continue the local log").await;
    }
    let block = large.len() as u64;
    // What is unpacked of the next one is beside it.
    let bound = LIMIT + 2 * block + 2 * MIB;
    assert!(watched.most() <= bound, "{} of {bound}", watched.most());
    // Good ones come in as ever, however much the share is less than they.
    let mut guest = welcomed(&host, &log).await;
    let mut blocks = guest.blocks().await;
    let from = all.iter().position(|(_, block)| *block == large);
    for (_, block) in all.iter().skip(from.expect("it is there")) {
        let sent = send(&mut blocks, packed(block, block.len())).await;
        sent.expect("sent");
    }
    guest.caught_up(&log).await;
    secondary.reaches(end).await;
    secondary.stop().await;
    primary.stop().await;
    watched.ends_empty().await;
}

#[tokio::test]
async fn an_upstream_that_announces_much_and_sends_little_makes_a_node_hold_little() {
    let (cluster, watched) = (Cluster::new(), Watched::of(LIMIT));
    let mut primary = cluster.primary("primary", None).await;
    primary.write(0..1).await;
    let log = primary.log();
    let host = Host::listen(&cluster, "host");
    let secondary = small(&cluster, &host, &watched.share).await;
    let most = crate::wire::blocks::MAX_RAW_LEN;
    let window = zstd_of_a_large_window();
    let announced: Vec<(&str, Vec<u8>)> = vec![
        ("raw", framed(0, most, most, &[])),
        ("packed", framed(1, most, most, &[0x28, 0xb5, 0x2f, 0xfd])),
        ("window", framed(1, window.len(), most, &window)),
    ];
    for (what, bytes) in announced {
        let mut guest = welcomed(&host, &log).await;
        let mut blocks = guest.blocks().await;
        let _ = send(&mut blocks, bytes).await;
        // The longest message, but for its last byte.
        let length = u32::try_from(MAX_MESSAGE_LEN).expect("short");
        let _ = guest.control.say_bytes(&length.to_le_bytes()).await;
        let _ = guest.control.say_bytes(&vec![3; MAX_MESSAGE_LEN - 1]).await;
        sleep(Duration::from_millis(50)).await;
        assert!(watched.most() <= LIMIT, "{what}: {}", watched.most());
        guest.link.close(crate::error::CloseCode::Done, "");
    }
    secondary.stop().await;
    primary.stop().await;
    watched.ends_empty().await;
}

/// The beginning of a frame that wants 128 MiB to be unpacked in.
fn zstd_of_a_large_window() -> Vec<u8> {
    // Magic, no size and no checksum, a window of 2 to the 27th, the last block: 3 raw bytes.
    vec![0x28, 0xb5, 0x2f, 0xfd, 0, 17 << 3, 0x19, 0, 0, 1, 2, 3]
}

/// A list as long as may be.
fn longest() -> Message {
    let node = NodeSummary {
        id: "i".repeat(60),
        name: "n".repeat(60),
        address: "a".repeat(60),
        state: "s".repeat(60),
        via: "v".repeat(60),
        ..NodeSummary::default()
    };
    Message::Descendants(Descendants {
        nodes: vec![node; 200],
        more: 0,
    })
}

#[tokio::test]
async fn followers_make_a_node_hold_its_share_and_keep_no_honest_one_out() {
    let (cluster, watched) = (Cluster::new(), Watched::of(LIMIT));
    let config = ListenConfig {
        memory: watched.share.clone(),
        contact_timeout: Duration::from_secs(2),
        ..ListenConfig::new(any(), hop("primary"))
    };
    let mut primary = cluster.primary_with("primary", config).await;
    write_bulk(&mut primary, 20).await;
    let mut hoarders = Vec::new();
    for number in 0..60 {
        let name = format!("hoarder-{number}");
        let caller = Caller::connect(&cluster, &name, primary.address(), 1).await;
        let said = hello(&name);
        hoarders.push(tokio::spawn(hoard(caller, said)));
    }
    let honest = cluster.secondary("honest", &[primary.address()]).await;
    let end = primary.write(0..20).await;
    honest.reaches(end).await;
    for hoarder in hoarders {
        hoarder.await.expect("ends");
    }
    // Handshakes are few, and go beyond it until it is known who comes.
    let bound = LIMIT + LIMIT / 8;
    assert!(watched.most() <= bound, "{}", watched.most());
    honest.stop().await;
    primary.stop().await;
    watched.ends_empty().await;
}

/// Says Hello, takes nothing, keeps every stream open that it may, and begins on each the longest
/// message that there is.
async fn hoard(caller: Caller, said: Hello) {
    let Ok(mut control) = caller.open().await else {
        return;
    };
    if control.try_say(&Message::Hello(said)).await.is_err() {
        return;
    }
    for _ in 0..3 {
        let _ = control.try_say(&longest()).await;
    }
    let mut begun = u32::try_from(MAX_MESSAGE_LEN)
        .expect("short")
        .to_le_bytes()
        .to_vec();
    begun.resize(MAX_MESSAGE_LEN, 3);
    let mut streams = Vec::new();
    for _ in 0..3 {
        let Ok(Ok(mut stream)) = timeout(Duration::from_millis(200), caller.open()).await else {
            break;
        };
        let _ = timeout(Duration::from_millis(200), stream.say_bytes(&begun)).await;
        streams.push(stream);
    }
    let _ = timeout(Duration::from_millis(500), control.say_bytes(&begun)).await;
    // Until it is shown out.
    let _ = timeout(Duration::from_secs(4), caller.link.closed()).await;
}

#[tokio::test]
async fn a_question_for_a_file_is_short_and_what_is_asked_again_and_again_is_not_held() {
    let (cluster, watched) = (Cluster::new(), Watched::of(LIMIT));
    let config = ListenConfig {
        memory: watched.share.clone(),
        ..ListenConfig::new(any(), hop("primary"))
    };
    let mut primary = cluster.primary_with("primary", config).await;
    let end = write_bulk(&mut primary, 40).await;
    let log = primary.log();
    let (caller, mut control) = let_in(&cluster, &primary, hello("greedy"), WIDE).await;
    let whole = blocks_name(log.id().genesis(), end.lsn);
    let mut streams = Vec::new();
    for _ in 0..60 {
        control.say(&report(log.id().genesis())).await;
        // As many as may be open; none is read.
        while streams.len() < 3 {
            let mut stream = caller.open().await.expect("a stream");
            let asked = Message::FetchFrom(FetchFrom {
                log: log.id().0,
                name: whole.clone(),
                from: 0,
            });
            stream.say(&asked).await;
            streams.push(stream);
        }
        sleep(Duration::from_millis(5)).await;
        streams.remove(0);
    }
    assert!(watched.most() <= LIMIT, "{}", watched.most());
    drop(streams);
    // Somebody who takes what it asks for gets it.
    let (caller, _control) = let_in(&cluster, &primary, hello("lacks"), WIDE).await;
    let places = (log.id().genesis(), end.lsn);
    let asked = fetch::ask_blocks(&caller.link, log.id(), places, 1 << 30).await;
    let all = log
        .export_blocks(places.0, places.1, usize::MAX)
        .expect("held");
    assert!(asked.expect("lent") == all);
    caller.leave();
    primary.stop().await;
    watched.ends_empty().await;
}

#[tokio::test]
async fn a_manifest_that_is_too_long_for_the_memory_is_refused_with_what_helps() {
    let (cluster, watched) = (Cluster::new(), Watched::of(LIMIT));
    let host = Host::listen(&cluster, "host");
    let config = FollowConfig {
        backoff_min: Duration::from_millis(10),
        backoff_max: Duration::from_millis(20),
        memory: watched.share.clone(),
        ..FollowConfig::new(vec![host.address.to_string()], "secondary", "secondary")
    };
    let following = cluster.follow("secondary", config).await;
    let mut primary = cluster.primary("primary", None).await;
    primary.write(0..1).await;
    let mut guest = host.guest().await;
    let welcome = guest.welcome(PROTOCOL_MAX, &primary.log());
    let welcome = crate::wire::Welcome {
        plan: crate::wire::WirePlan::Snapshot {
            lsn: 1,
            chain: 1,
            files: 1,
            bytes: 1,
        },
        ..welcome
    };
    guest.control.say(&Message::Welcome(welcome)).await;
    guest
        .control
        .say(&Message::Heartbeat(Heartbeat::default()))
        .await;
    let (mut sender, _receiver) = asked(&guest.link).await;
    let answer = Message::File(File {
        found: true,
        bytes: 200 << 20,
        reason: String::new(),
    });
    sender.send(&answer).await.expect("says it");
    let piece = Bytes::from(vec![0; 1 << 16]);
    let mut sent = 0;
    while sender.send_raw(piece.clone()).await.is_ok() {
        sent += piece.len();
    }
    assert!(sent < 40 << 20, "{sent}");
    eventually("what helps is said", || match following.status() {
        status
            if status
                .reason
                .as_ref()
                .is_some_and(|reason| reason.contains("raise node.memory_limit")) =>
        {
            Ok(())
        }
        status => Err(Box::new(status)),
    })
    .await;
    assert!(watched.most() <= LIMIT, "{}", watched.most());
    following.stop().await;
    primary.stop().await;
    watched.ends_empty().await;
}
