//! JSON's grammar, piece by piece: strings, numbers, words, whole values as text. Everything is
//! borrowed from the payload where it can be. Pure; must never panic on any text, nor take what
//! RFC 8259 does not allow.

use std::borrow::Cow;

/// What is wrong, and at which byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) at: usize,
    pub(super) reason: String,
}

/// What is left of a payload.
#[derive(Debug)]
pub(super) struct Scan<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scan<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// The next byte that is no white space, not taken.
    pub(super) fn peek(&mut self) -> Option<u8> {
        loop {
            match self.byte() {
                Some(byte) if is_blank(byte) => self.at += 1,
                byte => return byte,
            }
        }
    }

    /// Takes the next byte that is no white space, if it is this one.
    pub(super) fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// Takes the next byte that is no white space, which must be this one.
    pub(super) fn expect(&mut self, byte: u8) -> Result<(), Fault> {
        if self.take(byte) {
            return Ok(());
        }
        Err(self.expected(&format!("`{}`", char::from(byte))))
    }

    /// Whether the array that begins here holds objects, or nothing.
    pub(super) fn is_array_of_rows(&self) -> bool {
        let inner = self.rest().strip_prefix('[').unwrap_or_default();
        inner.trim_start().starts_with(['{', ']'])
    }

    /// A complaint about what comes next.
    pub(super) fn expected(&mut self, what: &str) -> Fault {
        let reason = match self.peek() {
            None => format!("it ends where {what} is expected"),
            Some(_) => format!("expected {what}, found {:?}", self.word()),
        };
        self.fault(reason)
    }

    pub(super) fn fault(&self, reason: impl Into<String>) -> Fault {
        Fault {
            at: self.at,
            reason: reason.into(),
        }
    }

    /// A string, without its quotes.
    pub(super) fn string(&mut self) -> Result<Cow<'a, str>, Fault> {
        self.expect(b'"')?;
        let begin = self.at;
        let mut owned: Option<String> = None;
        let mut plain = begin;
        loop {
            let special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20);
            let ordinary = self.bytes().iter().take_while(|byte| !special(byte));
            self.at += ordinary.count();
            match self.byte() {
                Some(b'"') => {
                    let last = self.slice(plain, self.at);
                    self.at += 1;
                    return Ok(match owned {
                        None => Cow::Borrowed(last),
                        Some(mut text) => {
                            text.push_str(last);
                            Cow::Owned(text)
                        }
                    });
                }
                Some(b'\\') => {
                    let before = self.slice(plain, self.at);
                    let escaped = self.escaped()?;
                    let text = owned.get_or_insert_default();
                    text.push_str(before);
                    text.push(escaped);
                    plain = self.at;
                }
                Some(0) => return Err(self.fault("there is a NUL byte inside a text")),
                Some(_) => {
                    let reason = "there is a control character inside a text: write it as an \
                                  escape, an end of line as \\n";
                    return Err(self.fault(reason));
                }
                None => {
                    self.at = begin.saturating_sub(1);
                    return Err(self.fault("the text that begins here is never closed"));
                }
            }
        }
    }

    /// The character that an escape stands for.
    fn escaped(&mut self) -> Result<char, Fault> {
        let begin = self.at;
        self.at += 1;
        let byte = self.byte();
        self.at += 1;
        Ok(match byte {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let half = |at, reason: &str| Fault {
                    at,
                    reason: reason.to_owned(),
                };
                let first = self.hex4(begin)?;
                if !(0xd800..0xdc00).contains(&first) {
                    return char::from_u32(first)
                        .ok_or_else(|| half(begin, "half a surrogate pair in a text"));
                }
                let pair = self.rest().starts_with("\\u");
                self.at += if pair { 2 } else { 0 };
                let second = if pair { self.hex4(begin)? } else { 0 };
                if !(0xdc00..0xe000).contains(&second) {
                    return Err(half(begin, "half a surrogate pair in a text"));
                }
                let code = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                char::from_u32(code).ok_or_else(|| half(begin, "no character"))?
            }
            _ => {
                self.at = begin;
                return Err(self.fault("there is no such escape in JSON"));
            }
        })
    }

    fn hex4(&mut self, begin: usize) -> Result<u32, Fault> {
        let digits = self.text.get(self.at..self.at + 4);
        let plain = digits.filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let code = plain.and_then(|text| u32::from_str_radix(text, 16).ok());
        self.at += 4;
        code.ok_or_else(|| Fault {
            at: begin,
            reason: "an escape \\u needs four hexadecimal digits".to_owned(),
        })
    }

    /// A number, as it is written.
    pub(super) fn number(&mut self) -> Result<&'a str, Fault> {
        let begin = self.at;
        self.at += usize::from(self.byte() == Some(b'-'));
        let padded = self.byte() == Some(b'0');
        let whole = self.digits();
        let mut good = whole > 0 && !(padded && whole > 1);
        if self.byte() == Some(b'.') {
            self.at += 1;
            good &= self.digits() > 0;
        }
        if matches!(self.byte(), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.byte(), Some(b'+' | b'-')));
            good &= self.digits() > 0;
        }
        let joined = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'+' | b'-');
        if good && !self.byte().is_some_and(joined) {
            return Ok(self.slice(begin, self.at));
        }
        self.at = begin;
        let word = self.word();
        Err(self.fault(format!("{word:?} is no JSON number: send it as text")))
    }

    fn digits(&mut self) -> usize {
        let digits = self.bytes().iter().take_while(|byte| byte.is_ascii_digit());
        let count = digits.count();
        self.at += count;
        count
    }

    /// `true`, `false` or `null`: none for the last.
    pub(super) fn literal(&mut self) -> Result<Option<bool>, Fault> {
        let word = self.word();
        let value = match word {
            "true" => Some(true),
            "false" => Some(false),
            "null" => None,
            "NaN" | "nan" | "Infinity" | "-Infinity" | "inf" | "-inf" => {
                let reason = format!("{word} is no JSON: send null, or leave the field out");
                return Err(self.fault(reason));
            }
            _ => return Err(self.expected("a value")),
        };
        self.at += word.len();
        Ok(value)
    }

    /// A whole value as text, without white space between its pieces; `depth` counts what it is in.
    pub(super) fn raw(&mut self, depth: usize) -> Result<Cow<'a, str>, Fault> {
        self.peek();
        let begin = self.at;
        self.skip(depth)?;
        Ok(compact(self.slice(begin, self.at)))
    }

    fn skip(&mut self, depth: usize) -> Result<(), Fault> {
        match self.peek() {
            Some(open @ (b'[' | b'{')) => {
                self.enter(depth)?;
                self.at += 1;
                let close = if open == b'[' { b']' } else { b'}' };
                if self.take(close) {
                    return Ok(());
                }
                loop {
                    if open == b'{' {
                        self.string()?;
                        self.expect(b':')?;
                    }
                    self.skip(depth + 1)?;
                    if self.take(close) {
                        return Ok(());
                    }
                    if !self.take(b',') {
                        return Err(self.expected(&format!("`,` or `{}`", char::from(close))));
                    }
                }
            }
            Some(b'"') => self.string().map(drop),
            Some(b'-' | b'0'..=b'9') => self.number().map(drop),
            _ => self.literal().map(drop),
        }
    }

    /// Whether a value may be in so many others.
    pub(super) fn enter(&self, depth: usize) -> Result<(), Fault> {
        if depth < MAX_DEPTH {
            return Ok(());
        }
        Err(self.fault(format!("recursion limit of {MAX_DEPTH} levels exceeded")))
    }

    /// What stands here up to the next separator, at most so much.
    fn word(&self) -> &'a str {
        let rest = self.rest();
        let separator = |c: char| c.is_ascii_whitespace() || matches!(c, ',' | ':' | '}' | ']');
        let long = rest
            .char_indices()
            .nth(MAX_WORD)
            .map_or(rest.len(), |(at, _)| at);
        let end = rest.find(separator).unwrap_or(long).min(long);
        match rest.get(..end) {
            Some(word) if !word.is_empty() => word,
            _ => rest.get(..1).unwrap_or_default(),
        }
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn bytes(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn slice(&self, begin: usize, end: usize) -> &'a str {
        self.text.get(begin..end).unwrap_or_default()
    }
}

/// A valid JSON text without the white space that is outside its strings.
fn compact(text: &str) -> Cow<'_, str> {
    let mut out: Option<String> = None;
    let (mut in_text, mut escaped, mut kept) = (false, false, 0);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            _ if !in_text && is_blank(byte) => {
                let out = out.get_or_insert_with(|| String::with_capacity(text.len()));
                out.push_str(text.get(kept..at).unwrap_or_default());
                kept = at + 1;
            }
            _ => {}
        }
    }
    match out {
        None => Cow::Borrowed(text),
        Some(mut out) => {
            out.push_str(text.get(kept..).unwrap_or_default());
            Cow::Owned(out)
        }
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// How many values may be in each other.
const MAX_DEPTH: usize = 128;

/// Most characters of a payload that a complaint repeats.
const MAX_WORD: usize = 20;
