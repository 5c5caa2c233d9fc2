//! Says once for each table that a field has a time's name and is none. Must never say it more
//! often, nor remember tables without a bound.

use std::collections::HashSet;
use std::sync::{LazyLock, Mutex, PoisonError};

use crate::decoded::Decoded;

/// Says in the log, once for each table, that a field is called as a time is, and is none.
pub fn warn_of_odd_time(table: &str, decoded: &Decoded<'_>) {
    let Some(odd) = decoded.not_a_time() else {
        return;
    };
    if !TABLES
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .is_news(table)
    {
        return;
    }
    let (field, reason) = (&odd.field, &odd.reason);
    tracing::warn!(
        table,
        field,
        reason,
        "a field is called as a time is and does not read as one: it is stored as a field, and \
         the rows have the time of their arrival, or of another field"
    );
}

/// Tables that have been told of.
#[derive(Debug, Default)]
struct Told(HashSet<String>);

impl Told {
    fn is_news(&mut self, table: &str) -> bool {
        !self.0.contains(table) && self.0.len() < MAX_TABLES && self.0.insert(table.to_owned())
    }
}

static TABLES: LazyLock<Mutex<Told>> = LazyLock::new(Mutex::default);

/// Most tables that are told of.
const MAX_TABLES: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_table_is_told_of_once_and_not_without_end() {
        let mut told = Told::default();
        assert!(told.is_news("a") && !told.is_news("a") && told.is_news("b"));
        let news = (0..2 * MAX_TABLES).filter(|n| told.is_news(&n.to_string()));
        assert_eq!(news.count(), MAX_TABLES - 2);
    }
}
