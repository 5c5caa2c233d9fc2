//! What one query sees: a snapshot, and the node and the running queries as they are meanwhile.
//! Must never be given another snapshot half-way.

use std::fmt;
use std::sync::Arc;

use wal::Snapshot;

use crate::node::Node;
use crate::running::Running;
use crate::stats::Counters;

/// What one query sees.
#[derive(Clone)]
pub(crate) struct View {
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) node: Arc<dyn Node>,
    pub(crate) running: Running,
    /// Of all queries.
    pub(crate) counters: Arc<Counters>,
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lsn = self.snapshot.end().lsn;
        f.debug_struct("View")
            .field("lsn", &lsn)
            .finish_non_exhaustive()
    }
}
