//! What becomes of one message: rows of the table that its topic names, or a dead letter. Workers
//! and `explain` both ask here, so that what is explained is what happens. Must never let a message
//! end anywhere but in one of the two, nor touch a connection.

use std::time::Instant;

use intake::{Decoded, Reading};
use wal::{AppendError, Appender, GroupId, Refusal, Row};

use crate::ack::Unkept;
use crate::allowance::{Allowance, Sender};
use crate::dead_letter;
use crate::error::Rejection;
use crate::topic;

/// A message that the log has taken.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) group: GroupId,
    /// Of its table; none of a dead letter.
    pub(crate) rows: usize,
    /// Why it is a dead letter.
    pub(crate) rejection: Option<Rejection>,
}

/// Why a message could not be taken now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NotTaken {
    /// Wait for the next group.
    Full,
    /// The log has failed or is closed.
    Closed,
    /// Nothing takes it, for this reason.
    Unkept(Unkept, Rejection),
}

/// A message as it came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message<'a> {
    pub(crate) sender: Sender<'a>,
    pub(crate) topic: &'a str,
    pub(crate) payload: &'a [u8],
    /// When it arrived, in unix nanoseconds.
    pub(crate) now: i64,
}

/// Hands a message to the log. `allowance` is what its sender may have among the dead letters.
pub(crate) fn store(
    appender: &mut Appender,
    message: &Message<'_>,
    reading: Reading,
    allowance: &Allowance,
) -> Result<Stored, NotTaken> {
    let Message {
        sender,
        topic,
        payload,
        now,
    } = *message;
    let rejection = match rows(appender, sender.client, topic, payload, now, reading) {
        Ok(taken) => {
            let (group, rows) = taken?;
            return Ok(Stored {
                group,
                rows,
                rejection: None,
            });
        }
        Err(rejection) => rejection,
    };
    let instant = Instant::now();
    if !allowance.allows(sender, instant) {
        return Err(NotTaken::Unkept(Unkept::TooMany, rejection));
    }
    let reason = rejection.to_string();
    let group = dead_letter::store(appender, topic, payload, sender.client, &reason, now);
    let group = group.map_err(|error| match error {
        AppendError::Full => NotTaken::Full,
        AppendError::Closed => NotTaken::Closed,
        AppendError::Refused(refusal) => {
            NotTaken::Unkept(Unkept::NoPlace, Rejection::Refused(refusal))
        }
    })?;
    allowance.spend(sender, dead_letter::size(topic, payload), instant);
    Ok(Stored {
        group,
        rows: 0,
        rejection: Some(rejection),
    })
}

/// The message as rows of its table: all of them or none.
fn rows(
    appender: &mut Appender,
    client: &str,
    topic: &str,
    payload: &[u8],
    now: i64,
    reading: Reading,
) -> Result<Result<(GroupId, usize), NotTaken>, Rejection> {
    let table = topic::table(topic)?;
    let text = intake::text_of(payload)?;
    let mut decoded = intake::decode(&text, reading)?;
    intake::warn_of_odd_time(table, &decoded);
    let to = To {
        client,
        table,
        topic,
    };
    let mut appended = append(appender, to, &decoded, now);
    if matches!(appended, Err(AppendError::Refused(_))) && suit(&mut decoded, appender, table) {
        appended = append(appender, to, &decoded, now);
    }
    // Some devices say in the payload, too, which topic it is sent to.
    if is_topic_twice(&appended) && decoded.drop_repeated(topic::TOPIC, topic) {
        appended = append(appender, to, &decoded, now);
    }
    match appended {
        Ok(group) => Ok(Ok((group, decoded.len()))),
        Err(AppendError::Full) => Ok(Err(NotTaken::Full)),
        Err(AppendError::Closed) => Ok(Err(NotTaken::Closed)),
        Err(AppendError::Refused(refusal)) => Err(rejection(refusal, &decoded, now, &text)),
    }
}

/// Who sends a message, and where it goes.
#[derive(Clone, Copy)]
struct To<'a> {
    client: &'a str,
    table: &'a str,
    topic: &'a str,
}

/// Hands the rows of a message to the log, all or none.
fn append(
    appender: &mut Appender,
    to: To<'_>,
    decoded: &Decoded<'_>,
    now: i64,
) -> Result<GroupId, AppendError> {
    let tags = [(topic::TOPIC, to.topic)];
    let mut rows = decoded.rows(&tags, now);
    match (decoded.len(), rows.next()) {
        (1, Some(row)) => appender.append_from(to.client, to.table, &[row]),
        (_, Some(first)) => {
            let rows: Vec<Row<'_>> = std::iter::once(first).chain(rows).collect();
            assert_eq!(
                rows.len(),
                decoded.len(),
                "rows handed over are rows counted"
            );
            appender.append_from(to.client, to.table, &rows)
        }
        (_, None) => Err(Refusal::Empty.into()),
    }
}

fn is_topic_twice(appended: &Result<GroupId, AppendError>) -> bool {
    matches!(
        appended,
        Err(AppendError::Refused(Refusal::Twice { column })) if column == topic::TOPIC
    )
}

/// Suits a value that came without a type to its column; whether that made a difference.
fn suit(decoded: &mut Decoded<'_>, appender: &Appender, table: &str) -> bool {
    decoded.fit(|name| {
        let schema = appender.schema(table)?;
        Some(schema.columns.get(schema.column(name)?)?.kind)
    })
}

/// Why a message does not become rows, as precisely as its payload tells.
fn rejection(refusal: Refusal, decoded: &Decoded<'_>, now: i64, text: &str) -> Rejection {
    if let Refusal::Twice { column } = &refusal
        && column == topic::TOPIC
    {
        return Rejection::TopicField;
    }
    match intake::place_of(decoded, now, text, &refusal) {
        Some(place) => Rejection::Misfit { place, refusal },
        None => refusal.into(),
    }
}
