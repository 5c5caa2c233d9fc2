//! Devices as real MQTT clients (rumqttc): each message has a number, and the numbers whose PUBACK
//! arrived are what must never be lost. Or one device, message by message.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rumqttc::{Client, Connection, Event, MqttOptions, Outgoing, Packet, QoS};

use crate::raw::{Raw, publish};

/// Clients that publish until told to stop or until their connection breaks.
#[derive(Debug)]
pub struct Fleet {
    clients: Vec<JoinHandle<Vec<i64>>>,
    acknowledged: Arc<AtomicU64>,
    limit: Arc<AtomicI64>,
}

impl Fleet {
    /// Starts `count` clients that take their numbers from `numbers`, up to `limit`, and publish
    /// `{"n": number, "pad": ...}` to `table/<client>`.
    pub fn start(
        mqtt: &str,
        table: &str,
        count: usize,
        numbers: &Arc<AtomicI64>,
        limit: i64,
        pad: usize,
    ) -> Self {
        let address: SocketAddr = mqtt.parse().expect("an address");
        let acknowledged = Arc::new(AtomicU64::new(0));
        let limit = Arc::new(AtomicI64::new(limit));
        let clients = (0..count)
            .map(|client| {
                let topic = format!("{table}/{client}");
                let run = Run {
                    topic,
                    pad: "x".repeat(pad),
                    numbers: Arc::clone(numbers),
                    limit: Arc::clone(&limit),
                    acknowledged: Arc::clone(&acknowledged),
                };
                let id = format!("{table}-{client}-{}", fastrand::u32(..));
                std::thread::spawn(move || run.publish(&id, address))
            })
            .collect();
        Self {
            clients,
            acknowledged,
            limit,
        }
    }

    /// Acknowledgements so far.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits until the clients have had `count` acknowledgements.
    pub fn wait_for(&self, count: u64) {
        crate::eventually("acknowledgements", || {
            let seen = self.acknowledged();
            if seen >= count { Ok(()) } else { Err(seen) }
        });
    }

    /// Lets the clients finish what is in flight; returns the acknowledged numbers.
    pub fn finish(self) -> Vec<i64> {
        self.limit.store(0, Ordering::Relaxed);
        self.join()
    }

    /// Waits for clients that end by themselves; returns the acknowledged numbers.
    pub fn join(self) -> Vec<i64> {
        self.clients
            .into_iter()
            .flat_map(|client| client.join().expect("a client"))
            .collect()
    }
}

/// One device that waits for each acknowledgement before it sends the next message.
#[derive(Debug)]
pub struct Device {
    raw: Raw,
    id: u16,
}

impl Device {
    /// Connects as `client`.
    pub fn connect(mqtt: &str, client: &str) -> Self {
        Self {
            raw: Raw::v3(mqtt, client),
            id: 0,
        }
    }

    /// Publishes one message and takes its acknowledgement.
    ///
    /// # Panics
    /// When there is none.
    pub fn send(&mut self, topic: &str, payload: &str) {
        self.id = self.id % u16::MAX + 1;
        self.raw
            .send(&publish(self.id, topic, &[], payload.as_bytes()));
        let ack = self.raw.packet().expect("a PUBACK");
        let [high, low] = self.id.to_be_bytes();
        assert_eq!(ack, [0x40, 2, high, low], "for {topic}");
    }
}

struct Run {
    topic: String,
    pad: String,
    numbers: Arc<AtomicI64>,
    limit: Arc<AtomicI64>,
    acknowledged: Arc<AtomicU64>,
}

impl Run {
    fn publish(&self, id: &str, address: SocketAddr) -> Vec<i64> {
        let mut options = MqttOptions::new(id, address.ip().to_string(), address.port());
        options
            .set_keep_alive(Duration::from_secs(30))
            .set_inflight(WINDOW);
        options.set_max_packet_size(1 << 20, 1 << 20);
        let (client, mut connection) = Client::new(options, usize::from(WINDOW) * 2);
        self.drive(&client, &mut connection)
    }

    /// Keeps the window full; ends when all is acknowledged or the connection breaks.
    fn drive(&self, client: &Client, connection: &mut Connection) -> Vec<i64> {
        let (mut queued, mut in_flight) = (VecDeque::new(), HashMap::new());
        let mut done = Vec::new();
        let mut more = self.send(client, &mut queued, usize::from(WINDOW));
        if !more && queued.is_empty() {
            return done;
        }
        for event in connection.iter() {
            match event {
                Ok(Event::Outgoing(Outgoing::Publish(id))) => {
                    let number: i64 = queued.pop_front().expect("it was queued");
                    in_flight.insert(id, number);
                }
                Ok(Event::Incoming(Packet::PubAck(ack))) => {
                    done.push(in_flight.remove(&ack.pkid).expect("it was in flight"));
                    self.acknowledged.fetch_add(1, Ordering::Relaxed);
                    more = more && self.send(client, &mut queued, 1);
                    if !more && queued.is_empty() && in_flight.is_empty() {
                        let _ = client.disconnect();
                        return done;
                    }
                }
                Ok(_) => {}
                Err(_) => return done,
            }
        }
        done
    }

    fn send(&self, client: &Client, queued: &mut VecDeque<i64>, count: usize) -> bool {
        for _ in 0..count {
            let number = self.numbers.fetch_add(1, Ordering::Relaxed);
            if number >= self.limit.load(Ordering::Relaxed) {
                return false;
            }
            let payload = format!(r#"{{"n":{number},"pad":"{}"}}"#, self.pad);
            if client
                .try_publish(&self.topic, QoS::AtLeastOnce, false, payload)
                .is_err()
            {
                return false;
            }
            queued.push_back(number);
        }
        true
    }
}

/// Messages each client has in flight.
const WINDOW: u16 = 64;
