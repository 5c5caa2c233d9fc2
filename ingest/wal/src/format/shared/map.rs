//! A map by number of which copies share whole ranges of numbers. It must never copy more than one
//! range for one change.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::sync::Arc;

use crate::format::shared::worked;

/// Values of one range of numbers, ascending.
type Range<V> = Vec<(u32, V)>;

/// Values by number, ascending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NumberMap<V> {
    /// Each with the values of one range of numbers, ascending; none is empty.
    ranges: Vec<(u32, Arc<Range<V>>)>,
    len: usize,
}

impl<V> Default for NumberMap<V> {
    fn default() -> Self {
        Self {
            ranges: Vec::new(),
            len: 0,
        }
    }
}

impl<V> NumberMap<V> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    fn range(&self, key: u32) -> Result<usize, usize> {
        let range = key / RANGE;
        self.ranges
            .binary_search_by_key(&range, |(range, _)| *range)
    }

    pub(crate) fn get(&self, key: u32) -> Option<&V> {
        let (_, range) = self.ranges.get(self.range(key).ok()?)?;
        let at = range.binary_search_by_key(&key, |(key, _)| *key).ok()?;
        range.get(at).map(|(_, value)| value)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &V)> {
        let ranges = self.ranges.iter().flat_map(|(_, range)| range.iter());
        ranges.map(|(key, value)| (*key, value))
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }
}

impl<V: Clone> NumberMap<V> {
    pub(crate) fn insert(&mut self, key: u32, value: V) {
        worked(self.ranges.len());
        let at = match self.range(key) {
            Ok(at) => at,
            Err(at) => {
                let range = (key / RANGE, Arc::default());
                self.ranges.insert(at, range);
                at
            }
        };
        let Some((_, range)) = self.ranges.get_mut(at) else {
            return;
        };
        worked(range.len());
        let range = Arc::make_mut(range);
        match range.binary_search_by_key(&key, |(key, _)| *key) {
            Ok(at) => {
                if let Some((_, held)) = range.get_mut(at) {
                    *held = value;
                }
            }
            Err(at) => {
                range.insert(at, (key, value));
                self.len += 1;
            }
        }
    }

    pub(crate) fn remove(&mut self, key: u32) -> Option<V> {
        let at = self.range(key).ok()?;
        let (_, range) = self.ranges.get_mut(at)?;
        let place = range.binary_search_by_key(&key, |(key, _)| *key).ok()?;
        let range = Arc::make_mut(range);
        let (_, value) = range.remove(place);
        if range.is_empty() {
            self.ranges.remove(at);
        }
        self.len -= 1;
        Some(value)
    }
}

/// Numbers whose values are copied together.
const RANGE: u32 = 64;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn it_is_as_a_sorted_map_and_copies_stay_as_they_are() {
        let (mut map, mut model) = (NumberMap::default(), BTreeMap::new());
        let mut copies = Vec::new();
        for step in 0_u32..2_000 {
            let key = step.wrapping_mul(2_654_435_761) % 500;
            if step % 3 == 0 {
                assert_eq!(map.remove(key), model.remove(&key));
            } else {
                map.insert(key, step);
                model.insert(key, step);
            }
            assert_eq!(map.len(), model.len());
            if step % 400 == 0 {
                copies.push((map.clone(), model.clone()));
            }
        }
        copies.push((map, model));
        for (map, model) in copies {
            assert!(
                map.iter()
                    .eq(model.iter().map(|(key, value)| (*key, value)))
            );
            assert!((0..500).all(|key| map.get(key) == model.get(&key)));
        }
    }
}
