//! Whether a connection's time is over: it has been given notice, its keep-alive has passed, a packet
//! that has begun does not come on, or what it is sent is not taken. Pure; must never read a clock.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::partial::Partial;
use crate::places::{Notice, Place};

/// Why a connection must be closed by the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overdue {
    KeepAlive,
    PartialPacket,
    Unread,
    NoMemory,
    Noticed(Notice),
}

/// How far a connection is with what it has begun.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Progress {
    /// A packet that it owes the rest of.
    pub(crate) partial: Option<Partial>,
    /// Since when there is no memory for what it has sent.
    pub(crate) starved: Option<Instant>,
    /// Bytes that it has not taken yet.
    pub(crate) unread: usize,
}

/// When one connection was last heard, and what that is held against.
#[derive(Debug)]
pub(crate) struct Liveness {
    keep_alive: Option<Duration>,
    last_packet: Cell<Instant>,
    /// Since when as much waits for the client to take it, and how much.
    unread: Cell<(Instant, usize)>,
    place: Arc<Place>,
}

impl Liveness {
    pub(crate) fn new(keep_alive: Option<Duration>, place: Arc<Place>, now: Instant) -> Self {
        Self {
            keep_alive,
            last_packet: Cell::new(now),
            unread: Cell::new((now, 0)),
            place,
        }
    }

    pub(crate) fn place(&self) -> &Arc<Place> {
        &self.place
    }

    pub(crate) fn saw_packet(&self, now: Instant) {
        self.last_packet.set(now);
    }

    /// For how long there was no packet.
    pub(crate) fn silence(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.last_packet.get())
    }

    /// Why the connection must be closed at `now`, if it must.
    pub(crate) fn overdue(&self, now: Instant, progress: &Progress) -> Option<Overdue> {
        if let Some(notice) = self.place.notice() {
            return Some(Overdue::Noticed(notice));
        }
        let passed = |since: Instant| now.saturating_duration_since(since);
        let (since, before) = self.unread.get();
        let stuck = progress.unread > 0 && progress.unread >= before && before > 0;
        if !stuck {
            self.unread.set((now, progress.unread));
        }
        let grace = self
            .keep_alive
            .map(|keep_alive| keep_alive + keep_alive / 2);
        // What it sends is not looked at while it takes no answers, or there is no memory.
        let is_heard = progress.starved.is_none() && progress.unread == 0;
        if is_heard && grace.is_some_and(|grace| self.silence(now) > grace) {
            return Some(Overdue::KeepAlive);
        }
        let partial = progress.partial;
        if partial.is_some_and(|partial| partial.is_overdue(now)) {
            return Some(Overdue::PartialPacket);
        }
        if progress
            .starved
            .is_some_and(|since| passed(since) > MOST_STARVED)
        {
            return Some(Overdue::NoMemory);
        }
        (stuck && passed(since) > MOST_UNREAD).then_some(Overdue::Unread)
    }

    /// The same where memory is short: by how much longer it takes than it should, and what.
    pub(crate) fn lateness(
        &self,
        now: Instant,
        progress: &Progress,
    ) -> Option<(Duration, Overdue)> {
        let partial = progress.partial.and_then(|partial| partial.lateness(now));
        if let Some(late) = partial {
            return Some((late, Overdue::PartialPacket));
        }
        let (since, before) = self.unread.get();
        let unread = now.saturating_duration_since(since);
        let late = unread
            .checked_sub(SHORT_UNREAD)
            .filter(|_| before > LEAST_UNREAD);
        late.map(|late| (late, Overdue::Unread))
    }
}

/// How long a client may take none of what it is sent, and the same where memory is short.
const MOST_UNREAD: Duration = Duration::from_secs(120);
const SHORT_UNREAD: Duration = Duration::from_secs(10);

/// Less than this is nobody's trouble.
const LEAST_UNREAD: usize = 4 << 10;

/// How long a client may wait for memory.
const MOST_STARVED: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_overdue_after_its_keep_alive_and_a_half_or_when_it_has_notice() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let keep_alive = Some(Duration::from_secs(60));
        let place = Place::alone();
        let liveness = Liveness::new(keep_alive, Arc::clone(&place), begun);
        let none = Progress::default();
        assert_eq!(liveness.overdue(at(90), &none), None);
        assert_eq!(liveness.overdue(at(91), &none), Some(Overdue::KeepAlive));
        liveness.saw_packet(at(91));
        let partial = Progress {
            partial: Some(Partial::new(7, at(91))),
            ..none
        };
        assert_eq!(liveness.overdue(at(120), &partial), None);
        let over = Some(Overdue::PartialPacket);
        assert_eq!(liveness.overdue(at(122), &partial), over);
        for notice in [Notice::Superseded, Notice::Displaced] {
            place.give_notice(notice);
            let noticed = Some(Overdue::Noticed(notice));
            assert_eq!(liveness.overdue(at(91), &none), noticed);
        }
        let endless = Liveness::new(None, Place::alone(), begun);
        assert_eq!(endless.overdue(at(1_000_000), &none), None);
    }

    #[test]
    fn who_takes_no_answers_is_closed_and_sooner_where_memory_is_short() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let liveness = Liveness::new(None, Place::alone(), begun);
        let unread = |unread| Progress {
            unread,
            ..Progress::default()
        };
        assert_eq!(liveness.overdue(at(0), &unread(10_000)), None);
        for second in 1..=120 {
            assert_eq!(liveness.overdue(at(second), &unread(10_000)), None);
        }
        let late = liveness.lateness(at(120), &unread(10_000));
        assert_eq!(late, Some((Duration::from_secs(110), Overdue::Unread)));
        // It takes some.
        assert_eq!(liveness.overdue(at(121), &unread(9_000)), None);
        assert_eq!(liveness.lateness(at(125), &unread(9_000)), None);
        assert_eq!(liveness.overdue(at(241), &unread(9_000)), None);
        let over = Some(Overdue::Unread);
        assert_eq!(liveness.overdue(at(242), &unread(9_000)), over);
        let starved = Progress {
            starved: Some(at(242)),
            ..Progress::default()
        };
        assert_eq!(liveness.overdue(at(272), &starved), None);
        assert_eq!(liveness.overdue(at(273), &starved), Some(Overdue::NoMemory));
    }
}
