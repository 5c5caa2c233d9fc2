//! What all handlers share. Must never be changed once the server listens.

use std::sync::Arc;

use query::Engine;

use super::door::Seats;
use super::failures::Failures;
use super::hidden::Hidden;
use super::node::HttpNode;
use super::site::Sites;
use super::told::Told;
use super::verifier::Verifier;
use super::write_memory::WriteMemory;

pub(crate) struct App {
    pub(crate) node: Arc<dyn HttpNode>,
    pub(crate) engine: Engine,
    pub(crate) verifier: Verifier,
    pub(crate) memory: WriteMemory,
    pub(crate) failures: Arc<Failures>,
    pub(crate) seats: Seats,
    pub(crate) sites: Sites,
    pub(crate) hidden: Hidden,
    pub(crate) metrics: Told,
    pub(crate) status: Told,
}
