//! Control blocks: what the log says about itself between the rows. Pure bytes; see `FORMAT.md`. It
//! must never accept bytes that say more than it understands.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::sync::Arc;
use std::time::Duration;

use crate::bytes::{u32_at, u64_at};
use crate::error::WalError;
use crate::format::block::{BlockHeader, BlockKind};
use crate::format::options::{Dedup, Expiry, TableOptions};
use crate::format::schema::TableSchema;
use crate::format::schema::change::SchemaChange;
use crate::ids::{Lsn, TableId};

/// One change of what the log's rows mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Control {
    /// A version of a table's schema.
    Schema(Arc<TableSchema>),
    /// The way from one version of a table's schema to the next.
    Change(Arc<SchemaChange>),
    /// A table's options from here on.
    Options(TableId, TableOptions),
    /// Rows of the table that are older than this time are gone, also from the files. Format version
    /// 2 alone writes it.
    Cut(TableId, i64),
    /// How far the table's rows have expired from here on.
    Expiry(TableId, Expiry),
    /// The table is gone, with all its rows.
    Drop(TableId),
    /// Segments that end at or below this LSN are no longer kept for secondaries.
    Retire(Lsn),
}

impl Control {
    /// The change that a block of this header and body makes; `None` for blocks that make none.
    pub(crate) fn of(header: &BlockHeader, body: &[u8]) -> Result<Option<Self>, WalError> {
        Self::decode(header.kind, header.table, body, u32::from(header.format))
    }

    fn decode(
        kind: BlockKind,
        table: TableId,
        body: &[u8],
        format: u32,
    ) -> Result<Option<Self>, WalError> {
        let malformed = |what: &str| WalError::InvalidBlock(format!("{what} body is malformed"));
        let word = |what| {
            let whole = body.len() == WORD_LEN;
            whole
                .then(|| u64_at(body, 0))
                .ok_or_else(|| malformed(what))
        };
        match kind {
            BlockKind::Data | BlockKind::Seal | BlockKind::Secret => Ok(None),
            BlockKind::Schema => {
                let schema = TableSchema::decode(body, format)?;
                Ok(Some(Self::Schema(Arc::new(schema))))
            }
            BlockKind::Change => {
                let change = SchemaChange::decode(body, format)?;
                Ok(Some(Self::Change(Arc::new(change))))
            }
            BlockKind::Options => {
                let options = decode_options(body).ok_or_else(|| malformed("options"))?;
                Ok(Some(Self::Options(table, options)))
            }
            BlockKind::Drop => {
                let same = word("drop")? == u64::from(table.0);
                let control = same.then_some(Self::Drop(table));
                Ok(Some(control.ok_or_else(|| malformed("drop"))?))
            }
            BlockKind::Cut => Ok(Some(Self::Cut(table, word("cut")?.cast_signed()))),
            BlockKind::Retire => Ok(Some(Self::Retire(Lsn(word("retirement")?)))),
            BlockKind::Expiry => {
                let expiry = decode_expiry(body).ok_or_else(|| malformed("expiry"))?;
                Ok(Some(Self::Expiry(table, expiry)))
            }
        }
    }

    pub(crate) fn kind(&self) -> BlockKind {
        match self {
            Self::Schema(_) => BlockKind::Schema,
            Self::Change(_) => BlockKind::Change,
            Self::Options(..) => BlockKind::Options,
            Self::Cut(..) => BlockKind::Cut,
            Self::Expiry(..) => BlockKind::Expiry,
            Self::Drop(_) => BlockKind::Drop,
            Self::Retire(_) => BlockKind::Retire,
        }
    }

    /// The table it is about; 0 when it is about the log.
    pub(crate) fn table(&self) -> TableId {
        match self {
            Self::Schema(schema) => schema.id,
            Self::Change(change) => change.table,
            Self::Options(table, _)
            | Self::Cut(table, _)
            | Self::Expiry(table, _)
            | Self::Drop(table) => *table,
            Self::Retire(_) => TableId(0),
        }
    }

    /// The block's body, a multiple of 8 bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Schema(schema) => schema.encode(),
            Self::Change(change) => change.encode(),
            Self::Options(_, options) => encode_options(*options).to_vec(),
            Self::Cut(_, time) => time.to_le_bytes().to_vec(),
            Self::Expiry(_, expiry) => encode_expiry(*expiry).to_vec(),
            Self::Drop(table) => u64::from(table.0).to_le_bytes().to_vec(),
            Self::Retire(lsn) => lsn.0.to_le_bytes().to_vec(),
        }
    }
}

pub(crate) fn encode_options(options: TableOptions) -> [u8; OPTIONS_LEN] {
    let mut out = [0; OPTIONS_LEN];
    out[0..4].copy_from_slice(&(options.dedup as u32).to_le_bytes());
    let retention = options
        .retention_nanos()
        .map_or(FOR_EVER, i64::cast_unsigned);
    out[8..16].copy_from_slice(&retention.to_le_bytes());
    out
}

pub(crate) fn decode_options(body: &[u8]) -> Option<TableOptions> {
    (body.len() == OPTIONS_LEN && u32_at(body, 4) == 0).then_some(())?;
    let dedup = match u32_at(body, 0) {
        0 => Dedup::None,
        1 => Dedup::Key,
        _ => return None,
    };
    let retention = match u64_at(body, 8) {
        FOR_EVER => None,
        nanos => Some(Duration::from_nanos(nanos)),
    };
    Some(TableOptions { dedup, retention })
}

pub(crate) fn encode_expiry(expiry: Expiry) -> [u8; EXPIRY_LEN] {
    let mut out = [0; EXPIRY_LEN];
    out[..8].copy_from_slice(&expiry.cut.unwrap_or(NO_TIME).to_le_bytes());
    out[8..].copy_from_slice(&expiry.purged.unwrap_or(NO_TIME).to_le_bytes());
    out
}

pub(crate) fn decode_expiry(body: &[u8]) -> Option<Expiry> {
    (body.len() == EXPIRY_LEN).then_some(())?;
    let time = |at| Some(u64_at(body, at).cast_signed()).filter(|time| *time != NO_TIME);
    Some(Expiry {
        cut: time(0),
        purged: time(8),
    })
}

/// Bytes of an options body.
const OPTIONS_LEN: usize = 16;
/// Bytes of the body of a cut, of a drop and of a retirement.
const WORD_LEN: usize = 8;
/// Bytes of the body that says how far rows have expired.
const EXPIRY_LEN: usize = 16;
/// How such a body writes that there is no such time.
const NO_TIME: i64 = i64::MIN;
/// How an options body writes "for ever".
const FOR_EVER: u64 = 0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_control_survives_the_round_trip_and_no_cut_body_passes() {
        let retention = Some(Duration::from_secs(90 * 86_400));
        let options = TableOptions {
            dedup: Dedup::Key,
            retention,
        };
        let all = [
            Control::Schema(Arc::new(TableSchema::new(TableId(3), "plant"))),
            Control::Options(TableId(3), options),
            Control::Options(TableId(3), TableOptions::default()),
            Control::Cut(TableId(3), -7),
            Control::Drop(TableId(3)),
            Control::Expiry(TableId(3), Expiry::default()),
            Control::Expiry(
                TableId(3),
                Expiry {
                    cut: Some(-7),
                    purged: Some(-9),
                },
            ),
            Control::Retire(Lsn(99)),
        ];
        for control in all {
            let (kind, body) = (control.kind(), control.encode());
            assert!(body.len().is_multiple_of(8));
            let table = control.table();
            let found = Control::decode(kind, table, &body, 3).expect("valid");
            assert_eq!(found, Some(control));
            for len in 0..body.len().saturating_sub(7) {
                assert!(
                    Control::decode(kind, table, &body[..len], 3).is_err(),
                    "{kind:?} {len}"
                );
            }
        }
    }
}
