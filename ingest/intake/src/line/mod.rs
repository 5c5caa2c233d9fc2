//! InfluxDB line protocol: one line is one row, of the table that it names. A line that cannot be
//! read is told with its number and does not hold up the others. Pure; must never panic on any
//! text.
//!
//! ```text
//! measurement[,tag=value...] field=value[,field=value...] [time]
//! ```

use std::borrow::Cow;

use wal::Value;

use crate::number;
use crate::record::Record;
use crate::timestamp::{self, Unit};

/// What one line says.
#[derive(Debug, PartialEq)]
pub(crate) struct Line<'a> {
    pub(crate) table: Cow<'a, str>,
    pub(crate) record: Record<'a>,
}

/// A line that cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadLine<'a> {
    pub(crate) line: usize,
    pub(crate) text: &'a str,
    pub(crate) reason: String,
}

/// Reads a text line by line; `arrival` is the time of lines that have none.
pub(crate) fn read(
    text: &str,
    unit: Unit,
    arrival: i64,
) -> impl Iterator<Item = Result<Line<'_>, BadLine<'_>>> {
    let mut rest = text;
    let mut number = 0;
    let mut open_quotes_left = OPEN_QUOTES;
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let (line, after, open) = split_line(rest, open_quotes_left > 0);
            open_quotes_left -= usize::from(open);
            let first = number + 1;
            rest = after.strip_prefix('\n').unwrap_or(after);
            number += 1 + line.matches('\n').count();
            let line = line.strip_suffix('\r').unwrap_or(line);
            let trimmed = line.trim_start();
            if trimmed.is_empty() || trimmed.starts_with('#') {
                continue;
            }
            let read = Scan { rest: trimmed }.line(first, unit, arrival);
            return Some(read.map_err(|reason| BadLine {
                line: first,
                text: line,
                reason: reason + other_format(trimmed),
            }));
        }
        None
    })
}

/// What a line that cannot be read seems to be instead, and where that is taken.
fn other_format(line: &str) -> &'static str {
    if line.starts_with(['{', '[']) {
        "; it looks like JSON: POST that to /api/v1/ingest/TABLE"
    } else if line.contains([',', ';', '\t']) && !line.contains('=') {
        "; if it is CSV, POST it to /api/v1/ingest/TABLE with `Content-Type: text/csv`"
    } else {
        ""
    }
}

/// Splits before the first end of a line that is not inside quotes; where the quotes never end,
/// which comes third, or are not to be followed, before the first one at all.
fn split_line(text: &str, follow_quotes: bool) -> (&str, &str, bool) {
    let simple = text.find('\n').unwrap_or(text.len());
    let (line, after) = text.split_at(simple);
    let begun = text.trim_start_matches([' ', '\t', '\r']);
    if !follow_quotes || !line.contains('"') || begun.starts_with('#') {
        return (line, after, false);
    }
    let before = text.len() - begun.len();
    // Quotes mean something only behind the first blank, where a field's value begins or ends.
    let (mut fields, mut quoted, mut begins, mut escaped) = (false, false, false, false);
    for (at, byte) in text.bytes().enumerate().skip(before) {
        let ordinary = std::mem::take(&mut escaped);
        let value_begins = std::mem::take(&mut begins);
        match byte {
            _ if ordinary => {}
            b'\\' => escaped = true,
            b'"' if quoted || value_begins => quoted = !quoted,
            b'\n' if !quoted => {
                let (line, after) = text.split_at(at);
                return (line, after, false);
            }
            b' ' => fields = true,
            b'=' => begins = fields,
            _ => {}
        }
    }
    if quoted {
        (line, after, true)
    } else {
        (text, "", false)
    }
}

/// What is left of one line.
struct Scan<'a> {
    rest: &'a str,
}

impl<'a> Scan<'a> {
    fn line(&mut self, line: usize, unit: Unit, arrival: i64) -> Result<Line<'a>, String> {
        let table = self.name(b", ");
        if table.is_empty() {
            return Err("a measurement's name is missing".to_owned());
        }
        let mut tags = Vec::new();
        while self.skip(b',') {
            let (name, value) = (self.name(b",= "), self.value_of("tag")?);
            if name.is_empty() || value.is_empty() {
                return Err("a tag needs a name and a value".to_owned());
            }
            tags.push((name, value));
        }
        if !self.blanks() {
            return Err("a line needs at least one field".to_owned());
        }
        let mut fields = Vec::new();
        loop {
            let name = self.name(b",= ");
            if name.is_empty() || !self.skip(b'=') {
                return Err("a field needs a name, = and a value".to_owned());
            }
            let value = self.field_value(&name)?;
            fields.push((name, value));
            if !self.skip(b',') {
                break;
            }
        }
        // Most lines are short: what a vector takes in advance would be more than what is in it.
        fields.shrink_to_fit();
        tags.shrink_to_fit();
        let time = self.time(unit)?.unwrap_or(arrival);
        Ok(Line {
            table,
            record: Record {
                line,
                time,
                tags,
                fields,
            },
        })
    }

    /// Everything up to one of these bytes; a backslash before one of them makes it part of the
    /// name.
    fn name(&mut self, ends: &'static [u8]) -> Cow<'a, str> {
        let bytes = self.rest.as_bytes();
        let (mut at, mut escaped) = (0, false);
        while let Some(byte) = bytes.get(at) {
            let next = bytes.get(at + 1);
            if *byte == b'\\' && next.is_some_and(|next| ends.contains(next)) {
                escaped = true;
                at += 1;
            } else if ends.contains(byte) {
                break;
            }
            at += 1;
        }
        let raw = self.take(at);
        if escaped {
            Cow::Owned(unescape(raw, ends))
        } else {
            Cow::Borrowed(raw)
        }
    }

    fn value_of(&mut self, what: &str) -> Result<Cow<'a, str>, String> {
        if !self.skip(b'=') {
            return Err(format!("a {what} needs a name, = and a value"));
        }
        Ok(self.name(b",= "))
    }

    fn field_value(&mut self, name: &str) -> Result<Value<'a>, String> {
        if self.skip(b'"') {
            return self.quoted(name).map(Value::Text);
        }
        let raw = self.take(self.rest.find([',', ' ']).unwrap_or(self.rest.len()));
        let told = |reason| format!("field {:?}: {reason}", number::clipped(name));
        number_or_boolean(raw).map_err(told)
    }

    /// The text up to the closing quote; `\"` and `\\` stand for what is behind the backslash.
    fn quoted(&mut self, name: &str) -> Result<Cow<'a, str>, String> {
        let bytes = self.rest.as_bytes();
        let (mut at, mut escaped) = (0, false);
        while let Some(byte) = bytes.get(at) {
            match byte {
                b'"' => {
                    let raw = self.take(at);
                    self.skip(b'"');
                    return Ok(if escaped {
                        Cow::Owned(unescape(raw, QUOTED))
                    } else {
                        Cow::Borrowed(raw)
                    });
                }
                b'\\' if bytes.get(at + 1).is_some_and(|next| QUOTED.contains(next)) => {
                    escaped = true;
                    at += 2;
                }
                _ => at += 1,
            }
        }
        Err(format!("field {name:?}: the closing quote is missing"))
    }

    fn time(&mut self, unit: Unit) -> Result<Option<i64>, String> {
        let spaced = self.blanks();
        let rest = self.rest.trim_end();
        if rest.is_empty() {
            return Ok(None);
        }
        match timestamp::parse_number(rest, unit) {
            Some(time) if spaced => time.map(Some),
            _ => Err(format!(
                "{:?} behind the fields is no time: a number is, of nanoseconds unless `precision` \
                 says otherwise",
                number::clipped(rest)
            )),
        }
    }

    /// The next so many bytes, which end before an ASCII byte.
    fn take(&mut self, len: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(len);
        self.rest = rest;
        taken
    }

    fn skip(&mut self, byte: u8) -> bool {
        match self.rest.strip_prefix(char::from(byte)) {
            Some(rest) => self.rest = rest,
            None => return false,
        }
        true
    }

    /// Skips spaces; whether there was one.
    fn blanks(&mut self) -> bool {
        let found = self.skip(b' ');
        while self.skip(b' ') {}
        found
    }
}

/// Drops the backslash before every byte that it makes ordinary.
fn unescape(raw: &str, special: &[u8]) -> String {
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((before, behind)) = rest.split_once('\\') {
        out.push_str(before);
        let mut chars = behind.chars();
        match chars.next() {
            Some(next) if special.iter().any(|byte| char::from(*byte) == next) => {
                out.push(next);
                rest = chars.as_str();
            }
            _ => {
                out.push('\\');
                rest = behind;
            }
        }
    }
    out.push_str(rest);
    out
}

fn number_or_boolean(raw: &str) -> Result<Value<'static>, String> {
    let truth = match raw {
        "t" | "T" | "true" | "True" | "TRUE" => Some(true),
        "f" | "F" | "false" | "False" | "FALSE" => Some(false),
        _ => None,
    };
    if let Some(truth) = truth {
        return Ok(Value::Bool(truth));
    }
    let is_whole = |digits: &str| !digits.contains(['.', 'e', 'E']) && number::is_decimal(digits);
    // Unsigned ones are stored as integers; what does not fit is refused, never rounded.
    let signed = raw.strip_suffix('i');
    let unsigned = raw
        .strip_suffix('u')
        .filter(|digits| !digits.starts_with(['+', '-']));
    if let Some(digits) = signed.or(unsigned).filter(|digits| is_whole(digits)) {
        return digits
            .parse()
            .map(Value::Int)
            .map_err(|_| number::too_long(digits));
    }
    if number::is_decimal(raw) {
        return number::float(raw).map(Value::Float);
    }
    let shown = number::clipped(raw);
    let nothing = ["nan", "inf", "infinity", "null", "none"];
    let word = raw.trim_start_matches(['+', '-']);
    if nothing.iter().any(|name| word.eq_ignore_ascii_case(name)) {
        return Err(format!("{shown:?} cannot be stored: leave the field out"));
    }
    Err(format!("{shown:?} is no number, boolean or quoted text"))
}

/// Bytes that a backslash makes ordinary inside quotes.
const QUOTED: &[u8] = b"\"\\";

/// Times that a quote is looked for to the end of the text in vain; after that a line ends where it
/// seems to.
const OPEN_QUOTES: usize = 16;

#[cfg(test)]
mod tests;
