//! A list of which copies share whole runs. It must never copy more than one run for one change.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::fmt;
use std::sync::Arc;

use crate::format::shared::worked;

/// A list; a copy shares its runs until one of the two changes them.
#[derive(Clone)]
pub(crate) struct List<T> {
    /// All but the last are full.
    runs: Vec<Arc<Vec<T>>>,
    len: usize,
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Self {
            runs: Vec::new(),
            len: 0,
        }
    }
}

impl<T> List<T> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn get(&self, at: usize) -> Option<&T> {
        self.runs.get(at / RUN)?.get(at % RUN)
    }

    pub(crate) fn iter(&self) -> Iter<'_, T> {
        Iter {
            list: self,
            from: 0,
            to: self.len,
        }
    }

    /// How many values from the start on `is` holds for; those are all before the others.
    pub(crate) fn partition_point(&self, is: impl Fn(&T) -> bool) -> usize {
        let whole = self.runs.partition_point(|run| run.last().is_some_and(&is));
        let within = self.runs.get(whole);
        let within = within.map_or(0, |run| run.partition_point(&is));
        (whole * RUN + within).min(self.len)
    }
}

impl<T: Clone> List<T> {
    pub(crate) fn push(&mut self, value: T) {
        worked(self.runs.len());
        match self.runs.last_mut() {
            Some(run) if run.len() < RUN => {
                worked(run.len());
                Arc::make_mut(run).push(value);
            }
            _ => self.runs.push(Arc::new(vec![value])),
        }
        self.len += 1;
    }

    /// Puts another value in a place that there is.
    pub(crate) fn set(&mut self, at: usize, value: T) {
        worked(self.runs.len() + RUN);
        let run = self.runs.get_mut(at / RUN).map(Arc::make_mut);
        if let Some(held) = run.and_then(|run| run.get_mut(at % RUN)) {
            *held = value;
        }
    }
}

impl<T: PartialEq> List<T> {
    /// Places that both have and in which they differ.
    pub(crate) fn differing<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = usize> + 'a {
        let runs = self.runs.iter().zip(&other.runs).enumerate();
        worked(self.runs.len());
        let other_runs = runs.filter(|(_, (a, b))| !Arc::ptr_eq(a, b));
        other_runs.flat_map(|(run, (a, b))| {
            worked(RUN);
            let places = a.iter().zip(b.iter()).enumerate();
            let differ = places.filter(|(_, (a, b))| a != b);
            differ.map(move |(at, _)| run * RUN + at)
        })
    }
}

impl<T: PartialEq> PartialEq for List<T> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.differing(other).next().is_none()
    }
}

impl<T: Eq> Eq for List<T> {}

impl<T: fmt::Debug> fmt::Debug for List<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// The values of a list, in order.
#[derive(Debug)]
pub struct Iter<'a, T> {
    list: &'a List<T>,
    from: usize,
    to: usize,
}

impl<T> Clone for Iter<'_, T> {
    fn clone(&self) -> Self {
        Self { ..*self }
    }
}

impl<'a, T> Iterator for Iter<'a, T> {
    type Item = &'a T;

    fn next(&mut self) -> Option<&'a T> {
        (self.from < self.to).then_some(())?;
        self.from += 1;
        self.list.get(self.from - 1)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.to - self.from;
        (left, Some(left))
    }

    fn nth(&mut self, skip: usize) -> Option<&'a T> {
        self.from = self.from.saturating_add(skip).min(self.to);
        self.next()
    }
}

impl<T> DoubleEndedIterator for Iter<'_, T> {
    fn next_back(&mut self) -> Option<Self::Item> {
        (self.from < self.to).then_some(())?;
        self.to -= 1;
        self.list.get(self.to)
    }
}

impl<T> ExactSizeIterator for Iter<'_, T> {}

/// Values that are copied together.
const RUN: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::shared::work;

    #[test]
    fn a_copy_does_not_see_what_the_other_changes() {
        let mut list = List::default();
        (0..100).for_each(|value| list.push(value));
        let before = list.clone();
        list.push(100);
        list.set(3, 77);
        list.set(500, 1);
        assert_eq!((list.len(), before.len()), (101, 100));
        let changed: Vec<usize> = list.differing(&before).collect();
        assert_eq!(changed, [3]);
        assert!(before.iter().copied().eq(0..100));
        assert!(
            list.iter()
                .rev()
                .skip(1)
                .copied()
                .eq((0..100)
                    .rev()
                    .map(|value| if value == 3 { 77 } else { value }))
        );
        assert_eq!(before.partition_point(|value| *value < 64), 64);
        assert_eq!(before.partition_point(|_| true), 100);
        assert_eq!((before.get(99), before.get(100)), (Some(&99), None));
    }

    #[test]
    fn a_change_costs_far_less_than_the_list() {
        let mut list = List::default();
        (0..10_000).for_each(|value| list.push(value));
        let before = list.clone();
        let work = work::of(|| {
            list.push(1);
            list.set(5_000, 1);
            assert_eq!(list.differing(&before).count(), 1);
        });
        assert!(work < 2_000, "{work}");
    }
}
