//! The process that a node runs in: what it has in memory, and how it gives back what its allocator
//! keeps. Must never speak of a process that several nodes share as if it were one's own.

use std::sync::atomic::{AtomicBool, Ordering};

use mimalloc as _;

use crate::report::memory::resident_bytes;

/// This process runs one node and nothing else.
pub(crate) fn is_one_node() {
    ALONE.store(true, Ordering::Relaxed);
}

/// What this process has in memory, where that is one node's.
pub(crate) fn of_node() -> Option<u64> {
    ALONE.load(Ordering::Relaxed).then(resident_bytes)?
}

/// Gives back to the system what the allocator keeps free.
pub(crate) fn give_back() {
    #[expect(unsafe_code, reason = "the allocator is written in C")]
    // SAFETY: may be called at any time by any thread, also where the allocator is not in use.
    unsafe {
        mi_collect(true);
    }
}

#[expect(unsafe_code, reason = "the allocator is written in C")]
// SAFETY: declared as in `mimalloc.h`.
unsafe extern "C" {
    fn mi_collect(force: bool);
}

static ALONE: AtomicBool = AtomicBool::new(false);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_said_of_a_process_that_may_be_shared() {
        assert_eq!(of_node(), None);
        give_back();
        assert!(resident_bytes().is_some_and(|bytes| bytes > 1 << 20));
    }
}
