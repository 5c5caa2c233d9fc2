//! Who a node is, as it is told everywhere. Must never change while the node runs.

use std::time::Instant;

/// Who a node is.
#[derive(Clone, Debug)]
pub(crate) struct Who {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) started: Instant,
}

impl Who {
    /// As replication calls it.
    pub(crate) fn hop(&self) -> replica::Hop {
        replica::Hop {
            id: self.id.clone(),
            name: self.name.clone(),
        }
    }
}

pub(crate) const PRIMARY: &str = "primary";
pub(crate) const SECONDARY: &str = "secondary";
