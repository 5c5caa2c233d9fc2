//! Freshness that a request demands. Owns the waiting for a position and the comparison of the
//! lag; must never wait longer than it is told.

use std::time::{Duration, Instant};

use query::QueryError;
use wal::Lsn;

use super::door::Seats;
use super::error::ApiError;
use super::node::HttpNode;

/// Waits until the node has a log and that includes everything below `min_lsn`.
pub(crate) async fn await_lsn(
    node: &dyn HttpNode,
    seats: &Seats,
    min_lsn: u64,
    limit: Duration,
) -> Result<(), ApiError> {
    let is_there = |log: wal::Log| log.durable().borrow().lsn.0 >= min_lsn;
    if node.log().is_some_and(is_there) {
        return Ok(());
    }
    let _waits = seats.wait().ok_or(ApiError::Busy(
        "too many requests wait for this node to reach an LSN: ask again in a moment",
    ))?;
    let begun = Instant::now();
    let log = loop {
        match node.log() {
            Some(log) => break log,
            // A secondary that has just been started gets its log from its primary.
            None if begun.elapsed() < limit => tokio::time::sleep(LOOK).await,
            None => return Err(QueryError::NoLog.into()),
        }
    };
    let mut durable = log.durable();
    let reached = durable.wait_for(|position| position.lsn.0 >= min_lsn);
    // The guard that `wait_for` gives must not outlive this expression.
    let waited = tokio::time::timeout(limit.saturating_sub(begun.elapsed()), reached)
        .await
        .map(|result| result.is_ok());
    match waited {
        Ok(true) => Ok(()),
        Ok(false) => Err(ApiError::NotReady(
            "the log of this node is closed".to_owned(),
        )),
        Err(_) => has_reached(newest(node), min_lsn, limit),
    }
}

/// A secondary may have put a fresher log in the place of the one that was waited for.
fn newest(node: &dyn HttpNode) -> Lsn {
    node.log().map_or(Lsn(0), |log| log.snapshot().end().lsn)
}

fn has_reached(at: Lsn, min_lsn: u64, limit: Duration) -> Result<(), ApiError> {
    if at.0 >= min_lsn {
        return Ok(());
    }
    Err(ApiError::Lagging(format!(
        "this node is at LSN {at} and did not reach {min_lsn} within {} ms",
        limit.as_millis()
    )))
}

/// Refuses a lag of more than `max_lag_ms`, or one that is not known.
pub(crate) fn check_lag(lag_ms: Option<u64>, max_lag_ms: u64) -> Result<(), ApiError> {
    match lag_ms {
        Some(lag_ms) if lag_ms <= max_lag_ms => Ok(()),
        Some(lag_ms) => Err(ApiError::Lagging(format!(
            "this node lags {lag_ms} ms, more than the {max_lag_ms} ms asked for"
        ))),
        None => Err(ApiError::Lagging(
            "this node does not know its lag yet".to_owned(),
        )),
    }
}

/// Refuses unless the node surely lags no more than `max_lag_ms`. Between two words of the primary
/// nobody knows, so the next one is waited for.
pub(crate) async fn await_fresh(node: &dyn HttpNode, max_lag_ms: u64) -> Result<(), ApiError> {
    let begun = Instant::now();
    loop {
        let checked = check_lag(node.lag_bound_ms(), max_lag_ms);
        if checked.is_ok() {
            return checked;
        }
        if begun.elapsed() >= NEXT_WORD {
            return checked.map_err(|error| explained(error, node));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The same with why the node does not follow, where it does not.
fn explained(error: ApiError, node: &dyn HttpNode) -> ApiError {
    match (error, node.straying()) {
        (ApiError::Lagging(said), Some((state, Some(reason)))) => {
            ApiError::Lagging(format!("{said}; {state}: {reason}"))
        }
        (ApiError::Lagging(said), Some((state, None))) => {
            ApiError::Lagging(format!("{said}; {state}"))
        }
        (error, _) => error,
    }
}

/// Longest wait for the primary's next word, which it says five times a second, and how often to
/// look for it.
const NEXT_WORD: Duration = Duration::from_millis(300);
const LOOK: Duration = Duration::from_millis(5);

/// Longest wait for a position.
pub(crate) const MAX_WAIT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lag_that_is_too_long_or_unknown_is_refused() {
        assert_eq!(check_lag(Some(500), 500), Ok(()));
        assert!(matches!(
            check_lag(Some(501), 500),
            Err(ApiError::Lagging(_))
        ));
        assert!(matches!(
            check_lag(None, u64::MAX),
            Err(ApiError::Lagging(_))
        ));
    }

    #[test]
    fn a_log_that_took_the_place_of_another_counts_after_the_wait() {
        let limit = Duration::from_millis(200);
        assert_eq!(has_reached(Lsn(7), 7, limit), Ok(()));
        let late = has_reached(Lsn(6), 7, limit).expect_err("one short");
        let expected = "this node is at LSN 6 and did not reach 7 within 200 ms";
        assert_eq!(late.to_string(), expected);
    }
}
