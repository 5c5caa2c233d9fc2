//! Says in a primary's log which tables' old rows are not cut although the clock says so, and why,
//! and that dead letters have gone because they were too many. Must never say it twice while it
//! stays so.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::watch;
use tracing::{info, warn};
use wal::WaitingCut;

use crate::node::kept::Restarted;

/// A task that tells of every cut that waits.
#[derive(Debug)]
pub(crate) struct CutTeller(#[expect(dead_code, reason = "dropped, it ends")] Restarted);

impl CutTeller {
    /// Needs a tokio runtime.
    pub(crate) fn start(log: &wal::Log, tasks: &wal::Tasks) -> Self {
        let log = log.clone();
        Self(Restarted::start(tasks, "cut-teller", move || {
            tell(log.clone())
        }))
    }
}

async fn tell(log: wal::Log) {
    let mut waiting: watch::Receiver<Vec<WaitingCut>> = log.waiting_cuts();
    let (mut told, mut given_up) = (HashMap::new(), 0);
    loop {
        let gone = log.stats().given_up;
        if gone > given_up {
            warn!(
                table = wal::DEAD_LETTERS,
                rows = gone - given_up,
                "the dead letters take more than dead_letters.max_size: about so many, the oldest, \
                 are given up"
            );
            given_up = gone;
        }
        let now = waiting.borrow_and_update().clone();
        for waits in now.iter().filter(|waits| !told.contains_key(&waits.table)) {
            warn!(table = %waits.table, "{}", words(waits));
        }
        let now: HashMap<String, ()> = now.into_iter().map(|waits| (waits.table, ())).collect();
        for table in told.keys().filter(|table| !now.contains_key(*table)) {
            info!(%table, "no cut of the table waits any more");
        }
        told = now;
        if let Ok(Err(_)) = tokio::time::timeout(PAUSE, waiting.changed()).await {
            return;
        }
    }
}

fn words(waits: &WaitingCut) -> String {
    let why = match waits.ahead_s {
        Some(ahead) => format!(
            "a step of {} that no time has passed for: the clock has jumped, this node was off, or \
             the retention is shorter than it was",
            spoken(ahead)
        ),
        None => "the table has not been cut before".to_owned(),
    };
    format!(
        "about {} of {} rows are older than the retention of {} and are NOT cut yet ({why}); they \
         go once this process has run for {}; if the clock is right and they may go now: headwater \
         table expire {:?}; if not, set the clock or the retention right",
        waits.rows,
        waits.of_rows,
        spoken(waits.retention_s),
        spoken(waits.left_s),
        waits.table,
    )
}

/// A time in its largest unit that loses little.
fn spoken(seconds: u64) -> String {
    match seconds {
        0..300 => format!("{seconds} s"),
        300..18_000 => format!("{} min", seconds / 60),
        18_000..432_000 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// How often it looks for what nothing says.
const PAUSE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_that_waits_is_told_with_what_to_do() {
        let waits = WaitingCut {
            table: "plant".to_owned(),
            retention_s: 30 * 86_400,
            cut_unix_ms: 0,
            ahead_s: Some(40 * 86_400),
            rows: 1_000,
            of_rows: 1_001,
            left_s: 86_400,
        };
        let text = words(&waits);
        for part in [
            "1000 of 1001 rows",
            "retention of 30 days",
            "step of 40 days",
            "run for 24 h",
            "headwater table expire \"plant\"",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }
}
