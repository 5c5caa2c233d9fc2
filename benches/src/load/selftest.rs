//! The generator against a server of a few lines that decides what to acknowledge: a generator
//! that miscounts, or does not notice a wrong acknowledgement, would make every number here
//! worthless. Must never need a node.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::load::conn::Peers;
use crate::load::generator::{Extent, Options, run};
use crate::load::packet::{PAYLOAD, Version};

/// What the server does with the packet ids of one read.
type Acknowledge = fn(&mut Vec<u16>);

/// Serves every connection on a thread of its own; the address and the messages seen.
fn serve(version: Version, acknowledge: Acknowledge) -> (SocketAddr, Arc<AtomicU64>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&seen);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, counter) = (stream.unwrap(), Arc::clone(&counter));
            thread::spawn(move || answer(&mut stream, version, acknowledge, &counter));
        }
    });
    (address, seen)
}

/// The server's whole protocol. Ends with the connection.
fn answer(stream: &mut TcpStream, version: Version, acknowledge: Acknowledge, seen: &AtomicU64) {
    let mut buffer = [0; 4096];
    let mut pending: Vec<u8> = Vec::new();
    let mut connected = false;
    while let Ok(len @ 1..) = stream.read(&mut buffer) {
        pending.extend_from_slice(&buffer[..len]);
        let mut ids = Vec::new();
        // All packets of these tests are shorter than 16 KiB.
        while pending.len() > 2 {
            let (len, header) = match (pending[1], pending[2]) {
                (low @ 0..0x80, _) => (usize::from(low), 2),
                (low, high) => (usize::from(low & 0x7F) | (usize::from(high) << 7), 3),
            };
            if pending.len() < header + len {
                break;
            }
            let packet: Vec<u8> = pending.drain(..header + len).collect();
            let body = &packet[header..];
            if connected {
                assert_eq!(packet[0], 0x32, "only PUBLISH follows CONNECT");
                let topic = usize::from(u16::from_be_bytes([body[0], body[1]]));
                ids.push(u16::from_be_bytes([body[2 + topic], body[3 + topic]]));
                let payload = &body[body.len() - PAYLOAD.len()..];
                assert!(serde_json::from_slice::<serde_json::Value>(payload).is_ok());
                seen.fetch_add(1, Ordering::Relaxed);
            } else {
                connected = true;
                let connack: &[u8] = match version {
                    Version::V3 => &[0x20, 2, 0, 0],
                    Version::V5 => &[0x20, 6, 0, 0, 3, 0x21, 0, 64],
                };
                stream.write_all(connack).unwrap();
            }
        }
        acknowledge(&mut ids);
        let mut pubacks = Vec::new();
        for id in ids {
            let [high, low] = id.to_be_bytes();
            match version {
                Version::V3 => pubacks.extend_from_slice(&[0x40, 2, high, low]),
                Version::V5 => pubacks.extend_from_slice(&[0x40, 4, high, low, 0, 0]),
            }
        }
        if stream.write_all(&pubacks).is_err() {
            return;
        }
    }
}

fn options(server: SocketAddr, version: Version, extent: Extent) -> Options {
    Options {
        peers: Peers {
            server,
            version,
            rows: 1,
            window: 7,
            connections: 3,
            table: "bench".to_owned(),
            sites: 2,
        },
        threads: 2,
        extent,
        rate: None,
        sample_every: 10,
        server_pid: None,
    }
}

#[test]
fn every_message_is_sent_once_and_counted_once() {
    for version in [Version::V3, Version::V5] {
        let (address, seen) = serve(version, |_| {});
        let report = run(&options(address, version, Extent::Messages(10_001))).unwrap();
        assert_eq!((report.messages, report.all_messages), (10_001, 10_001));
        assert_eq!(seen.load(Ordering::Relaxed), 10_001);
        assert!(report.latency.count > 100 && report.latency.max > 0.0);
    }
}

#[test]
fn a_paced_run_keeps_its_rate() {
    let (address, seen) = serve(Version::V3, |_| {});
    let extent = Extent::Time {
        warmup: Duration::from_millis(200),
        measured: Duration::from_millis(500),
    };
    let mut options = options(address, Version::V3, extent);
    options.rate = Some(2000.0);
    let report = run(&options).unwrap();
    assert!(
        (1000.0..3000.0).contains(&report.rate()),
        "{} messages/s",
        report.rate()
    );
    assert_eq!(report.all_messages, seen.load(Ordering::Relaxed));
}

#[test]
fn acknowledgements_out_of_order_are_noticed() {
    let (address, _) = serve(Version::V3, |ids| ids.reverse());
    let result = run(&options(address, Version::V3, Extent::Messages(10_000)));
    assert!(
        result
            .unwrap_err()
            .to_string()
            .contains("acknowledged message")
    );
}

#[test]
fn acknowledgements_twice_are_noticed() {
    let (address, _) = serve(Version::V3, |ids| {
        *ids = ids.iter().flat_map(|id| [*id; 2]).collect()
    });
    assert!(run(&options(address, Version::V3, Extent::Messages(10_000))).is_err());
}

#[test]
fn a_window_beyond_the_servers_limit_is_refused() {
    let (address, _) = serve(Version::V5, |_| {});
    let mut options = options(address, Version::V5, Extent::Messages(10));
    options.peers.window = 65;
    assert!(
        run(&options)
            .unwrap_err()
            .to_string()
            .contains("64 messages in flight")
    );
}
