//! Who may be connected at once: handshakes have places of their own, and so have addresses and
//! certificates, so that nobody who stalls or multiplies keeps others out. It owns those counts and
//! must never wait, nor know what a connection is for.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Places of one kind, of which each owner has at most a share. Cheap to clone.
#[derive(Debug)]
pub(crate) struct Admission<K> {
    taken: Arc<Mutex<Taken<K>>>,
    most: usize,
    each: usize,
}

#[derive(Debug)]
struct Taken<K> {
    all: usize,
    by_owner: HashMap<K, usize>,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// All are taken, or kept for others.
    Full,
    /// The owner has its share.
    Share(usize),
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Admitted<K: Eq + Hash> {
    admission: Admission<K>,
    owner: K,
}

impl<K> Clone for Admission<K> {
    fn clone(&self) -> Self {
        Self {
            taken: Arc::clone(&self.taken),
            most: self.most,
            each: self.each,
        }
    }
}

impl<K: Eq + Hash + Clone> Admission<K> {
    /// So many, of which each owner may have so many.
    pub(crate) fn new(most: usize, each: usize) -> Self {
        Self {
            taken: Arc::new(Mutex::new(Taken {
                all: 0,
                by_owner: HashMap::new(),
            })),
            most,
            each: each.min(most),
        }
    }

    /// A place for this owner. As many as are `kept` go to owners that have few.
    pub(crate) fn take(&self, owner: K, kept: usize) -> Result<Admitted<K>, Refused> {
        let mut taken = self.lock();
        let own = taken.by_owner.get(&owner).copied().unwrap_or(0);
        let kept = if own < FEW {
            0
        } else {
            kept.min(self.most / 2)
        };
        if taken.all.saturating_add(kept) >= self.most {
            return Err(Refused::Full);
        }
        if own >= self.each {
            return Err(Refused::Share(self.each));
        }
        taken.by_owner.insert(owner.clone(), own + 1);
        taken.all += 1;
        drop(taken);
        Ok(Admitted {
            admission: self.clone(),
            owner,
        })
    }

    #[cfg(test)]
    fn taken(&self) -> (usize, usize) {
        let taken = self.lock();
        (taken.all, taken.by_owner.len())
    }
}

impl<K> Admission<K> {
    fn lock(&self) -> MutexGuard<'_, Taken<K>> {
        // Every section leaves it consistent.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash> Drop for Admitted<K> {
    fn drop(&mut self) {
        let owner = &self.owner;
        let mut taken = self.admission.lock();
        taken.all = taken.all.saturating_sub(1);
        if let Some(own) = taken.by_owner.get_mut(owner) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                taken.by_owner.remove(owner);
            }
        }
    }
}

/// What one holder of an address can have many of: of IPv6 addresses the network counts.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        address => address,
    }
}

/// Places that an owner has before others come first.
const FEW: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_owner_leaves_places_to_others_and_gives_its_own_back() {
        let admission = Admission::new(5, 2);
        let take = |owner| admission.take(owner, 0);
        let first = take("a").expect("free");
        let second = take("a").expect("free");
        assert_eq!(take("a").err(), Some(Refused::Share(2)));
        let others = ["b", "c", "d"].map(|owner| take(owner).expect("free"));
        assert_eq!(take("e").err(), Some(Refused::Full));
        drop(first);
        let again = take("a").expect("free");
        assert_eq!(admission.taken(), (5, 4));
        drop((second, others, again));
        assert_eq!(admission.taken(), (0, 0));
    }

    #[test]
    fn what_is_kept_goes_to_those_who_have_little() {
        let admission = Admission::new(20, 20);
        let greedy: Vec<_> = (0..30)
            .map_while(|_| admission.take("greedy", 8).ok())
            .collect();
        assert_eq!(greedy.len(), 12);
        assert_eq!(admission.take("greedy", 8).err(), Some(Refused::Full));
        let others = ["a", "b", "c", "d"].map(|owner| admission.take(owner, 8).expect("kept"));
        drop(greedy);
        // At most half is kept, however much is asked for.
        let greedy: Vec<_> = (0..30)
            .map_while(|_| admission.take("greedy", 99).ok())
            .collect();
        assert_eq!(greedy.len(), 6);
        drop(others);
    }

    #[test]
    fn an_ipv6_network_is_one_holder() {
        let network = |text: &str| network(text.parse().expect("an address"));
        assert_eq!(network("2001:db8:1:2::7"), network("2001:db8:1:2:ffff::1"));
        assert_ne!(network("2001:db8:1:2::7"), network("2001:db8:1:3::7"));
        assert_eq!(network("::ffff:10.0.0.1"), network("10.0.0.1"));
        assert_ne!(network("10.0.0.1"), network("10.0.0.2"));
    }
}
