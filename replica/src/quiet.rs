//! Says repeated complaints once. It owns the memory of the last few lines said and must never
//! decide anything but whether a line is news: peers that connect every few seconds for a year must
//! not fill a log.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Remembers the last complaints.
#[derive(Debug, Default)]
pub(crate) struct Quiet {
    said: VecDeque<(String, Instant)>,
}

impl Quiet {
    /// True when `line` was not said lately.
    pub(crate) fn is_news(&mut self, line: &str, now: Instant) -> bool {
        self.said
            .retain(|(_, at)| now.saturating_duration_since(*at) < REPEAT_AFTER);
        if self.said.iter().any(|(said, _)| said == line) {
            return false;
        }
        if self.said.len() == LINES {
            self.said.pop_front();
        }
        self.said.push_back((line.to_owned(), now));
        true
    }

    /// Forgets, so that the next complaint is news again.
    pub(crate) fn reset(&mut self) {
        self.said.clear();
    }
}

/// A line said again within this time is no news.
const REPEAT_AFTER: Duration = Duration::from_secs(600);

/// Lines remembered.
const LINES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_a_line_once_until_it_is_old() {
        let start = Instant::now();
        let mut quiet = Quiet::default();
        assert!(quiet.is_news("a", start));
        assert!(!quiet.is_news("a", start + Duration::from_secs(1)));
        assert!(quiet.is_news("b", start + Duration::from_secs(2)));
        assert!(!quiet.is_news("a", start + Duration::from_secs(3)));
        assert!(quiet.is_news("a", start + REPEAT_AFTER));
        quiet.reset();
        assert!(quiet.is_news("a", start + REPEAT_AFTER));
    }

    #[test]
    fn remembers_a_bounded_number_of_lines() {
        let start = Instant::now();
        let mut quiet = Quiet::default();
        for i in 0..1000 {
            assert!(quiet.is_news(&i.to_string(), start));
        }
        assert_eq!(quiet.said.len(), LINES);
        assert!(!quiet.is_news("999", start));
        assert!(quiet.is_news("0", start));
    }
}
