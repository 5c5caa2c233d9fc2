//! What the columns of a CSV text hold: cells say nothing of their type, so the table's column
//! decides, and where there is none all cells of the text together. Pure; must never turn a text
//! that would not come back as it was written into a number.

use wal::{ColumnRole, ColumnType, TableSchema, Value};

use super::cells::Cell;
use crate::number;

/// What the cells of a column become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    /// Numbers of a column that there is not yet: whole ones are integers.
    Number,
    Bool,
    /// What a column of the table holds: an integer, a float or a boolean.
    Held(ColumnType),
}

/// What a cell reads as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Number,
    /// A number to a machine, and to a person the name of something.
    Name,
    Bool,
    Text,
}

/// What has been seen of one column.
#[derive(Clone, Debug, Default)]
pub(super) struct Column {
    held: Option<Kind>,
    numbers: usize,
    bools: usize,
    texts: usize,
    /// Those of the texts that no name looks like: no digit is in them.
    words: usize,
    /// Those of the words that say that there is nothing: `NULL`.
    nothings: usize,
    /// The first of them, with its line.
    word: Option<(usize, String)>,
}

impl Column {
    /// A column of this name, in a table of this schema.
    pub(super) fn new(name: &str, is_tag: bool, schema: Option<&TableSchema>) -> Self {
        let known = schema.and_then(|schema| {
            let column = schema.columns.get(schema.column(name)?)?;
            Some(match (column.role, column.kind) {
                (ColumnRole::Tag, _) | (_, ColumnType::Text | ColumnType::Time) => Kind::Text,
                (_, kind) => Kind::Held(kind),
            })
        });
        Self {
            held: if is_tag { Some(Kind::Text) } else { known },
            ..Self::default()
        }
    }

    /// Takes notice of a cell.
    pub(super) fn see(&mut self, line: usize, cell: &Cell<'_>) {
        // An empty text says no more of the type than no value does.
        if self.held.is_some() || cell.text.is_empty() {
            return;
        }
        match shape(&cell.text) {
            Shape::Number => self.numbers += 1,
            Shape::Bool => self.bools += 1,
            Shape::Name => self.texts += 1,
            Shape::Text => {
                self.texts += 1;
                if !cell.text.contains(|c: char| c.is_ascii_digit()) {
                    self.words += 1;
                    self.nothings += usize::from(hint(&cell.text).is_some());
                    let word = || (line, number::clipped(&cell.text));
                    self.word.get_or_insert_with(word);
                }
            }
        }
    }

    /// What its cells become. A few words among many numbers, or words that stand for nothing among
    /// any, are more likely wrong than the numbers are text, and a column keeps its type for ever:
    /// the line of the first, and what to do.
    pub(super) fn kind(&self) -> Result<Kind, (usize, String)> {
        let cells = self.numbers + self.bools + self.texts;
        if let Some((line, word)) = &self.word
            && self.words == self.texts
            && self.bools == 0
            && self.numbers > 0
            && (self.nothings == self.texts
                || (cells >= MANY_CELLS && self.numbers * 10 >= cells * 9))
        {
            let reason = format!(
                "the cell is {word:?}, and {} of {cells} cells are numbers{}, or declare the \
                 column as text",
                self.numbers,
                hint(word).unwrap_or(": correct it"),
            );
            return Err((*line, reason));
        }
        Ok(match (self.held, self.texts, self.bools, self.numbers) {
            (Some(kind), ..) => kind,
            (None, 0, 0, 1..) => Kind::Number,
            (None, 0, 1.., 0) => Kind::Bool,
            _ => Kind::Text,
        })
    }
}

impl Kind {
    /// The value of a cell; none where there is none.
    pub(super) fn value<'a>(self, cell: &Cell<'a>) -> Result<Option<Value<'a>>, String> {
        if cell.is_null() || (cell.text.is_empty() && self != Self::Text) {
            return Ok(None);
        }
        let text = &cell.text;
        match (self, shape(text)) {
            (Self::Text, _) => Ok(Some(Value::Text(text.clone()))),
            (Self::Bool | Self::Held(ColumnType::Bool), Shape::Bool) => {
                Ok(Some(Value::Bool(text.eq_ignore_ascii_case("true"))))
            }
            (kind, Shape::Number) if kind.is_number() => {
                number::value(text).map(Some).map_err(|why| {
                    format!("{why}: name the column in `tags`, or declare it as text, to keep it")
                })
            }
            // There the exponent says what is meant.
            (Self::Held(ColumnType::Float), Shape::Name) if is_scaled(text) => {
                number::float(text).map(Value::Float).map(Some)
            }
            (kind, Shape::Name) if kind.is_number() && is_plus(text) => {
                number::value(text).map(Some)
            }
            (kind, _) => {
                let (shown, holds) = (number::clipped(text), kind.name());
                let hint = hint(text).unwrap_or_default();
                Err(format!(
                    "the cell is {shown:?}, and the column holds {holds}{hint}"
                ))
            }
        }
    }

    fn is_number(self) -> bool {
        match self {
            Self::Number => true,
            Self::Text | Self::Bool => false,
            Self::Held(kind) => {
                !matches!(kind, ColumnType::Bool | ColumnType::Text | ColumnType::Time)
            }
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Number => "numbers",
            Self::Bool => "booleans",
            Self::Held(kind) => kind.name(),
        }
    }
}

/// Whether a cell that is not quoted can hardly be the name of a column.
pub(super) fn is_value(cell: &Cell<'_>) -> bool {
    !cell.quoted && matches!(shape(&cell.text), Shape::Number | Shape::Name | Shape::Bool)
}

/// What to do with a cell that says that there is nothing.
fn hint(text: &str) -> Option<&'static str> {
    let nothing = [
        "nan",
        "null",
        "none",
        "na",
        "n/a",
        "-",
        "inf",
        "+inf",
        "-inf",
        "infinity",
        "-infinity",
    ];
    let is_nothing = nothing.iter().any(|word| text.eq_ignore_ascii_case(word));
    is_nothing.then_some(": leave it empty where there is no value")
}

/// Whether only a plus says that it may be a name.
fn is_plus(decimal: &str) -> bool {
    decimal.starts_with('+') && !decimal.starts_with("+0")
}

fn is_scaled(decimal: &str) -> bool {
    !decimal.starts_with('0') && decimal.contains(['e', 'E'])
}

fn shape(text: &str) -> Shape {
    match text {
        "true" | "TRUE" | "True" | "false" | "FALSE" | "False" => Shape::Bool,
        _ if !number::is_decimal(text) => Shape::Text,
        _ if number::is_name(text) => Shape::Name,
        // What no float can hold is no number either.
        _ if text.contains(['.', 'e', 'E']) && number::float(text).is_err() => Shape::Text,
        _ => Shape::Number,
    }
}

/// From so many cells on a column has a type that a few of them do not change.
const MANY_CELLS: usize = 10;
