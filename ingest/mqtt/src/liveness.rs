//! Whether a connection's time is over: another one has its client id, its keep-alive has passed,
//! or a packet that has begun is not whole in time. Pure; must never read a clock.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Why a connection must be closed by the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overdue {
    KeepAlive,
    PartialPacket,
    Superseded,
}

/// When one connection was last heard, and what that is held against.
#[derive(Debug)]
pub(crate) struct Liveness {
    keep_alive: Option<Duration>,
    last_packet: Cell<Instant>,
    superseded: Arc<AtomicBool>,
}

impl Liveness {
    /// `superseded` is set once another connection takes over the client id.
    pub(crate) fn new(
        keep_alive: Option<Duration>,
        superseded: Arc<AtomicBool>,
        now: Instant,
    ) -> Self {
        Self {
            keep_alive,
            last_packet: Cell::new(now),
            superseded,
        }
    }

    pub(crate) fn superseded(&self) -> &Arc<AtomicBool> {
        &self.superseded
    }

    pub(crate) fn saw_packet(&self, now: Instant) {
        self.last_packet.set(now);
    }

    /// Why the connection must be closed at `now`, if it must; `partial_since` is since when it
    /// owes the rest of a packet.
    pub(crate) fn overdue(&self, now: Instant, partial_since: Option<Instant>) -> Option<Overdue> {
        if self.superseded.load(Ordering::Relaxed) {
            return Some(Overdue::Superseded);
        }
        let grace = self
            .keep_alive
            .map(|keep_alive| keep_alive + keep_alive / 2);
        let silence = now.saturating_duration_since(self.last_packet.get());
        if grace.is_some_and(|grace| silence > grace) {
            return Some(Overdue::KeepAlive);
        }
        partial_since
            .is_some_and(|since| now.saturating_duration_since(since) > MAX_PARTIAL)
            .then_some(Overdue::PartialPacket)
    }
}

/// A packet that has begun must be whole after this time.
const MAX_PARTIAL: Duration = Duration::from_secs(120);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_overdue_after_its_keep_alive_and_a_half_or_when_it_is_superseded() {
        let flag = Arc::new(AtomicBool::new(false));
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let keep_alive = Some(Duration::from_secs(60));
        let liveness = Liveness::new(keep_alive, Arc::clone(&flag), begun);
        assert_eq!(liveness.overdue(at(90), None), None);
        assert_eq!(liveness.overdue(at(91), None), Some(Overdue::KeepAlive));
        liveness.saw_packet(at(91));
        assert_eq!(liveness.overdue(at(120), Some(at(0))), None);
        let partial = Some(Overdue::PartialPacket);
        assert_eq!(liveness.overdue(at(121), Some(at(0))), partial);
        flag.store(true, Ordering::Relaxed);
        assert_eq!(liveness.overdue(at(91), None), Some(Overdue::Superseded));
        let endless = Liveness::new(None, Arc::default(), begun);
        assert_eq!(endless.overdue(at(1_000_000), None), None);
    }
}
