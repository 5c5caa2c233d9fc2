//! Topic to table: the default route. The first topic level names the table, the whole topic is
//! the tag `topic`. Pure; must never let a client write to a table of the system.

use wal::Refusal;

use crate::error::Rejection;

/// The table a topic goes to.
pub(crate) fn table(topic: &str) -> Result<&str, Rejection> {
    if topic.starts_with('$') {
        return Err(Rejection::DollarTopic);
    }
    match topic.split('/').next() {
        Some(level) if level == wal::DEAD_LETTERS => {
            let (name, reason) = (level.to_owned(), "is reserved");
            Err(Rejection::Refused(Refusal::TableName { name, reason }))
        }
        Some(level) if !level.is_empty() => Ok(level),
        _ => Err(Rejection::NoTable(topic.to_owned())),
    }
}

/// Whether MQTT allows the topic in a PUBLISH at all.
pub(crate) fn is_publishable(topic: &str) -> bool {
    !topic.is_empty() && !topic.contains(['+', '#', '\0'])
}

/// Name of the tag that holds the topic.
pub(crate) const TOPIC: &str = "topic";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_level_names_the_table() {
        assert_eq!(table("plant/7/temperature"), Ok("plant"));
        assert_eq!(table("plant"), Ok("plant"));
        assert_eq!(
            table("/plant"),
            Err(Rejection::NoTable("/plant".to_owned()))
        );
        assert_eq!(table("$SYS/x"), Err(Rejection::DollarTopic));
        assert!(matches!(
            table("system.dead_letters/x"),
            Err(Rejection::Refused(Refusal::TableName { .. }))
        ));
        assert!(!is_publishable("") && !is_publishable("a/+/b") && !is_publishable("a/#"));
    }
}
