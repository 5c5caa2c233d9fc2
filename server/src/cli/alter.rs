//! `headwater table`: what an operator does about a table that is there. Must never change a row,
//! nor expire one by itself: the node does, by its own clock.

use clap::Subcommand;
use clap::builder::NonEmptyStringValueParser;

use crate::cli::client::{Client, ClientError, DEFAULT_URL};
use crate::cli::output::say;

#[derive(Debug, Subcommand)]
pub(super) enum TableCommand {
    /// Give a table another name; rows that devices send under the old one make a new table
    Rename {
        #[arg(value_name = "OLD")]
        from: String,
        #[arg(value_name = "NEW")]
        to: String,
        /// The primary
        #[arg(long, default_value = DEFAULT_URL)]
        url: String,
    },
    /// Give a column another name, so that rows may use the old one for something else
    RenameColumn {
        table: String,
        from: String,
        to: String,
        /// The primary
        #[arg(long, default_value = DEFAULT_URL)]
        url: String,
    },
    /// Let a column hold text, or integers be floats, so that it takes what was refused
    ///
    /// `text` is for any column: what is there becomes its text (`7`, `0.5`, `true`), and from then
    /// on any value is taken, as text. `float` is for integers that have stayed within 2^53. Other
    /// changes would lose values: give the column another name with `rename-column` instead, and
    /// send on under the old one.
    ChangeType {
        table: String,
        column: String,
        #[arg(value_name = "text|float")]
        kind: String,
        /// The primary
        #[arg(long, default_value = DEFAULT_URL)]
        url: String,
    },
    /// Make a field of text a tag, or a tag a field
    ///
    /// Both then take any value as text. Files stay in the order of the tags as they were made.
    ChangeRole {
        table: String,
        column: String,
        #[arg(value_name = "tag|field")]
        role: String,
        /// The primary
        #[arg(long, default_value = DEFAULT_URL)]
        url: String,
    },
    /// Take a table away, with all its rows, on every node
    ///
    /// Nobody sees it from then on, and its name is free. Its bytes go as the nodes compact what
    /// they hold; nothing brings it back.
    Drop {
        /// The table, as `system.tables` names it
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        table: String,
        /// All its rows are meant to be lost
        #[arg(long, required = true)]
        lose_all_rows: bool,
        /// The primary
        #[arg(long, default_value = DEFAULT_URL)]
        url: String,
    },
    /// Let its rows go that are older than its retention, although the clock has jumped
    Expire {
        /// The table, as `headwater status` names it
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        table: String,
        /// The primary
        #[arg(long, default_value = DEFAULT_URL)]
        url: String,
    },
}

/// Asks for it, and says that it is so.
pub(super) fn run(command: &TableCommand) -> Result<(), ClientError> {
    match command {
        TableCommand::Rename { from, to, url } => {
            Client::new(url)?.rename_table(from, to)?;
            say!("table {from} is {to} now; rows that come under {from} make a new table");
        }
        TableCommand::RenameColumn {
            table,
            from,
            to,
            url,
        } => {
            Client::new(url)?.rename_column(table, from, to)?;
            say!(
                "column {from} of table {table} is {to} now; rows that come with {from} make a \
                 new one"
            );
        }
        TableCommand::ChangeType {
            table,
            column,
            kind,
            url,
        } => {
            Client::new(url)?.change_type(table, column, kind)?;
            let takes = if kind == "text" {
                "; any value that comes is taken as text"
            } else {
                ""
            };
            say!("column {column} of table {table} is {kind} now, in all rows{takes}");
        }
        TableCommand::ChangeRole {
            table,
            column,
            role,
            url,
        } => {
            Client::new(url)?.change_role(table, column, role)?;
            say!("column {column} of table {table} is a {role} now, in all rows");
        }
        TableCommand::Drop { table, url, .. } => {
            Client::new(url)?.drop_table(table)?;
            say!("table {table} is gone, with all its rows");
        }
        TableCommand::Expire { table, url } => {
            let client = Client::new(url)?;
            client.expire(table)?;
            say!(
                "rows of {table:?} older than its retention go now, by the clock of {}",
                client.url()
            );
        }
    }
    Ok(())
}
