//! Says in a node's log when the columns of all tables take nearly all of the memory that there is
//! for them, or more, as they may on a secondary: what its primary has taken, it takes. Must never
//! say it twice while it stays so.

use std::time::Duration;

use tracing::{info, warn};
use wal::Share;

use crate::node::kept::Restarted;

/// A task that tells of it.
#[derive(Debug)]
pub(crate) struct SchemaTeller(#[expect(dead_code, reason = "dropped, it ends")] Restarted);

/// How much of the share is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Taken {
    Some,
    /// Nine tenths.
    NearlyAll,
    /// More than there is.
    Beyond,
}

impl SchemaTeller {
    /// Needs a tokio runtime.
    pub(crate) fn start(share: &Share, tasks: &wal::Tasks) -> Self {
        let share = share.clone();
        Self(Restarted::start(tasks, "schema-teller", move || {
            tell(share.clone())
        }))
    }
}

async fn tell(share: Share) {
    let mut told = Taken::Some;
    loop {
        let (used, limit) = (share.used(), share.limit());
        let taken = taken(used, limit);
        let (used_kib, limit_kib) = (used >> 10, limit >> 10);
        if taken > told {
            warn!(used_kib, limit_kib, "{}", words(taken));
        } else if taken == Taken::Some && told > taken {
            info!(
                used_kib,
                limit_kib, "the columns of all tables have room again"
            );
        }
        told = taken;
        tokio::time::sleep(EVERY).await;
    }
}

fn taken(used: u64, limit: u64) -> Taken {
    if used > limit {
        Taken::Beyond
    } else if used > limit / 10 * 9 {
        Taken::NearlyAll
    } else {
        Taken::Some
    }
}

fn words(taken: Taken) -> &'static str {
    match taken {
        Taken::Beyond => {
            "the columns of all tables take more memory than there is for them here, a sixteenth of \
             node.memory_limit: raise it, or drop tables on the primary with `headwater table drop`"
        }
        _ => {
            "the columns of all tables take nearly all of the memory that there is for them, a \
             sixteenth of node.memory_limit; beyond it rows with new tables or columns are dead \
             letters: find who makes names up, drop their tables with `headwater table drop`, or \
             raise the limit"
        }
    }
}

/// How often it looks.
const EVERY: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_told_by_its_part() {
        let found = [0, 89, 90, 91, 100, 101].map(|used| taken(used, 100));
        let [some, nearly, beyond] = [Taken::Some, Taken::NearlyAll, Taken::Beyond];
        assert_eq!(found, [some, some, some, nearly, nearly, beyond]);
        assert!(words(beyond).contains("raise it") && words(nearly).contains("dead letters"));
    }
}
