//! What a listener's workers tell together. Must never be asked per message that is stored.

use crate::dead_letters::DeadLetters;
use crate::refusals::Refusals;
use crate::replica_waits::ReplicaWaits;

/// One of each for all workers.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) dead_letters: DeadLetters,
    pub(crate) refusals: Refusals,
    pub(crate) replica_waits: ReplicaWaits,
}
