//! One ack pass over sessions of a worker: what can be acknowledged now leaves in one write per
//! connection, and is counted once. Must never count as acknowledged what a connection did not
//! take.

use std::cell::OnceCell;

use tokio::sync::watch;
use wal::{Durable, Lsn, Replicated};

use crate::ack::{self, Ack, Outcome, TooFew, Wait};
use crate::frame::Version;
use crate::queue::Answer;
use crate::reply::{self, MAX_ACK, MAX_ACK_WITH_OUTCOME, MAX_REFUSAL, Properties, Refused};
use crate::session::Session;
use crate::stats::{Counters, add};

/// A pass that has begun.
#[must_use = "a pass counts what it did when it is finished"]
pub(crate) struct AckPass<'a> {
    durable: Option<Durable>,
    too_few: TooFew,
    reports: &'a watch::Receiver<Replicated>,
    /// Read when the first message asks for secondaries: most passes meet none.
    replicated: OnceCell<Replicated>,
    /// Properties of the last message with `lsn` alone, and of the last with its outcome too.
    lsn_only: Option<Properties>,
    with_outcome: Option<Properties>,
    out: Vec<u8>,
    total: Tally,
}

/// How many messages got which answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    durable: u64,
    replicated: u64,
    fell_back: u64,
    duplicates: u64,
    refused: u64,
    dropped: u64,
}

impl<'a> AckPass<'a> {
    /// `durable` is the group that has just become durable, if that is why there is a pass.
    pub(crate) fn new(
        durable: Option<Durable>,
        too_few: TooFew,
        reports: &'a watch::Receiver<Replicated>,
    ) -> Self {
        Self {
            durable,
            too_few,
            reports,
            replicated: OnceCell::new(),
            lsn_only: None,
            with_outcome: None,
            out: Vec::with_capacity(1024),
            total: Tally::default(),
        }
    }

    /// Answers whatever can be answered on one connection.
    pub(crate) fn answer(&mut self, session: &Session) {
        self.out.clear();
        let mut tally = Tally::default();
        while let Some(answer) = self.next(session) {
            self.write(session, answer);
            tally.count(answer.outcome);
        }
        if tally == Tally::default() {
            return;
        }
        // Fails only when the connection is gone; the client will send again.
        if session.io.encode_slice(&self.out).is_err() {
            tally = Tally {
                dropped: tally.messages(),
                ..Tally::default()
            };
        }
        self.total.add(tally);
        session.waker.wake();
    }

    fn next(&self, session: &Session) -> Option<Answer> {
        session.next_answer(self.durable, |replicas, lsn| self.reached(replicas, lsn))
    }

    fn reached(&self, replicas: u8, lsn: Lsn) -> Option<Outcome> {
        let now = self.replicated.get_or_init(|| *self.reports.borrow());
        ack::reached(replicas, lsn, now, self.too_few)
    }

    /// Whether a message need not wait for secondaries any longer. Says the same during one pass.
    pub(crate) fn is_over(&self, wait: Wait) -> bool {
        self.reached(wait.replicas, wait.lsn).is_some()
    }

    fn write(&mut self, session: &Session, answer: Answer) {
        let Answer {
            id,
            kind,
            outcome,
            lsn,
        } = answer;
        let properties = match outcome {
            Outcome::Durable => session
                .may_carry(MAX_ACK)
                .then(|| Properties::cached(&mut self.lsn_only, lsn, None)),
            Outcome::Replicated(_) | Outcome::FellBack => session
                .may_carry(MAX_ACK_WITH_OUTCOME)
                .then(|| Properties::cached(&mut self.with_outcome, lsn, Some(kept(outcome)))),
            // MQTT 3.1.1 can only say yes: without that the client would send it for ever.
            Outcome::NotKept(_) if session.version() == Version::V3 => None,
            Outcome::Repeated => None,
            Outcome::Refused | Outcome::NotKept(_) => {
                let why = match outcome {
                    Outcome::NotKept(why) => Refused::NotKept(why),
                    _ => Refused::Ack,
                };
                let why = (why, session.may_carry(MAX_REFUSAL));
                return reply::refuse(&mut self.out, kind, id, why);
            }
        };
        reply::acknowledge(&mut self.out, kind, id, properties);
    }

    /// Adds what was done to the worker's counters.
    pub(crate) fn finish(self, counters: &Counters) {
        let total = self.total;
        let messages = total.messages();
        if messages == 0 {
            return;
        }
        let acknowledged = total.durable + total.replicated + total.fell_back;
        add(&counters.acknowledged, acknowledged);
        add(&counters.acknowledged_replicated, total.replicated);
        add(&counters.fell_back, total.fell_back);
        add(&counters.duplicates, total.duplicates);
        add(&counters.refused_messages, total.refused);
        add(&counters.dropped, total.dropped);
        add(&counters.waiting, messages.wrapping_neg());
    }
}

/// The promise that was kept.
fn kept(outcome: Outcome) -> Ack {
    match outcome {
        Outcome::Replicated(replicas) => Ack::Replicated(replicas),
        _ => Ack::Durable,
    }
}

impl Tally {
    fn count(&mut self, outcome: Outcome) {
        let counter = match outcome {
            Outcome::Durable => &mut self.durable,
            Outcome::Replicated(_) => &mut self.replicated,
            Outcome::FellBack => &mut self.fell_back,
            Outcome::Repeated => &mut self.duplicates,
            Outcome::Refused | Outcome::NotKept(_) => &mut self.refused,
        };
        *counter += 1;
    }

    fn messages(&self) -> u64 {
        let answered = self.durable + self.replicated + self.fell_back;
        answered + self.duplicates + self.refused + self.dropped
    }

    fn add(&mut self, other: Self) {
        self.durable += other.durable;
        self.replicated += other.replicated;
        self.fell_back += other.fell_back;
        self.duplicates += other.duplicates;
        self.refused += other.refused;
        self.dropped += other.dropped;
    }
}
