//! `[[table]]`: what a primary's conf declares of its tables. Must never decide what a changed
//! declaration does to a table that is there already.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::time::Duration;

use wal::{Column, ColumnRole, ColumnType, Dedup, TableDef, TableOptions};

use super::item::{Item, Keys};
use super::reader::{Reader, duration_rule};
use super::source::{Entry, TABLES, show};
use super::units::parse_duration;

/// All declared tables, in the order of the file.
pub(super) fn tables(reader: &mut Reader<'_>) -> Vec<TableDef> {
    let mut names = BTreeSet::new();
    let mut tables = Vec::new();
    for (at, entries) in reader.list(TABLES).iter().enumerate() {
        let mut item = Item::new(reader, TABLES, at, entries);
        tables.push(item.table(&mut names));
        let (known, planned) = (&KEYS, &PLANNED);
        item.check_keys(&Keys { known, planned });
    }
    tables
}

impl Item<'_, '_> {
    fn table(&mut self, earlier: &mut BTreeSet<String>) -> TableDef {
        let name = self.name(earlier);
        let retention = self.retention();
        let dedup = self.dedup();
        let strict = self.strict();
        let mut columns = self.tags();
        let fields = self.fields(&columns);
        columns.extend(fields);
        if columns.len() >= wal::MAX_COLUMNS {
            let key = if self.has("columns") {
                "columns"
            } else {
                "tags"
            };
            let most = wal::MAX_COLUMNS - 1;
            self.refuse(key, &format!("a table has at most {most} tags and columns"));
        }
        TableDef {
            name,
            columns,
            strict,
            options: TableOptions { dedup, retention },
        }
    }

    fn name(&mut self, earlier: &mut BTreeSet<String>) -> String {
        let rule = || "must be a text".to_owned();
        let name = self.value("name", rule, |entry| entry.text().map(str::to_owned));
        let Some(name) = name else {
            if !self.has("name") {
                self.missing("name", "every [[table]] says which table it is about");
            }
            return String::new();
        };
        if !is_name(&name) {
            self.refuse("name", NAME_RULE);
        } else if name == wal::DEAD_LETTERS {
            self.check_dead_letters();
        } else if RESERVED.contains(&name.as_str()) || name.starts_with("system.") {
            self.refuse(
                "name",
                "is reserved, as is every name that begins with \"system.\"",
            );
        }
        if !earlier.insert(name.clone()) {
            self.refuse("name", "an earlier [[table]] has the same name");
        }
        name
    }

    /// Its rows are Headwater's own; only how long they stay is the user's.
    fn check_dead_letters(&mut self) {
        for key in ["dedup", "strict", "tags", "columns"] {
            let rule = "of system.dead_letters only the retention can be set";
            self.refuse(key, rule);
        }
    }

    fn retention(&mut self) -> Option<Duration> {
        let range = MIN_RETENTION..=MAX_RETENTION;
        let rule = || format!("{}, or empty", duration_rule(&range));
        let time = self.value("retention", rule, |entry| match entry.text()? {
            "" => Some(None),
            text => {
                let time = parse_duration(text);
                time.filter(|time| range.contains(time)).map(Some)
            }
        });
        time.flatten()
    }

    fn dedup(&mut self) -> Dedup {
        let rule = || "must be \"none\" or \"key\"".to_owned();
        let dedup = self.value("dedup", rule, |entry| match entry.text()? {
            "none" => Some(Dedup::None),
            "key" => Some(Dedup::Key),
            _ => None,
        });
        dedup.unwrap_or_default()
    }

    fn strict(&mut self) -> bool {
        let rule = || "must be true or false".to_owned();
        self.value("strict", rule, Entry::flag).unwrap_or_default()
    }

    fn tags(&mut self) -> Vec<Column> {
        let rule = || "must be a list of column names, such as [\"site\"]".to_owned();
        let names = self.value("tags", rule, Entry::texts).unwrap_or_default();
        let mut tags: Vec<Column> = Vec::with_capacity(names.len());
        for name in names {
            if let Some(rule) = column_fault(name) {
                self.refuse("tags", &format!("{name:?} {rule}"));
            } else if tags.iter().any(|tag| *tag.name == *name) {
                self.refuse("tags", &format!("{name:?} is there twice"));
            }
            tags.push(Column::new(name, ColumnRole::Tag, ColumnType::Text));
        }
        tags
    }

    fn fields(&mut self, tags: &[Column]) -> Vec<Column> {
        let rule = || "must name columns and their types, such as { ok = \"bool\" }".to_owned();
        let Some(table) = self.value("columns", rule, Entry::table) else {
            return Vec::new();
        };
        let mut fields = Vec::with_capacity(table.len());
        for (name, value) in table {
            let kind = value.as_str().and_then(column_type);
            let fault = if tags.iter().any(|tag| *tag.name == **name) {
                Some("is a tag already")
            } else if kind.is_none() {
                Some("must be \"float\", \"int\", \"bigint\", \"bool\" or \"text\"")
            } else {
                column_fault(name)
            };
            if let Some(fault) = fault {
                self.refuse_part(&format!("columns.{name}"), &show(value), fault);
            }
            fields.push(Column::new(
                name,
                ColumnRole::Field,
                kind.unwrap_or(ColumnType::Float),
            ));
        }
        fields
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= wal::MAX_NAME && !name.chars().any(char::is_control)
}

fn column_fault(name: &str) -> Option<&'static str> {
    if name == "time" {
        return Some("is a column of every table by itself");
    }
    (!is_name(name)).then_some(NAME_RULE)
}

fn column_type(text: &str) -> Option<ColumnType> {
    Some(match text {
        "float" => ColumnType::Float,
        "int" => ColumnType::Int,
        "bigint" => ColumnType::BigInt,
        "bool" => ColumnType::Bool,
        "text" => ColumnType::Text,
        _ => return None,
    })
}

const NAME_RULE: &str = "must be 1 to 256 bytes without control characters";

/// Names that SQL knows already.
const RESERVED: [&str; 2] = ["system", "information_schema"];

/// Keys of a `[[table]]`.
const KEYS: [&str; 6] = ["name", "retention", "dedup", "strict", "tags", "columns"];

/// Keys of the public surface that this version does not have yet.
const PLANNED: [&str; 1] = ["compression"];

pub(super) const MIN_RETENTION: Duration = Duration::from_secs(60);

/// A hundred years; times are 64-bit nanoseconds.
pub(super) const MAX_RETENTION: Duration = Duration::from_secs(36_500 * 86_400);
