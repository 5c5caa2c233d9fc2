//! Integer columns of logs that began under an older format, which does not say whether a column
//! holds integers that floats would round. Found out by reading once, on the primary, which writes
//! it into the log. It must never call a column small without having seen every value.

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;

use crate::error::WalError;
use crate::format::number::is_exact;
use crate::format::schema::{ColumnType, TableSchema};
use crate::parquet::FileRef;
use crate::read::block_ref::BlockRef;
use crate::read::snapshot::Snapshot;

/// New versions of the schemas that have such columns, with what they hold. A column whose values
/// cannot be read stays as it is.
pub(crate) fn settled(snapshot: &Snapshot) -> Vec<Arc<TableSchema>> {
    let tables = snapshot.catalog().tables();
    tables.filter_map(|held| settle(snapshot, held)).collect()
}

fn settle(snapshot: &Snapshot, held: &TableSchema) -> Option<Arc<TableSchema>> {
    let columns = held.columns.iter().enumerate();
    let mut columns: Vec<(usize, ColumnType)> = columns
        .filter(|(_, column)| column.kind == ColumnType::OldInt)
        .map(|(at, _)| (at, ColumnType::Int))
        .collect();
    if columns.is_empty() || snapshot.damaged(held.id).is_some() {
        return None;
    }
    let files = snapshot.files(held.id);
    let blocks = snapshot.blocks(held.id);
    let read = files
        .iter()
        .try_for_each(|file| see_file(file, held, &mut columns))
        .and_then(|()| {
            blocks
                .iter()
                .try_for_each(|block| see_block(block, held, &mut columns))
        });
    // It is on the list of damaged files, and read again at the next start.
    read.ok()?;
    let mut settled = held.columns.clone();
    for (at, kind) in columns {
        settled.set(at, held.columns[at].of_kind(kind));
    }
    Some(Arc::new(held.grown(settled)))
}

fn see_file(
    file: &FileRef,
    schema: &TableSchema,
    columns: &mut [(usize, ColumnType)],
) -> Result<(), WalError> {
    for (at, kind) in columns {
        let bounds = file.int_bounds(schema, *at)?;
        if bounds.is_some_and(|(min, max)| !is_exact(min) || !is_exact(max)) {
            *kind = ColumnType::BigInt;
        }
    }
    Ok(())
}

fn see_block(
    block: &BlockRef,
    schema: &TableSchema,
    columns: &mut [(usize, ColumnType)],
) -> Result<(), WalError> {
    let present = block.columns()?;
    let wanted = columns.iter_mut();
    let has = |at: usize| present.contains(&usize::from(schema.columns[at].slot));
    let mut wanted: Vec<&mut (usize, ColumnType)> = wanted.filter(|(at, _)| has(*at)).collect();
    let projection: Vec<usize> = wanted.iter().map(|(at, _)| *at).collect();
    if projection.is_empty() {
        return Ok(());
    }
    let batch = block.read(schema, &projection)?;
    for ((_, kind), array) in wanted.iter_mut().zip(batch.columns()) {
        let mut ints = array.as_primitive::<Int64Type>().iter().flatten();
        if ints.any(|value| !is_exact(value)) {
            *kind = ColumnType::BigInt;
        }
    }
    Ok(())
}
