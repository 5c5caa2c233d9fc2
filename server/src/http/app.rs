//! What all handlers share. Must never be changed once the server listens.

use std::sync::Arc;

use query::Engine;

use super::failures::Failures;
use super::node::HttpNode;
use super::verifier::Verifier;
use super::write_memory::WriteMemory;

pub(crate) struct App {
    pub(crate) node: Arc<dyn HttpNode>,
    pub(crate) engine: Engine,
    pub(crate) verifier: Verifier,
    pub(crate) memory: WriteMemory,
    pub(crate) failures: Arc<Failures>,
}
