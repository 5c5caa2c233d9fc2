//! Log shipping over QUIC: both ends of it, the control messages between them and the certificates
//! that let them in. It moves whole blocks, byte for byte, and must never look inside a block's
//! body, re-encode one or know who reads the log (`PROTOCOL.md` is the wire in words).
//!
//! A primary runs an [`Upstream`]; a secondary runs a [`Downstream`] that owns the only writer of
//! its log. Decisions are pure (`handshake`, `assemble`, `lag`, `backoff`), drivers are thin
//! (`shipper`, `follow`, `fetch`, `repair`), and only `quic` names the QUIC library.

pub mod assemble;
mod backoff;
mod board;
pub mod certs;
mod clock;
pub mod codec;
mod config;
mod downstream;
mod error;
mod fetch;
mod files;
mod follow;
pub mod handshake;
mod identity;
mod lag;
#[cfg(test)]
mod loopback;
mod peers;
mod quic;
mod quiet;
mod refusal;
mod registry;
mod repair;
mod shipper;
mod status;
mod upstream;

pub use config::{FollowConfig, ListenConfig};
pub use downstream::{Downstream, OpenLog};
pub use error::ReplicaError;
pub use identity::Identity;
pub use registry::Registry;
pub use status::{FollowStatus, SecondaryStatus};
pub use upstream::Upstream;
