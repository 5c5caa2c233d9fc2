//! Where in the SQL text an error is. Owns the mapping from the parser's line and column to a
//! byte offset; must never guess: no position is better than a wrong one.

/// Splits the trailing `at Line: 1, Column: 8` off a parser message, and maps it into `sql`.
pub(crate) fn split_position(message: &str, sql: &str) -> (String, Option<usize>) {
    let Some(start) = message.rfind(" at Line: ") else {
        return (message.to_owned(), None);
    };
    let Some((line, column)) = line_and_column(&message[start..]) else {
        return (message.to_owned(), None);
    };
    (message[..start].to_owned(), byte_offset(sql, line, column))
}

/// Byte offset of a 1-based line and 1-based column counted in characters; the end of the text
/// when the parser stopped there.
pub(crate) fn byte_offset(sql: &str, line: u64, column: u64) -> Option<usize> {
    if line == 0 || column == 0 {
        return None;
    }
    let (mut at_line, mut at_column) = (1_u64, 1_u64);
    for (offset, character) in sql.char_indices() {
        if (at_line, at_column) == (line, column) {
            return Some(offset);
        }
        if character == '\n' {
            at_line += 1;
            at_column = 1;
        } else {
            at_column += 1;
        }
    }
    ((at_line, at_column) == (line, column)).then_some(sql.len())
}

fn line_and_column(text: &str) -> Option<(u64, u64)> {
    let rest = text.strip_prefix(" at Line: ")?;
    let (line, rest) = rest.split_once(", Column: ")?;
    let digits = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    Some((line.parse().ok()?, rest[..digits].parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::{byte_offset, split_position};

    #[test]
    fn maps_lines_and_wide_characters() {
        assert_eq!(byte_offset("SELECT x", 1, 8), Some(7));
        assert_eq!(byte_offset("SELECT\n  'ü' ?", 2, 7), Some(14));
        assert_eq!(byte_offset("SELECT", 1, 7), Some(6));
        assert_eq!(byte_offset("SELECT", 4, 1), None);
        assert_eq!(byte_offset("SELECT", 0, 0), None);
    }

    #[test]
    fn takes_the_position_out_of_the_message() {
        let (message, position) =
            split_position("Expected: x, found: y at Line: 1, Column: 3", "ab y");
        assert_eq!(
            (message.as_str(), position),
            ("Expected: x, found: y", Some(2))
        );
        let (message, position) = split_position("no position here", "ab");
        assert_eq!((message.as_str(), position), ("no position here", None));
        let (message, position) = split_position("odd at Line: x, Column: 3", "ab");
        assert_eq!(
            (message.as_str(), position),
            ("odd at Line: x, Column: 3", None)
        );
    }
}
