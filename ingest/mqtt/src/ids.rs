//! The packet ids of QoS 2 messages that were received and not released: few of them as a list, many
//! as one bit for each that there can be. Pure; must never grow beyond that.

use std::num::NonZeroU16;

/// A set of packet ids.
#[derive(Debug, Default)]
pub(crate) struct Ids {
    few: Vec<u16>,
    many: Option<Box<[u64]>>,
    count: usize,
}

impl Ids {
    /// Takes in an id; false when it is there already.
    #[must_use = "an id that is there is that of a message that was stored"]
    pub(crate) fn insert(&mut self, id: NonZeroU16) -> bool {
        if self.contains(id) {
            return false;
        }
        self.count += 1;
        if self.many.is_none() && self.few.len() < FEW {
            self.few.push(id.get());
            return true;
        }
        let few = std::mem::take(&mut self.few);
        let many = self.many.get_or_insert_with(|| vec![0; WORDS].into());
        for id in few.into_iter().chain([id.get()]) {
            if let Some(word) = many.get_mut(usize::from(id / 64)) {
                *word |= bit(id);
            }
        }
        true
    }

    /// Whether it was there.
    pub(crate) fn remove(&mut self, id: NonZeroU16) -> bool {
        if !self.contains(id) {
            return false;
        }
        self.count -= 1;
        let id = id.get();
        self.few.retain(|one| *one != id);
        let words = self
            .many
            .as_mut()
            .and_then(|many| many.get_mut(usize::from(id / 64)));
        if let Some(word) = words {
            *word &= !bit(id);
        }
        if self.count == 0 {
            *self = Self::default();
        }
        true
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Heap that it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.few.capacity() * 2 + self.many.as_ref().map_or(0, |many| many.len() * 8)
    }

    fn contains(&self, id: NonZeroU16) -> bool {
        let id = id.get();
        match &self.many {
            None => self.few.contains(&id),
            Some(many) => many
                .get(usize::from(id / 64))
                .is_some_and(|word| word & bit(id) != 0),
        }
    }
}

fn bit(id: u16) -> u64 {
    1 << (id % 64)
}

const FEW: usize = 32;
const WORDS: usize = (1 << 16) / 64;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_set_of_ids_is_what_a_set_is_and_never_large() {
        let seed = fastrand::u64(..);
        println!("seed={seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for most in [4_u16, 40, 65_535] {
            let (mut ids, mut model) = (Ids::default(), HashSet::new());
            for _ in 0..20_000 {
                let id = NonZeroU16::new(random.u16(1..=most)).expect("not zero");
                if random.u8(..3) > 0 {
                    assert_eq!(ids.insert(id), model.insert(id));
                } else {
                    assert_eq!(ids.remove(id), model.remove(&id));
                }
                assert_eq!(ids.len(), model.len());
                assert!(ids.bytes() <= 8 << 10);
            }
            model.into_iter().for_each(|id| assert!(ids.remove(id)));
            assert_eq!((ids.len(), ids.bytes()), (0, 0));
        }
    }
}
