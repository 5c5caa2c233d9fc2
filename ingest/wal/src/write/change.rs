//! What an operator cannot make of a column, and what to do instead. Pure; must never let a change
//! pass that loses a value.

use crate::format::schema::{Column, ColumnRole, ColumnType};

/// Why a column cannot have this type instead; none: it can.
pub(crate) fn no_change(column: &Column, kind: ColumnType) -> Option<&'static str> {
    Some(match (column.role, column.kind, kind) {
        (ColumnRole::Time, ..) => "it is the time of every table",
        (ColumnRole::Tag, ..) => "it is a tag, which takes any value as text",
        (_, _, ColumnType::Text) if column.was.is_some() => "it takes any value as text already",
        (_, _, ColumnType::Text) | (_, ColumnType::Int, ColumnType::Float) => return None,
        (_, held, wanted) if held == wanted => "it is so already",
        (_, ColumnType::BigInt, ColumnType::Float) => {
            "floats would round them: make it text, or give it another name with `headwater table \
             rename-column` and send floats under this one"
        }
        (_, ColumnType::OldInt, ColumnType::Float) => {
            "floats would round those beyond, and not all of them can be read now"
        }
        _ => {
            "that would not hold all that is there or may have come: give it another name with \
             `headwater table rename-column`, and send such values under this one from then on"
        }
    })
}

/// Why a column cannot have this role instead; none: it can.
pub(crate) fn no_other_role(
    column: &Column,
    role: ColumnRole,
    keyed: bool,
) -> Option<&'static str> {
    Some(match (column.role, role) {
        (ColumnRole::Time, _) | (_, ColumnRole::Time) => "a table has one time, for ever",
        (held, wanted) if held == wanted => "it is so already",
        _ if keyed => "where dedup is \"key\", the tags say what is one row",
        (ColumnRole::Field, _) if column.kind != ColumnType::Text => {
            "tags are text: make it text first, with `headwater table change-type`"
        }
        _ => return None,
    })
}
