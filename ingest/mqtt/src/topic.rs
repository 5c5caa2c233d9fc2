//! Topic to table: the default route. The first topic level that is not empty names the table, the
//! whole topic, as it was sent, is the tag `topic`. Pure; must never let a client write to a table
//! of the system.

use wal::Refusal;

use crate::error::Rejection;

/// The table a topic goes to.
pub(crate) fn table(topic: &str) -> Result<&str, Rejection> {
    if topic.starts_with('$') {
        return Err(Rejection::DollarTopic);
    }
    // Some devices begin their topics with a slash, or join parts of which one is empty.
    match topic.split('/').find(|level| !level.is_empty()) {
        Some(level) if level == wal::DEAD_LETTERS => {
            let (name, reason) = (level.to_owned(), "is reserved");
            Err(Rejection::Refused(Refusal::TableName { name, reason }))
        }
        Some(level) => Ok(level),
        None => Err(Rejection::NoTable(topic.to_owned())),
    }
}

/// Whether MQTT allows the topic in a PUBLISH at all; if not, why.
pub(crate) fn check(topic: &str) -> Result<(), String> {
    if topic.is_empty() || topic.contains(['+', '#', '\0']) {
        return Err(format!("topic {topic:?} is empty or has wildcards"));
    }
    Ok(())
}

/// Name of the tag that holds the topic.
pub(crate) const TOPIC: &str = "topic";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_level_that_is_not_empty_names_the_table() {
        for topic in [
            "plant/7/temperature",
            "plant",
            "plant/",
            "plant//7",
            "/plant",
            "//plant/7",
        ] {
            assert_eq!(table(topic), Ok("plant"), "{topic}");
        }
        for topic in ["/", "//", "///"] {
            assert_eq!(table(topic), Err(Rejection::NoTable(topic.to_owned())));
        }
        assert_eq!(table("$SYS/x"), Err(Rejection::DollarTopic));
        assert!(matches!(
            table("system.dead_letters/x"),
            Err(Rejection::Refused(Refusal::TableName { .. }))
        ));
        assert!(table("/system.dead_letters/x").is_err());
        for topic in ["", "a/+/b", "a/#", "a\0b"] {
            assert!(check(topic).is_err(), "{topic}");
        }
    }
}
