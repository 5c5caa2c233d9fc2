//! What a conf's declarations make of a table, and what a strict one refuses. Pure; it must never
//! let a declaration lose a value.

use crate::format::row::Refusal;
use crate::format::schema::{Column, ColumnRole, ColumnType, Columns, MAX_COLUMNS, TableSchema};
use crate::write::demand::type_refusal;

/// The columns of `schema` with those that a conf declares: absent ones are added, integers widen
/// to floats, anything else that differs is refused.
pub(crate) fn declared(schema: &TableSchema, wanted: &[Column]) -> Result<Columns, Refusal> {
    let mut columns = schema.columns.clone();
    for column in wanted {
        let Some(at) = columns.position(&column.name) else {
            columns.push(column.clone());
            continue;
        };
        let held = &columns[at];
        match (held.kind, column.kind) {
            // A field that is a tag already.
            _ if held.role == ColumnRole::Tag && column.role == ColumnRole::Field => {}
            _ if held.role == ColumnRole::Field && column.role == ColumnRole::Tag => {
                return Err(Refusal::DeclaredTag {
                    table: schema.name.clone(),
                    column: held.name.to_string(),
                    holds: held.kind.name(),
                });
            }
            _ if held.role != column.role => {
                return Err(type_refusal(&schema.name, held, column.kind));
            }
            (held, wanted) if held == wanted => {}
            (ColumnType::Float | ColumnType::BigInt | ColumnType::OldInt, ColumnType::Int) => {}
            (ColumnType::Int, ColumnType::Float)
            | (ColumnType::Int | ColumnType::OldInt, ColumnType::BigInt) => {
                let wider = held.of_kind(column.kind);
                columns.set(at, wider);
            }
            _ => return Err(type_refusal(&schema.name, held, column.kind)),
        }
    }
    if columns.len() > MAX_COLUMNS {
        return Err(Refusal::TooManyColumns {
            table: schema.name.clone(),
            limit: MAX_COLUMNS,
        });
    }
    Ok(columns)
}

/// The first field by which `wanted` goes beyond what a strict table has; none when it only has
/// more tags, which are not the devices' choice.
pub(crate) fn strict_refusal(held: &TableSchema, wanted: &TableSchema) -> Option<Refusal> {
    let differs = |(at, column): &(usize, &Column)| {
        let held = held.columns.get(*at);
        // An integer is one of any size.
        let same = held.is_some_and(|held| {
            held.kind == column.kind || (held.kind.is_integer() && column.kind.is_integer())
        });
        column.role != ColumnRole::Tag && !same
    };
    let (at, column) = wanted.columns.iter().enumerate().find(differs)?;
    Some(match held.columns.get(at) {
        Some(held_column) => type_refusal(&held.name, held_column, column.kind),
        None => Refusal::Strict {
            table: held.name.clone(),
            column: column.name.to_string(),
        },
    })
}
