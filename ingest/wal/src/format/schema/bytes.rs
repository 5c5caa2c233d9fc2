//! A whole schema as bytes; see `FORMAT.md`, "Schema body". Pure; it must never accept bytes that
//! say more than it understands.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::sync::Arc;

use crate::bytes::u32_at;
use crate::error::WalError;
use crate::format::schema::column::{
    Column, ColumnRole, ColumnType, FIELD_LIKE_A_TAG, TAG_LIKE_A_FIELD, TEXT_OF_BOOLEANS,
    TEXT_OF_FLOATS, TEXT_OF_INTEGERS, TEXT_OF_TEXTS,
};
use crate::format::schema::columns::Columns;
use crate::format::schema::{MAX_COLUMNS, MAX_NAME, TableSchema};
use crate::ids::TableId;

impl TableSchema {
    /// The bytes of the schema, padded to 8; see `FORMAT.md`, "Schema body".
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + self.columns.len() * 24);
        out.extend_from_slice(&self.id.0.to_le_bytes());
        out.extend_from_slice(&self.version.to_le_bytes());
        put_name(&mut out, &self.name);
        let renamed = if self.stored.is_empty() { 0 } else { RENAMED };
        out.extend_from_slice(&(count16(self.columns.len()) | renamed).to_le_bytes());
        for column in &self.columns {
            put_column(&mut out, column);
        }
        if !self.stored.is_empty() {
            out.extend_from_slice(&count16(self.stored.len()).to_le_bytes());
        }
        for (slot, name) in self.stored.iter() {
            out.extend_from_slice(&slot.to_le_bytes());
            put_name(&mut out, name);
        }
        out.resize(out.len().next_multiple_of(8), 0);
        out
    }

    /// Reads what `encode` wrote, now or in an older version of the format.
    pub(crate) fn decode(bytes: &[u8], format: u32) -> Result<Self, WalError> {
        let rest = bytes;
        Reader { rest, format }
            .schema()
            .ok_or_else(|| WalError::InvalidBlock("schema body is malformed".to_owned()))
    }
}

/// Lengths are bounded by `MAX_NAME` and `MAX_COLUMNS`, which fit 16 bits.
pub(super) fn count16(len: usize) -> u16 {
    u16::try_from(len).unwrap_or(u16::MAX)
}

pub(super) fn put_name(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(&count16(name.len()).to_le_bytes());
    out.extend_from_slice(name.as_bytes());
}

pub(super) fn put_column(out: &mut Vec<u8>, column: &Column) {
    out.push(column.role_code());
    out.push(column.type_code());
    put_name(out, &column.name);
}

/// Takes a body apart, front to back.
pub(super) struct Reader<'a> {
    pub(super) rest: &'a [u8],
    pub(super) format: u32,
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(head)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.take(4).map(|raw| u32_at(raw, 0))
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        Some(u16::from_le_bytes(*self.take(2)?.first_chunk()?))
    }

    pub(super) fn name(&mut self, limit: usize) -> Option<&'a str> {
        let len = self.u16()? as usize;
        let raw = self.take(len)?;
        (len <= limit).then_some(())?;
        std::str::from_utf8(raw).ok()
    }

    pub(super) fn column(&mut self) -> Option<Column> {
        let [role, kind] = *self.take(2)?.first_chunk()?;
        let moved = matches!(role, TAG_LIKE_A_FIELD | FIELD_LIKE_A_TAG);
        (!moved || self.format >= BIG_INT_FORMAT).then_some(())?;
        let role = match role {
            TAG_LIKE_A_FIELD => ColumnRole::Tag,
            FIELD_LIKE_A_TAG => ColumnRole::Field,
            1 => ColumnRole::Time,
            2 => ColumnRole::Tag,
            3 => ColumnRole::Field,
            _ => return None,
        };
        let was = match kind {
            TEXT_OF_INTEGERS => Some(ColumnType::Int),
            TEXT_OF_FLOATS => Some(ColumnType::Float),
            TEXT_OF_BOOLEANS => Some(ColumnType::Bool),
            TEXT_OF_TEXTS => Some(ColumnType::Text),
            _ => None,
        };
        let kind = match kind {
            _ if was.is_some() && self.format >= BIG_INT_FORMAT => ColumnType::Text,
            1 => ColumnType::Time,
            2 if self.format < BIG_INT_FORMAT => ColumnType::OldInt,
            2 => ColumnType::Int,
            3 => ColumnType::Float,
            4 => ColumnType::Bool,
            5 => ColumnType::Text,
            6 if self.format >= BIG_INT_FORMAT => ColumnType::BigInt,
            7 if self.format >= BIG_INT_FORMAT => ColumnType::OldInt,
            _ => return None,
        };
        let fits = match role {
            ColumnRole::Time => kind == ColumnType::Time,
            ColumnRole::Tag => kind == ColumnType::Text,
            ColumnRole::Field if moved => kind == ColumnType::Text,
            ColumnRole::Field => kind != ColumnType::Time,
        };
        fits.then_some(())?;
        Some(Column {
            was,
            moved,
            ..Column::new(self.name(MAX_NAME)?, role, kind)
        })
    }

    pub(super) fn schema(mut self) -> Option<TableSchema> {
        let id = TableId(self.u32()?);
        let version = self.u32()?;
        let name = self.name(MAX_NAME)?;
        let count = self.u16()?;
        let renamed = count & RENAMED != 0;
        let count = usize::from(count & !RENAMED);
        if version == 0 || count == 0 || count > MAX_COLUMNS {
            return None;
        }
        let columns: Columns = (0..count).map(|_| self.column()).collect::<Option<_>>()?;
        let stored = if renamed {
            self.stored(count)?
        } else {
            Vec::new()
        };
        let times = columns
            .iter()
            .filter(|column| column.role == ColumnRole::Time)
            .count();
        let time_first = columns.get(0)?.role == ColumnRole::Time;
        (times == 1 && time_first && self.ends()).then_some(())?;
        Some(TableSchema {
            id,
            version,
            name: name.to_owned(),
            columns,
            stored: Arc::new(stored),
        })
    }

    /// Whether only the zeros are left that fill a body up.
    pub(super) fn ends(&self) -> bool {
        self.rest.len() < 8 && self.rest.iter().all(|byte| *byte == 0)
    }

    /// Names in files, of those columns that have another one now.
    fn stored(&mut self, columns: usize) -> Option<Vec<(u16, Arc<str>)>> {
        (self.format >= BIG_INT_FORMAT).then_some(())?;
        let count = self.u16()?;
        let mut stored: Vec<(u16, Arc<str>)> = Vec::new();
        for _ in 0..count {
            let slot = self.u16()?;
            let ascends = stored.last().is_none_or(|(last, _)| *last < slot);
            (ascends && usize::from(slot) < columns).then_some(())?;
            stored.push((slot, self.name(MAX_STORED_NAME)?.into()));
        }
        (!stored.is_empty()).then_some(stored)
    }
}

/// In the number of columns: names in files follow.
const RENAMED: u16 = 1 << 15;
const _: () = assert!(MAX_COLUMNS < RENAMED as usize);
/// Longest name in a file: one that is taken has a number behind it.
pub(super) const MAX_STORED_NAME: usize = MAX_NAME + 16;
/// The first version of the format that tells integers beyond 2^53 from others.
const BIG_INT_FORMAT: u32 = 3;
