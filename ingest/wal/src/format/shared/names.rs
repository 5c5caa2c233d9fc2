//! Names: one copy of each text, and places found by name. It must never take two names for one:
//! a place is only a candidate until its name has been compared.

#![deny(clippy::indexing_slicing)]

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use twox_hash::XxHash3_64;

use crate::format::shared::worked;

/// Numbers found by name. Copies share what they have in common.
#[derive(Clone, Debug, Default)]
pub(crate) struct NameIndex {
    /// A power of two of them; entries lie in the one that their hash says.
    shards: Vec<Arc<Vec<(u32, u32)>>>,
    len: usize,
}

impl NameIndex {
    pub(crate) fn insert(&mut self, name: &str, value: u32) {
        if self.len >= 2 * self.shards.len() * self.shards.len() {
            self.spread();
        }
        worked(self.shards.len());
        let hash = hash_of(name);
        if let Some(shard) = self.shard_mut(hash) {
            worked(shard.len());
            shard.push((hash, value));
            self.len += 1;
        }
    }

    pub(crate) fn remove(&mut self, name: &str, value: u32) {
        let hash = hash_of(name);
        let mut removed = 0;
        if let Some(shard) = self.shard_mut(hash) {
            let before = shard.len();
            shard.retain(|entry| *entry != (hash, value));
            removed = before - shard.len();
        }
        self.len -= removed;
    }

    /// Numbers that may have this name.
    pub(crate) fn candidates(&self, name: &str) -> impl Iterator<Item = u32> {
        let hash = hash_of(name);
        let shard = self.shards.get(self.place(hash));
        let entries = shard.map_or(&[][..], |shard| shard.as_slice());
        worked(entries.len());
        let same = entries.iter().filter(move |(held, _)| *held == hash);
        same.map(|(_, value)| *value)
    }

    fn place(&self, hash: u32) -> usize {
        hash as usize & self.shards.len().saturating_sub(1)
    }

    fn shard_mut(&mut self, hash: u32) -> Option<&mut Vec<(u32, u32)>> {
        let at = self.place(hash);
        self.shards.get_mut(at).map(Arc::make_mut)
    }

    /// Twice as many shards, or the first.
    fn spread(&mut self) {
        worked(self.len);
        let count = (self.shards.len() * 2).max(1);
        let held = std::mem::take(&mut self.shards);
        self.shards = (0..count).map(|_| Arc::default()).collect();
        for (hash, value) in held.iter().flat_map(|shard| shard.iter().copied()) {
            if let Some(shard) = self.shard_mut(hash) {
                shard.push((hash, value));
            }
        }
    }
}

fn hash_of(name: &str) -> u32 {
    let hash = XxHash3_64::oneshot(name.as_bytes());
    #[expect(clippy::cast_possible_truncation, reason = "half of a hash is a hash")]
    let half = hash as u32;
    half
}

/// The one copy of this text that the process has: tables of one kind of device have the same
/// columns.
pub(crate) fn interned(name: &str) -> Arc<str> {
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    let Interned { held, sweep_at } = names.get_or_insert_default();
    if let Some(known) = held.get(name) {
        return Arc::clone(known);
    }
    if held.len() >= *sweep_at {
        held.retain(|name| Arc::strong_count(name) > 1);
        *sweep_at = (held.len() * 2).max(SWEEP_LEAST);
        held.shrink_to(*sweep_at);
    }
    let new: Arc<str> = name.into();
    held.insert(Arc::clone(&new));
    new
}

/// Texts that are in use, and how many there are when those that are not are looked for.
#[derive(Default)]
struct Interned {
    held: HashSet<Arc<str>>,
    sweep_at: usize,
}

static NAMES: Mutex<Option<Interned>> = Mutex::new(None);
const SWEEP_LEAST: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::shared::work;

    #[test]
    fn each_name_is_found_and_no_copy_sees_the_changes_of_another() {
        let mut index = NameIndex::default();
        let name = |at: u32| format!("n{at}");
        for at in 0..1_000 {
            index.insert(&name(at), at);
        }
        let before = index.clone();
        index.remove(&name(7), 7);
        index.remove(&name(7), 7);
        index.insert("other", 7);
        for at in 0..1_000 {
            assert!(before.candidates(&name(at)).any(|found| found == at));
            let held = index.candidates(&name(at)).any(|found| found == at);
            assert_eq!(held, at != 7);
        }
        assert_eq!(index.candidates("other").collect::<Vec<_>>(), [7]);
        assert_eq!(before.candidates("none at all").count(), 0);
    }

    #[test]
    fn a_name_more_costs_far_less_than_all() {
        let mut index = NameIndex::default();
        (0..10_000).for_each(|at| index.insert(&at.to_string(), at));
        let work = work::of(|| {
            let mut copy = index.clone();
            copy.insert("x", 1);
            assert_eq!(copy.candidates("x").count(), 1);
        });
        assert!(work < 1_000, "{work}");
    }

    #[test]
    fn a_text_is_there_once_and_goes_with_its_last_user() {
        let first = interned("a name of this test");
        assert!(Arc::ptr_eq(&first, &interned("a name of this test")));
        let weak = Arc::downgrade(&first);
        drop(first);
        // Enough others that those without a user are looked for.
        let others: Vec<Arc<str>> = (0..100_000).map(|at| interned(&format!("n{at}"))).collect();
        assert!(weak.upgrade().is_none(), "{}", others.len());
    }
}
