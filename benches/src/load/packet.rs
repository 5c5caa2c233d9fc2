//! The few MQTT packets a publisher needs, as bytes: CONNECT, CONNACK, PUBLISH, PUBACK.
//!
//! Both 3.1.1 and 5. The generator patches what it builds here; this must never own a socket or
//! a state.

use std::io::Read;

use crate::error::{BenchError, Context};

/// The protocol a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// MQTT 3.1.1.
    V3,
    /// MQTT 5.0.
    V5,
}

/// A CONNECT with a clean session and no credentials.
pub fn connect(version: Version, client_id: &str) -> Vec<u8> {
    let mut body = Vec::with_capacity(16 + client_id.len());
    push_str(&mut body, "MQTT");
    body.push(if version == Version::V3 { 4 } else { 5 });
    body.push(0x02);
    body.extend_from_slice(&KEEP_ALIVE_SECONDS.to_be_bytes());
    if version == Version::V5 {
        body.push(0);
    }
    push_str(&mut body, client_id);
    let mut packet = vec![0x10];
    push_len(&mut packet, body.len());
    packet.extend_from_slice(&body);
    packet
}

/// A QoS 1 PUBLISH of one or more times `PAYLOAD`, and where in it the packet id and the changing
/// digits are.
#[derive(Clone, Debug)]
pub struct Publish {
    /// The whole packet, with packet id 0.
    pub bytes: Vec<u8>,
    /// Offset of the two bytes of the packet id.
    pub id_at: usize,
    /// Offset of four ASCII digits that may be overwritten with any other four.
    pub digits_at: usize,
}

impl Publish {
    /// The packet for one topic, with `rows` readings; the digits are those of the first.
    pub fn new(version: Version, topic: &str, rows: u16) -> Self {
        let payload = payload(rows);
        let mut body = Vec::with_capacity(8 + topic.len() + payload.len());
        push_str(&mut body, topic);
        let id_in_body = body.len();
        body.extend_from_slice(&[0, 0]);
        if version == Version::V5 {
            body.push(0);
        }
        let digits_in_body = body.len() + payload.find(DIGITS).unwrap_or(0);
        body.extend_from_slice(payload.as_bytes());
        let mut bytes = vec![PUBLISH_QOS1];
        push_len(&mut bytes, body.len());
        let header = bytes.len();
        bytes.extend_from_slice(&body);
        Self {
            bytes,
            id_at: header + id_in_body,
            digits_at: header + digits_in_body,
        }
    }
}

/// The packet id after this one: they run from 1 to 65535 and around.
pub fn following(id: u16) -> u16 {
    if id == u16::MAX { 1 } else { id + 1 }
}

/// One reading as an object, several as an array of them.
fn payload(rows: u16) -> String {
    match rows {
        0 | 1 => PAYLOAD.to_owned(),
        rows => format!("[{}]", vec![PAYLOAD; usize::from(rows)].join(",")),
    }
}

/// Reads the server's answer to CONNECT: how many messages it takes in flight.
///
/// # Errors
/// When the connection ends, the answer is no CONNACK, or it is a refusal.
pub fn read_connack(version: Version, stream: &mut impl Read) -> Result<u16, BenchError> {
    let mut first = [0; 1];
    stream.read_exact(&mut first).context("read the CONNACK")?;
    let body = read_body(stream)?;
    if first[0] != CONNACK {
        return Err(BenchError::Protocol(format!(
            "answered CONNECT with {:#04x}",
            first[0]
        )));
    }
    match (version, &body[..]) {
        (_, [_, reason @ 1..=255, ..]) => Err(BenchError::Protocol(format!(
            "refused the connection with reason {reason:#04x}"
        ))),
        (Version::V3, [_, 0]) => Ok(u16::MAX),
        (Version::V5, [_, 0, rest @ ..]) => receive_maximum(rest)
            .ok_or_else(|| BenchError::Protocol("sent a CONNACK that does not parse".to_owned())),
        _ => Err(BenchError::Protocol(
            "sent a CONNACK that does not parse".to_owned(),
        )),
    }
}

/// The next acknowledgement in `bytes`: its packet id and its length. `None` when it is incomplete.
///
/// # Errors
/// When the packet is no PUBACK, or is a negative one.
pub fn next_ack(bytes: &[u8]) -> Result<Option<(u16, usize)>, BenchError> {
    if let [PUBACK, 2, high, low, ..] = *bytes {
        return Ok(Some((u16::from_be_bytes([high, low]), 4)));
    }
    let Some((&first, rest)) = bytes.split_first() else {
        return Ok(None);
    };
    let Some((len, len_bytes)) = parse_len(rest)? else {
        return Ok(None);
    };
    let Some(body) = rest.get(len_bytes..len_bytes + len) else {
        return Ok(None);
    };
    match (first, body) {
        (PUBACK, [_, _, reason @ 0x80..=255, ..]) => Err(BenchError::Protocol(format!(
            "refused a message with reason {reason:#04x}"
        ))),
        (PUBACK, [high, low, ..]) => Ok(Some((
            u16::from_be_bytes([*high, *low]),
            1 + len_bytes + len,
        ))),
        (DISCONNECT, [reason, ..]) => Err(BenchError::Protocol(format!(
            "disconnected with reason {reason:#04x}"
        ))),
        _ => Err(BenchError::Protocol(format!(
            "sent an unexpected packet {first:#04x}"
        ))),
    }
}

/// Receive Maximum among the properties of a CONNACK; `None` when they do not parse.
fn receive_maximum(bytes: &[u8]) -> Option<u16> {
    let (len, len_bytes) = parse_len(bytes).ok()??;
    let mut properties = bytes.get(len_bytes..len_bytes + len)?;
    let mut found = u16::MAX;
    while let Some((&id, rest)) = properties.split_first() {
        let len = match id {
            0x24 | 0x25 | 0x28 | 0x29 | 0x2A => 1,
            0x13 | 0x21 | 0x22 => 2,
            0x11 | 0x27 => 4,
            0x12 | 0x15 | 0x16 | 0x1A | 0x1C | 0x1F => string_len(rest)?,
            0x26 => {
                let name = string_len(rest)?;
                name + string_len(rest.get(name..)?)?
            }
            _ => return None,
        };
        let value = rest.get(..len)?;
        if id == 0x21 {
            found = u16::from_be_bytes([value[0], value[1]]);
        }
        properties = &rest[len..];
    }
    Some(found)
}

/// Length of a string property, with its two length bytes.
fn string_len(bytes: &[u8]) -> Option<usize> {
    match bytes {
        [high, low, ..] => Some(2 + usize::from(u16::from_be_bytes([*high, *low]))),
        _ => None,
    }
}

fn read_body(stream: &mut impl Read) -> Result<Vec<u8>, BenchError> {
    let mut len_bytes = Vec::with_capacity(4);
    let len = loop {
        let mut byte = [0; 1];
        stream.read_exact(&mut byte).context("read the CONNACK")?;
        len_bytes.push(byte[0]);
        if let Some((len, _)) = parse_len(&len_bytes)? {
            break len;
        }
    };
    if len > MAX_REPLY_LEN {
        return Err(BenchError::Protocol(format!(
            "announced a CONNACK of {len} bytes"
        )));
    }
    let mut body = vec![0; len];
    stream.read_exact(&mut body).context("read the CONNACK")?;
    Ok(body)
}

/// A Remaining Length and the bytes it takes; `None` when it is incomplete.
fn parse_len(bytes: &[u8]) -> Result<Option<(usize, usize)>, BenchError> {
    let mut len = 0;
    for (index, byte) in bytes.iter().take(4).enumerate() {
        len |= usize::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(Some((len, index + 1)));
        }
    }
    if bytes.len() >= 4 {
        return Err(BenchError::Protocol(
            "sent a Remaining Length of five bytes".to_owned(),
        ));
    }
    Ok(None)
}

fn push_len(out: &mut Vec<u8>, mut len: usize) {
    while len >= 0x80 {
        out.push((len & 0x7F) as u8 | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
}

fn push_str(out: &mut Vec<u8>, text: &str) {
    debug_assert!(
        text.len() <= usize::from(u16::MAX),
        "names are made here and short"
    );
    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// One reading of a device: three fields, about 80 bytes. The digits marked by `DIGITS` change.
pub const PAYLOAD: &str =
    r#"{"temperature":21.5342,"relative_humidity":45.2075,"battery_millivolts":3301}"#;

/// Most readings of one message, well below the smallest limit on packets.
pub const MAX_ROWS: u16 = 1000;

/// What of `PAYLOAD` the generator overwrites in every message.
const DIGITS: &str = "5342";

/// Long enough that no server drops a publisher that waits for its turn.
const KEEP_ALIVE_SECONDS: u16 = 600;

/// No CONNACK is longer.
const MAX_REPLY_LEN: usize = 64 * 1024;

const CONNACK: u8 = 0x20;
const PUBLISH_QOS1: u8 = 0x32;
const PUBACK: u8 = 0x40;
const DISCONNECT: u8 = 0xE0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publish_is_one_whole_packet_with_digits_to_patch() {
        for (version, rows) in [
            (Version::V3, 1),
            (Version::V5, 1),
            (Version::V3, 3),
            (Version::V5, MAX_ROWS),
        ] {
            let publish = Publish::new(version, "bench/site-1/device-7", rows);
            let (len, len_bytes) = parse_len(&publish.bytes[1..]).unwrap().unwrap();
            assert_eq!(publish.bytes.len(), 1 + len_bytes + len);
            assert_eq!(&publish.bytes[publish.id_at..publish.id_at + 2], [0, 0]);
            let digits = &publish.bytes[publish.digits_at..publish.digits_at + 4];
            assert_eq!(digits, DIGITS.as_bytes());
            assert!(publish.bytes.ends_with(payload(rows).as_bytes()));
            let value: serde_json::Value = serde_json::from_str(&payload(rows)).unwrap();
            let found = value.as_array().map_or(1, Vec::len);
            assert_eq!(found, usize::from(rows));
        }
    }

    #[test]
    fn acknowledgements_parse_at_every_cut() {
        let bytes = [0x40, 2, 1, 2, 0x40, 3, 1, 3, 0, 0x40, 4, 1, 4, 0x10, 0];
        let whole = [(0x0102, 4), (0x0103, 5), (0x0104, 6)];
        for cut in 0..=bytes.len() {
            let mut at = 0;
            for &(id, len) in &whole {
                let found = next_ack(&bytes[at..cut]).unwrap();
                assert_eq!(
                    found,
                    (at + len <= cut).then_some((id, len)),
                    "cut at {cut}"
                );
                if found.is_none() {
                    break;
                }
                at += len;
            }
        }
    }

    #[test]
    fn packet_ids_never_become_zero() {
        assert_eq!(following(1), 2);
        assert_eq!(following(u16::MAX), 1);
    }

    #[test]
    fn refusals_are_errors() {
        assert!(next_ack(&[0x40, 3, 0, 1, 0x97]).is_err());
        assert!(next_ack(&[0xE0, 1, 0x93]).is_err());
        assert!(next_ack(&[0x40, 0xFF, 0xFF, 0xFF, 0xFF]).is_err());
        assert!(read_connack(Version::V3, &mut &[0x20, 2, 0, 5][..]).is_err());
    }

    #[test]
    fn a_receive_maximum_is_found_among_other_properties() {
        let connack = [
            0x20, 13, 0, 0, 10, 0x12, 0, 2, b'i', b'd', 0x21, 0, 64, 0x2A, 0,
        ];
        assert_eq!(read_connack(Version::V5, &mut &connack[..]).unwrap(), 64);
        assert_eq!(
            read_connack(Version::V3, &mut &[0x20, 2, 0, 0][..]).unwrap(),
            u16::MAX
        );
    }
}
