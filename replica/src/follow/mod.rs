//! The secondary's side of a connection: the follow task, its way to an upstream, the logs it holds
//! and what becomes of them. It alone writes them; it must never send a row of its own.

pub(crate) mod bootstrap;
pub(crate) mod dial;
pub(crate) mod ended;
pub(crate) mod error;
pub(crate) mod fill;
pub(crate) mod handle;
pub(crate) mod handshake;
pub(crate) mod inflow;
pub(crate) mod logs;
pub mod reconcile;
pub(crate) mod report;
pub(crate) mod state;
pub(crate) mod store;
pub(crate) mod stream;
pub(crate) mod task;
pub(crate) mod vouching;
