//! What becomes of one message: rows of the table that its topic names, or a dead letter. Workers
//! and `explain` both ask here, so that what is explained is what happens. Must never let a message
//! end anywhere but in one of the two, nor touch a connection.

use intake::{Decoded, Zone};
use wal::{AppendError, Appender, GroupId, Refusal, Row};

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
    /// Not even the dead letters take it.
    Unstorable(Refusal),
}

/// Hands a message to the log; `now` is when it arrived, in unix nanoseconds, and `zone` that of
/// times that name none.
pub(crate) fn store(
    appender: &mut Appender,
    client: &str,
    topic: &str,
    payload: &[u8],
    now: i64,
    zone: Option<Zone>,
) -> Result<Stored, NotTaken> {
    let rejection = match rows(appender, topic, payload, now, zone) {
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
    let reason = rejection.to_string();
    let group = dead_letter::store(appender, topic, payload, client, &reason, now);
    Ok(Stored {
        group: group.map_err(|error| match error {
            AppendError::Full => NotTaken::Full,
            AppendError::Closed => NotTaken::Closed,
            AppendError::Refused(refusal) => NotTaken::Unstorable(refusal),
        })?,
        rows: 0,
        rejection: Some(rejection),
    })
}

/// The message as rows of its table: all of them or none.
fn rows(
    appender: &mut Appender,
    topic: &str,
    payload: &[u8],
    now: i64,
    zone: Option<Zone>,
) -> Result<Result<(GroupId, usize), NotTaken>, Rejection> {
    let table = topic::table(topic)?;
    let text = intake::text_of(payload)?;
    let mut decoded = intake::decode(&text, zone)?;
    intake::warn_of_odd_time(table, &decoded);
    let mut appended = append(appender, table, topic, &decoded, now);
    if matches!(appended, Err(AppendError::Refused(_))) && suit(&mut decoded, appender, table) {
        appended = append(appender, table, topic, &decoded, now);
    }
    // Some devices say in the payload, too, which topic it is sent to.
    if is_topic_twice(&appended) && decoded.drop_repeated(topic::TOPIC, topic) {
        appended = append(appender, table, topic, &decoded, now);
    }
    match appended {
        Ok(group) => Ok(Ok((group, decoded.len()))),
        Err(AppendError::Full) => Ok(Err(NotTaken::Full)),
        Err(AppendError::Closed) => Ok(Err(NotTaken::Closed)),
        Err(AppendError::Refused(refusal)) => Err(rejection(refusal, &decoded, &text)),
    }
}

/// Hands the rows of a message to the log, all or none.
fn append(
    appender: &mut Appender,
    table: &str,
    topic: &str,
    decoded: &Decoded<'_>,
    now: i64,
) -> Result<GroupId, AppendError> {
    let tags = [(topic::TOPIC, topic)];
    let mut rows = decoded.rows(&tags, now);
    match (decoded.len(), rows.next()) {
        (1, Some(row)) => appender.append(table, &[row]),
        (_, Some(first)) => {
            let rows: Vec<Row<'_>> = std::iter::once(first).chain(rows).collect();
            assert_eq!(
                rows.len(),
                decoded.len(),
                "rows handed over are rows counted"
            );
            appender.append(table, &rows)
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
fn rejection(refusal: Refusal, decoded: &Decoded<'_>, text: &str) -> Rejection {
    if let Refusal::Twice { column } = &refusal
        && column == topic::TOPIC
    {
        return Rejection::TopicField;
    }
    match intake::place_of(decoded, text, &refusal) {
        Some(place) => Rejection::Misfit { place, refusal },
        None => refusal.into(),
    }
}
