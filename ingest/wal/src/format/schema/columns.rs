//! The columns of a table, in the order of their indices, and found by name. Versions of a schema
//! share what they have in common. It must never find a column by a name that it has no more.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::fmt;
use std::ops::Index;

use crate::format::schema::column::Column;
use crate::format::shared::list::{Iter, List};
use crate::format::shared::names::NameIndex;

/// The columns of a table.
#[derive(Clone, Default)]
pub struct Columns {
    list: List<Column>,
    /// Of tables with more than a few.
    places: NameIndex,
    /// The slot of the next column.
    next: u16,
    /// Length of all names.
    name_bytes: usize,
}

impl Columns {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub fn get(&self, at: usize) -> Option<&Column> {
        self.list.get(at)
    }

    pub fn iter(&self) -> Iter<'_, Column> {
        self.list.iter()
    }

    /// Index of the column of this name.
    pub fn position(&self, name: &str) -> Option<usize> {
        if self.len() <= FEW {
            return self.iter().position(|column| *column.name == *name);
        }
        let mut found = self.places.candidates(name).map(|at| at as usize);
        found.find(|at| self.get(*at).is_some_and(|column| *column.name == *name))
    }

    /// The column that blocks know by this number.
    pub(crate) fn at_slot(&self, slot: u16) -> Option<&Column> {
        self.get(self.place_of(slot)?)
    }

    /// Index of the column that blocks know by this number.
    pub(crate) fn place_of(&self, slot: u16) -> Option<usize> {
        let at = usize::from(slot);
        if self.next_is_len() {
            return (at < self.len()).then_some(at);
        }
        let at = self.list.partition_point(|column| column.slot < slot);
        self.get(at)
            .is_some_and(|column| column.slot == slot)
            .then_some(at)
    }

    /// The slot that the next column gets.
    pub(crate) fn slots(&self) -> u16 {
        self.next
    }

    /// Whether each column's slot is its index.
    fn next_is_len(&self) -> bool {
        usize::from(self.next) == self.len()
    }

    /// Adds a column behind the others.
    pub fn push(&mut self, mut column: Column) {
        column.slot = self.next;
        self.put(column);
    }

    /// Only some of them, each with its slot.
    pub(crate) fn only(&self, present: &[bool]) -> Self {
        let mut kept = Self::default();
        let columns = self.iter().zip(present);
        let columns = columns.filter(|(_, present)| **present);
        columns.for_each(|(column, _)| kept.put(column.clone()));
        kept
    }

    fn put(&mut self, column: Column) {
        self.next = column.slot.saturating_add(1);
        self.name_bytes += column.name.len();
        self.list.push(column);
        if self.len() == FEW + 1 {
            for at in 0..self.len() {
                self.place(at);
            }
        } else if self.len() > FEW {
            self.place(self.len() - 1);
        }
    }

    /// Puts another column in the place of one.
    pub(crate) fn set(&mut self, at: usize, column: Column) {
        let Some(held) = self.list.get(at) else {
            return;
        };
        if held.name != column.name {
            self.name_bytes = self.name_bytes - held.name.len() + column.name.len();
            if self.len() > FEW {
                let number = number(at);
                self.places.remove(&held.name, number);
                self.places.insert(&column.name, number);
            }
        }
        self.list.set(at, column);
    }

    fn place(&mut self, at: usize) {
        if let Some(column) = self.list.get(at) {
            self.places.insert(&column.name, number(at));
        }
    }

    /// Indices that both have and at which the columns differ.
    pub(crate) fn differing<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = usize> + 'a {
        self.list.differing(&other.list)
    }

    /// Bytes of memory that they take, about; no less than what versions share of them.
    pub(crate) fn memory(&self) -> usize {
        self.len() * COLUMN_BYTES + self.name_bytes
    }
}

/// Far fewer than `u32` holds: `MAX_COLUMNS`.
fn number(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

impl Index<usize> for Columns {
    type Output = Column;

    #[expect(clippy::indexing_slicing, reason = "as with any list")]
    fn index(&self, at: usize) -> &Column {
        match self.list.get(at) {
            Some(column) => column,
            None => &[][at],
        }
    }
}

impl PartialEq for Columns {
    fn eq(&self, other: &Self) -> bool {
        self.list == other.list
    }
}

impl Eq for Columns {}

impl fmt::Debug for Columns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.list.fmt(f)
    }
}

impl<'a> IntoIterator for &'a Columns {
    type Item = &'a Column;
    type IntoIter = Iter<'a, Column>;

    fn into_iter(self) -> Iter<'a, Column> {
        self.iter()
    }
}

impl Extend<Column> for Columns {
    fn extend<I: IntoIterator<Item = Column>>(&mut self, more: I) {
        more.into_iter().for_each(|column| self.push(column));
    }
}

impl FromIterator<Column> for Columns {
    fn from_iter<I: IntoIterator<Item = Column>>(all: I) -> Self {
        let mut columns = Self::default();
        columns.extend(all);
        columns
    }
}

/// So many columns are looked through faster than an index of them.
const FEW: usize = 16;
/// What a column takes beside its name: itself, its name's count and place in the allocator, its
/// places in the two indices of names, and the version that it came with.
const COLUMN_BYTES: usize = 112;
