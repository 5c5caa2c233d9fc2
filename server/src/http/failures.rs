//! What is said in the node's log of requests that failed by its own fault: a client asks again and
//! again. It owns what was said of late, and must never look at a text.

use std::fmt::Display;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use wal::{Due, Quiet};

/// What has failed lately, by kind.
#[derive(Debug, Default)]
pub(crate) struct Failures(Mutex<Quiet<(Stage, &'static str)>>);

/// How far a request had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Nothing was answered.
    Whole,
    /// First rows were.
    Begun,
}

impl Failures {
    /// Says it, if it is due: the first of its kind, then at growing intervals with how often.
    pub(crate) fn tell(
        &self,
        stage: Stage,
        code: &'static str,
        request_id: &str,
        error: &dyn Display,
    ) {
        let what = match stage {
            Stage::Whole => "a request failed",
            Stage::Begun => "a query failed after its first rows",
        };
        match self.note(stage, code, Instant::now()) {
            Due::First => tracing::warn!(request_id, %error, "{what}"),
            Due::Again(lasted) => {
                let (times, for_s) = (lasted.times, lasted.time.as_secs());
                tracing::warn!(request_id, %error, times, for_s, "{what}, as others have before");
            }
            Due::Not => tracing::debug!(request_id, %error, "{what}"),
        }
    }

    fn note(&self, stage: Stage, code: &'static str, now: Instant) -> Due {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        said.note((stage, code), now)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_fails_all_day_is_said_a_few_times() {
        let (failures, begun) = (Failures::default(), Instant::now());
        let (mut lines, mut counted) = (0, 0);
        for second in 0..86_400 {
            let now = begun + Duration::from_secs(second);
            match failures.note(Stage::Whole, "storage", now) {
                Due::Not => {}
                Due::First => lines += 1,
                Due::Again(lasted) => {
                    lines += 1;
                    counted = lasted.times;
                }
            }
        }
        assert!((2..40).contains(&lines), "{lines}");
        assert!(counted > 80_000, "{counted}");
        let now = begun + Duration::from_secs(86_400);
        for (stage, code) in [(Stage::Begun, "storage"), (Stage::Whole, "internal")] {
            assert_eq!(failures.note(stage, code, now), Due::First);
        }
    }
}
