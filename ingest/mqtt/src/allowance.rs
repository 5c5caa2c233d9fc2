//! How much of the dead letters one client may fill, and one address: a rate, of which a minute's
//! worth may come at once. Owns a fixed number of counters, so clients that call themselves ever
//! anew take no memory; must never take a lock or allocate.

use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What clients and addresses have used of their rates.
#[derive(Debug)]
pub(crate) struct Allowance {
    begun: Instant,
    /// Bytes per second of one client; 0: as much as they like.
    rate: u64,
    hasher: RandomState,
    clients: Box<[AtomicU64]>,
    addresses: Box<[AtomicU64]>,
}

impl Allowance {
    pub(crate) fn new(rate: u64, now: Instant) -> Self {
        let counters = || (0..COUNTERS).map(|_| AtomicU64::new(0)).collect();
        Self {
            begun: now,
            rate,
            hasher: RandomState::new(),
            clients: counters(),
            addresses: counters(),
        }
    }

    /// Whether there is room for another dead letter.
    pub(crate) fn allows(&self, who: Sender<'_>, now: Instant) -> bool {
        let now = self.since(now);
        let most = now.saturating_add(nanos(AT_ONCE));
        let has_room = |counter: &AtomicU64| counter.load(Ordering::Relaxed).max(now) < most;
        self.rate == 0 || self.counters(who).all(|(counter, _)| has_room(counter))
    }

    /// One of so many bytes has been stored.
    pub(crate) fn spend(&self, who: Sender<'_>, bytes: usize, now: Instant) {
        let (now, bytes) = (self.since(now), bytes.saturating_add(LETTER) as u64);
        for (counter, rate) in self.counters(who).filter(|_| self.rate > 0) {
            let cost = u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1));
            let cost = u64::try_from(cost).unwrap_or(u64::MAX);
            let spent = |until: u64| Some(until.max(now).saturating_add(cost));
            let _ = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spent);
        }
    }

    /// The counters of a sender, with their rates. One says, in nanoseconds, when all that was taken
    /// of it will have been given back.
    fn counters(&self, who: Sender<'_>) -> impl Iterator<Item = (&AtomicU64, u64)> {
        let by_address = self.rate.saturating_mul(CLIENTS_OF_ADDRESS);
        let client = self.clients.get(self.place(who.client));
        let address = self.addresses.get(self.place(who.address));
        let client = client.map(|counter| (counter, self.rate));
        let address = address.map(|counter| (counter, by_address));
        client.into_iter().chain(address)
    }

    fn place(&self, of: impl Hash) -> usize {
        let hash = self.hasher.hash_one(of) % COUNTERS as u64;
        usize::try_from(hash).unwrap_or_default()
    }

    fn since(&self, now: Instant) -> u64 {
        nanos(now.saturating_duration_since(self.begun))
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Who sends a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sender<'a> {
    pub(crate) client: &'a str,
    pub(crate) address: IpAddr,
}

/// What one may send at once, and a letter beyond.
const AT_ONCE: Duration = Duration::from_secs(60);

/// What a dead letter takes beside its payload.
const LETTER: usize = 256;

/// An address has as much as so many clients.
const CLIENTS_OF_ADDRESS: u64 = 16;

/// For clients, and for addresses: who shares one with somebody who sends much has bad luck.
const COUNTERS: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn sender(client: &str) -> Sender<'_> {
        Sender {
            client,
            address: ADDRESS,
        }
    }

    fn take(allowance: &Allowance, who: Sender<'_>, bytes: usize, now: Instant) -> bool {
        let allows = allowance.allows(who, now);
        if allows {
            allowance.spend(who, bytes, now);
        }
        allows
    }

    #[test]
    fn a_client_has_a_minutes_worth_and_then_its_rate() {
        let begun = Instant::now();
        let allowance = Allowance::new(1_024, begun);
        let taken = |times: usize, after: u64| {
            let now = begun + Duration::from_secs(after);
            let taken = (0..times).filter(|_| take(&allowance, sender("a"), 768, now));
            taken.count()
        };
        assert_eq!((taken(100, 0), taken(1, 0)), (60, 0));
        assert_eq!((1..=50).map(|second| taken(2, second)).sum::<usize>(), 50);
        assert_eq!(taken(100, 10_000), 60);
        let unlimited = Allowance::new(0, begun);
        assert!((0..1_000).all(|_| take(&unlimited, sender("a"), 1 << 20, begun)));
    }

    #[test]
    fn one_that_is_larger_than_all_of_it_passes_alone() {
        let begun = Instant::now();
        let allowance = Allowance::new(1, begun);
        assert!(take(&allowance, sender("a"), 70_000, begun));
        let later = begun + Duration::from_secs(600);
        assert!(!take(&allowance, sender("a"), 1, later));
    }

    #[test]
    fn an_address_with_ever_new_names_has_that_of_a_few_clients_and_others_have_theirs() {
        let begun = Instant::now();
        let allowance = Allowance::new(1_024, begun);
        let names: Vec<String> = (0..10_000).map(|n| n.to_string()).collect();
        let all = names.iter();
        let taken = all.filter(|name| take(&allowance, sender(name), 768, begun));
        let most = 60 * usize::try_from(CLIENTS_OF_ADDRESS).expect("few");
        assert_eq!(taken.count(), most);
        // One whose counters are its own.
        let used = |place: usize, of: &[AtomicU64]| of[place].load(Ordering::Relaxed) > 0;
        let mut clients = (0..).map(|n: u64| format!("honest-{n}"));
        let client = clients.find(|name| !used(allowance.place(name.as_str()), &allowance.clients));
        let mut addresses = (0..).map(|n: u32| IpAddr::V4(n.into()));
        let address = addresses.find(|at| !used(allowance.place(at), &allowance.addresses));
        let honest = Sender {
            client: &client.expect("one"),
            address: address.expect("one"),
        };
        let its = (0..100).filter(|_| take(&allowance, honest, 768, begun));
        assert_eq!(its.count(), 60);
    }
}
