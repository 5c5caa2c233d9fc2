//! Nodes as a tree of text lines. Must never know what is said of a node, nor let a text that came
//! from one move the terminal's cursor.

use std::borrow::Cow;
use std::fmt::Write as _;

/// A node, what is said of it, and who stands below it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Branch {
    pub(super) head: String,
    pub(super) lines: Vec<String>,
    pub(super) below: Vec<Self>,
}

impl Branch {
    pub(super) fn new(head: String) -> Self {
        Self {
            head,
            ..Self::default()
        }
    }

    /// All of it, a line each.
    pub(super) fn draw(&self) -> String {
        let mut text = String::new();
        self.put("", "", &mut text);
        text
    }

    /// `first` goes before its head, `rest` before every other line of it and of who is below.
    fn put(&self, first: &str, rest: &str, text: &mut String) {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{first}{}", printable(&self.head));
        let bar = if self.below.is_empty() {
            "    "
        } else {
            "|   "
        };
        for line in &self.lines {
            let _ = writeln!(text, "{rest}{bar}{}", printable(line));
        }
        let count = self.below.len();
        for (at, branch) in self.below.iter().enumerate() {
            let (mark, gap) = if at + 1 == count {
                ("`-- ", "    ")
            } else {
                ("|-- ", "|   ")
            };
            branch.put(&format!("{rest}{mark}"), &format!("{rest}{gap}"), text);
        }
    }
}

/// The text with control characters as `char::escape_default` writes them.
fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let escaped = text.chars().fold(String::new(), |mut escaped, character| {
        if character.is_control() {
            escaped.extend(character.escape_default());
        } else {
            escaped.push(character);
        }
        escaped
    });
    Cow::Owned(escaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_hang_together() {
        let leaf = |name: &str| Branch {
            head: name.to_owned(),
            lines: vec![format!("about {name}")],
            below: Vec::new(),
        };
        let relay = Branch {
            below: vec![leaf("c"), leaf("d")],
            ..leaf("b")
        };
        let root = Branch {
            below: vec![relay, leaf("e")],
            ..leaf("a")
        };
        let expected = [
            "a",
            "|   about a",
            "|-- b",
            "|   |   about b",
            "|   |-- c",
            "|   |       about c",
            "|   `-- d",
            "|           about d",
            "`-- e",
            "        about e",
            "",
        ];
        assert_eq!(root.draw(), expected.join("\n"));
    }

    #[test]
    fn control_characters_are_shown_not_obeyed() {
        let branch = Branch::new("a\u{1b}[2J\nb".to_owned());
        assert_eq!(branch.draw(), "a\\u{1b}[2J\\nb\n");
    }
}
