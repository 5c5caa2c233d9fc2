//! Values of which copies share what they have in common: a copy with one change costs memory and
//! time for the change, and a little for the places around it. They must never let a change be seen
//! through another copy.

pub(crate) mod list;
pub(crate) mod map;
pub(crate) mod names;

/// Notes so many steps; nothing but in tests.
pub(crate) fn worked(steps: usize) {
    #[cfg(test)]
    work::add(steps);
    #[cfg(not(test))]
    let _ = steps;
}

/// Counts what is copied and compared, so that tests can hold work to a bound without a clock.
#[cfg(test)]
pub(crate) mod work {
    use std::cell::Cell;

    thread_local! {
        static DONE: Cell<u64> = const { Cell::new(0) };
    }

    pub(crate) fn add(steps: usize) {
        DONE.with(|done| done.set(done.get() + steps as u64));
    }

    /// Steps of this thread while `run` ran.
    pub(crate) fn of(run: impl FnOnce()) -> u64 {
        let before = DONE.with(Cell::get);
        run();
        DONE.with(Cell::get) - before
    }
}
