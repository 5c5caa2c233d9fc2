//! What an operator changes about a table that is there. Must never change what a row says.

use std::sync::Arc;

use crate::format::row::Refusal;
use crate::format::schema::{ColumnRole, ColumnType, TableSchema};
use crate::ids::TableId;
use crate::write::appenders::Appenders;

impl Appenders {
    /// Gives a column of a table another name, for all rows that are there. Rows that come with the
    /// old name make a column of their own. It is so once the log has this version of the schema,
    /// or a later one.
    ///
    /// # Errors
    /// When there is no such column, or it cannot have that name.
    pub fn rename_column(
        &self,
        table: &str,
        from: &str,
        to: &str,
    ) -> Result<Arc<TableSchema>, Refusal> {
        let schema = self.registry.rename_column(table, from, to)?;
        self.shared.bell.ring();
        Ok(schema)
    }

    /// Gives a table another name, with all rows that are there. Rows that come under the old name
    /// make a table of their own. It is so once the log has this version of the schema, or a later
    /// one.
    ///
    /// # Errors
    /// When there is no such table, it cannot have that name, or the conf names either.
    pub fn rename_table(&self, from: &str, to: &str) -> Result<Arc<TableSchema>, Refusal> {
        let schema = self.registry.rename_table(from, to)?;
        self.shared.bell.ring();
        Ok(schema)
    }

    /// Takes a table away, with all its rows; rows that come under its name make a table of their own.
    /// False, and nothing has changed: the table of that name is not the one of this id any more. It
    /// is so once the log, which had this table, has it no more.
    ///
    /// # Errors
    /// When there is no such table, or it is Headwater's own or the conf's.
    pub fn drop_table(&self, table: &str, id: TableId) -> Result<bool, Refusal> {
        let dropped = self.registry.drop_table(table, id)?;
        self.shared.bell.ring();
        Ok(dropped)
    }

    /// The table's columns so far, as all producers know them.
    #[must_use]
    pub fn schema(&self, table: &str) -> Option<Arc<TableSchema>> {
        self.registry.schema(table)
    }

    /// Gives a column another type, also for all rows that are there: integers that floats hold
    /// exactly become floats, and anything becomes text that takes any value from then on. It is so
    /// once the log has this version of the schema, or a later one.
    ///
    /// # Errors
    /// When there is no such column, the type does not hold all that it may hold, or the conf
    /// declares it otherwise.
    pub fn change_type(
        &self,
        table: &str,
        column: &str,
        kind: ColumnType,
    ) -> Result<Arc<TableSchema>, Refusal> {
        let schema = self.registry.change_type(table, column, kind)?;
        self.shared.bell.ring();
        Ok(schema)
    }

    /// Makes a field of text a tag, or a tag a field, also for all rows that are there. It is so
    /// once the log has this version of the schema, or a later one.
    ///
    /// # Errors
    /// When there is no such column, it cannot have that role, or the conf declares the other one.
    pub fn change_role(
        &self,
        table: &str,
        column: &str,
        role: ColumnRole,
    ) -> Result<Arc<TableSchema>, Refusal> {
        let schema = self.registry.change_role(table, column, role)?;
        self.shared.bell.ring();
        Ok(schema)
    }
}
