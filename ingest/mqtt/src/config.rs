//! What the listener can be told. Must never check or correct a value: whoever reads the conf file
//! has done that.

use std::net::SocketAddr;

use crate::ack::{Ack, AckRoute, TooFew};
use crate::filter;

/// Settings of one listener.
#[derive(Clone, Debug)]
pub struct Config {
    pub listen: SocketAddr,
    /// Longest packet after CONNECT, in bytes without its fixed header.
    pub max_packet: u32,
    /// Unacknowledged messages per connection; MQTT 5 announces it as Receive Maximum.
    pub max_inflight: u16,
    pub max_connections: usize,
    /// Threads that serve connections.
    pub workers: usize,
    /// Accept connections that name no user.
    pub allow_anonymous: bool,
    /// When a message is acknowledged that no route means.
    pub ack: Ack,
    /// The first one that matches the topic decides.
    pub routes: Vec<AckRoute>,
    pub too_few: TooFew,
    /// How payloads are read.
    pub reading: intake::Reading,
    /// Bytes per second that one client may fill of the dead letters, a minute's worth at once; 0: no
    /// limit. An address has as much as 16 clients.
    pub dead_letter_rate: u64,
    /// The node's: the workers and what runs on them are among them.
    pub tasks: wal::Tasks,
    /// The memory of all connections.
    pub memory: wal::Share,
}

impl Config {
    /// When a message is acknowledged that does not say itself when it wants to be.
    #[must_use]
    pub fn ack_for(&self, topic: &str) -> Ack {
        self.routes
            .iter()
            .find(|route| filter::matches(&route.filter, topic))
            .map_or(self.ack, |route| route.ack)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 1883)),
            max_packet: 1 << 20,
            max_inflight: 1024,
            max_connections: 100_000,
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            allow_anonymous: true,
            ack: Ack::Durable,
            routes: Vec::new(),
            too_few: TooFew::Wait,
            reading: intake::Reading::default(),
            dead_letter_rate: 0,
            tasks: wal::Tasks::default(),
            memory: wal::Share::unlimited("mqtt"),
        }
    }
}
