//! A worker's promises about sessions that wait for secondaries: they cost the others nothing, and
//! none is forgotten. Groups and reports are what the test says they are; must never wait for a
//! clock.

use std::num::NonZeroU16;

use ntex::io::Io;
use ntex::rt::{DefaultRuntime, System};
use ntex::service::cfg::SharedCfg;
use ntex::testing::IoTest;
use wal::NodeCopy;

use super::*;
use crate::ack::TooFew;
use crate::ack::Unkept;
use crate::codec::Codec;
use crate::memory::Memory;
use crate::queue::{AckKind, Need, Waiting};
use crate::replica_waiters::ReplicaWaiter;
use crate::session::Identity;

/// A worker whose sessions share one connection.
struct Bench {
    worker: Worker,
    reports: watch::Sender<Replicated>,
    io: Io,
    _client: IoTest,
    _committer: wal::Committer,
    _dir: tempfile::TempDir,
}

impl Bench {
    fn new(too_few: TooFew) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let (committer, _) =
            wal::open_primary(wal::OsDisk::new(), dir.path(), &wal::Config::default())
                .expect("opens");
        let (client, server) = IoTest::create();
        client.remote_buffer_cap(usize::MAX);
        let (reports, reported) = watch::channel(Replicated::default());
        let config = Config {
            too_few,
            ..Config::default()
        };
        let (config, told) = (Arc::new(config), Arc::new(Told::new(0)));
        let readers = Readers::start(&config, &told).expect("threads");
        let worker = Worker::new(
            config,
            Arc::new(Clients::new(usize::MAX)),
            Arc::default(),
            Arc::default(),
            told,
            readers,
            committer.appenders().appender(Box::new(|_| ())),
            reported,
        );
        Self {
            worker,
            reports,
            io: Io::new(server, SharedCfg::new("test")),
            _client: client,
            _committer: committer,
            _dir: dir,
        }
    }

    fn session(&self, client: String) -> Rc<Session> {
        let (client, place) = (Arc::from(client), Place::alone());
        self.worker.clients.enter(&client, &place);
        let identity = Identity {
            client,
            keep_alive: None,
            will: None,
            wants_properties: false,
            max_packet: None,
        };
        let memory = Memory::enter(&wal::Share::unlimited("mqtt"));
        let codec = Rc::new(Codec::new(memory.expect("there is room")));
        let session = Rc::new(Session::new(self.io.get_ref(), codec, identity, place));
        self.worker.enter(&session);
        session
    }

    /// A message comes in as `connection` takes it in.
    fn publish(&self, session: &Rc<Session>, need: Need) {
        self.worker.arrived(session, 1);
        session.enqueue(Waiting {
            id: NonZeroU16::MIN,
            kind: AckKind::Ack,
            need,
        });
        match need {
            Need::Repeat | Need::Refuse | Need::NotKept(_) => self.worker.answer_now(session),
            Need::Durable(group) | Need::Replicas(group, _) => {
                self.worker.await_fsync(session, group);
            }
        }
    }

    /// Group `n` is durable, and ends at LSN 10 (n + 1).
    fn durable(&self, n: u64) {
        self.worker.acknowledge(Durable {
            group: GroupId(n),
            lsn: Lsn(10 * (n + 1)),
        });
    }

    /// So many secondaries say that they have everything below `lsn`.
    fn report(&self, nodes: u64, lsn: u64) {
        let flushed = Lsn(lsn);
        let copies = (1..=nodes).map(|node| NodeCopy { node, flushed });
        self.reports.send_replace(Replicated::new(copies.collect()));
    }

    /// Sessions visited since the last asking.
    fn visits(&self) -> u64 {
        self.worker.visits.take()
    }

    fn acknowledged(&self) -> u64 {
        self.worker.counters.acknowledged.load(Ordering::Relaxed)
    }

    /// Who waits for secondaries has its entry where its first message belongs, and nobody else
    /// has.
    fn check(&self, sessions: &[Rc<Session>]) {
        let astray = |session: &&Rc<Session>| session.replica_entry().get() != session.waits_for();
        assert_eq!(sessions.iter().filter(astray).count(), 0);
        let waiting = sessions.iter().filter_map(|session| session.waits_for());
        assert_eq!(self.worker.replica_waiters.borrow().len(), waiting.count());
    }
}

fn run(test: impl FnOnce() + 'static) {
    System::new("test", DefaultRuntime).block_on(async move { test() });
}

#[test]
fn ten_thousand_that_wait_for_secondaries_cost_a_durable_client_nothing() {
    run(|| {
        let bench = Bench::new(TooFew::Wait);
        let name = |n: u32| bench.session(format!("replicated-{n}"));
        let sessions: Vec<Rc<Session>> = (0..10_000).map(name).collect();
        for session in &sessions {
            bench.publish(session, Need::Replicas(GroupId(0), 5));
        }
        bench.durable(0);
        assert_eq!(bench.visits(), 10_000);
        let client = bench.session("durable".to_owned());
        for n in 1..=1_000 {
            bench.publish(&client, Need::Durable(GroupId(n)));
            bench.durable(n);
            // Four that keep up, then five that lag: never five that have it.
            bench.report(4 + n % 2, if n % 2 == 0 { 10 * n } else { 9 });
            bench.worker.answer_replica_waiters();
        }
        assert_eq!((bench.visits(), bench.acknowledged()), (1_000, 1_000));
        bench.check(&sessions);
        bench.report(5, 10);
        bench.worker.answer_replica_waiters();
        assert_eq!((bench.visits(), bench.acknowledged()), (10_000, 11_000));
        assert!(bench.worker.replica_waiters.borrow().is_empty());
    });
}

/// One that was read elsewhere, while its rows became durable.
#[test]
fn a_message_that_comes_after_its_group_is_acknowledged_without_another() {
    run(|| {
        let bench = Bench::new(TooFew::Wait);
        let client = bench.session("large".to_owned());
        bench.durable(7);
        bench.publish(&client, Need::Durable(GroupId(7)));
        assert_eq!(bench.acknowledged(), 1);
        bench.publish(&client, Need::Durable(GroupId(8)));
        bench.publish(&client, Need::Durable(GroupId(7)));
        assert_eq!(bench.acknowledged(), 1, "none overtakes another");
        bench.publish(&client, Need::Replicas(GroupId(6), 1));
        bench.durable(8);
        assert_eq!(bench.acknowledged(), 3);
        bench.report(1, 90);
        bench.worker.answer_replica_waiters();
        assert_eq!(bench.acknowledged(), 4);
        bench.check(&[client]);
    });
}

#[test]
fn whatever_comes_everyone_is_held_for_its_first_message_and_answered_when_that_may_be() {
    let seed = fastrand::u64(..);
    println!("seed={seed}");
    run(move || {
        let mut random = fastrand::Rng::with_seed(seed);
        for too_few in [TooFew::Wait, TooFew::FallBack] {
            let bench = Bench::new(too_few);
            let mut sessions: Vec<Rc<Session>> = Vec::new();
            let mut group = 0;
            for step in 0..5_000 {
                match random.u8(..8) {
                    0 => sessions.push(bench.session(format!("client-{step}"))),
                    1 if sessions.len() > 20 => {
                        let session = sessions.swap_remove(random.usize(..sessions.len()));
                        bench.worker.leave(&session);
                    }
                    2 => {
                        bench.durable(group);
                        group += 1;
                    }
                    // A report that `watch_replicas` has not seen yet, and one that it has.
                    3 => bench.report(random.u64(..10), random.u64(..10 * group + 11)),
                    4 => {
                        bench.report(random.u64(..10), random.u64(..10 * group + 11));
                        bench.worker.answer_replica_waiters();
                        let pass = bench.worker.ack_pass(None);
                        let mut waits = sessions.iter().filter_map(|session| session.waits_for());
                        assert!(!waits.any(|wait| pass.is_over(wait)));
                    }
                    _ if !sessions.is_empty() => {
                        let need = match random.u8(..7) {
                            0 => Need::Durable(GroupId(group)),
                            1 => Need::Repeat,
                            2 => Need::Refuse,
                            3 => Need::NotKept(Unkept::NoPlace),
                            _ => Need::Replicas(GroupId(group), random.u8(1..=8)),
                        };
                        bench.publish(&sessions[random.usize(..sessions.len())], need);
                    }
                    _ => {}
                }
                bench.check(&sessions);
            }
            bench.durable(group);
            bench.report(8, 10 * (group + 1));
            bench.worker.answer_replica_waiters();
            assert_eq!(bench.worker.counters.waiting.load(Ordering::Relaxed), 0);
            assert!(bench.worker.replica_waiters.borrow().is_empty());
        }
    });
}
