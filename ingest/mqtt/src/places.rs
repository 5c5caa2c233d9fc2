//! Which connections there are, by where they come from. Where there are as many as there may be,
//! an address with fewer of them gets a place from the one with most: so one that opens all it can
//! keeps nobody out. Must never turn a connection away, or end one, while there is room.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The connections of one listener.
#[derive(Debug)]
pub(crate) struct Places {
    most: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    taken: usize,
    /// Numbers connections in the order in which they came.
    next: u64,
    addresses: HashMap<IpAddr, Tenants>,
    /// The same, by how many connections each has.
    ranks: BTreeSet<(Reverse<usize>, IpAddr)>,
}

/// The connections of one address, the oldest first.
#[derive(Debug, Default)]
struct Tenants {
    strangers: BTreeMap<u64, Arc<Place>>,
    clients: BTreeMap<u64, Arc<Place>>,
}

/// The place of one connection.
#[derive(Debug)]
pub(crate) struct Place {
    address: IpAddr,
    number: u64,
    begun: Instant,
    is_client: AtomicBool,
    must_leave: AtomicU8,
}

/// Why a connection must leave before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// Another connection has its client id.
    Superseded,
    /// Another address has its place.
    Displaced,
}

impl Place {
    /// A place of nobody's.
    #[cfg(test)]
    pub(crate) fn alone() -> Arc<Self> {
        Arc::new(Self::new(
            IpAddr::V6(Ipv6Addr::LOCALHOST),
            0,
            Instant::now(),
        ))
    }

    fn new(address: IpAddr, number: u64, begun: Instant) -> Self {
        Self {
            address,
            number,
            begun,
            is_client: AtomicBool::new(false),
            must_leave: AtomicU8::new(0),
        }
    }

    /// Whose it is, as far as limits go.
    pub(crate) fn address(&self) -> IpAddr {
        self.address
    }

    pub(crate) fn give_notice(&self, notice: Notice) {
        let code = match notice {
            Notice::Superseded => SUPERSEDED,
            Notice::Displaced => DISPLACED,
        };
        self.must_leave.store(code, Ordering::Relaxed);
    }

    pub(crate) fn notice(&self) -> Option<Notice> {
        match self.must_leave.load(Ordering::Relaxed) {
            SUPERSEDED => Some(Notice::Superseded),
            DISPLACED => Some(Notice::Displaced),
            _ => None,
        }
    }
}

impl Places {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most,
            state: Mutex::default(),
        }
    }

    /// A place for a connection from this address; none when it gets none.
    pub(crate) fn enter(&self, peer: Option<SocketAddr>, now: Instant) -> Option<Arc<Place>> {
        let address = peer.map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), |peer| house(peer.ip()));
        let mut state = self.lock();
        if state.taken >= self.most && !state.make_room(address, now, self.most) {
            return None;
        }
        let number = state.next;
        state.next += 1;
        let place = Arc::new(Place::new(address, number, now));
        state.change(address, |tenants| {
            tenants.strangers.insert(number, Arc::clone(&place));
        });
        Some(place)
    }

    /// The connection has become a client's.
    pub(crate) fn welcome(&self, place: &Arc<Place>) {
        place.is_client.store(true, Ordering::Relaxed);
        self.lock().change(place.address, |tenants| {
            tenants.strangers.remove(&place.number);
            tenants.clients.insert(place.number, Arc::clone(place));
        });
    }

    pub(crate) fn leave(&self, place: &Place) {
        self.lock().change(place.address, |tenants| {
            tenants.strangers.remove(&place.number);
            tenants.clients.remove(&place.number);
        });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Changes who is there of one address.
    fn change(&mut self, address: IpAddr, change: impl FnOnce(&mut Tenants)) {
        let tenants = self.addresses.entry(address).or_default();
        let before = tenants.len();
        change(tenants);
        let after = tenants.len();
        self.taken = self.taken + after - before;
        if after == 0 {
            self.addresses.remove(&address);
        }
        if after != before {
            self.ranks.remove(&(Reverse(before), address));
            if after > 0 {
                self.ranks.insert((Reverse(after), address));
            }
        }
    }

    /// Gives notice to a connection, so that one from this address can come. Those that have not
    /// left yet are as many as the system has room for beyond the most.
    fn make_room(&self, address: IpAddr, now: Instant, most: usize) -> bool {
        if self.taken >= most.saturating_add(slack(most)) {
            return false;
        }
        let own = self.addresses.get(&address).map_or(0, Tenants::len);
        let Some((Reverse(count), largest)) = self.ranks.first().copied() else {
            return false;
        };
        let Some(tenants) = self.addresses.get(&largest) else {
            return false;
        };
        let is_larger = largest != address && count > own + 1;
        let mut strangers = tenants.strangers.values();
        let slow = strangers
            .find(|place| place.notice().is_none())
            .filter(|place| now.saturating_duration_since(place.begun) > HANDSHAKE);
        let oldest = || {
            let mut all = tenants.strangers.values().chain(tenants.clients.values());
            all.find(|place| place.notice().is_none())
        };
        let leaves = match slow {
            None if is_larger => oldest(),
            slow => slow,
        };
        if let Some(place) = leaves {
            place.give_notice(Notice::Displaced);
        }
        leaves.is_some()
    }
}

impl Tenants {
    fn len(&self) -> usize {
        self.strangers.len() + self.clients.len()
    }
}

/// Whoever has an IPv6 address has all addresses of its network.
fn house(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => IpAddr::V4(v4),
            None => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        },
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// Connections beyond the most of them: those that are refused with a reason, and those that have
/// got notice and have not left.
pub(crate) fn slack(most: usize) -> usize {
    (most / 16).clamp(4, 256)
}

/// How long a connection may take to its CONNECT when places are short.
const HANDSHAKE: Duration = Duration::from_secs(2);

const SUPERSEDED: u8 = 1;
const DISPLACED: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(host: u8) -> Option<SocketAddr> {
        Some(SocketAddr::from(([10, 0, 0, host], 1)))
    }

    #[test]
    fn an_address_that_takes_all_places_gives_some_back_when_others_come() {
        let (places, now) = (Places::new(100), Instant::now());
        let hoard: Vec<_> = (0..100).map(|_| places.enter(peer(1), now)).collect();
        assert!(hoard.iter().all(Option::is_some));
        for place in hoard.iter().flatten() {
            places.welcome(place);
        }
        // Thousands of devices may have one address: it takes none from itself.
        assert!(places.enter(peer(1), now).is_none());
        let mut others = Vec::new();
        for host in 2..80 {
            let other = places.enter(peer(host), now).expect("a place");
            places.welcome(&other);
            others.push(other);
            let gone = hoard.iter().flatten();
            let gone = gone.filter(|place| place.notice() == Some(Notice::Displaced));
            assert_eq!(gone.count(), others.len());
            places.leave(hoard[others.len() - 1].as_deref().expect("there"));
        }
        assert!(others.iter().all(|place| place.notice().is_none()));
        // With as many as any other has there is nothing to give.
        let (places, now) = (Places::new(4), Instant::now());
        let all: Vec<_> = (0..4).map(|host| places.enter(peer(host), now)).collect();
        assert!(places.enter(peer(9), now).is_none() && all.len() == 4);
    }

    #[test]
    fn who_connects_and_says_nothing_goes_first_even_behind_one_address() {
        let (places, now) = (Places::new(10), Instant::now());
        let silent: Vec<_> = (0..10).map(|_| places.enter(peer(1), now)).collect();
        assert!(places.enter(peer(1), now).is_none());
        let later = now + HANDSHAKE * 2;
        assert!(places.enter(peer(1), later).is_some());
        let gone = silent.iter().flatten();
        assert_eq!(gone.filter(|place| place.notice().is_some()).count(), 1);
        // Never more than there is room for beyond the most.
        let more = (0..100).filter(|_| places.enter(peer(1), later).is_some());
        assert_eq!(more.count(), slack(10) - 1);
    }

    #[test]
    fn who_leaves_is_forgotten() {
        let places = Places::new(50);
        let seed = fastrand::u64(..);
        println!("seed={seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let mut there = Vec::new();
        for _ in 0..5_000 {
            if random.bool() {
                there.extend(places.enter(peer(random.u8(..5)), Instant::now()));
            } else if !there.is_empty() {
                let place = there.swap_remove(random.usize(..there.len()));
                if random.bool() {
                    places.welcome(&place);
                }
                places.leave(&place);
            }
            assert_eq!(places.lock().taken, there.len());
        }
        there.iter().for_each(|place| places.leave(place));
        let state = places.lock();
        assert!(state.addresses.is_empty() && state.ranks.is_empty());
        let v6 = |last| house(IpAddr::V6(Ipv6Addr::new(1, 2, 3, 4, 5, 6, 7, last)));
        assert_eq!(v6(1), v6(2));
    }
}
