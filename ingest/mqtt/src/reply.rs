//! Bytes and packets that go back to a client. Pure.

use std::num::NonZeroU16;

use ntex_mqtt::v3::codec as c3;
use ntex_mqtt::v5::codec as c5;
use wal::Lsn;

use crate::codec::Outgoing;
use crate::frame::Version;
use crate::session::AckKind;

/// The MQTT 5 properties of one group's acknowledgements: made once per group and worker.
#[derive(Debug)]
pub(crate) struct LsnProperty(Vec<u8>);

impl LsnProperty {
    pub(crate) fn new(lsn: Lsn) -> Self {
        let value = lsn.0.to_string();
        // Reason code 0, then: property length, user property, "lsn", value.
        let mut bytes = vec![0, 0, 0x26, 0, 3];
        bytes.extend_from_slice(b"lsn");
        bytes.push(0);
        bytes.push(value.len().to_le_bytes()[0]);
        bytes.extend_from_slice(value.as_bytes());
        bytes[1] = (bytes.len() - 2).to_le_bytes()[0];
        Self(bytes)
    }
}

/// Appends PUBACK or PUBREC.
pub(crate) fn acknowledge(
    out: &mut Vec<u8>,
    kind: AckKind,
    id: NonZeroU16,
    lsn: Option<&LsnProperty>,
) {
    let first = match kind {
        AckKind::Ack => 0x40,
        AckKind::Received => 0x50,
    };
    let properties = lsn.map_or(&[][..], |lsn| &lsn.0);
    let [high, low] = [(id.get() >> 8).to_le_bytes()[0], id.get().to_le_bytes()[0]];
    out.extend_from_slice(&[first, (2 + properties.len()).to_le_bytes()[0], high, low]);
    out.extend_from_slice(properties);
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
            reason_string: Some(String::from(reason).into()),
            user_properties: Vec::new(),
        }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ntex::codec::Decoder;
    use ntex::util::BytesMut;

    #[test]
    fn acknowledgements_are_what_a_client_decodes() {
        let id = NonZeroU16::new(0x1234).expect("not zero");
        let mut out = Vec::new();
        acknowledge(&mut out, AckKind::Ack, id, None);
        assert_eq!(out, [0x40, 2, 0x12, 0x34]);
        let mut out = Vec::new();
        acknowledge(
            &mut out,
            AckKind::Ack,
            id,
            Some(&LsnProperty::new(Lsn(u64::MAX))),
        );
        assert!(out.len() <= 40);
        let decoded = c5::Codec::new().decode(&mut BytesMut::copy_from_slice(&out));
        let Ok(Some(c5::Decoded::Packet(c5::Packet::PublishAck(ack), _))) = decoded else {
            panic!("{decoded:?}")
        };
        assert_eq!(ack.packet_id, id);
        assert_eq!(
            ack.properties,
            [("lsn".into(), String::from("18446744073709551615").into())]
        );
    }
}
