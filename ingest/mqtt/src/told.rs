//! What a listener's workers tell and limit together. Must never be asked per message that is
//! stored in its table.

use std::time::Instant;

use crate::allowance::Allowance;
use crate::dead_letters::DeadLetters;
use crate::refusals::Refusals;
use crate::replica_waits::ReplicaWaits;

/// One of each for all workers.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) dead_letters: DeadLetters,
    pub(crate) allowance: Allowance,
    pub(crate) refusals: Refusals,
    pub(crate) replica_waits: ReplicaWaits,
}

impl Told {
    /// Of a client's dead letters so many bytes per second are kept.
    pub(crate) fn new(dead_letter_rate: u64) -> Self {
        Self {
            dead_letters: DeadLetters::default(),
            allowance: Allowance::new(dead_letter_rate, Instant::now()),
            refusals: Refusals::default(),
            replica_waits: ReplicaWaits::default(),
        }
    }
}
