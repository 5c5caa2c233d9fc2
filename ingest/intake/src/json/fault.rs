//! What is wrong with a JSON text, in serde_json's words: where in the whole payload, and what to do
//! where that can be seen there. Pure; must never decide what is taken.

use serde::de::IgnoredAny;
use serde_json::Error;
use serde_json::error::Category;
use serde_json::value::RawValue;

use crate::error::PayloadError;

/// What serde_json says of a piece of `payload` that begins at byte `begin`.
pub(super) fn located(error: &Error, payload: &str, begin: usize) -> PayloadError {
    let piece = payload.get(begin..).unwrap_or_default();
    let line_begin = match error.line() {
        0 | 1 => 0,
        line => {
            let mut ends = piece.match_indices('\n');
            ends.nth(line - 2).map_or(0, |(at, _)| at + 1)
        }
    };
    // Its columns count bytes, from 1.
    let end = begin + line_begin + error.column();
    let words = error.to_string();
    let suffix = format!(" at line {} column {}", error.line(), error.column());
    let words = words.strip_suffix(&suffix).unwrap_or(&words);
    let reason = match error.classify() {
        Category::Syntax if stops_in_text(payload, begin, end) => {
            format!("{words}: write it as an escape, an end of line as \\n")
        }
        Category::Syntax => format!("{words}{}", hint(payload, end)),
        _ => words.to_owned(),
    };
    at(payload, end.saturating_sub(1), reason)
}

/// A complaint about byte `at`.
pub(super) fn at(payload: &str, at: usize, reason: String) -> PayloadError {
    let before = payload.get(..floor(payload, at)).unwrap_or(payload);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default();
    PayloadError::Json {
        line,
        column: column.chars().count() + 1,
        reason,
    }
}

/// Whether a text is open before `end` in what begins at `begin`, and a control character but NUL
/// stands there.
fn stops_in_text(payload: &str, begin: usize, end: usize) -> bool {
    let is_control = matches!(payload.as_bytes().get(end), Some(1..0x20));
    let before = payload.get(begin..end).filter(|_| is_control);
    let read = before.map(serde_json::from_str::<IgnoredAny>);
    read.is_some_and(|read| read.is_err_and(|error| error.is_eof()))
}

/// What is to be seen where reading ended, just before `end`, and what to do.
fn hint(payload: &str, end: usize) -> String {
    let bytes = payload.as_bytes();
    let at = end.saturating_sub(1);
    if bytes.get(end) == Some(&0) || bytes.get(at) == Some(&0) {
        return ": there is a NUL byte".to_owned();
    }
    let word = word(payload, at);
    let is_quoted = payload.get(..offset(word, payload)).unwrap_or_default();
    let is_quoted = is_quoted.ends_with('"');
    let is_value = serde_json::from_str::<&RawValue>(word).is_ok();
    match word.trim_start_matches('-').to_ascii_lowercase().as_str() {
        _ if is_quoted => format!(" at {word:?}"),
        "nan" | "infinity" | "inf" => {
            format!(": {word} is no JSON: send null, or leave the field out")
        }
        "none" | "null" | "nil" | "undefined" if !is_value => {
            format!(": {word} is no JSON: send null")
        }
        lower @ ("true" | "false") if !is_value => {
            format!(": {word} is no JSON: send {lower}")
        }
        lower if lower.starts_with('\'') => format!(" at {word:?}: JSON's quotes are double ones"),
        _ if is_value && is_behind_comma(payload, word) => {
            format!(" at {word:?}: if it is part of a number, JSON has a decimal point")
        }
        _ if !is_value && looks_like_number(word) => {
            format!(": {word:?} is no JSON number: send it as text")
        }
        _ => format!(" at {word:?}"),
    }
}

/// Whether digits and a comma stand just before these digits, which are part of the payload.
fn is_behind_comma(payload: &str, word: &str) -> bool {
    let before = payload.get(..offset(word, payload)).unwrap_or_default();
    let mut before = before.bytes().rev();
    let is_digit = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_digit());
    is_digit(word.bytes().next()) && before.next() == Some(b',') && is_digit(before.next())
}

fn looks_like_number(word: &str) -> bool {
    let unsigned = word.strip_prefix(['+', '-']).unwrap_or(word);
    let unsigned = unsigned.strip_prefix('.').unwrap_or(unsigned);
    unsigned.starts_with(|c: char| c.is_ascii_digit())
}

/// What is between separators around byte `at`, or just before it; at most so much.
fn word(payload: &str, at: usize) -> &str {
    let is_separator = |c: char| c.is_ascii_whitespace() || ",:{}[]\"".contains(c);
    let (before, behind) = payload.split_at(floor(payload, at));
    // Behind a number that is broken off stands a separator.
    let first = if behind.starts_with('"') { 0 } else { MAX_WORD };
    let begin = before
        .char_indices()
        .rev()
        .take(first)
        .take_while(|(_, c)| !is_separator(*c))
        .last()
        .map_or(before.len(), |(begin, _)| begin);
    let inside = behind.char_indices().take(MAX_WORD);
    let end = inside
        .take_while(|(_, c)| !is_separator(*c))
        .last()
        .map_or(0, |(end, c)| end + c.len_utf8());
    match payload.get(begin..before.len() + end) {
        Some(word) if !word.is_empty() => word,
        _ => {
            let first = behind.chars().next().map_or(0, char::len_utf8);
            behind.get(..first).unwrap_or_default()
        }
    }
}

/// At which byte of a text this piece of it begins.
pub(super) fn offset(piece: &str, text: &str) -> usize {
    piece.as_ptr().addr().saturating_sub(text.as_ptr().addr())
}

/// The beginning of the character that byte `at` is part of.
fn floor(text: &str, at: usize) -> usize {
    let at = at.min(text.len());
    (0..=at)
        .rev()
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(0)
}

/// Most characters of a payload that a complaint repeats, before and behind a place.
const MAX_WORD: usize = 20;
