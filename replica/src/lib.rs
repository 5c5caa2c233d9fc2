//! Log shipping over QUIC: both ends of it, the control messages between them and the certificates
//! that let them in. It moves whole blocks, byte for byte, and must never look inside a block's
//! body, re-encode one or know who reads the log (`PROTOCOL.md` is the wire in words).
//!
//! A primary runs an [`Listener`], a secondary a [`FollowTask`] that owns the only writers of its
//! logs, a relay both. [`wire`] is what they say to each other, `serve` the upstream's end,
//! `follow` the secondary's, `files` what goes both ways, [`certs`] who may. Decisions are pure,
//! drivers are thin, and only `quic` names the QUIC library.

#![cfg_attr(not(test), deny(clippy::expect_used, clippy::cast_possible_truncation))]

mod backoff;
mod cert_watch;
pub mod certs;
mod config;
mod error;
mod fault;
mod files;
mod follow;
mod lag;
mod part;
mod quic;
mod serve;
mod status;
#[cfg(test)]
mod tests;
pub mod wire;

pub use certs::{CertificateStatus, Identity};
pub use config::{FollowConfig, ListenConfig};
pub use error::ReplicaError;
pub use follow::handle::FollowTask;
pub use follow::reconcile;
pub use follow::store::{OnOpen, Store};
pub use serve::borrow::{Borrower, Lent};
pub use serve::entries::{ForeignLog, Forgotten};
pub use serve::listener::Listener;
pub use serve::registry::{Registry, Summaries};
pub use serve::source::{Lineage, Source};
pub use status::{
    Descendant, FollowPhase, FollowStatus, Hop, Member, SecondaryState, SecondaryStatus,
};
pub use wire::NodeSummary;
pub use wire::blocks::Compression;
