//! Rust source as identifiers and signs, without comments, text and what is compiled for tests
//! alone. Must never know what a path means.

/// One piece of source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// An identifier or keyword.
    Word(String),
    /// `::`.
    Colons,
    /// Any other sign.
    Sign(char),
}

impl Token {
    pub(crate) fn word(&self) -> Option<&str> {
        match self {
            Self::Word(word) => Some(word),
            _ => None,
        }
    }

    fn is(&self, sign: char) -> bool {
        *self == Self::Sign(sign)
    }
}

/// All tokens of a file.
pub(crate) fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let mut found = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        let rest = &chars[at..];
        at += match rest {
            ['/', '/', ..] => rest.iter().take_while(|c| **c != '\n').count(),
            ['/', '*', ..] => comment(rest),
            [':', ':', ..] => {
                found.push(Token::Colons);
                2
            }
            ['\'', ..] => quote(rest),
            ['"', ..] => string(rest),
            [first, ..] if first.is_alphabetic() || *first == '_' => word(rest, &mut found),
            [first, ..] if first.is_ascii_digit() => {
                rest.iter().take_while(|c| is_word(**c)).count()
            }
            [first, ..] => {
                if !first.is_whitespace() {
                    found.push(Token::Sign(*first));
                }
                1
            }
            [] => 1,
        };
    }
    found
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// An identifier, or the text that its letters begin: `r#".."#`, `b'x'`.
fn word(rest: &[char], found: &mut Vec<Token>) -> usize {
    let len = rest.iter().take_while(|c| is_word(**c)).count();
    let word: String = rest[..len].iter().collect();
    let after = &rest[len..];
    let hashes = after.iter().take_while(|c| **c == '#').count();
    match (word.as_str(), after) {
        ("r" | "br" | "cr", _) if after.get(hashes) == Some(&'"') => len + raw(after, hashes),
        ("b" | "c", ['"', ..]) => len + string(after),
        ("b", ['\'', ..]) => len + quote(after),
        ("r", ['#', ..]) => len + 1,
        _ => {
            found.push(Token::Word(word));
            len
        }
    }
}

/// The length of a comment, which may hold others.
fn comment(rest: &[char]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        match &rest[at..] {
            ['/', '*', ..] => {
                depth += 1;
                at += 2;
            }
            ['*', '/', ..] => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    break;
                }
            }
            _ => at += 1,
        }
    }
    at
}

/// The length of a text in double quotes.
fn string(rest: &[char]) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != '"' {
        at += if rest[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// The length of a text that begins and ends with so many `#`.
fn raw(rest: &[char], hashes: usize) -> usize {
    let mut at = hashes + 1;
    while at < rest.len() {
        let closed =
            rest[at] == '"' && rest[at + 1..].iter().take_while(|c| **c == '#').count() >= hashes;
        at += 1;
        if closed {
            break;
        }
    }
    at + hashes
}

/// The length of a character, or of a lifetime.
fn quote(rest: &[char]) -> usize {
    match rest {
        ['\'', '\\', _, ..] => 3 + rest[3..].iter().take_while(|c| **c != '\'').count() + 1,
        ['\'', _, '\'', ..] => 3,
        _ => 1 + rest[1..].iter().take_while(|c| is_word(**c)).count(),
    }
}

/// The tokens without attributes and what stands under `#[cfg(test)]`.
pub(crate) fn without_tests(all: &[Token]) -> Vec<Token> {
    let mut kept = Vec::with_capacity(all.len());
    let mut at = 0;
    while at < all.len() {
        match attribute(&all[at..]) {
            Some(len) if is_test(&all[at..at + len]) => {
                at += len;
                while let Some(len) = attribute(&all[at..]) {
                    at += len;
                }
                at += item(&all[at..]);
            }
            Some(len) => at += len,
            None => {
                kept.push(all[at].clone());
                at += 1;
            }
        }
    }
    kept
}

/// The length of an attribute that begins here.
fn attribute(rest: &[Token]) -> Option<usize> {
    let [first, second, ..] = rest else {
        return None;
    };
    (first.is('#') && second.is('[')).then(|| 1 + group(&rest[1..]))
}

fn is_test(attribute: &[Token]) -> bool {
    let words: Vec<&str> = attribute.iter().filter_map(Token::word).collect();
    words.first() == Some(&"cfg") && words.contains(&"test") && !words.contains(&"not")
}

/// The length of what is between a bracket and its other half, both included.
fn group(rest: &[Token]) -> usize {
    let mut depth = 0_usize;
    for (at, token) in rest.iter().enumerate() {
        match token {
            Token::Sign('(' | '[' | '{') => depth += 1,
            Token::Sign(')' | ']' | '}') => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
    }
    rest.len()
}

/// The length of the item, field or statement that begins here.
fn item(rest: &[Token]) -> usize {
    let words = rest.iter().filter_map(Token::word);
    let kind = words
        .take(4)
        .find(|word| ITEMS.contains(word))
        .unwrap_or_default();
    let to_semicolon = matches!(kind, "use" | "static" | "type");
    let is_item = !kind.is_empty();
    let mut at = 0;
    while at < rest.len() {
        match &rest[at] {
            Token::Sign(';') => return at + 1,
            Token::Sign(',') if !is_item => return at + 1,
            Token::Sign(')' | ']' | '}') => return at,
            Token::Sign('{') if !to_semicolon => {
                let body = group(&rest[at..]);
                return at + body;
            }
            Token::Sign('(' | '[' | '{') => at += group(&rest[at..]),
            _ => at += 1,
        }
    }
    rest.len()
}

const ITEMS: [&str; 12] = [
    "fn",
    "struct",
    "enum",
    "union",
    "trait",
    "impl",
    "mod",
    "use",
    "static",
    "type",
    "const",
    "macro_rules",
];
