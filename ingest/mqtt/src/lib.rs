//! The MQTT front of a primary: 3.1.1 and 5.0 on one port, every acknowledgement after the fsync
//! that covers its message.
//!
//! ```text
//! socket -> frame (bounds) -> codec (ntex-mqtt) -> connection -> intake -> wal::Appender
//! committer -> wake once per worker and group -> acknowledgements, one write per connection
//! secondaries' reports -> wake once per worker that holds messages for them -> the same
//! ```
//!
//! The only crate that knows ntex. It must never acknowledge a message before its group is
//! durable and the secondaries it asked for have it, unless it says so; and never let one
//! connection's bytes, errors or panics reach another.

// What is read here was written by strangers: no byte of it may end a thread.
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::expect_used,
        clippy::cast_possible_truncation
    )
)]

mod ack;
mod ack_pass;
mod aliases;
mod allowance;
mod arrival;
mod assembly;
mod clients;
mod clip;
mod codec;
mod config;
mod connection;
mod dead_letter;
mod dead_letters;
mod error;
mod explain;
mod filter;
mod first_packet;
mod frame;
mod handshake;
mod ids;
mod large;
mod listener;
mod liveness;
mod memory;
mod partial;
mod places;
mod queue;
mod receive;
mod refusals;
mod replica_waiters;
mod replica_waits;
mod reply;
mod session;
mod stats;
mod store;
mod told;
mod topic;
mod worker;

pub use ack::{Ack, AckRoute, MAX_REPLICAS, TooFew, UnknownAck};
pub use config::Config;
pub use dead_letters::DeadLetter;
pub use error::{MqttError, Rejection};
pub use explain::{Fate, explain};
pub use filter::{FilterError, check_filter};
pub use frame::{FrameError, Version, frame_len};
pub use listener::{Listener, most_sockets};
pub use stats::Stats;
