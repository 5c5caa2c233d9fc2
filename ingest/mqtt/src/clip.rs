//! The beginning of what strangers send, for logs and reasons. Must never let through more than is
//! asked for, nor a character that a terminal obeys.

/// The beginning of a text, with control characters as they are escaped in Rust.
pub(crate) fn clipped(text: &str, most: usize) -> String {
    let mut clipped = String::new();
    for (at, letter) in text.chars().enumerate() {
        if at == most {
            clipped.push_str("...");
            break;
        }
        if letter.is_control() {
            clipped.extend(letter.escape_default());
        } else {
            clipped.push(letter);
        }
    }
    clipped
}

/// Most characters of a topic or a client's id.
pub(crate) const MAX_NAME: usize = 128;

/// Most characters of a reason.
pub(crate) const MAX_REASON: usize = 400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_clipped_and_escaped() {
        let name = clipped(&format!("\u{1b}[2J{}", "x".repeat(1_000)), MAX_NAME);
        assert!(name.starts_with("\\u{1b}[2Jxxx") && name.ends_with("xxx..."));
        assert_eq!(clipped("a\nb", 3), "a\\nb");
    }
}
