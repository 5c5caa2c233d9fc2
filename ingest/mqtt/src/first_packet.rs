//! The first bytes of a connection: a CONNECT of a version that is spoken, or what else they are.
//! Pure; must never wait for more bytes than it takes to tell, nor panic on any.

use crate::frame::Version;

/// What a connection begins with instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unwelcome {
    #[error("a TLS ClientHello came: this port speaks MQTT without TLS")]
    Tls,
    #[error("an HTTP request came: this port speaks MQTT over TCP; HTTP has a port of its own")]
    Http,
    #[error("a PROXY protocol header came: it is not understood; turn it off in the proxy")]
    Proxy,
    #[error("{0} came, and no CONNECT before it")]
    Packet(&'static str),
    #[error("bytes came that are no MQTT")]
    Noise,
    #[error("{} is not spoken: use MQTT 3.1.1 or 5.0", protocol(.name, *.level))]
    Protocol { name: String, level: u8 },
}

fn protocol(name: &str, level: u8) -> String {
    match (name, level) {
        ("MQIsdp", 3) => "MQTT 3.1 (MQIsdp, level 3)".to_owned(),
        _ => format!("protocol {name:?}, level {level},"),
    }
}

/// The version a CONNECT asks for; `None` while too little of it is there.
pub(crate) fn version(src: &[u8]) -> Result<Option<Version>, Unwelcome> {
    let Some((first, rest)) = src.split_first() else {
        return Ok(None);
    };
    if *first != CONNECT {
        return Err(other(*first, src));
    }
    let length_bytes = rest.iter().take_while(|byte| *byte & 0x80 != 0).count() + 1;
    if length_bytes > 4 {
        return Err(Unwelcome::Noise);
    }
    let Some((length, rest)) = rest.get(length_bytes..).and_then(<[u8]>::split_first_chunk) else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes(*length));
    if length > LONGEST_NAME {
        return Err(Unwelcome::Noise);
    }
    let Some((name, [level, ..])) = rest.split_at_checked(length) else {
        return Ok(None);
    };
    match (name, level) {
        (b"MQTT", 4) => Ok(Some(Version::V3)),
        (b"MQTT", 5) => Ok(Some(Version::V5)),
        _ => Err(Unwelcome::Protocol {
            name: String::from_utf8_lossy(name).into_owned(),
            level: *level,
        }),
    }
}

fn other(first: u8, src: &[u8]) -> Unwelcome {
    let begins = |words: &[&[u8]]| words.iter().any(|word| src.starts_with(word));
    if first == TLS_HANDSHAKE {
        Unwelcome::Tls
    } else if begins(HTTP) {
        Unwelcome::Http
    } else if begins(PROXY) {
        Unwelcome::Proxy
    } else {
        let name = PACKETS.get(usize::from(first >> 4)).copied().flatten();
        name.map_or(Unwelcome::Noise, Unwelcome::Packet)
    }
}

/// The answer to a CONNECT of another version: CONNACK, "unacceptable protocol version", as it has
/// been from MQTT 3.1 on.
pub(crate) const UNACCEPTABLE_VERSION: [u8; 4] = [0x20, 2, 0, 1];

const CONNECT: u8 = 0x10;
const TLS_HANDSHAKE: u8 = 0x16;
const HTTP: &[&[u8]] = &[
    b"GET ",
    b"HEAD ",
    b"POST ",
    b"PUT ",
    b"DELETE ",
    b"OPTIONS ",
    b"PATCH ",
    b"CONNECT ",
    b"PRI ",
];
const PROXY: &[&[u8]] = &[b"PROXY ", b"\r\n\r\n\0\r\nQUIT\n"];

/// By the upper half of their first byte.
const PACKETS: [Option<&str>; 16] = [
    None,
    None,
    Some("CONNACK"),
    Some("PUBLISH"),
    Some("PUBACK"),
    Some("PUBREC"),
    Some("PUBREL"),
    Some("PUBCOMP"),
    Some("SUBSCRIBE"),
    Some("SUBACK"),
    Some("UNSUBSCRIBE"),
    Some("UNSUBACK"),
    Some("PINGREQ"),
    Some("PINGRESP"),
    Some("DISCONNECT"),
    Some("AUTH"),
];

/// Longer than the name of any protocol that begins like this.
const LONGEST_NAME: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn told(src: &[u8]) -> String {
        version(src).expect_err("unwelcome").to_string()
    }

    #[test]
    fn a_connect_is_known_as_soon_as_its_level_is_there() {
        let v3 = b"\x10\x0d\x00\x04MQTT\x04\x02";
        let long = b"\x10\x80\x80\x01\x00\x04MQTT\x05\x02";
        let old = b"\x10\x0f\x00\x06MQIsdp\x03\x02";
        for at in 0..9 {
            assert_eq!(version(&v3[..at.min(8)]), Ok(None), "{at}");
            assert_eq!(version(&long[..at]), Ok(None), "{at}");
            assert_eq!(version(&old[..at]), Ok(None), "{at}");
        }
        assert_eq!(version(v3), Ok(Some(Version::V3)));
        assert_eq!(version(long), Ok(Some(Version::V5)));
        assert_eq!(
            told(old),
            "MQTT 3.1 (MQIsdp, level 3) is not spoken: use MQTT 3.1.1 or 5.0"
        );
        for (name, level) in [("MQTT", 3), ("MQTT", 6), ("MQTT", 0x84), ("MQXX", 4)] {
            let packet = [b"\x10\x10\x00\x04", name.as_bytes(), &[level, 2]].concat();
            let name = name.to_owned();
            assert_eq!(version(&packet), Err(Unwelcome::Protocol { name, level }));
        }
    }

    #[test]
    fn what_else_comes_is_called_what_it_is() {
        assert!(told(b"\x16\x03\x01\x02\x00").contains("TLS"));
        assert!(told(b"GET /mqtt HTTP/1.1\r\n").contains("HTTP"));
        assert!(told(b"PROXY TCP4 ").contains("PROXY"));
        assert!(told(b"\x30\x05\x00\x01a").starts_with("PUBLISH"));
        assert!(told(b"\xc0\x00").starts_with("PINGREQ"));
        assert_eq!(told(b"\x00\x01"), "bytes came that are no MQTT");
        assert_eq!(told(b"\x10\xff\xff\xff\xff"), "bytes came that are no MQTT");
        assert_eq!(told(b"\x10\x20\xff\xff"), "bytes came that are no MQTT");
    }

    #[test]
    fn random_bytes_are_something() {
        let seed = fastrand::u64(..);
        println!("seed={seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..20_000 {
            let mut bytes: Vec<u8> = (0..random.usize(..40)).map(|_| random.u8(..)).collect();
            if let Some(first) = bytes.first_mut().filter(|_| random.bool()) {
                *first = CONNECT;
            }
            let _ = version(&bytes);
        }
    }
}
