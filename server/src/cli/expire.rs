//! `headwater expire`: an operator's word that a table's old rows may go now, which a jump of the
//! clock has left. Must never expire a row by itself: the node does, by its own clock.

use crate::cli::client::{Client, ClientError};

/// Gives the word, and says what comes of it.
pub(super) fn run(url: &str, table: &str) -> Result<(), ClientError> {
    let client = Client::new(url)?;
    client.expire(table)?;
    println!(
        "rows of {table:?} older than its retention go now, by the clock of {}",
        client.url()
    );
    Ok(())
}
