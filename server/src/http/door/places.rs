//! The places of connections: who has one, who gets one next, and who has to go for it. Must never
//! wait, nor end a connection that moves while one that does not holds a place.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use wal::Share;

use super::progress::{Cause, Phase, Progress};

/// How long a connection may stand still, each of them since it last moved.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// Without a request; and where more than half of the places are taken.
    pub(crate) idle: Duration,
    pub(crate) idle_when_short: Duration,
    /// With a part of a request's head.
    pub(crate) head: Duration,
    /// While the handler waits for the body.
    pub(crate) body: Duration,
    /// With an answer that its reader does not take.
    pub(crate) answer: Duration,
    /// While the node is at work, if that has a limit here.
    pub(crate) work: Option<Duration>,
    /// Where others need its place: with a part of a head, and with a part of a body or an answer.
    pub(crate) head_when_needed: Duration,
    pub(crate) when_needed: Duration,
}

/// All places of one kind.
#[derive(Debug)]
pub(crate) struct Places {
    limit: usize,
    /// What one address may take without leaving a quarter of all places to others.
    share: usize,
    patience: Patience,
    /// For the requests of all connections together.
    memory: Share,
    inner: Mutex<Inner>,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    taken: HashMap<u64, Entry>,
    /// Of those that have not been told to end.
    by_peer: HashMap<Peer, usize>,
    ending: usize,
}

#[derive(Debug)]
struct Entry {
    peer: Peer,
    standing: Arc<Progress>,
    ending: bool,
}

#[derive(Debug, Default)]
struct Counts {
    ended: [AtomicU64; Cause::ALL.len()],
    turned_away: AtomicU64,
}

/// Where a connection comes from: an address, or the smallest network that one customer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Peer(IpAddr);

impl From<IpAddr> for Peer {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(address) => {
                let network = u128::from(address) >> 64 << 64;
                Self(Ipv6Addr::from(network).into())
            }
            address => Self(address),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A place, held by a connection until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    id: u64,
    standing: Arc<Progress>,
}

impl Place {
    /// How the connection stands, for it to tell.
    pub(crate) fn standing(&self) -> &Arc<Progress> {
        &self.standing
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.leave(self.id);
    }
}

impl Places {
    pub(crate) fn new(limit: usize, share: usize, patience: Patience, memory: Share) -> Self {
        Self {
            limit: limit.max(1),
            share: share.max(1),
            patience,
            memory,
            inner: Mutex::default(),
            counts: Counts::default(),
        }
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Places that are taken.
    pub(crate) fn taken(&self) -> usize {
        self.inner().taken.len()
    }

    /// Connections that were ended from this side, by why.
    pub(crate) fn ended(&self) -> [(&'static str, u64); Cause::ALL.len()] {
        Cause::ALL.map(|cause| {
            let count = &self.counts.ended[cause as usize];
            (cause.name(), count.load(Ordering::Relaxed))
        })
    }

    /// Connections that got no place.
    pub(crate) fn turned_away(&self) -> u64 {
        self.counts.turned_away.load(Ordering::Relaxed)
    }

    /// A place for who comes from there, free or given up by who needs it least; none where all
    /// others are at work, or move.
    pub(crate) fn enter(self: &Arc<Self>, peer: Peer, now: Instant) -> Option<Place> {
        let mut inner = self.inner();
        let open = inner.taken.len() - inner.ending;
        let own = inner.by_peer.get(&peer).copied().unwrap_or_default();
        // The last quarter is for those who hold little.
        let is_greedy = own >= self.share && self.limit.saturating_sub(open) <= self.limit / 4;
        if is_greedy || open >= self.limit {
            let only = is_greedy.then_some(peer);
            if inner.ending > self.most_ending() || !self.give_up(&mut inner, only, now) {
                self.counts.turned_away.fetch_add(1, Ordering::Relaxed);
                return None;
            }
        }
        let id = inner.next;
        inner.next += 1;
        let standing = Arc::new(Progress::new(self.memory.clone(), now));
        let entry = Entry {
            peer,
            standing: Arc::clone(&standing),
            ending: false,
        };
        inner.taken.insert(id, entry);
        *inner.by_peer.entry(peer).or_default() += 1;
        drop(inner);
        Some(Place {
            places: Arc::clone(self),
            id,
            standing,
        })
    }

    /// Whether many have been told to end that still have to.
    pub(crate) fn is_crowded(&self) -> bool {
        self.inner().ending * 2 > self.most_ending()
    }

    fn most_ending(&self) -> usize {
        self.limit / 4 + MOST_ENDING
    }

    /// Ends those that have stood still for too long.
    pub(crate) fn sweep(&self, now: Instant) {
        let mut inner = self.inner();
        let is_short = (inner.taken.len() - inner.ending) * 2 > self.limit;
        let overdue: Vec<(u64, Cause)> = inner
            .taken
            .iter()
            .filter(|(_, entry)| !entry.ending)
            .filter_map(|(id, entry)| {
                let (phase, since) = entry.standing.look();
                let (limit, cause) = self.patience(phase, is_short)?;
                (now.saturating_duration_since(since) >= limit).then_some((*id, cause))
            })
            .collect();
        for (id, cause) in overdue {
            self.end(&mut inner, id, cause);
        }
    }

    /// Ends some of those that need their places least: files are short.
    pub(crate) fn make_room(&self, now: Instant) {
        let mut inner = self.inner();
        for _ in 0..ROOM {
            if !self.give_up(&mut inner, None, now) {
                return;
            }
        }
    }

    /// Ends the connection that has stood still longest with a part of its request's body, if that
    /// was long: others need the memory.
    pub(crate) fn free_memory(&self, now: Instant) {
        let mut inner = self.inner();
        let still = |entry: &Entry| match entry.standing.look() {
            (Phase::Body, since) if !entry.ending => Some(since),
            _ => None,
        };
        let held = inner.taken.iter();
        let longest = held.filter_map(|(id, entry)| Some((still(entry)?, *id)));
        if let Some((since, id)) = longest.min()
            && now.saturating_duration_since(since) >= self.patience.when_needed
        {
            self.end(&mut inner, id, Cause::Memory);
        }
    }

    fn patience(&self, phase: Phase, is_short: bool) -> Option<(Duration, Cause)> {
        let patience = &self.patience;
        match phase {
            Phase::Idle if is_short => Some((patience.idle_when_short, Cause::Idle)),
            Phase::Idle => Some((patience.idle, Cause::Idle)),
            Phase::Head => Some((patience.head, Cause::Head)),
            Phase::Body => Some((patience.body, Cause::Body)),
            Phase::Answer => Some((patience.answer, Cause::Answer)),
            Phase::Work => Some((patience.work?, Cause::Place)),
        }
    }

    /// Ends one connection for somebody else, one of `only` where that is given: of an address that
    /// holds much before others, one without a request before one that has stood still with one,
    /// and whoever has done so for longest.
    fn give_up(&self, inner: &mut Inner, only: Option<Peer>, now: Instant) -> bool {
        let least = inner
            .taken
            .iter()
            .filter(|(_, entry)| !entry.ending && only.is_none_or(|peer| peer == entry.peer))
            .filter_map(|(id, entry)| {
                let (phase, since) = entry.standing.look();
                let still = now.saturating_duration_since(since);
                let rank = match phase {
                    Phase::Idle => 0,
                    Phase::Head if still >= self.patience.head_when_needed => 1,
                    _ if still < self.patience.when_needed => return None,
                    Phase::Head => 1,
                    Phase::Body | Phase::Answer => 2,
                    Phase::Work if self.patience.work.is_some() => 3,
                    Phase::Work => return None,
                };
                let own = inner.by_peer.get(&entry.peer).copied().unwrap_or_default();
                Some(((own < self.share, rank, since, *id), *id))
            })
            .min();
        if let Some((_, id)) = least {
            self.end(inner, id, Cause::Place);
        }
        least.is_some()
    }

    fn end(&self, inner: &mut Inner, id: u64, cause: Cause) {
        let Some(entry) = inner.taken.get_mut(&id) else {
            return;
        };
        entry.ending = true;
        entry.standing.end();
        let peer = entry.peer;
        inner.ending += 1;
        inner.release(peer);
        self.counts.ended[cause as usize].fetch_add(1, Ordering::Relaxed);
    }

    fn leave(&self, id: u64) {
        let mut inner = self.inner();
        match inner.taken.remove(&id) {
            Some(entry) if entry.ending => inner.ending -= 1,
            Some(entry) => inner.release(entry.peer),
            None => {}
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn release(&mut self, peer: Peer) {
        if let Some(count) = self.by_peer.get_mut(&peer) {
            *count -= 1;
            if *count == 0 {
                self.by_peer.remove(&peer);
            }
        }
    }
}

/// Connections beyond the limit that have been told to end and have not yet.
const MOST_ENDING: usize = 8;

/// Connections that are ended at once when files are short.
const ROOM: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn places(limit: usize) -> Arc<Places> {
        let patience = Patience {
            idle: SECOND * 60,
            idle_when_short: SECOND * 5,
            head: SECOND * 20,
            body: SECOND * 30,
            answer: SECOND * 60,
            work: None,
            head_when_needed: SECOND * 2,
            when_needed: SECOND * 3,
        };
        Arc::new(Places::new(
            limit,
            limit / 4,
            patience,
            Share::new("http", 0),
        ))
    }

    fn peer(last: u8) -> Peer {
        IpAddr::from([192, 0, 2, last]).into()
    }

    fn is_ended(place: &Place) -> bool {
        let ended = std::pin::pin!(place.standing.ended());
        let waker = std::task::Waker::noop();
        ended
            .poll(&mut std::task::Context::from_waker(waker))
            .is_ready()
    }

    #[test]
    fn newcomers_get_the_places_of_the_silent_and_the_busy_keep_theirs() {
        let (places, now) = (places(8), Instant::now());
        let held: Vec<Place> = (0..8)
            .map(|last| places.enter(peer(last), now).expect("free"))
            .collect();
        for place in &held[..7] {
            place.standing().asked();
        }
        let eighth = places.enter(peer(9), now).expect("of the silent one");
        assert!(is_ended(&held[7]) && !is_ended(&held[0]));
        eighth.standing().asked();
        assert!(places.enter(peer(10), now).is_none(), "all are at work");
        assert_eq!(places.turned_away(), 1);
        // One whose answer waits for its reader, but not for long.
        held[3].standing().blocked();
        assert!(places.enter(peer(10), now + SECOND).is_none());
        let ninth = places.enter(peer(10), now + SECOND * 4).expect("a place");
        assert!(is_ended(&held[3]));
        drop((held, eighth, ninth));
        assert_eq!(places.taken(), 0);
        assert!(places.inner().by_peer.is_empty() && places.inner().ending == 0);
        assert_eq!(places.ended()[Cause::Place as usize], ("place", 2));
    }

    #[test]
    fn who_does_not_finish_a_head_gives_way_before_who_moves() {
        let (places, now) = (places(2), Instant::now());
        let [half, slow] = [1, 2].map(|last| places.enter(peer(last), now).expect("free"));
        half.standing().heard(1);
        slow.standing().asked();
        slow.standing().blocked();
        assert!(places.enter(peer(3), now + SECOND).is_none());
        let _third = places.enter(peer(3), now + SECOND * 3).expect("a place");
        assert!(is_ended(&half) && !is_ended(&slow));
    }

    #[test]
    fn one_address_leaves_a_quarter_to_others_and_gives_up_its_own_first() {
        let (places, now) = (places(16), Instant::now());
        let mut greedy = Vec::new();
        for _ in 0..40 {
            if let Some(place) = places.enter(peer(1), now) {
                place.standing().asked();
                greedy.push(place);
            }
        }
        assert_eq!(greedy.len(), 12);
        let others: Vec<Place> = (2..6)
            .map(|last| places.enter(peer(last), now).expect("a place"))
            .collect();
        greedy[5].standing().answered();
        greedy[5].standing().flushed();
        // The place of an idle one of the address that holds much, not one of theirs.
        let _more = places.enter(peer(6), now + SECOND).expect("a place");
        assert!(is_ended(&greedy[5]));
        assert!(others.iter().all(|place| !is_ended(place)));
        // It cannot push others out itself.
        assert!(places.enter(peer(1), now + SECOND).is_none());
        assert!(others.iter().all(|place| !is_ended(place)));
    }

    #[test]
    fn who_stands_still_is_ended_by_what_it_waits_for_and_work_never_is() {
        let (places, now) = (places(100), Instant::now());
        let enter = |last| places.enter(peer(last), now).expect("free");
        let [idle, head, body, work, answer] = [1, 2, 3, 4, 5].map(enter);
        head.standing().heard(1);
        body.standing().asked();
        body.standing().wants_body();
        work.standing().asked();
        answer.standing().asked();
        answer.standing().blocked();
        let all = [&idle, &head, &body, &work, &answer];
        let mut ends = [0; 5];
        for second in 0..200 {
            places.sweep(now + SECOND * second);
            for (end, place) in ends.iter_mut().zip(all) {
                if *end == 0 && is_ended(place) {
                    *end = second;
                }
            }
        }
        // The phases were entered a moment after `now`.
        assert_eq!(ends, [60, 21, 31, 0, 61]);
        let counts = places.ended().map(|(_, count)| count);
        assert_eq!(counts, [1, 1, 1, 1, 0, 0]);
    }

    #[test]
    fn memory_is_taken_from_who_has_stopped_sending() {
        let (places, now) = (places(8), Instant::now());
        let held = [1, 2].map(|last| places.enter(peer(last), now).expect("free"));
        for place in &held {
            place.standing().asked();
            place.standing().wants_body();
        }
        places.free_memory(now + SECOND);
        assert!(!is_ended(&held[0]) && !is_ended(&held[1]));
        held[0].standing().heard(1 << 20);
        places.free_memory(now + SECOND * 4);
        assert!(!is_ended(&held[0]) && is_ended(&held[1]));
        assert_eq!(places.ended()[Cause::Memory as usize], ("memory", 1));
    }

    #[test]
    fn idle_ones_have_less_time_where_places_are_short() {
        let (places, now) = (places(8), Instant::now());
        let held: Vec<Place> = (0..5)
            .map(|last| places.enter(peer(last), now).expect("free"))
            .collect();
        places.sweep(now + SECOND * 4);
        assert!(held.iter().all(|place| !is_ended(place)));
        places.sweep(now + SECOND * 5);
        assert!(held.iter().all(is_ended));
    }

    #[test]
    fn a_network_of_ipv6_is_one_peer() {
        let peer = |text: &str| Peer::from(text.parse::<IpAddr>().expect("an address"));
        assert_eq!(peer("2001:db8::1"), peer("2001:db8::ffff:1"));
        assert_ne!(peer("2001:db8::1"), peer("2001:db8:0:1::1"));
        assert_eq!(peer("::ffff:192.0.2.1"), peer("192.0.2.1"));
    }
}
