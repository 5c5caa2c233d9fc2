//! How one connection stands: what it waits for, and since when nothing came of it. Written by
//! whoever moves its bytes, read by whoever needs its place; it holds the memory of its request.
//! Must never look at a byte, nor decide how long is too long.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio_util::sync::CancellationToken;
use wal::{Held, Share};

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nothing of a request, or of the next one, has come.
    Idle,
    /// A part of a request's head has come.
    Head,
    /// The handler waits for the request's body.
    Body,
    /// The node is at work.
    Work,
    /// The answer waits until its reader takes more of it.
    Answer,
}

/// Why a connection was ended from this side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// It asked nothing more.
    Idle,
    /// It did not finish the head of its request.
    Head,
    /// It stopped sending the body of its request.
    Body,
    /// It stopped taking its answer.
    Answer,
    /// Somebody else needed its place.
    Place,
    /// Somebody else needed the memory of its request.
    Memory,
}

impl Cause {
    pub(crate) const ALL: [Self; 6] = [
        Self::Idle,
        Self::Head,
        Self::Body,
        Self::Answer,
        Self::Place,
        Self::Memory,
    ];

    /// As `/metrics` names it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Head => "head",
            Self::Body => "body",
            Self::Answer => "answer",
            Self::Place => "place",
            Self::Memory => "memory",
        }
    }
}

/// One connection, as its place knows it.
#[derive(Debug)]
pub(crate) struct Progress {
    memory: Share,
    state: Mutex<State>,
    ended: CancellationToken,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    /// Since when nothing worth the name has moved in this phase.
    since: Instant,
    /// Bytes that have moved since then.
    moved: usize,
    /// Of the answer more is to come.
    open: bool,
    /// Memory of the request, until it has been answered.
    held: Option<Held>,
}

impl Progress {
    /// Of a connection whose requests are held in `memory`.
    pub(crate) fn new(memory: Share, now: Instant) -> Self {
        Self {
            memory,
            state: Mutex::new(State {
                phase: Phase::Idle,
                since: now,
                moved: 0,
                open: false,
                held: None,
            }),
            ended: CancellationToken::new(),
        }
    }

    /// What it waits for, and since when.
    pub(crate) fn look(&self) -> (Phase, Instant) {
        let state = self.state();
        (state.phase, state.since)
    }

    /// Bytes came in.
    pub(crate) fn heard(&self, bytes: usize) {
        let mut state = self.state();
        match state.phase {
            Phase::Idle => state.enter(Phase::Head),
            Phase::Body => state.progress(bytes),
            // A head has its time as a whole, however it drips.
            Phase::Head | Phase::Work | Phase::Answer => {}
        }
    }

    /// The head of a request is whole.
    pub(crate) fn asked(&self) {
        let mut state = self.state();
        state.enter(Phase::Work);
        state.open = true;
    }

    /// The handler waits for more of the body.
    pub(crate) fn wants_body(&self) {
        let mut state = self.state();
        if state.phase == Phase::Work {
            state.enter(Phase::Body);
        }
    }

    /// The handler has the whole body, or waits for it no more.
    pub(crate) fn has_body(&self) {
        let mut state = self.state();
        if state.phase == Phase::Body {
            state.enter(Phase::Work);
        }
    }

    /// Takes memory for so many more bytes of the request; false if there is none now.
    pub(crate) fn hold(&self, bytes: usize) -> bool {
        let (bytes, mut state) = (bytes as u64, self.state());
        match &mut state.held {
            Some(held) => held.grow(bytes),
            None => {
                state.held = self.memory.try_take(bytes);
                state.held.is_some()
            }
        }
    }

    /// No more of the answer is to come than is there.
    pub(crate) fn answered(&self) {
        self.state().open = false;
    }

    /// The reader has taken nothing more for now.
    pub(crate) fn blocked(&self) {
        let mut state = self.state();
        if state.phase != Phase::Answer {
            state.enter(Phase::Answer);
        }
    }

    /// The reader has taken some of what was there.
    pub(crate) fn took(&self, bytes: usize) {
        let mut state = self.state();
        if state.phase == Phase::Answer {
            state.progress(bytes);
        }
    }

    /// The reader has taken all of what was there.
    pub(crate) fn flushed(&self) {
        let mut state = self.state();
        match (state.phase, state.open) {
            (Phase::Answer, true) => state.enter(Phase::Work),
            (Phase::Answer | Phase::Work, false) => {
                state.enter(Phase::Idle);
                state.held = None;
            }
            _ => {}
        }
    }

    /// Tells the connection to end at once.
    pub(crate) fn end(&self) {
        self.ended.cancel();
    }

    /// Waits until it is told so.
    pub(crate) async fn ended(&self) {
        self.ended.cancelled().await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.since = Instant::now();
        self.moved = 0;
    }

    /// A byte now and then is no progress.
    fn progress(&mut self, bytes: usize) {
        self.moved = self.moved.saturating_add(bytes);
        if self.moved >= STEP {
            self.since = Instant::now();
            self.moved = 0;
        }
    }
}

/// Bytes that count as progress.
const STEP: usize = 1 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn new() -> Progress {
        Progress::new(Share::new("http", 100), Instant::now())
    }

    #[test]
    fn a_request_goes_through_its_phases_and_comes_to_rest() {
        let standing = new();
        let phase = |standing: &Progress| standing.look().0;
        assert_eq!(phase(&standing), Phase::Idle);
        standing.heard(1);
        assert_eq!(phase(&standing), Phase::Head);
        standing.asked();
        standing.heard(70);
        assert_eq!(phase(&standing), Phase::Work);
        standing.wants_body();
        assert_eq!(phase(&standing), Phase::Body);
        assert!(standing.hold(60) && !standing.hold(50) && standing.hold(40));
        standing.has_body();
        standing.blocked();
        assert_eq!(phase(&standing), Phase::Answer);
        // More of the answer is to come, but not from the reader's side.
        standing.flushed();
        assert_eq!(phase(&standing), Phase::Work);
        standing.blocked();
        standing.answered();
        assert_eq!(phase(&standing), Phase::Answer);
        assert_eq!(standing.memory.used(), 100);
        standing.flushed();
        assert_eq!(phase(&standing), Phase::Idle);
        assert_eq!(standing.memory.used(), 0);
    }

    #[test]
    fn a_byte_now_and_then_is_no_progress_and_a_kibibyte_is() {
        let standing = new();
        standing.asked();
        standing.blocked();
        let begun = standing.look();
        for _ in 1..STEP {
            standing.took(1);
            // More that cannot be written yet changes nothing.
            standing.blocked();
        }
        assert_eq!(standing.look(), begun);
        standing.took(1);
        assert_eq!(standing.look().0, Phase::Answer);
        assert!(standing.look().1 > begun.1);
        let standing = new();
        standing.heard(1);
        let begun = standing.look();
        standing.heard(1 << 20);
        assert_eq!(standing.look(), begun);
    }
}
