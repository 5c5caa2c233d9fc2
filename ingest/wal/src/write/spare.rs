//! Descriptors that are held for the log: whoever takes the last ones of the process, a few can be
//! given up for the next segment. Must never keep one back when the log asks.

use std::fs::File;

/// A few open files that nobody uses.
#[derive(Debug, Default)]
pub(crate) struct Spare(Vec<File>);

impl Spare {
    /// Takes what is missing, as far as there is any.
    pub(crate) fn refill(&mut self) {
        while self.0.len() < HELD {
            let Ok(file) = File::open(NOTHING) else {
                return;
            };
            self.0.push(file);
        }
    }

    /// Gives all of them to whoever opens a file next. False: there were none.
    pub(crate) fn give_up(&mut self) -> bool {
        let held = !self.0.is_empty();
        self.0.clear();
        held
    }
}

/// The next segment, its directory, the sealed one to be read, and one for whoever is quicker.
const HELD: usize = 4;

const NOTHING: &str = "/dev/null";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_given_up_at_once_and_taken_again() {
        let mut spare = Spare::default();
        assert!(!spare.give_up());
        spare.refill();
        assert_eq!(spare.0.len(), HELD);
        assert!(spare.give_up() && !spare.give_up());
    }
}
