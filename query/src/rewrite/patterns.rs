//! How PostgreSQL writes the pattern of a time, in the engine's words. Owns which of them mean what;
//! must never hand on a pattern whose words it does not know.

/// `pattern` in the engine's words; `None` where it already is in them, or has no words at all.
///
/// # Errors
/// When a word has no counterpart.
pub(super) fn respelled(pattern: &str) -> Result<Option<String>, String> {
    let upper = pattern.to_ascii_uppercase();
    if pattern.contains('%') || !KNOWN.iter().any(|word| upper.contains(word)) {
        return Ok(None);
    }
    let mut made = String::with_capacity(pattern.len() + 8);
    let mut rest = pattern;
    while let Some(next) = rest.chars().next() {
        if let Some(quoted) = rest.strip_prefix('"') {
            let (inside, after) = quoted.split_once('"').unwrap_or((quoted, ""));
            made.push_str(inside);
            rest = after;
            continue;
        }
        let word = WORDS.iter().find(|(word, _)| starts_with(rest, word));
        if let Some((word, chrono)) = word {
            made.push_str(chrono);
            rest = rest.get(word.len()..).unwrap_or_default();
            if ["TH", "th"].iter().any(|suffix| rest.starts_with(suffix)) {
                return Err(format!(
                    "TH after {word} stands for 1st, 2nd ... and is not known here: to write the \
                     letter T, type \"T\" in double quotes"
                ));
            }
            continue;
        }
        if next.is_ascii_alphabetic() {
            return Err(format!(
                "{rest:?} is not known here: type the pattern with %Y %m %d %H %M %S, or put \
                 letters that stand for themselves in double quotes"
            ));
        }
        made.push(next);
        rest = rest.get(next.len_utf8()..).unwrap_or_default();
    }
    Ok(Some(made))
}

/// Names of months and days tell by their case how they are written.
fn starts_with(text: &str, word: &str) -> bool {
    let Some(start) = text.get(..word.len()) else {
        return false;
    };
    if CASED.contains(&word) {
        start == word
    } else {
        start.eq_ignore_ascii_case(word)
    }
}

/// What gives a pattern of PostgreSQL away.
const KNOWN: &[&str] = &[
    "YY", "MM", "DD", "HH", "MI", "SS", "MON", "DAY", "DY", "IW", "IYYY", "TZ",
];

/// The longer ones first.
const WORDS: &[(&str, &str)] = &[
    ("FMMonth", "%B"),
    ("FMDay", "%A"),
    ("IYYY", "%G"),
    ("YYYY", "%Y"),
    ("HH24", "%H"),
    ("HH12", "%I"),
    ("FMHH24", "%-H"),
    ("FMMM", "%-m"),
    ("FMDD", "%-d"),
    ("DDD", "%j"),
    ("Mon", "%b"),
    ("TZH:TZM", "%:z"),
    ("AM", "%p"),
    ("PM", "%p"),
    ("YY", "%y"),
    ("MM", "%m"),
    ("DD", "%d"),
    ("HH", "%I"),
    ("MI", "%M"),
    ("SS", "%S"),
    ("MS", "%3f"),
    ("US", "%6f"),
    ("Dy", "%a"),
    ("IW", "%V"),
    ("ID", "%u"),
    ("OF", "%z"),
];

const CASED: &[&str] = &["FMMonth", "FMDay", "Mon", "Dy", "AM", "PM"];

#[cfg(test)]
mod tests {
    use super::respelled;

    #[test]
    fn patterns_of_postgresql_are_known_or_refused() {
        for (pattern, expected) in [
            ("YYYY-MM-DD", "%Y-%m-%d"),
            ("yyyy-mm-dd hh24:mi:ss.ms", "%Y-%m-%d %H:%M:%S.%3f"),
            ("YYYY-MM-DD\"T\"HH24:MI", "%Y-%m-%dT%H:%M"),
            ("Dy DD Mon YY", "%a %d %b %y"),
            ("FMDay, FMMonth DD", "%A, %B %d"),
            ("HH12:MI AM", "%I:%M %p"),
        ] {
            assert_eq!(respelled(pattern), Ok(Some(expected.to_owned())));
        }
        for pattern in ["%Y-%m-%d", "%YYYY", "", "-", "x", "to"] {
            assert_eq!(respelled(pattern), Ok(None), "{pattern}");
        }
        for pattern in ["YYYY-MM-DDTHH24:MI", "Month YYYY", "DAY", "YYYY Q", "DDth"] {
            assert!(respelled(pattern).is_err(), "{pattern}");
        }
    }
}
