//! What comes in becomes rows, and rows that come without a session become durable.
//!
//! ```text
//! payload -> text -> json | csv | line -> rows   (MQTT takes it from here by itself)
//! rows -> wal::Appender -> committer -> `Written`, once they are on disk
//! ```
//!
//! Knows no protocol: neither MQTT nor HTTP. It must never call rows written that are not durable.

// What is read here was written by strangers: no byte of it may end a thread.
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::expect_used,
        clippy::cast_possible_truncation
    )
)]

mod append;
mod csv;
mod decoded;
mod error;
mod json;
mod line;
mod number;
mod payload;
mod place;
mod record;
mod service;
mod sniff;
mod stats;
mod timestamp;
mod unpack;
mod warn;
mod write;
mod zone;

pub use decoded::Decoded;
pub use error::{IntakeError, PayloadError};
pub use payload::{Reading, decode};
pub use place::place_of;
pub use service::Intake;
pub use stats::IntakeStats;
pub use timestamp::Unit;
pub use unpack::text_of;
pub use warn::warn_of_odd_time;
pub use write::{Encoding, Fault, Format, Target, Write, Written};
pub use zone::Zone;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod work;
