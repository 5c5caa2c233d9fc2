//! Bytes and packets that go back to a client. Pure; must never make a packet longer than the
//! bounds at its end say.

use std::num::NonZeroU16;

use ntex_mqtt::v3::codec as c3;
use ntex_mqtt::v5::codec as c5;
use wal::Lsn;

use crate::ack::{Ack, PROPERTY, Unkept};
use crate::clip::{MAX_REASON, clipped};
use crate::codec::Outgoing;
use crate::frame::Version;
use crate::queue::AckKind;

/// The MQTT 5 properties of an acknowledgement: `lsn`, and `ack` where more than durable was asked.
#[derive(Debug)]
pub(crate) struct Properties {
    lsn: Lsn,
    ack: Option<Ack>,
    bytes: Vec<u8>,
}

impl Properties {
    pub(crate) fn new(lsn: Lsn, ack: Option<Ack>) -> Self {
        let mut properties = Vec::new();
        user_property(&mut properties, "lsn", &lsn.to_string());
        if let Some(ack) = ack {
            user_property(&mut properties, PROPERTY, &ack.to_string());
        }
        // Reason code 0, then the length of all properties.
        let mut bytes = vec![0, length(&properties)];
        bytes.extend_from_slice(&properties);
        Self { lsn, ack, bytes }
    }

    /// Those of `slot`, made anew only when they say something else.
    pub(crate) fn cached(slot: &mut Option<Self>, lsn: Lsn, ack: Option<Ack>) -> &Self {
        match slot {
            Some(cached) if cached.lsn == lsn && cached.ack == ack => {}
            _ => *slot = None,
        }
        slot.get_or_insert_with(|| Self::new(lsn, ack))
    }
}

fn user_property(out: &mut Vec<u8>, name: &str, value: &str) {
    out.push(0x26);
    for text in [name, value] {
        out.extend_from_slice(&[0, length(text.as_bytes())]);
        out.extend_from_slice(text.as_bytes());
    }
}

/// Why a message is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// For the promise that it asks for.
    Ack,
    /// Neither its table nor the dead letters take it.
    NotKept(Unkept),
}

/// Appends the PUBACK or PUBREC of a message that is not stored, with a reason if it may have one:
/// MQTT 5 only.
pub(crate) fn refuse(
    out: &mut Vec<u8>,
    kind: AckKind,
    id: NonZeroU16,
    (why, with_reason): (Refused, bool),
) {
    let (code, reason) = match why {
        Refused::Ack => (REFUSED, REFUSED_BECAUSE),
        Refused::NotKept(Unkept::NoPlace) => (QUOTA_EXCEEDED, NO_PLACE_BECAUSE),
        Refused::NotKept(Unkept::TooMany) => (QUOTA_EXCEEDED, TOO_MANY_BECAUSE),
    };
    let reason = reason.as_bytes();
    if with_reason {
        header(out, kind, id, 7 + length(reason));
        // Reason string, after the length of all properties.
        out.extend_from_slice(&[code, 3 + length(reason), 0x1f, 0, length(reason)]);
        out.extend_from_slice(reason);
    } else {
        header(out, kind, id, 3);
        out.push(code);
    }
}

fn header(out: &mut Vec<u8>, kind: AckKind, id: NonZeroU16, length: u8) {
    let first = match kind {
        AckKind::Ack => 0x40,
        AckKind::Received => 0x50,
    };
    let [high, low] = id.get().to_be_bytes();
    out.extend_from_slice(&[first, length, high, low]);
}

/// Appends PUBACK or PUBREC.
pub(crate) fn acknowledge(
    out: &mut Vec<u8>,
    kind: AckKind,
    id: NonZeroU16,
    properties: Option<&Properties>,
) {
    let properties = properties.map_or(&[][..], |properties| &properties.bytes);
    header(out, kind, id, 2 + length(properties));
    out.extend_from_slice(properties);
}

/// The length of what is short, as all that is written here is: one byte says it.
fn length(bytes: &[u8]) -> u8 {
    assert!(bytes.len() <= usize::from(MAX_SHORT));
    let [length, ..] = bytes.len().to_le_bytes();
    length
}

/// PUBCOMP; on MQTT 5 with "packet identifier not found" when it was not.
pub(crate) fn complete(version: Version, id: NonZeroU16, known: bool) -> Outgoing {
    match version {
        Version::V3 => Outgoing::V3(c3::Packet::PublishComplete { packet_id: id }),
        Version::V5 => {
            let reason_code = if known {
                c5::PublishAck2Reason::Success
            } else {
                c5::PublishAck2Reason::PacketIdNotFound
            };
            let ack = c5::PublishAck2 {
                packet_id: id,
                reason_code,
                ..Default::default()
            };
            Outgoing::V5(c5::Packet::PublishComplete(ack))
        }
    }
}

/// SUBACK that refuses every filter: this is a database, it sends no messages.
pub(crate) fn refuse_subscribe(version: Version, id: NonZeroU16, filters: usize) -> Outgoing {
    match version {
        Version::V3 => Outgoing::V3(c3::Packet::SubscribeAck {
            packet_id: id,
            status: vec![c3::SubscribeReturnCode::Failure; filters],
        }),
        Version::V5 => Outgoing::V5(c5::Packet::SubscribeAck(c5::SubscribeAck {
            packet_id: id,
            properties: Vec::new(),
            reason_string: Some("subscriptions are not supported: query over HTTP".into()),
            status: vec![c5::SubscribeAckReason::ImplementationSpecificError; filters],
        })),
    }
}

/// UNSUBACK.
pub(crate) fn unsubscribed(version: Version, id: NonZeroU16, filters: usize) -> Outgoing {
    match version {
        Version::V3 => Outgoing::V3(c3::Packet::UnsubscribeAck { packet_id: id }),
        Version::V5 => Outgoing::V5(c5::Packet::UnsubscribeAck(c5::UnsubscribeAck {
            packet_id: id,
            properties: Vec::new(),
            reason_string: None,
            status: vec![c5::UnsubscribeAckReason::NoSubscriptionExisted; filters],
        })),
    }
}

/// PINGRESP.
pub(crate) fn pong(version: Version) -> Outgoing {
    match version {
        Version::V3 => Outgoing::V3(c3::Packet::PingResponse),
        Version::V5 => Outgoing::V5(c5::Packet::PingResponse),
    }
}

/// DISCONNECT with a reason; MQTT 3.1.1 has none to send.
pub(crate) fn disconnect(
    version: Version,
    reason_code: c5::DisconnectReasonCode,
    reason: &str,
) -> Option<Outgoing> {
    (version == Version::V5).then(|| {
        Outgoing::V5(c5::Packet::Disconnect(c5::Disconnect {
            reason_code,
            session_expiry_interval_secs: None,
            server_reference: None,
            reason_string: Some(clipped(reason, MAX_REASON).into()),
            user_properties: Vec::new(),
        }))
    })
}

/// Longest acknowledgement with its `lsn` property.
pub(crate) const MAX_ACK: u32 = 40;

/// Longest acknowledgement that also tells what was reached.
pub(crate) const MAX_ACK_WITH_OUTCOME: u32 = 60;

/// Longest negative acknowledgement with its reason.
pub(crate) const MAX_REFUSAL: u32 = 80;

/// Longest part of a packet: with its header it still has one byte of length.
const MAX_SHORT: u8 = 0x7f - 7;

/// "Implementation specific error": the request is none of this server's.
const REFUSED: u8 = 0x83;

/// "Quota exceeded".
const QUOTA_EXCEEDED: u8 = 0x97;

const NO_PLACE_BECAUSE: &str = "neither its table nor the dead letters can take it";

const TOO_MANY_BECAUSE: &str = "no table can take it, and too many such have come to be kept";

const REFUSED_BECAUSE: &str = "ack must be durable or replicated:1 to replicated:8, once";

#[cfg(test)]
mod tests {
    use super::*;
    use ntex::codec::Decoder;
    use ntex::util::{ByteString, BytesMut};

    #[test]
    fn acknowledgements_are_what_a_client_decodes() {
        let id = NonZeroU16::new(0x1234).expect("not zero");
        let mut out = Vec::new();
        acknowledge(&mut out, AckKind::Ack, id, None);
        assert_eq!(out, [0x40, 2, 0x12, 0x34]);
        let longest = Lsn(u64::MAX);
        let lsn = ("lsn".into(), String::from("18446744073709551615").into());
        let ack = ("ack".into(), String::from("replicated:8").into());
        for (kept, most, properties) in [
            (None, MAX_ACK, vec![lsn.clone()]),
            (
                Some(Ack::Replicated(8)),
                MAX_ACK_WITH_OUTCOME,
                vec![lsn, ack],
            ),
        ] {
            let mut out = Vec::new();
            let made = Properties::new(longest, kept);
            acknowledge(&mut out, AckKind::Ack, id, Some(&made));
            assert!(out.len() <= most as usize);
            let ack = decode_ack(&out);
            assert_eq!((ack.packet_id, ack.properties), (id, properties));
            assert_eq!(ack.reason_code, c5::PublishAckReason::Success);
        }
    }

    #[test]
    fn a_refusal_is_what_a_client_decodes_with_a_reason_or_without() {
        let id = NonZeroU16::new(0x1234).expect("not zero");
        use c5::PublishAckReason::{ImplementationSpecificError, QuotaExceeded};
        for (why, code, because) in [
            (Refused::Ack, ImplementationSpecificError, REFUSED_BECAUSE),
            (
                Refused::NotKept(Unkept::NoPlace),
                QuotaExceeded,
                NO_PLACE_BECAUSE,
            ),
            (
                Refused::NotKept(Unkept::TooMany),
                QuotaExceeded,
                TOO_MANY_BECAUSE,
            ),
        ] {
            for with_reason in [false, true] {
                let mut out = Vec::new();
                refuse(&mut out, AckKind::Ack, id, (why, with_reason));
                assert!(out.len() <= MAX_REFUSAL as usize);
                let ack = decode_ack(&out);
                assert_eq!((ack.packet_id, ack.reason_code), (id, code));
                let reason = with_reason.then(|| ByteString::from_static(because));
                assert_eq!(ack.reason_string, reason);
            }
        }
    }

    #[test]
    fn properties_are_made_anew_only_when_they_say_something_else() {
        let mut slot = None;
        let first = Properties::cached(&mut slot, Lsn(7), None).bytes.as_ptr();
        let again = Properties::cached(&mut slot, Lsn(7), None).bytes.as_ptr();
        assert_eq!(first, again);
        let with_outcome = Properties::cached(&mut slot, Lsn(7), Some(Ack::Durable));
        assert!(with_outcome.bytes.ends_with(b"\0\x03ack\0\x07durable"));
        let other = Properties::cached(&mut slot, Lsn(8), Some(Ack::Durable));
        assert_eq!(other.lsn, Lsn(8));
    }

    fn decode_ack(bytes: &[u8]) -> c5::PublishAck {
        let decoded = c5::Codec::new().decode(&mut BytesMut::copy_from_slice(bytes));
        let Ok(Some(c5::Decoded::Packet(c5::Packet::PublishAck(ack), _))) = decoded else {
            panic!("{decoded:?}")
        };
        ack
    }
}
