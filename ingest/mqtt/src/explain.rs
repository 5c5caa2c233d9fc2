//! What would become of a message: for `check-conf --topic --payload`. The message takes the way
//! that a device's message takes, from the bytes of its packet to an appender, whose log whoever
//! asks throws away afterwards. Must never decide anything by itself.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use ntex::codec::Decoder;
use ntex::util::BytesMut;
use wal::{Appender, GroupId};

use crate::allowance::{Allowance, Sender};
use crate::codec::{Codec, Packet, ReadError};
use crate::config::Config;
use crate::frame::FrameError;
use crate::memory::Memory;
use crate::store::{Message, NotTaken, store};
use crate::topic;

/// What becomes of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Rows of its table.
    Rows {
        table: String,
        rows: usize,
        group: GroupId,
    },
    /// A row of the dead letters.
    DeadLetter { reason: String, group: GroupId },
    /// Nothing: the connection is closed, and the client keeps it; or the message is refused.
    Closed { reason: String },
}

/// Sends a message as a client of MQTT 3.1.1 would, with QoS 1, and hands it to `appender`; `now`
/// is when it arrives, in unix nanoseconds.
#[must_use]
pub fn explain(
    config: &Config,
    appender: &mut Appender,
    topic: &str,
    payload: &[u8],
    now: i64,
) -> Fate {
    let closed = |reason: String| Fate::Closed { reason };
    let publish = match received(config, topic, payload) {
        Ok(publish) => publish,
        Err(error) => return closed(error.to_string()),
    };
    let Packet::Publish(publish) = publish else {
        return closed("it is no message".to_owned());
    };
    if let Err(reason) = topic::check(&publish.topic) {
        return closed(reason);
    }
    let (topic, payload) = (&publish.topic, &publish.payload);
    let allowance = Allowance::new(0, Instant::now());
    let message = Message {
        sender: Sender {
            client: CLIENT,
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        },
        topic,
        payload,
        now,
    };
    match store(appender, &message, config.reading, &allowance) {
        Ok(stored) => match stored.rejection {
            Some(rejection) => Fate::DeadLetter {
                reason: rejection.to_string(),
                group: stored.group,
            },
            None => Fate::Rows {
                table: topic::table(topic).unwrap_or_default().to_owned(),
                rows: stored.rows,
                group: stored.group,
            },
        },
        Err(NotTaken::Full) => closed("too much waits for a commit".to_owned()),
        Err(NotTaken::Closed) => closed("the log takes no rows".to_owned()),
        Err(NotTaken::Unkept(_, rejection)) => closed(format!(
            "neither its table nor the dead letters take it: {rejection}"
        )),
    }
}

/// What the server reads of the message.
fn received(config: &Config, topic: &str, payload: &[u8]) -> Result<Packet, ReadError> {
    let memory = Memory::enter(&wal::Share::unlimited("mqtt"));
    let codec = Codec::new(memory.ok_or(ReadError::Frame(FrameError::Length))?);
    codec.decode(&mut BytesMut::copy_from_slice(CONNECT))?;
    codec.set_limit(config.max_packet);
    let mut bytes = publish(config, topic, payload)?;
    // A packet is there from its first byte to its last.
    codec
        .decode(&mut bytes)?
        .ok_or(ReadError::Frame(FrameError::Length))
}

/// PUBLISH with QoS 1.
fn publish(config: &Config, topic: &str, payload: &[u8]) -> Result<BytesMut, FrameError> {
    let topic_len = u16::try_from(topic.len()).map_err(|_| FrameError::Publish)?;
    let len = u32::try_from(4 + topic.len() + payload.len()).unwrap_or(u32::MAX);
    if len > MAX_REMAINING {
        let limit = config.max_packet;
        return Err(FrameError::TooLarge { len, limit });
    }
    let mut bytes = vec![0x32];
    let mut rest = len;
    loop {
        let [low, ..] = (rest & 0x7f).to_le_bytes();
        rest >>= 7;
        bytes.push(if rest > 0 { low | 0x80 } else { low });
        if rest == 0 {
            break;
        }
    }
    bytes.extend_from_slice(&topic_len.to_be_bytes());
    bytes.extend_from_slice(topic.as_bytes());
    bytes.extend_from_slice(&[0, 1]);
    bytes.extend_from_slice(payload);
    Ok(BytesMut::copy_from_slice(&bytes))
}

/// Who sends what is explained.
const CLIENT: &str = "check-conf";

/// Its CONNECT: MQTT 3.1.1, clean session, id `a`.
const CONNECT: &[u8] = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01a";

/// The longest that a packet can say it is.
const MAX_REMAINING: u32 = 268_435_455;

#[cfg(test)]
mod tests {
    use super::*;

    fn fate(config: &Config, topic: &str, payload: &[u8]) -> Fate {
        let dir = tempfile::tempdir().expect("a directory");
        let log = wal::Config::default();
        let (committer, _) =
            wal::open_primary(wal::OsDisk::new(), dir.path(), &log).expect("a log");
        let mut appender = committer.appender(Box::new(|_| ()));
        explain(config, &mut appender, topic, payload, 1)
    }

    #[test]
    fn what_is_too_long_for_a_dead_letter_is_kept_clipped() {
        let config = Config {
            max_packet: 16 << 20,
            ..Config::default()
        };
        let topic = "x".repeat(60_000);
        let len = (16 << 20) - topic.len() - 8;
        for (payload, clipped) in [(vec![0xff; len], true), (vec![b'{'; len], false)] {
            let Fate::DeadLetter { reason, .. } = fate(&config, &topic, &payload) else {
                panic!("a dead letter");
            };
            assert!(reason.len() < 1_000, "{reason}");
            assert!(
                reason.contains(if clipped { "UTF-8" } else { "JSON" }),
                "{reason}"
            );
        }
    }

    #[test]
    fn a_message_is_rows_or_a_dead_letter_or_the_end_of_its_connection() {
        let config = Config {
            max_packet: 1024,
            ..Config::default()
        };
        let told = |topic: &str, payload: &str| match fate(&config, topic, payload.as_bytes()) {
            Fate::Rows { table, rows, .. } => format!("{rows} of {table}"),
            Fate::DeadLetter { reason, .. } => format!("dead: {reason}"),
            Fate::Closed { reason } => format!("closed: {reason}"),
        };
        assert_eq!(told("/a/b", r#"[{"v":1},{"v":2.5}]"#), "2 of a");
        assert_eq!(
            told("a/b", r#"[{"v":1,"topic":"a/b","w":2},{"v":3}]"#),
            "2 of a"
        );
        assert!(told("a/b", r#"[{"topic":"a/b"},{"topic":"b"}]"#).contains("a field `topic`"));
        let no_zone = r#"{"v":1,"time":"2023-11-14T23:13:20"}"#;
        assert!(told("a", no_zone).contains("no time zone"));
        let zoned = Config {
            reading: intake::Reading {
                zone: intake::Zone::parse("Europe/Berlin"),
                ..intake::Reading::default()
            },
            ..Config::default()
        };
        let stored = fate(&zoned, "a", no_zone.as_bytes());
        assert!(matches!(stored, Fate::Rows { rows: 1, .. }), "{stored:?}");
        assert!(told("system.x/b", r#"{"v":1}"#).starts_with("dead: table name"));
        assert!(told("a/b", r#"{"v":1,"v":2}"#).starts_with("dead: "));
        assert!(told("a/b", r#"[{"v":1},{"v":"x"}]"#).starts_with("dead: "));
        assert!(told("a/+", r#"{"v":1}"#).starts_with("closed: topic"));
        let long = format!(r#"{{"v":"{}"}}"#, "x".repeat(1024));
        assert!(told("a", &long).starts_with("closed: a packet of 1037 bytes exceeds"));
        let most = format!(r#"{{"v":"{}"}}"#, "x".repeat(1024 - 5 - 8));
        assert_eq!(told("a", &most), "1 of a");
        assert!(told(&"x".repeat(70_000), "1").starts_with("closed: "));
    }
}
