//! The messages of one connection whose answers are due, in order of arrival. Pure; must never let
//! one leave before all that came before it, nor before its group is durable.

use std::collections::VecDeque;
use std::num::NonZeroU16;

use wal::{Durable, GroupId, Lsn};

use crate::ack::{Outcome, Unkept, Wait};

/// Which packet answers a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AckKind {
    /// PUBACK, for QoS 1.
    Ack,
    /// PUBREC, for QoS 2.
    Received,
}

/// What must have happened before a message is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Its group is durable.
    Durable(GroupId),
    /// That, and so many secondaries have it.
    Replicas(GroupId, u8),
    /// Nothing: it was stored before.
    Repeat,
    /// Nothing: it is not stored.
    Refuse,
    /// Nothing: neither its table nor the dead letters have taken it.
    NotKept(Unkept),
}

/// A message whose answer is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) id: NonZeroU16,
    pub(crate) kind: AckKind,
    pub(crate) need: Need,
}

/// What a client gets now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) id: NonZeroU16,
    pub(crate) kind: AckKind,
    pub(crate) outcome: Outcome,
    /// The message is in the log below this one.
    pub(crate) lsn: Lsn,
}

/// The messages of one connection.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    entries: VecDeque<Entry>,
    /// Entries at the front that wait for no fsync: only for secondaries, or for those before them.
    past_fsync: usize,
    /// A message has been received and its place in the queue is not decided yet.
    arriving: bool,
}

#[derive(Debug)]
struct Entry {
    waiting: Waiting,
    /// Known once past its fsync.
    lsn: Lsn,
}

impl Queue {
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Heap that it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>()
    }

    /// Gives up the room of a burst that is over.
    pub(crate) fn shrink(&mut self) {
        if self.entries.is_empty() {
            self.entries = VecDeque::new();
        }
    }

    pub(crate) fn holds(&self, id: NonZeroU16) -> bool {
        self.entries.iter().any(|entry| entry.waiting.id == id)
    }

    /// A message has been received; `push`, `drop_arriving` or `clear` takes it from here.
    pub(crate) fn arrive(&mut self) {
        assert!(!self.arriving, "a connection takes one message at a time");
        self.arriving = true;
    }

    /// What has been received gets no answer.
    pub(crate) fn drop_arriving(&mut self) {
        self.arriving = false;
    }

    pub(crate) fn push(&mut self, waiting: Waiting) {
        self.arriving = false;
        let instant = matches!(waiting.need, Need::Repeat | Need::Refuse | Need::NotKept(_));
        if instant && !self.awaits_fsync() {
            self.past_fsync += 1;
        }
        self.entries.push_back(Entry {
            waiting,
            lsn: Lsn::default(),
        });
    }

    /// Whether a message is not known to be durable.
    pub(crate) fn awaits_fsync(&self) -> bool {
        self.past_fsync < self.entries.len()
    }

    /// Messages that no fsync holds up.
    pub(crate) fn past_fsync(&self) -> usize {
        self.past_fsync
    }

    /// What the first message waits for, if it is for secondaries.
    pub(crate) fn waits_for(&self) -> Option<Wait> {
        let first = self.entries.front().filter(|_| self.past_fsync > 0)?;
        match first.waiting.need {
            Need::Replicas(_, replicas) => Some(Wait {
                replicas,
                lsn: first.lsn,
            }),
            Need::Durable(_) | Need::Repeat | Need::Refuse | Need::NotKept(_) => None,
        }
    }

    /// Takes out the first message if it can be answered: `durable` is a group that has just become
    /// durable, `reached` tells how far a message got that asks for so many secondaries.
    #[must_use = "what has left the queue must be answered"]
    pub(crate) fn next(
        &mut self,
        durable: Option<Durable>,
        mut reached: impl FnMut(u8, Lsn) -> Option<Outcome>,
    ) -> Option<Answer> {
        let front = self.entries.front()?;
        let lsn = if self.past_fsync > 0 {
            front.lsn
        } else {
            front.waiting.need.lsn(durable)?
        };
        let outcome = match front.waiting.need {
            Need::Durable(_) => Outcome::Durable,
            Need::Repeat => Outcome::Repeated,
            Need::Refuse => Outcome::Refused,
            Need::NotKept(why) => Outcome::NotKept(why),
            Need::Replicas(_, replicas) => {
                let Some(outcome) = reached(replicas, lsn) else {
                    self.note_lsns(durable);
                    return None;
                };
                outcome
            }
        };
        assert!(self.past_fsync <= self.entries.len());
        self.past_fsync = self.past_fsync.saturating_sub(1);
        let Waiting { id, kind, .. } = self.entries.pop_front()?.waiting;
        Some(Answer {
            id,
            kind,
            outcome,
            lsn,
        })
    }

    /// Notes the LSN of whatever is durable and cannot leave yet.
    fn note_lsns(&mut self, durable: Option<Durable>) {
        for entry in self.entries.iter_mut().skip(self.past_fsync) {
            let Some(lsn) = entry.waiting.need.lsn(durable) else {
                return;
            };
            entry.lsn = lsn;
            self.past_fsync += 1;
        }
    }

    /// Gives up all messages, the one that is arriving too; returns how many.
    #[must_use = "what is given up must be counted"]
    pub(crate) fn clear(&mut self) -> usize {
        let gone = self.entries.len() + usize::from(self.arriving);
        *self = Self::default();
        gone
    }
}

impl Need {
    /// The LSN below which the message is, if it is durable with this group or was never to be.
    fn lsn(self, durable: Option<Durable>) -> Option<Lsn> {
        match self {
            Self::Durable(group) | Self::Replicas(group, _) => {
                durable.and_then(|durable| (group <= durable.group).then_some(durable.lsn))
            }
            Self::Repeat | Self::Refuse | Self::NotKept(_) => Some(Lsn::default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ack::{TooFew, reached};
    use wal::Replicated;

    fn waiting(id: u16, need: Need) -> Waiting {
        Waiting {
            id: NonZeroU16::new(id).expect("not zero"),
            kind: AckKind::Ack,
            need,
        }
    }

    fn durable(group: u64, lsn: u64) -> Option<Durable> {
        Some(Durable {
            group: GroupId(group),
            lsn: Lsn(lsn),
        })
    }

    /// All that leaves: packet id, outcome, LSN.
    fn drain(queue: &mut Queue, group: Option<Durable>, by_one: u64) -> Vec<(u16, Outcome, u64)> {
        let replicated = Replicated::new(vec![wal::NodeCopy {
            node: 1,
            flushed: Lsn(by_one),
        }]);
        let decide = |replicas, lsn| reached(replicas, lsn, &replicated, TooFew::Wait);
        std::iter::from_fn(|| queue.next(group, decide))
            .map(|answer| (answer.id.get(), answer.outcome, answer.lsn.0))
            .collect()
    }

    #[test]
    fn nothing_overtakes_a_message_that_waits_for_a_secondary() {
        let mut queue = Queue::default();
        queue.push(waiting(1, Need::Durable(GroupId(0))));
        queue.push(waiting(2, Need::Replicas(GroupId(0), 1)));
        queue.push(waiting(3, Need::Durable(GroupId(0))));
        queue.push(waiting(4, Need::Refuse));
        queue.push(waiting(5, Need::Durable(GroupId(1))));
        assert_eq!(drain(&mut queue, None, 99), []);
        let first = drain(&mut queue, durable(0, 10), 9);
        assert_eq!(first, [(1, Outcome::Durable, 10)]);
        let first = Some(Wait {
            replicas: 1,
            lsn: Lsn(10),
        });
        assert_eq!((queue.waits_for(), queue.awaits_fsync()), (first, true));
        assert_eq!(drain(&mut queue, durable(1, 20), 9), []);
        assert_eq!((queue.waits_for(), queue.awaits_fsync()), (first, false));
        queue.push(waiting(6, Need::Repeat));
        assert!(!queue.awaits_fsync());
        let rest = [
            (2, Outcome::Replicated(1), 10),
            (3, Outcome::Durable, 10),
            (4, Outcome::Refused, 0),
            (5, Outcome::Durable, 20),
            (6, Outcome::Repeated, 0),
        ];
        assert_eq!(drain(&mut queue, None, 10), rest);
        assert_eq!((queue.waits_for(), queue.awaits_fsync()), (None, false));
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn what_needs_nothing_leaves_at_once_when_it_is_first() {
        let mut queue = Queue::default();
        queue.push(waiting(1, Need::Refuse));
        assert_eq!(drain(&mut queue, None, 0), [(1, Outcome::Refused, 0)]);
        queue.push(waiting(2, Need::Durable(GroupId(7))));
        queue.push(waiting(3, Need::Repeat));
        assert_eq!(drain(&mut queue, None, 0), []);
        assert_eq!(queue.clear(), 2);
        queue.arrive();
        assert_eq!((queue.clear(), queue.awaits_fsync()), (1, false));
        queue.arrive();
        queue.push(waiting(4, Need::Repeat));
        assert_eq!((queue.clear(), queue.clear()), (1, 0));
    }

    #[test]
    fn any_mix_leaves_once_each_in_order_of_arrival_with_its_own_groups_lsn() {
        let seed = fastrand::u64(..);
        println!("seed={seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..300 {
            let mut queue = Queue::default();
            let (mut next, mut group, mut seen) = (1, 0, Vec::new());
            while next <= 100 || queue.len() > 0 {
                match random.u8(..4) {
                    0 if next <= 100 => {
                        let need = match random.u8(..4) {
                            0 => Need::Durable(GroupId(group)),
                            1 => Need::Repeat,
                            2 => Need::Refuse,
                            _ => Need::Replicas(GroupId(group), 1),
                        };
                        queue.push(waiting(next, need));
                        next += 1;
                    }
                    1 => {
                        // Group n ends at LSN 10 (n + 1).
                        let end = 10 * (group + 1);
                        seen.extend(drain(
                            &mut queue,
                            durable(group, end),
                            random.u64(..end + 1),
                        ));
                        group += 1;
                    }
                    _ => seen.extend(drain(&mut queue, None, random.u64(..10 * group + 1))),
                }
            }
            let ids: Vec<u16> = seen.iter().map(|(id, ..)| *id).collect();
            assert_eq!(ids, (1..=100).collect::<Vec<u16>>());
            let lsns: Vec<u64> = seen
                .iter()
                .map(|(.., lsn)| *lsn)
                .filter(|lsn| *lsn > 0)
                .collect();
            assert!(lsns.is_sorted(), "{lsns:?}");
        }
    }
}
