//! Freshness that a request demands. Owns the waiting for a position and the comparison of the
//! lag; must never wait longer than it is told.

use std::time::Duration;

use crate::error::QueryError;
use crate::node::Node;

/// Waits until the node's log includes everything below `min_lsn`.
pub(crate) async fn await_lsn(
    node: &dyn Node,
    min_lsn: u64,
    limit: Duration,
) -> Result<(), QueryError> {
    let log = node.log().ok_or_else(|| {
        QueryError::NotReady("this node has no data yet: it never reached its primary".to_owned())
    })?;
    let mut durable = log.durable();
    let reached = durable.wait_for(|position| position.lsn.0 >= min_lsn);
    // The guard that `wait_for` gives must not outlive this expression.
    let waited = tokio::time::timeout(limit, reached)
        .await
        .map(|result| result.is_ok());
    match waited {
        Ok(true) => Ok(()),
        Ok(false) => Err(QueryError::NotReady(
            "the log of this node is closed".to_owned(),
        )),
        Err(_) => Err(QueryError::Lagging(format!(
            "this node is at LSN {} and did not reach {min_lsn} within {} ms",
            log.snapshot().position().lsn,
            limit.as_millis()
        ))),
    }
}

/// Refuses when the node lags more than `max_lag_ms`, or does not know.
pub(crate) fn check_lag(node: &dyn Node, max_lag_ms: u64) -> Result<(), QueryError> {
    match node.lag_ms() {
        Some(lag_ms) if lag_ms <= max_lag_ms => Ok(()),
        Some(lag_ms) => Err(QueryError::Lagging(format!(
            "this node lags {lag_ms} ms, more than the {max_lag_ms} ms asked for"
        ))),
        None => Err(QueryError::Lagging(
            "this node does not know its lag yet".to_owned(),
        )),
    }
}

/// Longest wait for a position.
pub(crate) const MAX_WAIT: Duration = Duration::from_secs(5);
