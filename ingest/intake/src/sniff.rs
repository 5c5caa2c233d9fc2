//! What a text seems to be that is not what was expected, told with what to do about it. Pure; must
//! never decide what is stored.

use crate::line;
use crate::timestamp::Unit;

/// What other format a text is in beyond doubt, and what to do.
pub(crate) fn other_format(text: &str) -> Option<&'static str> {
    let text = text.trim_start();
    if text.starts_with('<') {
        return Some(
            "it looks like HTML or XML, which is not taken: send JSON, CSV or line protocol",
        );
    }
    if is_line_protocol(text) {
        return Some(
            "it looks like line protocol: POST it to /api/v2/write, /api/v3/write_lp or /write",
        );
    }
    None
}

/// Whether the first line with anything in it is a line of line protocol.
fn is_line_protocol(text: &str) -> bool {
    let is_line = |line: &&str| !line.trim().is_empty() && !line.starts_with('#');
    let first = text.lines().find(is_line).unwrap_or_default();
    let mut lines = line::read(first, Unit::Auto, 0);
    matches!(lines.next(), Some(Ok(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_told_by_their_first_line() {
        for text in [
            "cpu,host=a usage=1.5 1700000000",
            "# note\n\ncpu v=1i",
            "weather,location=us-midwest temperature=82",
        ] {
            let told = other_format(text);
            assert!(
                told.is_some_and(|what| what.contains("line protocol")),
                "{text}"
            );
        }
        for text in ["<!DOCTYPE html>\n<html>", "  <?xml version=\"1.0\"?><a/>"] {
            assert!(other_format(text).is_some_and(|what| what.contains("HTML or XML")));
        }
        for text in [
            "ts,v\n1,2",
            "a;b\n1;2",
            "ON",
            "hello world",
            "a = b",
            "",
            "mode heat=on",
        ] {
            assert_eq!(other_format(text), None, "{text}");
        }
    }
}
