//! `headwater table`: what an operator does about a table that is there. Must never change a row,
//! nor expire one by itself: the node does, by its own clock.

use crate::cli::client::{Client, ClientError};

/// Asks for another name of a column, and says that it is so.
pub(super) fn rename_column(
    url: &str,
    table: &str,
    from: &str,
    to: &str,
) -> Result<(), ClientError> {
    let client = Client::new(url)?;
    client.rename_column(table, from, to)?;
    println!(
        "column {from} of table {table} is {to} now; rows that come with {from} make a new one"
    );
    Ok(())
}

/// Gives the word that old rows may go now, which a jump of the clock has left.
pub(super) fn expire(url: &str, table: &str) -> Result<(), ClientError> {
    let client = Client::new(url)?;
    client.expire(table)?;
    println!(
        "rows of {table:?} older than its retention go now, by the clock of {}",
        client.url()
    );
    Ok(())
}
