//! What the rows of one call ask of their table, and the schema that would hold them. Pure: nothing
//! comes into being by being asked for. It must never depend on the order of the rows.

use std::collections::HashMap;

use crate::format::number::{is_exact, whole};
use crate::format::row::{Refusal, Row, Value};
use crate::format::schema::{
    Column, ColumnRole, ColumnType, DEAD_LETTERS, MAX_COLUMNS, MAX_NAME, TableSchema,
};

/// What the rows of one call have for one column.
#[derive(Clone, Debug, Default)]
pub(crate) struct Demand<'a> {
    name: &'a str,
    /// A row has it as a tag.
    tag: bool,
    /// An integer within 2^53, or beyond.
    int: bool,
    big: Option<i64>,
    /// A float that is an integer within 2^53, or beyond, or none of 64 bits.
    whole: bool,
    big_whole: bool,
    fraction: Option<f64>,
    bool: bool,
    text: bool,
}

impl Demand<'_> {
    fn take(&mut self, value: &Value<'_>) {
        match value {
            Value::Int(value) if is_exact(*value) => self.int = true,
            Value::Int(value) => self.big = Some(*value),
            Value::Float(value) => match whole(*value) {
                Some(value) if is_exact(value) => self.whole = true,
                Some(_) => self.big_whole = true,
                None => self.fraction = Some(*value),
            },
            Value::Bool(_) => self.bool = true,
            Value::Text(_) => self.text = true,
        }
    }

    /// The kinds of its fields' values; numbers are one kind.
    fn kinds(&self) -> impl Iterator<Item = ColumnType> {
        let ints = self.int || self.big.is_some();
        let floats = self.whole || self.big_whole || self.fraction.is_some();
        let kinds = [
            (ints && !floats, ColumnType::Int),
            (floats, ColumnType::Float),
            (self.bool, ColumnType::Bool),
            (self.text, ColumnType::Text),
        ];
        let there = kinds.into_iter().filter(|(there, _)| *there);
        there.map(|(_, kind)| kind)
    }

    /// The type that holds all its numbers, and those of a column of type `held`, without rounding
    /// one. Whole floats are integers where there are integers already.
    fn number(&self, table: &str, held: Option<ColumnType>) -> Result<ColumnType, Refusal> {
        let (table, column) = (table.to_owned(), self.name.to_owned());
        match (held, self.big, self.fraction) {
            (Some(ColumnType::Float), Some(value), _) => Err(Refusal::Rounds {
                table,
                column,
                value,
            }),
            (Some(ColumnType::Float), None, _) => Ok(ColumnType::Float),
            (Some(big @ (ColumnType::BigInt | ColumnType::OldInt)), _, Some(value)) => {
                Err(Refusal::NotWhole {
                    table,
                    column,
                    holds: big.name(),
                    value: value.to_string(),
                })
            }
            (Some(big @ (ColumnType::BigInt | ColumnType::OldInt)), _, None) => Ok(big),
            (_, Some(integer), Some(float)) => Err(Refusal::BothNumbers {
                table,
                column,
                integer,
                float: float.to_string(),
            }),
            (_, Some(_), None) => Ok(ColumnType::BigInt),
            (_, None, Some(_)) => Ok(ColumnType::Float),
            (held, None, None) => Ok(if self.big_whole || (self.whole && held.is_none()) {
                ColumnType::Float
            } else {
                ColumnType::Int
            }),
        }
    }

    /// A column that holds all of it.
    fn column(&self, table: &str) -> Result<Column, Refusal> {
        let column = |role, kind| Column::new(self.name, role, kind);
        if self.tag {
            return Ok(column(ColumnRole::Tag, ColumnType::Text));
        }
        let mut kinds = self.kinds();
        let kind = match (kinds.next(), kinds.next()) {
            (Some(ColumnType::Int | ColumnType::Float), None) => self.number(table, None)?,
            (Some(kind), None) => kind,
            (Some(one), Some(other)) => {
                return Err(Refusal::Mixed {
                    table: table.to_owned(),
                    column: self.name.to_owned(),
                    one: one.name(),
                    other: other.name(),
                });
            }
            (None, _) => return Err(Refusal::Empty),
        };
        Ok(column(ColumnRole::Field, kind))
    }

    /// What `held` must hold instead to take it all in.
    fn fit(&self, table: &str, held: &Column, keyed: bool) -> Result<ColumnType, Refusal> {
        let refuse = |value| Err(type_refusal(table, held, value));
        match held.role {
            ColumnRole::Time => return refuse(self.kinds().next().unwrap_or(ColumnType::Text)),
            // A field that the conf declares to be a tag: it says who, whatever it holds.
            ColumnRole::Tag => return Ok(held.kind),
            ColumnRole::Field if self.tag && !holds_tag(held, keyed) => {
                return Err(tag_refusal(table, held));
            }
            // Made so that it takes whatever comes.
            ColumnRole::Field if held.was.is_some() => return Ok(held.kind),
            ColumnRole::Field => {}
        }
        let numbers = held.kind.is_integer() || held.kind == ColumnType::Float;
        let mut kind = held.kind;
        for wanted in self.kinds() {
            kind = match wanted {
                ColumnType::Int | ColumnType::Float if numbers => {
                    self.number(table, Some(held.kind))?
                }
                wanted if wanted == held.kind => wanted,
                wanted => return refuse(wanted),
            };
        }
        Ok(kind)
    }
}

/// Whether a column takes the text of a tag: a column of tags, or the text field that is there. Not
/// the field where the tags are the key: rows of two keys would seem to be of one.
pub(crate) fn holds_tag(column: &Column, keyed: bool) -> bool {
    match column.role {
        ColumnRole::Time => false,
        ColumnRole::Tag => true,
        ColumnRole::Field => column.kind == ColumnType::Text && !keyed,
    }
}

/// Whether a column holds this value as it is, without a change of its type.
pub(crate) fn holds(column: &Column, value: &Value<'_>) -> bool {
    match (column.role, column.kind, value) {
        (ColumnRole::Time, ..) => false,
        // A conf may declare a payload's field to be a tag: it says who, whatever it holds.
        (ColumnRole::Tag, ..) => true,
        (_, ColumnType::Text, _) if column.was.is_some() => true,
        (_, ColumnType::Int | ColumnType::Float, Value::Int(value)) => is_exact(*value),
        (_, ColumnType::Int, Value::Float(value)) => whole(*value).is_some_and(is_exact),
        (_, ColumnType::BigInt | ColumnType::OldInt, Value::Float(value)) => {
            whole(*value).is_some()
        }
        (_, ColumnType::BigInt | ColumnType::OldInt, Value::Int(_))
        | (_, ColumnType::Float, Value::Float(_))
        | (_, ColumnType::Bool, Value::Bool(_))
        | (_, ColumnType::Text, Value::Text(_)) => true,
        _ => false,
    }
}

/// What `rows` ask for, each column once, in the order in which they come up.
pub(crate) fn demands<'a>(table: &str, rows: &[Row<'a>]) -> Result<Vec<Demand<'a>>, Refusal> {
    let mut all = Demands::default();
    for row in rows {
        for (name, _) in row.tags {
            all.of(table, name)?.tag = true;
        }
        for (name, value) in row.fields {
            all.of(table, name)?.take(value);
        }
    }
    Ok(all.found)
}

#[derive(Default)]
struct Demands<'a> {
    found: Vec<Demand<'a>>,
    places: HashMap<&'a str, usize>,
}

impl<'a> Demands<'a> {
    fn of(&mut self, table: &str, name: &'a str) -> Result<&mut Demand<'a>, Refusal> {
        let next = self.found.len();
        let at = *self.places.entry(name).or_insert(next);
        if at == next {
            check_column_name(name)?;
            // Beside the time.
            if next + 1 >= MAX_COLUMNS {
                return Err(too_many_columns(table, MAX_COLUMNS));
            }
            self.found.push(Demand {
                name,
                ..Demand::default()
            });
        }
        Ok(&mut self.found[at])
    }
}

/// `schema` with all that is asked for; `None` when it holds that already. `keyed`: one key has one
/// row in this table. No column comes in beyond `most`.
pub(crate) fn evolved(
    schema: &TableSchema,
    demands: &[Demand<'_>],
    keyed: bool,
    most: usize,
) -> Result<Option<TableSchema>, Refusal> {
    let (mut columns, mut changed) = (schema.columns.clone(), false);
    for demand in demands {
        let Some(at) = schema.column(demand.name) else {
            columns.push(demand.column(&schema.name)?);
            changed = true;
            continue;
        };
        let held = &schema.columns[at];
        let kind = demand.fit(&schema.name, held, keyed)?;
        if kind != held.kind {
            columns.set(at, held.of_kind(kind));
            changed = true;
        }
    }
    if columns.len() > most && columns.len() > schema.columns.len() {
        return Err(too_many_columns(&schema.name, most));
    }
    Ok(changed.then(|| schema.grown(columns)))
}

fn too_many_columns(table: &str, limit: usize) -> Refusal {
    let table = table.to_owned();
    Refusal::TooManyColumns { table, limit }
}

/// What a column holds, in messages to people.
pub(crate) fn holds_what(column: &Column) -> &'static str {
    match column.role {
        ColumnRole::Tag => "a tag",
        _ => column.kind.name(),
    }
}

pub(crate) fn type_refusal(table: &str, held: &Column, value: ColumnType) -> Refusal {
    Refusal::Type {
        table: table.to_owned(),
        column: held.name.to_string(),
        holds: holds_what(held),
        value: value.name(),
    }
}

fn tag_refusal(table: &str, held: &Column) -> Refusal {
    let (table, column) = (table.to_owned(), held.name.to_string());
    if held.kind == ColumnType::Text {
        return Refusal::TagOutsideKey { table, column };
    }
    Refusal::TagForField {
        table,
        column,
        holds: held.kind.name(),
    }
}

pub(crate) fn check_table_name(name: &str) -> Result<(), Refusal> {
    let refuse = |reason| {
        Err(Refusal::TableName {
            name: shorten(name),
            reason,
        })
    };
    if name == DEAD_LETTERS {
        return Ok(());
    }
    if name == "system" || name == "information_schema" || name.starts_with("system.") {
        return refuse("is reserved");
    }
    match name_fault(name) {
        Some(reason) => refuse(reason),
        None => Ok(()),
    }
}

pub(crate) fn check_column_name(name: &str) -> Result<(), Refusal> {
    match name_fault(name) {
        Some(reason) => Err(Refusal::ColumnName {
            name: shorten(name),
            reason,
        }),
        None => Ok(()),
    }
}

fn name_fault(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        Some("is empty")
    } else if name.len() > MAX_NAME {
        Some("is longer than 256 bytes")
    } else if name.chars().any(char::is_control) {
        Some("has control characters")
    } else {
        None
    }
}

fn shorten(name: &str) -> String {
    name.chars().take(64).collect()
}
