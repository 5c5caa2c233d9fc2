//! A text for one line of a log: bounded, and without anything that a terminal, or a reader of
//! lines, would take for more than text. Must never let through a control character, whoever sent
//! it.

use std::fmt::{self, Write};

/// A text that keeps its beginning and counts the rest.
#[derive(Debug)]
pub(super) struct Clipped {
    text: String,
    most: usize,
    cut: usize,
}

impl Clipped {
    /// Keeps about `most` bytes.
    pub(super) fn new(most: usize) -> Self {
        Self {
            text: String::new(),
            most,
            cut: 0,
        }
    }

    /// What was written, and how much of it is missing.
    pub(super) fn finish(mut self) -> String {
        if self.cut > 0 {
            let cut = self.cut;
            // Writing to a String cannot fail.
            let _ = write!(self.text, "... ({cut} bytes cut)");
        }
        self.text
    }

    fn keep(&mut self, c: char) {
        let before = self.text.len();
        if self.cut == 0 {
            match c {
                '\n' => self.text.push_str("\\n"),
                '\r' => self.text.push_str("\\r"),
                '\t' => self.text.push_str("\\t"),
                c if is_hidden(c) => self.text.extend(c.escape_unicode()),
                c => self.text.push(c),
            }
        }
        if self.cut > 0 || self.text.len() > self.most {
            self.text.truncate(before);
            self.cut += c.len_utf8();
        }
    }
}

impl Write for Clipped {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.cut > 0 {
            self.cut += text.len();
            return Ok(());
        }
        let mut rest = text.chars();
        while let Some(c) = rest.next() {
            self.keep(c);
            if self.cut > 0 {
                self.cut += rest.as_str().len();
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Moves a cursor, changes a colour, ends a line, turns the direction of what follows, or cannot be
/// seen.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// A value between others of its line: quoted where its end, or its name, could be mistaken.
pub(super) fn quoted(value: String) -> String {
    let is_plain = |c: char| !c.is_whitespace() && c != '"' && c != '=';
    if !value.is_empty() && value.chars().all(is_plain) {
        return value;
    }
    format!("\"{}\"", value.replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clipped(text: &str, most: usize) -> String {
        let mut clipped = Clipped::new(most);
        clipped.write_str(text).unwrap();
        clipped.finish()
    }

    #[test]
    fn nothing_that_a_terminal_obeys_gets_through() {
        let evil = "a\u{1b}[31mred\u{1b}[0m\r\n2030-01-01 ERROR forged\u{9b}2J\u{202e}x\u{0}\u{7f}";
        let text = clipped(evil, 1_000);
        assert_eq!(
            text,
            "a\\u{1b}[31mred\\u{1b}[0m\\r\\n2030-01-01 ERROR forged\\u{9b}2J\\u{202e}x\\u{0}\\u{7f}"
        );
        let seed = fastrand::u64(..);
        println!("seed={seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..1_000 {
            let any: String = (0..random.usize(..40)).map(|_| random.char(..)).collect();
            let text = clipped(&any, 1_000);
            assert!(!text.chars().any(is_hidden), "{any:?}");
        }
    }

    #[test]
    fn what_is_long_is_cut_and_says_by_how_much() {
        assert_eq!(clipped("abc", 3), "abc");
        assert_eq!(clipped("abcd", 3), "abc... (1 bytes cut)");
        assert_eq!(clipped(&"ä".repeat(50), 5), "ää... (96 bytes cut)");
        // What is escaped counts as it is written.
        assert_eq!(clipped("a\u{1b}b", 4), "a... (2 bytes cut)");
        let mut pieces = Clipped::new(4);
        for piece in ["ab", "cd", "ef", "gh"] {
            pieces.write_str(piece).unwrap();
        }
        assert_eq!(pieces.finish(), "abcd... (4 bytes cut)");
    }

    #[test]
    fn a_value_cannot_be_taken_for_another_field() {
        assert_eq!(quoted("plant/a".to_owned()), "plant/a");
        assert_eq!(quoted(String::new()), "\"\"");
        assert_eq!(
            quoted("x\" level=ERROR y".to_owned()),
            "\"x\\\" level=ERROR y\""
        );
    }
}
