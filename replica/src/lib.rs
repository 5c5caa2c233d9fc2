//! Log shipping over QUIC: both ends of it, the control messages between them and the certificates
//! that let them in. It moves whole blocks, byte for byte, and must never look inside a block's
//! body, re-encode one or know who reads the log (`PROTOCOL.md` is the wire in words).
//!
//! A primary runs an [`Listener`], a secondary a [`FollowTask`] that owns the only writers of its
//! logs, a relay both. Decisions are pure (`handshake`, `compare`, `mend`, `assemble`, `pack`,
//! `book`, `lag`, `backoff`), drivers are thin (`greet` and `shipper` on the upstream's side; `pursuit`, `agree`,
//! `follow`, `heal` and `join` on the secondary's; `fetch` and `repair` on both), and only `quic`
//! names the QUIC library.

mod agree;
pub mod assemble;
mod backoff;
mod board;
mod book;
mod bootstrap;
pub mod certs;
mod clock;
#[cfg(test)]
mod cluster;
pub mod codec;
pub mod compare;
mod config;
mod crl;
mod downstream;
mod error;
mod fetch;
mod files;
mod follow;
mod greet;
pub mod handshake;
mod heal;
mod holds;
mod identity;
mod join;
mod lag;
mod limit;
#[cfg(test)]
mod loopback;
pub mod mend;
pub mod pack;
mod peers;
mod pursuit;
mod quic;
mod quiet;
mod refusal;
mod registry;
mod repair;
mod revoke;
mod revoked;
mod shipper;
mod source;
mod status;
mod store;
mod upstream;
mod upstreams;

pub use codec::NodeSummary;
pub use config::{FollowConfig, ListenConfig};
pub use downstream::FollowTask;
pub use error::ReplicaError;
pub use identity::Identity;
pub use pack::Compression;
pub use registry::{Forgotten, Member, Registry, Summaries};
pub use source::{Hop, Lineage, Source};
pub use status::{FollowStatus, SecondaryStatus};
pub use store::{OnOpen, Store};
pub use upstream::Listener;
