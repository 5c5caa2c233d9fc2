//! What goes over a connection, as bytes and as decisions about them: control messages and their
//! encoding, the frames of a block stream, the plan of a handshake, the search for a common point.
//! Pure: it must never do I/O, wait or read a clock.

// Bytes of a peer are read here: nothing may panic over them, nor lose a digit.
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::expect_used,
        clippy::cast_possible_truncation
    )
)]

pub mod assembler;
pub mod blocks;
pub mod codec;
pub mod common_point;
pub mod message;
mod pieces;
pub mod plan;
pub mod refusal;
pub mod statement;
pub mod unpack;
pub mod version;

pub use codec::{ALPN, CodecError, FrameReader, LENGTH_LEN, MAX_FETCH_LEN, MAX_MESSAGE_LEN};
pub use message::{
    CaughtUp, Common, CutOff, Descendants, Disk, End, Fetch, FetchFrom, File, Heartbeat, Hello,
    Message, NodeSummary, Point, PrimaryHttp, Probe, Refuse, Report, Route, Welcome, WireHop,
    WirePlan,
};
pub use statement::{NodeCertificate, Statement, Statements};
pub use version::{PROTOCOL_MAX, PROTOCOL_MIN, Versions};
