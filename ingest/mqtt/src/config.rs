//! What the listener can be told. Values are checked by whoever reads the conf file.

use std::net::SocketAddr;

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
        }
    }
}
