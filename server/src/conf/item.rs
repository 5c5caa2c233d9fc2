//! Typed access to one item of a list in the conf file, such as one `[[table]]`. Whatever is
//! refused reads as its default. Must never know what the items of any list mean.

use std::collections::BTreeMap;

use super::problem::{Origin, Problem};
use super::reader::Reader;
use super::source::Entry;

/// One item and where its problems go.
pub(super) struct Item<'r, 'a> {
    reader: &'r mut Reader<'a>,
    /// What the list is called.
    list: &'static str,
    at: usize,
    entries: &'a BTreeMap<String, Entry>,
}

/// The keys of one list.
pub(super) struct Keys {
    pub(super) known: &'static [&'static str],
    /// Keys of the public surface that this version does not have yet.
    pub(super) planned: &'static [&'static str],
}

impl<'r, 'a> Item<'r, 'a> {
    pub(super) fn new(
        reader: &'r mut Reader<'a>,
        list: &'static str,
        at: usize,
        entries: &'a BTreeMap<String, Entry>,
    ) -> Self {
        Self {
            reader,
            list,
            at,
            entries,
        }
    }

    /// A key's value as `parse` understands it; what it does not understand is refused with `rule`.
    pub(super) fn value<T>(
        &mut self,
        key: &str,
        rule: impl FnOnce() -> String,
        parse: impl FnOnce(&'a Entry) -> Option<T>,
    ) -> Option<T> {
        let entry = self.entries.get(key)?;
        let value = parse(entry);
        if value.is_none() {
            self.refuse(key, &rule());
        }
        value
    }

    /// Records that a key's value is wrong; nothing when it was not written.
    pub(super) fn refuse(&mut self, key: &str, rule: &str) {
        if let Some(entry) = self.entries.get(key) {
            self.refuse_part(key, &entry.show(), rule);
        }
    }

    /// Records that a part of a key's value is wrong.
    pub(super) fn refuse_part(&mut self, key: &str, value: &str, rule: &str) {
        let problem = Problem::Refused {
            origin: Origin::File(self.reader.file().to_owned()),
            key: self.key(key),
            value: value.to_owned(),
            rule: rule.to_owned(),
        };
        self.reader.report(problem);
    }

    /// Records that a key without default was not written.
    pub(super) fn missing(&mut self, key: &str, rule: &str) {
        let problem = Problem::Missing {
            file: self.reader.file().to_owned(),
            key: self.key(key),
            rule: rule.to_owned(),
        };
        self.reader.report(problem);
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// Refuses the keys that no item of this list has.
    pub(super) fn check_keys(&mut self, keys: &Keys) {
        for (name, entry) in self.entries {
            if keys.known.contains(&name.as_str()) {
                continue;
            }
            let (origin, key) = (entry.origin.clone(), self.key(name));
            let likeness = |known: &str| strsim::normalized_damerau_levenshtein(name, known);
            let nearest = keys
                .known
                .iter()
                .copied()
                .max_by(|a, b| likeness(a).total_cmp(&likeness(b)))
                .unwrap_or_default();
            self.reader
                .report(if keys.planned.contains(&name.as_str()) {
                    Problem::NotYet { origin, key }
                } else {
                    Problem::Unknown {
                        origin,
                        key,
                        nearest,
                    }
                });
        }
    }

    fn key(&self, key: &str) -> String {
        format!("{}[{}].{key}", self.list, self.at)
    }
}
