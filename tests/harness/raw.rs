//! MQTT by the byte over a socket: for packets no client library would send. Must never mend
//! what a test wrote.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// A raw connection.
#[derive(Debug)]
pub struct Raw {
    stream: TcpStream,
}

impl Raw {
    /// Connects without saying anything.
    pub fn open(mqtt: &str) -> Self {
        let stream = TcpStream::connect(mqtt).expect("connects");
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .expect("sets");
        Self { stream }
    }

    /// Connects as `client` in 3.1.1.
    pub fn v3(mqtt: &str, client: &str) -> Self {
        let mut raw = Self::open(mqtt);
        raw.send(&connect(4, client, &[]));
        assert_eq!(raw.packet().expect("CONNACK"), [0x20, 2, 0, 0]);
        raw
    }

    /// Connects as `client` in 5.0; also returns CONNACK.
    pub fn v5(mqtt: &str, client: &str) -> (Self, Vec<u8>) {
        let mut raw = Self::open(mqtt);
        raw.send(&connect(5, client, &[0]));
        let ack = raw.packet().expect("CONNACK");
        assert_eq!((ack[0], ack[3]), (0x20, 0), "{ack:?}");
        (raw, ack)
    }

    /// Sends bytes; a peer that has gone is no error here.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// The next packet; `None` when the peer closes.
    pub fn packet(&mut self) -> Option<Vec<u8>> {
        let mut packet = vec![0; 2];
        self.stream.read_exact(&mut packet).ok()?;
        let mut length = usize::from(packet[1] & 0x7f);
        let mut shift = 7;
        while packet.last().is_some_and(|byte| byte & 0x80 != 0) {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).ok()?;
            packet.push(byte[0]);
            length |= usize::from(byte[0] & 0x7f) << shift;
            shift += 7;
        }
        let head = packet.len();
        packet.resize(head + length, 0);
        self.stream.read_exact(&mut packet[head..]).ok()?;
        Some(packet)
    }
}

/// CONNECT with clean session and 60 s keep-alive.
pub fn connect(level: u8, client: &str, properties: &[u8]) -> Vec<u8> {
    let mut body = b"\x00\x04MQTT".to_vec();
    body.extend_from_slice(&[level, 2, 0, 60]);
    body.extend_from_slice(properties);
    text(&mut body, client);
    packet(0x10, &body)
}

/// PUBLISH of QoS 1, 3.1.1; `properties` is `&[0]` for 5.0.
pub fn publish(id: u16, topic: &str, properties: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    text(&mut body, topic);
    body.extend_from_slice(&[(id >> 8) as u8, id as u8]);
    body.extend_from_slice(properties);
    body.extend_from_slice(payload);
    packet(0x32, &body)
}

/// A packet with its remaining length.
pub fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    let mut rest = body.len();
    loop {
        let byte = (rest & 0x7f) as u8;
        rest >>= 7;
        out.push(if rest > 0 { byte | 0x80 } else { byte });
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(body);
    out
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&[(text.len() >> 8) as u8, text.len() as u8]);
    out.extend_from_slice(text.as_bytes());
}
