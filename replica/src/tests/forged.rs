//! Hostile upstreams against a real secondary: whatever they send must never enter its log unless
//! it continues it, the connection ends with a reason that is shown, and the secondary goes on with
//! an upstream that behaves.

use super::faked::{Guest, Host, blocks_of, bytes_of, ends, send};
use super::*;
use crate::error::CloseCode;
use crate::wire::blocks::MAX_RAW_LEN;
use crate::wire::{
    CaughtUp, Heartbeat, Hello, Message, PROTOCOL_MAX, Probe, Report, Route, Welcome, WireHop,
    WirePlan, codec,
};

/// A log to send, a host to send it, and a secondary that follows the host.
struct Stage {
    cluster: Cluster,
    primary: Primary,
    blocks: Vec<(Position, Vec<u8>)>,
    host: Host,
    secondary: Secondary,
}

/// What a host does wrong: bytes of the stream of blocks, and whether the stream ends after them.
struct Forged {
    what: &'static str,
    bytes: Vec<u8>,
    is_over: bool,
    code: CloseCode,
    words: &'static str,
}

impl Forged {
    fn new(what: &'static str, bytes: Vec<u8>, words: &'static str) -> Self {
        Self {
            what,
            bytes,
            is_over: false,
            code: CloseCode::BadBlock,
            words,
        }
    }

    /// The stream ends in the midst of something.
    fn cut(what: &'static str, bytes: Vec<u8>) -> Self {
        Self {
            is_over: true,
            code: CloseCode::Done,
            ..Self::new(what, bytes, "the peer ended the stream")
        }
    }
}

impl Stage {
    async fn set() -> Self {
        let cluster = Cluster::new();
        let mut primary = cluster.primary("primary", None).await;
        primary.write(0..30).await;
        let host = Host::listen(&cluster, "host");
        let config = FollowConfig {
            // Many connections in a row bring nothing.
            backoff_min: Duration::from_millis(10),
            backoff_max: Duration::from_millis(20),
            // A host says little after Welcome.
            contact_timeout: Duration::from_secs(60),
            ..FollowConfig::new(vec![host.address.to_string()], "secondary", "secondary")
        };
        let secondary = Secondary {
            following: cluster.follow("secondary", config).await,
            listener: None,
        };
        Self {
            blocks: blocks_of(&primary.log()),
            cluster,
            primary,
            host,
            secondary,
        }
    }

    /// The number of the block that comes next for this guest.
    fn next(&self, guest: &Guest) -> usize {
        let at = guest.welcome(PROTOCOL_MAX, &self.primary.log()).plan;
        let WirePlan::Stream { lsn, chain } = at else {
            panic!("{at:?}");
        };
        let next = Position {
            lsn: Lsn(lsn),
            chain: wal::Chain(chain),
        };
        let found = self.blocks.iter().position(|(start, _)| *start == next);
        found.expect("it ends where a block does")
    }

    /// Lets the secondary in, sends two good blocks and then what is made of its place in the log.
    async fn forge(&self, forged: impl FnOnce(usize) -> Forged) {
        let mut guest = self.host.guest().await;
        let next = self.next(&guest);
        let forged = forged(next);
        let welcome = guest.welcome(PROTOCOL_MAX, &self.primary.log());
        guest.control.say(&Message::Welcome(welcome)).await;
        let mut blocks = guest.blocks().await;
        for (_, good) in &self.blocks[next..next + GOOD] {
            send(&mut blocks, raw(good)).await.expect("sent");
        }
        // Fails where the secondary has had enough before the last byte.
        let _ = send(&mut blocks, forged.bytes).await;
        if forged.is_over {
            drop(blocks);
        }
        ends(&guest.link, forged.code as u64, forged.words).await;
        self.shows(forged.words).await;
        let most = self.blocks[next + GOOD].0;
        assert!(
            self.secondary.status().received <= most.lsn,
            "{}",
            forged.what
        );
        self.is_a_beginning(forged.what);
    }

    async fn shows(&self, words: &str) {
        eventually("the reason is shown", || match self.secondary.status() {
            status
                if status
                    .reason
                    .as_ref()
                    .is_some_and(|reason| reason.contains(words)) =>
            {
                Ok(())
            }
            status => Err(status),
        })
        .await;
    }

    /// What the secondary holds is the beginning of the primary's log, byte for byte.
    fn is_a_beginning(&self, what: &str) {
        if let Some(log) = self.secondary.following.log().borrow().clone() {
            let held = bytes_of(&log);
            assert!(bytes_of(&self.primary.log()).starts_with(&held), "{what}");
        }
    }

    /// From here on the host behaves: the secondary gets everything and goes live.
    async fn recovers(self) {
        let mut guest = self.host.guest().await;
        let next = self.next(&guest);
        let log = self.primary.log();
        let welcome = guest.welcome(PROTOCOL_MAX, &log);
        guest.control.say(&Message::Welcome(welcome)).await;
        let route = Route {
            hops: vec![WireHop {
                id: "host".to_owned(),
                name: "host".to_owned(),
            }],
            rooted: true,
        };
        guest.control.say(&Message::Route(route)).await;
        let mut blocks = guest.blocks().await;
        for (_, block) in &self.blocks[next..] {
            send(&mut blocks, raw(block)).await.expect("sent");
        }
        guest.caught_up(&log).await;
        let end = *log.durable().borrow();
        self.secondary.reaches(end).await;
        eventually("it streams again", || match self.secondary.status() {
            status if status.state == FollowPhase::Streaming && status.reason.is_none() => Ok(()),
            status => Err(status),
        })
        .await;
        assert!(bytes_of(&self.secondary.log()) == bytes_of(&log));
        let status = self.secondary.status();
        assert_eq!((status.divergences, status.snapshots), (0, 0), "{status:?}");
        self.secondary.stop().await;
        self.primary.stop().await;
    }
}

/// A header as every frame of blocks has it.
fn framed(kind: u8, length: usize, raw_length: usize, content: &[u8]) -> Vec<u8> {
    let mut frame = vec![kind];
    for length in [length, raw_length] {
        let length = u32::try_from(length).expect("short");
        frame.extend_from_slice(&length.to_le_bytes());
    }
    frame.extend_from_slice(content);
    frame
}

/// Blocks in a frame that leaves them as they are.
fn raw(blocks: &[u8]) -> Vec<u8> {
    framed(0, blocks.len(), blocks.len(), blocks)
}

/// Bytes packed as in a frame, which announces so many of them.
fn packed(bytes: &[u8], announced: usize) -> Vec<u8> {
    let packed = zstd::bulk::compress(bytes, 1).expect("packs");
    framed(1, packed.len(), announced, &packed)
}

/// A copy with one bit of this byte turned.
fn flipped(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 1;
    bytes
}

#[tokio::test]
async fn no_block_that_does_not_continue_the_log_is_taken() {
    let stage = Stage::set().await;
    let mut other = stage.cluster.primary("other", None).await;
    other.write(0..30).await;
    let others = blocks_of(&other.log());
    let block = |number: usize| stage.blocks[number].1.as_slice();
    let diverged = "do not continue the local log";
    stage
        .forge(|next| Forged::new("the last block again", raw(block(next + 1)), diverged))
        .await;
    stage
        .forge(|next| {
            let again = [block(next), block(next + 1)].concat();
            Forged::new("both blocks again, in one frame", raw(&again), diverged)
        })
        .await;
    stage
        .forge(|next| Forged::new("one block is left out", raw(block(next + 3)), diverged))
        .await;
    stage
        .forge(|next| {
            let turned = [block(next + 3), block(next + 2)].concat();
            Forged::new("two blocks in the wrong order", raw(&turned), diverged)
        })
        .await;
    stage
        .forge(|next| {
            let at = stage.blocks[next + 2].0.lsn;
            let same = others.iter().find(|(start, _)| start.lsn == at);
            let block = &same.expect("a block at the same place").1;
            Forged::new("the same rows of another log", raw(block), diverged)
        })
        .await;
    stage
        .forge(|next| {
            let block = block(next + 2);
            Forged::new(
                "a byte of a body",
                raw(&flipped(block, block.len() - 9)),
                diverged,
            )
        })
        .await;
    stage
        .forge(|next| {
            let block = flipped(block(next + 2), 24);
            let words = "the stream holds no block where one should begin";
            Forged::new("a byte of a header", raw(&block), words)
        })
        .await;
    stage
        .forge(|next| {
            let block = block(next + 2);
            let half = framed(0, block.len(), block.len(), &block[..block.len() / 2]);
            Forged::cut("a frame that is not whole", half)
        })
        .await;
    stage
        .forge(|next| {
            let block = block(next + 2);
            Forged::cut("a block that is not whole", raw(&block[..block.len() - 1]))
        })
        .await;
    other.stop().await;
    stage.recovers().await;
}

#[tokio::test]
async fn no_frame_that_lies_about_what_is_in_it_is_unpacked() {
    let stage = Stage::set().await;
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut noise = vec![0; 2000];
    random.fill(&mut noise);
    let lies = "announces";
    let bomb = vec![0; 32 << 20];
    let cases = [
        Forged::new("no such kind", framed(7, 1, 1, &[0]), "a frame of kind 7"),
        Forged::new("nothing in it", framed(0, 0, 0, &[]), lies),
        Forged::new("two lengths", framed(0, 100, 101, &[0; 101]), lies),
        Forged::new(
            "longer than any",
            framed(0, MAX_RAW_LEN + 1, MAX_RAW_LEN + 1, &[]),
            lies,
        ),
        Forged::new(
            "unpacks to more than any",
            framed(1, 10, MAX_RAW_LEN + 1, &[]),
            lies,
        ),
        Forged::new("grows by packing", framed(1, 101, 100, &[]), lies),
        Forged::new(
            "a bomb",
            packed(&bomb, 4096),
            "a compressed frame cannot be read",
        ),
        Forged::new(
            "less than it says",
            packed(&bomb[..4000], 4096),
            "4000 bytes instead of 4096",
        ),
        Forged::new(
            "noise",
            framed(1, noise.len(), 4096, &noise),
            "a compressed frame cannot be read",
        ),
        Forged::new(
            "zeros, packed well",
            packed(&bomb[..4096], 4096),
            "the stream holds no block where one should begin",
        ),
    ];
    for case in cases {
        stage.forge(|_| case).await;
    }
    stage
        .forge(|next| {
            let twice = [
                stage.blocks[next + 2].1.clone(),
                stage.blocks[next + 2].1.clone(),
            ];
            let twice = twice.concat();
            let words = "do not continue the local log";
            Forged::new(
                "a block twice, packed well",
                packed(&twice, twice.len()),
                words,
            )
        })
        .await;
    stage.recovers().await;
}

/// What an upstream must not say: before Welcome or after it, and with which words the secondary
/// leaves.
fn out_of_place() -> Vec<(bool, Vec<u8>, &'static str)> {
    let frame = |message| codec::encode(&message).expect("encodes");
    let report = || frame(Message::Report(Report::default()));
    let out = "the upstream broke the protocol: an unexpected message";
    let (oversized, longest) = (vec![0xff; 4], "a control message of 4294967295 bytes");
    vec![
        (
            false,
            report(),
            "the upstream broke the protocol: no answer to Hello",
        ),
        (false, oversized.clone(), longest),
        (true, report(), out),
        (true, frame(Message::Hello(Hello::default())), out),
        (true, frame(Message::Probe(Probe::default())), out),
        (true, oversized, longest),
        (true, vec![0; 4], "a control message of 0 bytes"),
        (
            true,
            vec![1, 0, 0, 0, 99],
            "a control message cannot be read",
        ),
    ]
}

#[tokio::test]
async fn what_an_upstream_must_not_say_ends_the_connection() {
    let stage = Stage::set().await;
    for (is_in, bytes, words) in out_of_place() {
        let mut guest = stage.host.guest().await;
        if is_in {
            let welcome = guest.welcome(PROTOCOL_MAX, &stage.primary.log());
            guest.control.say(&Message::Welcome(welcome)).await;
        }
        guest.control.say_bytes(&bytes).await.expect("says it");
        ends(&guest.link, CloseCode::Protocol as u64, words).await;
        stage.shows(words).await;
    }
    stage.recovers().await;
}

#[tokio::test]
async fn a_welcome_to_something_else_than_was_asked_is_not_taken() {
    let stage = Stage::set().await;
    // It has a log from here on.
    let nonsense = framed(7, 1, 1, &[0]);
    stage
        .forge(|_| Forged::new("nonsense", nonsense, "a frame of kind 7"))
        .await;
    let elsewhere = WirePlan::Stream { lsn: 7, chain: 7 };
    for case in 0..3 {
        let mut guest = stage.host.guest().await;
        assert!(guest.hello.log.is_some());
        let fit = guest.welcome(PROTOCOL_MAX, &stage.primary.log());
        let (welcome, words) = match case {
            0 => (
                Welcome {
                    log: [9; 16],
                    ..fit
                },
                "it welcomed another log",
            ),
            1 => (
                Welcome {
                    plan: elsewhere,
                    ..fit
                },
                "it begins at another position",
            ),
            _ => (
                Welcome {
                    protocol: 99,
                    ..fit
                },
                "it chose a version that was not offered",
            ),
        };
        guest.control.say(&Message::Welcome(welcome)).await;
        ends(&guest.link, CloseCode::Protocol as u64, words).await;
        stage.shows(words).await;
        stage.is_a_beginning(words);
    }
    stage.recovers().await;
}

#[tokio::test]
async fn numbers_at_their_limits_do_no_harm() {
    let stage = Stage::set().await;
    let mut guest = stage.host.guest().await;
    let welcome = Welcome {
        durable: u64::MAX,
        now_unix_ns: i64::MIN,
        ..guest.welcome(PROTOCOL_MAX, &stage.primary.log())
    };
    guest.control.say(&Message::Welcome(welcome)).await;
    let route = Route {
        hops: Vec::new(),
        rooted: true,
    };
    guest.control.say(&Message::Route(route)).await;
    for durable in [0, u64::MAX, 1] {
        for now_unix_ns in [i64::MIN, i64::MAX, 0, -1] {
            let beat = Heartbeat {
                durable,
                committed_at_ns: now_unix_ns,
                now_unix_ns,
            };
            guest.control.say(&Message::Heartbeat(beat)).await;
            let at = CaughtUp { at: durable };
            guest.control.say(&Message::CaughtUp(at)).await;
        }
        // What is shown is worked out of these.
        eventually("it has heard that", || match stage.secondary.status() {
            status if status.primary_durable == Lsn(durable) => Ok(()),
            status => Err(status),
        })
        .await;
    }
    guest.link.close(CloseCode::Done, "done");
    stage.recovers().await;
}

#[tokio::test]
async fn an_upstream_that_falls_silent_is_left_and_one_that_hears_nothing_too() {
    let cluster = Cluster::new();
    let primary = cluster.primary("primary", None).await;
    let (mute, deaf) = (Host::listen(&cluster, "mute"), Host::deaf(&cluster, "deaf"));
    let upstreams = [mute.address, deaf.address].map(|address| address.to_string());
    let limit = Duration::from_millis(300);
    let config = FollowConfig {
        handshake_timeout: limit,
        contact_timeout: limit,
        ..FollowConfig::new(upstreams.to_vec(), "secondary", "secondary")
    };
    let following = cluster.follow("secondary", config).await;
    let (code, words) = (6, "nothing heard from the upstream for 300ms");
    // No answer to Hello.
    ends(&mute.guest().await.link, code, words).await;
    // Cannot even be sent Hello.
    ends(&deaf.incoming().await, code, words).await;
    // No word after Welcome.
    let mut guest = mute.guest().await;
    let welcome = guest.welcome(PROTOCOL_MAX, &primary.log());
    guest.control.say(&Message::Welcome(welcome)).await;
    ends(&guest.link, code, words).await;
    following.stop().await;
    primary.stop().await;
}

/// Good blocks that come before what is forged.
const GOOD: usize = 2;
