//! Why the listener cannot run, and why a message goes to the dead letters. Owns the texts that
//! people read; must never be asked what to do next by its text.

use std::net::SocketAddr;

use intake::PayloadError;
use wal::Refusal;

/// An error of the listener itself.
#[derive(Debug, thiserror::Error)]
pub enum MqttError {
    #[error("cannot listen for MQTT on {address}: {source}")]
    Listen {
        address: SocketAddr,
        source: std::io::Error,
    },
    #[error("cannot start the MQTT thread: {0}")]
    Thread(std::io::Error),
    #[error("the MQTT thread ended while it started")]
    Start,
}

/// Why a message does not become rows. The text is the dead letter's `reason`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    #[error("topic {0:?} has only empty levels: the first one that is not empty names the table")]
    NoTable(String),
    #[error("topics that start with $ are not stored")]
    DollarTopic,
    #[error(transparent)]
    Payload(#[from] PayloadError),
    #[error("{}{}", .0, table_hint(.0))]
    Refused(#[from] Refusal),
    /// The same, with the row of the payload that it is for.
    #[error("{place}: {refusal}{}", table_hint(.refusal))]
    Misfit { place: String, refusal: Refusal },
    #[error(
        "the payload has a field `topic`, and the column `topic` holds the MQTT topic: send it \
         under another name"
    )]
    TopicField,
}

impl Rejection {
    /// What reasons are counted by where they are told together.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::NoTable(_) | Self::DollarTopic => "topic",
            Self::Payload(_) => "payload",
            Self::TopicField => "field topic",
            Self::Refused(refusal) | Self::Misfit { refusal, .. } => match refusal {
                Refusal::TableName { .. } | Refusal::TooManyTables { .. } => "table",
                Refusal::OutOfRange { .. } | Refusal::Expired { .. } => "time",
                Refusal::TooLarge { .. } => "size",
                Refusal::SchemaMemory { .. } | Refusal::TooManyColumns { .. } => "columns",
                _ => "column",
            },
        }
    }
}

/// How a message gets to another table, where that would help.
fn table_hint(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::Type { .. }
        | Refusal::Strict { .. }
        | Refusal::TooManyColumns { .. }
        | Refusal::TooManyTables { .. }
        | Refusal::TableName { .. } => " (the first level of the topic names the table)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_of_a_type_names_everything_and_says_what_to_do() {
        let refusal = Refusal::Type {
            table: "home".to_owned(),
            column: "state".to_owned(),
            holds: "a boolean",
            value: "text",
        };
        let expected = "column \"state\" of table \"home\" holds a boolean, the value is text: a \
                        column keeps its type, unless `headwater table change-type \"home\" \
                        \"state\" text` lets it hold both as text; else give this value another \
                        name, or send it to another table (the first level of the topic names the table)";
        assert_eq!(Rejection::from(refusal).to_string(), expected);
        let twice = Refusal::Twice {
            column: "v".to_owned(),
        };
        assert_eq!(
            Rejection::from(twice.clone()).to_string(),
            twice.to_string()
        );
    }
}
