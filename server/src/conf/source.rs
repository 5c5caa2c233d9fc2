//! The conf as written: one flat map of `section.key` from the file, then the environment, then
//! `--set`, each winning over the one before; and the file's lists, such as its `[[table]]`s, which
//! only it can write. Must never interpret a value.

use std::collections::{BTreeMap, BTreeSet};

use toml::{Table, Value};

use super::problem::{Origin, Problem};

/// A value and where it was written.
pub(super) struct Entry {
    pub(super) value: Value,
    pub(super) origin: Origin,
}

impl Entry {
    pub(super) fn text(&self) -> Option<&str> {
        self.value.as_str()
    }

    /// An integer; the environment and `--set` can only write it as text.
    pub(super) fn integer(&self) -> Option<i64> {
        self.value
            .as_integer()
            .or_else(|| self.loose()?.parse().ok())
    }

    pub(super) fn flag(&self) -> Option<bool> {
        self.value.as_bool().or_else(|| self.loose()?.parse().ok())
    }

    /// A list of texts and nothing else.
    pub(super) fn texts(&self) -> Option<Vec<&str>> {
        self.value.as_array()?.iter().map(Value::as_str).collect()
    }

    /// A list of texts, or a single one; the environment and `--set` part them by commas.
    pub(super) fn some_texts(&self) -> Option<Vec<&str>> {
        match (self.loose(), self.text()) {
            (Some(text), _) => Some(text.split(',').map(str::trim).collect()),
            (None, Some(text)) => Some(vec![text]),
            (None, None) => self.texts(),
        }
    }

    /// Names and their values.
    pub(super) fn table(&self) -> Option<&Table> {
        self.value.as_table()
    }

    /// The value as the file would write it.
    pub(super) fn show(&self) -> String {
        show(&self.value)
    }

    fn loose(&self) -> Option<&str> {
        match self.origin {
            Origin::File(_) => None,
            Origin::Env(_) | Origin::Set => self.value.as_str().map(str::trim),
        }
    }
}

/// All values of one conf.
#[derive(Default)]
pub(super) struct Source {
    pub(super) file: String,
    pub(super) entries: BTreeMap<String, Entry>,
    /// Of each list: one map of keys for each item, in the order of the file.
    pub(super) lists: BTreeMap<&'static str, Vec<BTreeMap<String, Entry>>>,
    sections: BTreeSet<String>,
    /// Variables that are named like ours and stand in no section of ours.
    pub(super) strays: Vec<Stray>,
    /// Variables that an orchestrator has set.
    pub(super) links: Vec<String>,
}

/// A variable that stands in no section of ours.
pub(super) struct Stray {
    pub(super) variable: String,
    /// What follows the prefix, in lower case.
    pub(super) name: String,
}

impl Source {
    /// The values of a file's text.
    pub(super) fn parse(file: &str, text: &str) -> Result<Self, Problem> {
        let table = text.parse::<Table>().map_err(|error| Problem::Syntax {
            file: file.to_owned(),
            line: line_of(text, error.span().map_or(0, |span| span.start)),
            reason: error.message().to_owned(),
        })?;
        let mut source = Self {
            file: file.to_owned(),
            ..Self::default()
        };
        for (section, value) in table {
            source.take(section, value);
        }
        Ok(source)
    }

    /// Applies `HEADWATER_SECTION_KEY` variables; of those that are named like them, but for the
    /// links that `is_link` knows, the strays are kept.
    pub(super) fn apply_env(
        &mut self,
        variables: impl IntoIterator<Item = (String, String)>,
        is_link: impl Fn(&str, &str) -> bool,
    ) {
        for (variable, text) in variables {
            let Some(name) = variable.strip_prefix(ENV_PREFIX) else {
                continue;
            };
            let name = name.to_lowercase();
            if variable == FILTER_VARIABLE {
                continue;
            }
            if is_link(&variable, &text) {
                self.links.push(variable);
                continue;
            }
            match split(&name) {
                Some((section, key)) => self.insert(section, key, text, Origin::Env(variable)),
                None => self.strays.push(Stray { variable, name }),
            }
        }
    }

    /// Applies one `section.key=value` of the command line.
    pub(super) fn apply_set(&mut self, text: &str) -> Result<(), Problem> {
        let refused = || Problem::Override {
            text: text.to_owned(),
        };
        let (name, value) = text.split_once('=').ok_or_else(refused)?;
        let (section, key) = name.trim().split_once('.').ok_or_else(refused)?;
        self.insert(section, key, value.trim().to_owned(), Origin::Set);
        Ok(())
    }

    /// Whether the section was written at all, even empty.
    pub(super) fn has_section(&self, section: &str) -> bool {
        self.sections.contains(section)
    }

    fn take(&mut self, section: String, value: Value) {
        let origin = Origin::File(self.file.clone());
        let list = LISTS.into_iter().find(|list| *list == section);
        match (value, list) {
            (Value::Array(items), Some(list)) if items.iter().all(Value::is_table) => {
                let items = items.into_iter().filter_map(|item| match item {
                    Value::Table(table) => Some(keys_of(table, &origin)),
                    _ => None,
                });
                self.lists.insert(list, items.collect());
            }
            // A `[table]` stays whole, so that it is refused once and not key by key.
            (value, Some(_)) => {
                self.entries.insert(section, Entry { value, origin });
            }
            // An empty section of ours says "as it is"; an empty unknown one is a slip to report.
            (Value::Table(table), None)
                if !table.is_empty() || SECTIONS.contains(&section.as_str()) =>
            {
                for (key, value) in table {
                    let origin = origin.clone();
                    self.entries
                        .insert(format!("{section}.{key}"), Entry { value, origin });
                }
                self.sections.insert(section);
            }
            (value, None) => {
                self.entries.insert(section, Entry { value, origin });
            }
        }
    }

    fn insert(&mut self, section: &str, key: &str, text: String, origin: Origin) {
        self.sections.insert(section.to_owned());
        let value = Value::String(text);
        self.entries
            .insert(format!("{section}.{key}"), Entry { value, origin });
    }
}

fn keys_of(table: Table, origin: &Origin) -> BTreeMap<String, Entry> {
    let entry = |value| Entry {
        value,
        origin: origin.clone(),
    };
    table
        .into_iter()
        .map(|(key, value)| (key, entry(value)))
        .collect()
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes()
        .take(offset)
        .filter(|byte| *byte == b'\n')
        .count()
        + 1
}

/// A value as the file would write it.
pub(super) fn show(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{text:?}"),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Boolean(flag) => flag.to_string(),
        Value::Datetime(time) => time.to_string(),
        Value::Array(items) => {
            format!(
                "[{}]",
                items.iter().map(show).collect::<Vec<_>>().join(", ")
            )
        }
        Value::Table(table) => {
            let entries = table
                .iter()
                .map(|(key, value)| format!("{key} = {}", show(value)));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
        }
    }
}

/// What `[[table]]` is called.
pub(super) const TABLES: &str = "table";

/// What `[[route]]` is called.
pub(super) const ROUTES: &str = "route";

/// Everything that is written as a list of sections.
pub(super) const LISTS: [&str; 2] = [TABLES, ROUTES];

/// The environment, and what is wrong with those of ours that are no text.
pub(super) fn variables() -> (Vec<(String, String)>, Vec<Problem>) {
    let (mut variables, mut problems) = (Vec::new(), Vec::new());
    for (name, value) in std::env::vars_os() {
        match (name.into_string(), value.into_string()) {
            (Ok(name), Ok(value)) => variables.push((name, value)),
            (Ok(name), Err(value)) if name.starts_with(ENV_PREFIX) => {
                problems.push(Problem::Refused {
                    key: name.clone(),
                    origin: Origin::Env(name),
                    value: format!("{:?}", value.to_string_lossy()),
                    rule: "must be UTF-8".to_owned(),
                });
            }
            _ => {}
        }
    }
    (variables, problems)
}

/// A section or list and the key of what follows the prefix of a variable, in lower case.
fn split(name: &str) -> Option<(&'static str, &str)> {
    let all = SECTIONS.into_iter().chain(LISTS);
    let mut named = all.filter_map(|section| {
        let key = name.strip_prefix(section)?.strip_prefix('_')?;
        Some((section, key))
    });
    named.next()
}

const ENV_PREFIX: &str = "HEADWATER_";

/// Says what is logged, and stands in no conf.
const FILTER_VARIABLE: &str = "HEADWATER_LOG";

/// Sections whose keys this version reads.
const SECTIONS: [&str; 8] = [
    "node",
    "mqtt",
    "ingest",
    "log",
    "replication",
    "http",
    "cluster",
    "dead_letters",
];
