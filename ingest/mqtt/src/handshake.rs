//! CONNECT and CONNACK: who the client is, what it may do, what it is told. Pure; must never
//! announce more than `connection` and `codec` take.

use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use ntex::util::ByteString;
use ntex_mqtt::QoS;
use ntex_mqtt::v3::codec as c3;
use ntex_mqtt::v5::codec as c5;

use crate::aliases::MAX_ALIASES;
use crate::codec::{Outgoing, Packet};
use crate::config::Config;
use crate::frame::Version;
use crate::session::{Identity, Will};

/// What a first packet leads to.
#[derive(Debug)]
pub(crate) enum Handshake {
    Accept(Identity, Outgoing),
    Refuse(Outgoing, &'static str),
    /// The first packet is no CONNECT.
    Ignore,
}

/// Decides about a first packet. `assigned` is the id for a client that brings none.
pub(crate) fn answer(packet: Packet, config: &Config, full: bool, assigned: String) -> Handshake {
    match packet {
        Packet::ConnectV3(connect) => answer_v3(*connect, config, full, assigned),
        Packet::ConnectV5(connect) => answer_v5(*connect, config, full, assigned),
        _ => Handshake::Ignore,
    }
}

/// What a client gets that there is no memory for.
pub(crate) fn no_memory(version: Version) -> Outgoing {
    match version {
        Version::V3 => Outgoing::V3(c3::Packet::ConnectAck(c3::ConnectAck {
            return_code: c3::ConnectAckReason::ServiceUnavailable,
            session_present: false,
        })),
        Version::V5 => Outgoing::V5(c5::Packet::ConnectAck(Box::new(c5::ConnectAck {
            reason_code: c5::ConnectAckReason::QuotaExceeded,
            reason_string: Some(ByteString::from_static(NO_MEMORY)),
            ..Default::default()
        }))),
    }
}

fn keep_alive(seconds: u16) -> Option<Duration> {
    (seconds > 0).then(|| Duration::from_secs(u64::from(seconds)))
}

fn answer_v3(connect: c3::Connect, config: &Config, full: bool, assigned: String) -> Handshake {
    use c3::ConnectAckReason as Reason;
    let ack = |return_code| {
        Outgoing::V3(c3::Packet::ConnectAck(c3::ConnectAck {
            return_code,
            session_present: false,
        }))
    };
    if full {
        return Handshake::Refuse(ack(Reason::ServiceUnavailable), "too many connections");
    }
    if !config.allow_anonymous && connect.username.is_none() {
        return Handshake::Refuse(ack(Reason::NotAuthorized), "no user name");
    }
    if connect.client_id.is_empty() && !connect.clean_session {
        let refusal = ack(Reason::IdentifierRejected);
        return Handshake::Refuse(refusal, "an empty client id without clean session");
    }
    let identity = Identity {
        client: client_name(&connect.client_id, assigned),
        keep_alive: keep_alive(connect.keep_alive),
        will: connect.last_will.map(|will| {
            Box::new(Will {
                topic: will.topic.to_string(),
                payload: will.message.to_vec(),
            })
        }),
        wants_properties: false,
        max_packet: None,
    };
    Handshake::Accept(identity, ack(Reason::ConnectionAccepted))
}

fn answer_v5(connect: c5::Connect, config: &Config, full: bool, assigned: String) -> Handshake {
    use c5::ConnectAckReason as Reason;
    let refuse = |reason_code, reason: &'static str| {
        let reason_string = Some(ByteString::from_static(reason));
        let ack = c5::ConnectAck {
            reason_code,
            reason_string,
            ..Default::default()
        };
        Handshake::Refuse(Outgoing::V5(c5::Packet::ConnectAck(Box::new(ack))), reason)
    };
    if full {
        return refuse(Reason::QuotaExceeded, "too many connections");
    }
    if connect.auth_method.is_some() {
        return refuse(
            Reason::BadAuthenticationMethod,
            "enhanced authentication is not supported",
        );
    }
    if !config.allow_anonymous && connect.username.is_none() {
        return refuse(Reason::NotAuthorized, "no user name");
    }
    let named = !connect.client_id.is_empty();
    let identity = Identity {
        client: client_name(&connect.client_id, assigned),
        keep_alive: keep_alive(connect.keep_alive),
        will: connect.last_will.map(|will| {
            Box::new(Will {
                topic: will.topic.to_string(),
                payload: will.message.to_vec(),
            })
        }),
        wants_properties: connect.request_problem_info,
        max_packet: connect.max_packet_size.map(std::num::NonZeroU32::get),
    };
    let ack = c5::ConnectAck {
        receive_max: NonZeroU16::new(config.max_inflight).unwrap_or(NonZeroU16::MAX),
        max_qos: QoS::ExactlyOnce,
        max_packet_size: Some(config.max_packet),
        assigned_client_id: (!named).then(|| String::from(&*identity.client).into()),
        topic_alias_max: MAX_ALIASES,
        wildcard_subscription_available: false,
        subscription_identifiers_available: false,
        shared_subscription_available: false,
        // Sessions end with their connection: the server holds nothing between two.
        session_expiry_interval_secs: (connect.session_expiry_interval_secs > 0).then_some(0),
        ..Default::default()
    };
    Handshake::Accept(
        identity,
        Outgoing::V5(c5::Packet::ConnectAck(Box::new(ack))),
    )
}

fn client_name(given: &str, assigned: String) -> Arc<str> {
    if given.is_empty() {
        assigned.into()
    } else {
        given.into()
    }
}

/// Why a client is refused that there is no memory for.
pub(crate) const NO_MEMORY: &str = "there is no memory for another connection";
