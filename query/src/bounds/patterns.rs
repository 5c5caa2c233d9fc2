//! What patterns cost: to be understood, to be kept, and to be looked for in a text. Owns one estimate
//! for regular expressions and one for LIKE; must never be lower than what the worst text makes of a
//! pattern, nor take longer than the pattern itself.
//!
//! Looking for a pattern takes one step for each letter of a text as long as the states that it may
//! be in are few. There are up to 2^n of them for a pattern with n places; where they do not fit its
//! cache any more, each letter takes a step for each place.

use regex_syntax::hir::{Class, Hir, HirKind, Look};

/// Of one pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Weight {
    /// Steps for a letter of the text.
    letter: u64,
    /// Bytes of what it is turned into.
    bytes: u64,
    /// Whether states are kept that grow with the text.
    keeps: bool,
    /// Whether what follows a match may have to be looked at to its end.
    looks_far: bool,
}

impl Weight {
    /// Of a regular expression; `groups` where more is asked for than whether it is found.
    pub(super) fn of_regex(pattern: &str, groups: bool) -> Self {
        let classes = pattern.bytes().filter(|byte| matches!(byte, b'\\' | b'['));
        if pattern.len() > MOST_BYTES || classes.count() > MOST_CLASSES {
            return Self::too_much();
        }
        // What is no pattern is refused by who takes it.
        let Ok(hir) = regex_syntax::parse(pattern) else {
            return Self::of_places(0, 0, false);
        };
        let odd = hir.properties().look_set().iter().any(is_slow);
        Self {
            looks_far: looks_far(&hir, false),
            ..Self::of_places(places(&hir), bytes(&hir), groups || odd)
        }
    }

    /// Of a pattern of LIKE.
    pub(super) fn of_like(pattern: &str) -> Self {
        let length = pattern.len() as u64;
        let inner = pattern.trim_matches('%');
        if !inner.contains(['%', '_', '\\']) {
            // Looked for as it is.
            return Self {
                letter: 1,
                bytes: 0,
                keeps: false,
                looks_far: false,
            };
        }
        if pattern.len() > MOST_BYTES {
            return Self::too_much();
        }
        Self::of_places(length, length.saturating_mul(ANY_BYTES), false)
    }

    /// Whether any text is looked through in steps that are as many as its letters.
    pub(super) fn is_light(self) -> bool {
        self.letter <= 1 && !self.keeps && self.bytes <= LIGHT_BYTES
    }

    /// Steps for all that is found in a text of so many bytes, one after the other.
    pub(super) fn all_steps(self, text: u64, anew: bool) -> u64 {
        let each = if self.looks_far { text.max(1) } else { 1 };
        self.steps(text.saturating_mul(each), anew)
    }

    /// Steps for a text of so many bytes; `anew` where the pattern is not that of the row before.
    pub(super) fn steps(self, text: u64, anew: bool) -> u64 {
        let search = text
            .saturating_mul(self.letter)
            .saturating_mul(LETTER_STEPS);
        if !anew {
            return search;
        }
        let kept = match self.keeps {
            true => MOST_KEPT.min(text.saturating_mul(STATE_BYTES)),
            false => 0,
        };
        let made = self.bytes.saturating_mul(MADE_STEPS);
        search
            .saturating_add(made)
            .saturating_add(kept.saturating_mul(KEPT_STEPS))
    }

    fn of_places(places: u64, bytes: u64, slow: bool) -> Self {
        let keeps = places > FEW_PLACES;
        Self {
            letter: if keeps || slow { places.max(1) } else { 1 },
            bytes: bytes.min(MOST_MADE),
            keeps,
            looks_far: false,
        }
    }

    fn too_much() -> Self {
        Self {
            letter: u64::MAX,
            bytes: u64::MAX,
            keeps: true,
            looks_far: true,
        }
    }
}

/// In texts that are not of plain letters they cannot be seen by states.
fn is_slow(look: Look) -> bool {
    matches!(
        look,
        Look::WordUnicode
            | Look::WordUnicodeNegate
            | Look::WordStartUnicode
            | Look::WordEndUnicode
            | Look::WordStartHalfUnicode
            | Look::WordEndHalfUnicode
    )
}

/// Where in a pattern a search can be, as it is written out.
fn places(hir: &Hir) -> u64 {
    let all = |parts: &[Hir]| parts.iter().map(places).fold(0, u64::saturating_add);
    match hir.kind() {
        HirKind::Empty => 0,
        HirKind::Literal(literal) => literal.0.len() as u64,
        HirKind::Class(_) | HirKind::Look(_) => 1,
        HirKind::Repetition(repeated) => {
            let times = repeated.max.unwrap_or(repeated.min.saturating_add(1));
            places(&repeated.sub).saturating_mul(times.into())
        }
        HirKind::Capture(group) => places(&group.sub),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => all(parts),
    }
}

/// Whether a part of a pattern that need not be there has no end of its own: `(a.*x)?a` is looked for
/// to the end of the text from each `a` on.
fn looks_far(hir: &Hir, optional: bool) -> bool {
    match hir.kind() {
        HirKind::Empty | HirKind::Literal(_) | HirKind::Class(_) | HirKind::Look(_) => false,
        HirKind::Repetition(repeated) => {
            let endless = repeated.max.is_none();
            (endless && optional)
                || looks_far(&repeated.sub, optional || endless || repeated.min == 0)
        }
        HirKind::Capture(group) => looks_far(&group.sub, optional),
        HirKind::Concat(parts) => parts.iter().any(|part| looks_far(part, optional)),
        HirKind::Alternation(parts) => parts.iter().any(|part| looks_far(part, true)),
    }
}

/// What it takes written out.
fn bytes(hir: &Hir) -> u64 {
    let all = |parts: &[Hir]| parts.iter().map(bytes).fold(0, u64::saturating_add);
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => PLACE_BYTES,
        HirKind::Literal(literal) => (literal.0.len() as u64).saturating_mul(PLACE_BYTES),
        HirKind::Class(Class::Unicode(class)) => {
            (class.ranges().len() as u64 + 1).saturating_mul(RANGE_BYTES)
        }
        HirKind::Class(Class::Bytes(_)) => RANGE_BYTES,
        HirKind::Repetition(repeated) => {
            let times = repeated.max.unwrap_or(repeated.min.saturating_add(1));
            bytes(&repeated.sub).saturating_mul(times.into())
        }
        HirKind::Capture(group) => bytes(&group.sub).saturating_add(2 * PLACE_BYTES),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => all(parts),
    }
}

/// Longer patterns are not looked at; one that is read takes many times its length.
const MOST_BYTES: usize = 16 << 10;
/// Each may stand for hundreds of ranges of letters.
const MOST_CLASSES: usize = 1_000;
/// All states of so many places fit into what is kept of them.
const FEW_PLACES: u64 = 10;
const PLACE_BYTES: u64 = 32;
/// Of letters, each of up to four bytes.
const RANGE_BYTES: u64 = 64;
/// What stands for any letter.
const ANY_BYTES: u64 = 1 << 10;
/// Beyond this the library refuses a pattern.
const MOST_MADE: u64 = 10 << 20;
/// Little enough to be made again and again.
const LIGHT_BYTES: u64 = 1 << 20;
/// States of both directions.
const MOST_KEPT: u64 = 4 << 20;
const STATE_BYTES: u64 = 4 << 10;
/// Against the steps of other functions, which are shorter.
const LETTER_STEPS: u64 = 8;
/// So that what is made of the patterns of some rows at a time is a few MiB.
const MADE_STEPS: u64 = 16;
const KEPT_STEPS: u64 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_weigh_what_they_are_written_out() {
        let letter = |pattern: &str| Weight::of_regex(pattern, false).letter;
        for light in ["error", "^a.*b$", r"^\w+@\w+$", "(a|b)*x", "[a-z]{3}", "("] {
            assert_eq!(letter(light), 1, "{light}");
            assert!(Weight::of_regex(light, false).is_light(), "{light}");
        }
        assert_eq!(letter("(a|b)*a(a|b){5000}"), 5_002);
        assert_eq!(letter("((a{10}){10}){10}"), 1_000);
        assert_eq!(letter(r"\bab"), 3);
        assert_eq!(Weight::of_regex("abc", true).letter, 3);
        assert_eq!(letter(&"a".repeat(1 << 20)), u64::MAX);
        assert_eq!(letter(&r"\w".repeat(1_001)), u64::MAX);
        let like = |pattern: &str| Weight::of_like(pattern).letter;
        assert_eq!(
            (like("%abc%"), like("a%"), like(&"a".repeat(1 << 20))),
            (1, 1, 1)
        );
        assert_eq!(like("a%b"), 1);
        assert_eq!(like(&format!("%a{}b%", "_".repeat(15))), 19);
        assert_eq!(like(&"a%".repeat(10_000)), u64::MAX);
    }

    #[test]
    fn a_pattern_is_paid_for_once_and_each_letter_by_its_places() {
        let weight = Weight::of_regex("(a|b)*a(a|b){100}", false);
        assert_eq!(weight.steps(1_000, false), 1_000 * 102 * LETTER_STEPS);
        assert!(weight.steps(1_000, true) > weight.steps(1_000, false));
        let weight = Weight::of_regex(r"\w{500}", false);
        assert_eq!(weight.bytes, MOST_MADE);
        assert!(!weight.is_light());
        for (pattern, far) in [
            ("[0-9]+", false),
            (r"^\s*(\w+)=.*$", false),
            ("a|bc|d{3}", false),
            ("a.*x|a", true),
            ("(a.*x)?a", true),
            ("(a.*x)*", true),
        ] {
            let weight = Weight::of_regex(pattern, false);
            let (all, one) = (weight.all_steps(1_000, false), weight.steps(1_000, false));
            assert_eq!(all, if far { one * 1_000 } else { one }, "{pattern}");
        }
    }
}
