//! What an acknowledgement promises: the message is durable here, or flushed by secondaries too.
//! Which promise a message gets, and whether it is reached. Pure; must never call a promise reached
//! that secondaries have not reported.

use std::fmt;
use std::str::FromStr;

use wal::{Lsn, Replicated};

/// When a message is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ack {
    /// After the fsync on this node.
    #[default]
    Durable,
    /// After that, and after the fsync of so many secondaries: 1 to `MAX_REPLICAS`.
    Replicated(u8),
}

/// A text that names no promise.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("ack {0:?} is neither \"durable\" nor \"replicated:1\" to \"replicated:8\"")]
pub struct UnknownAck(pub String);

/// What happens to a message that asks for more secondaries than are connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TooFew {
    /// It waits until enough have come and have it.
    #[default]
    Wait,
    /// It is acknowledged as durable, and on MQTT 5 the acknowledgement says so.
    FallBack,
}

/// The promise for topics that match `filter`, an MQTT filter in which `{name}` stands for `+`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AckRoute {
    pub filter: String,
    pub ack: Ack,
}

/// What a message asks for by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Nothing: the conf decides.
    Nothing,
    For(Ack),
    /// Something that is no promise, or two of them.
    Unknown,
}

/// What a message that is durable here still waits for: that so many secondaries have everything
/// below `lsn`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wait {
    pub(crate) replicas: u8,
    pub(crate) lsn: Lsn,
}

/// How far a message came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Durable,
    Replicated(u8),
    /// Durable, and not as many secondaries are connected as it asked for.
    FellBack,
    /// A QoS 2 message that came again: stored the first time.
    Repeated,
    /// Not stored.
    Refused,
    /// Not stored, though it was nothing that the client could have asked otherwise.
    NotKept(Unkept),
}

/// Why the dead letters do not take a message that nothing else takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unkept {
    /// It cannot be stored there.
    NoPlace,
    /// Too many have come from its client.
    TooMany,
}

impl FromStr for Ack {
    type Err = UnknownAck;

    fn from_str(text: &str) -> Result<Self, UnknownAck> {
        let unknown = || UnknownAck(text.to_owned());
        if text == DURABLE {
            return Ok(Self::Durable);
        }
        match text.strip_prefix(REPLICATED).map(str::as_bytes) {
            Some([digit @ b'1'..=b'8']) => Ok(Self::Replicated(digit - b'0')),
            _ => Err(unknown()),
        }
    }
}

impl fmt::Display for Ack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Durable => f.write_str(DURABLE),
            Self::Replicated(replicas) => write!(f, "{REPLICATED}{replicas}"),
        }
    }
}

/// What the user properties of a PUBLISH ask for.
pub(crate) fn asked<'a>(properties: impl Iterator<Item = (&'a str, &'a str)>) -> Asked {
    let mut asked = Asked::Nothing;
    for (_, value) in properties.filter(|(name, _)| *name == PROPERTY) {
        asked = match (asked, value.parse()) {
            (Asked::Nothing, Ok(ack)) => Asked::For(ack),
            _ => return Asked::Unknown,
        };
    }
    asked
}

/// What a message that asked for `replicas` and is durable below `lsn` has reached; `None` while it
/// has to wait. What has been reached at an LSN has been reached at every lower one.
pub(crate) fn reached(
    replicas: u8,
    lsn: Lsn,
    replicated: &Replicated,
    too_few: TooFew,
) -> Option<Outcome> {
    if replicated.by(usize::from(replicas)) >= lsn {
        return Some(Outcome::Replicated(replicas));
    }
    let fall_back = too_few == TooFew::FallBack && replicated.connected < replicas;
    fall_back.then_some(Outcome::FellBack)
}

/// Most secondaries an acknowledgement can wait for.
pub const MAX_REPLICAS: u8 = 8;

/// The MQTT 5 user property that asks for a promise, and tells which one was kept.
pub(crate) const PROPERTY: &str = "ack";

const DURABLE: &str = "durable";
const REPLICATED: &str = "replicated:";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promise_reads_as_it_is_written_and_nothing_else_is_one() {
        for ack in (1..=MAX_REPLICAS)
            .map(Ack::Replicated)
            .chain([Ack::Durable])
        {
            assert_eq!(ack.to_string().parse(), Ok(ack));
        }
        for text in [
            "",
            "Durable",
            "durable ",
            "replicated",
            "replicated:",
            "replicated:0",
            "replicated:9",
            "replicated:01",
            "replicated:10",
            "replicated:-1",
            "replicated:\u{0661}",
        ] {
            assert_eq!(text.parse::<Ack>(), Err(UnknownAck(text.to_owned())));
        }
    }

    #[test]
    fn a_message_asks_once_or_not_at_all() {
        let ask = |properties: &[(&'static str, &'static str)]| asked(properties.iter().copied());
        assert_eq!(ask(&[]), Asked::Nothing);
        assert_eq!(ask(&[("lsn", "durable"), ("Ack", "x")]), Asked::Nothing);
        let two = Asked::For(Ack::Replicated(2));
        assert_eq!(ask(&[("a", "b"), ("ack", "replicated:2")]), two);
        assert_eq!(ask(&[("ack", "replicated:9")]), Asked::Unknown);
        assert_eq!(
            ask(&[("ack", "durable"), ("ack", "durable")]),
            Asked::Unknown
        );
    }

    #[test]
    fn too_few_secondaries_mean_waiting_or_falling_back_but_slow_ones_always_waiting() {
        let lsn = Lsn(10);
        let nodes = |flushed: &[u64]| {
            let copies = flushed.iter().zip(1..).map(|(lsn, node)| wal::NodeCopy {
                node,
                flushed: Lsn(*lsn),
            });
            Replicated::new(copies.collect())
        };
        let both = [TooFew::Wait, TooFew::FallBack];
        for too_few in both {
            let outcome = reached(2, lsn, &nodes(&[9, 10, 11]), too_few);
            assert_eq!(outcome, Some(Outcome::Replicated(2)));
            assert_eq!(reached(2, lsn, &nodes(&[9, 11, 9]), too_few), None);
        }
        let few = both.map(|too_few| reached(2, lsn, &nodes(&[11]), too_few));
        assert_eq!(few, [None, Some(Outcome::FellBack)]);
        let none = both.map(|too_few| reached(1, lsn, &Replicated::default(), too_few));
        assert_eq!(none, [None, Some(Outcome::FellBack)]);
    }
}
