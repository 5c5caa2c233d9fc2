//! What HTTP asks of the node that it answers for. Owns the trait only; must never hold state.

use std::sync::Arc;

use intake::Intake;
use query::{Node, QueryStats};

/// The node as HTTP sees it, beyond what SQL asks of it. Every method is cheap and never blocks.
pub(crate) trait HttpNode: Node {
    /// `"primary"` or `"secondary"`.
    fn role(&self) -> &'static str;
    /// The most that the lag can be at this moment: the time since the primary was last heard
    /// counts in full.
    fn lag_bound_ms(&self) -> Option<u64> {
        self.lag_ms()
    }
    /// Where a secondary does not follow the primary now: the state it is in, and why.
    fn straying(&self) -> Option<(String, Option<String>)> {
        None
    }
    /// The URL where writes are taken, if it is known, for the answer that refuses one on a
    /// secondary.
    fn primary_address(&self) -> Option<String>;
    /// Where rows are taken; `None` on a node that takes none.
    fn intake(&self) -> Option<Arc<Intake>> {
        None
    }
    /// Why the node cannot serve, or `None` when it can.
    fn not_ready(&self) -> Option<String>;
    /// Body of `/api/v1/status`; `queries` is what its engine has counted.
    fn status(&self, queries: &QueryStats) -> serde_json::Value;
    /// Body of `/metrics`, in Prometheus text format; `queries` likewise.
    fn metrics(&self, queries: &QueryStats) -> String;
    /// Lets the cut of a table be made, which waits; false: none does; `None` where rows are not
    /// expired.
    fn approve_cut(&self, _table: &str) -> Option<bool> {
        None
    }
    /// Strikes a secondary, called by its name or its id, off the list of those seen here; `None`
    /// where the node keeps no such list.
    fn forget(&self, name_or_id: &str) -> Option<replica::Forgotten>;
}
