//! The formats an answer can take. Owns their names and media types; must never know how one is
//! written.

use crate::coding::Coding;

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Output {
    pub format: Format,
    /// How its bytes may be coded, where there are enough of them.
    pub coding: Option<Coding>,
    /// Whether JSON has integers beyond 2^53 - 1 as texts.
    pub big_integers_as_text: bool,
    /// Whether times are those of the statement's time zone, rather than UTC.
    pub local_times: bool,
}

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// One array of objects.
    #[default]
    Json,
    /// One object per line.
    JsonLines,
    /// A header line, then one line per row.
    Csv,
    /// An Arrow IPC stream.
    Arrow,
    /// A Parquet file.
    Parquet,
    /// A table for people, cut at a number of rows.
    Pretty,
    /// Names and types of the columns, then an array for each row.
    JsonColumns,
}

impl Format {
    /// The format called `name` in a request, by any of its names or its media type.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let name = name.trim().to_ascii_lowercase();
        let alias = ALIASES.iter().find(|(known, _)| *known == name);
        let media = || MEDIA_TYPES.iter().find(|(known, _)| *known == name);
        alias.or_else(media).map(|(_, format)| *format)
    }

    /// Names that a request may use, one for each format.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMES.iter().copied()
    }

    /// Every media type that a client may ask for, the most usual first.
    pub fn media_types() -> impl Iterator<Item = (&'static str, Self)> {
        MEDIA_TYPES.iter().copied()
    }

    /// Value of the `Content-Type` header.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json | Self::JsonColumns => "application/json",
            Self::JsonLines => "application/jsonl",
            Self::Csv => "text/csv; charset=utf-8",
            Self::Arrow => "application/vnd.apache.arrow.stream",
            Self::Parquet => "application/vnd.apache.parquet",
            Self::Pretty => "text/plain; charset=utf-8",
        }
    }

    /// Whether readers other than people and JSON parsers take the Arrow types as they are.
    pub(crate) fn is_typed(self) -> bool {
        matches!(self, Self::Arrow | Self::Parquet)
    }

    /// Whether its bytes are compressed already.
    pub(crate) fn is_compressed(self) -> bool {
        self == Self::Parquet
    }
}

const NAMES: [&str; 7] = [
    "json",
    "jsonl",
    "csv",
    "arrow",
    "parquet",
    "pretty",
    "json_columns",
];

const ALIASES: &[(&str, Format)] = &[
    ("json", Format::Json),
    ("jsonl", Format::JsonLines),
    ("ndjson", Format::JsonLines),
    ("jsonlines", Format::JsonLines),
    ("json_lines", Format::JsonLines),
    ("csv", Format::Csv),
    ("arrow", Format::Arrow),
    ("arrow_stream", Format::Arrow),
    ("arrow-stream", Format::Arrow),
    ("ipc", Format::Arrow),
    ("parquet", Format::Parquet),
    ("pretty", Format::Pretty),
    ("table", Format::Pretty),
    ("text", Format::Pretty),
    ("json_columns", Format::JsonColumns),
    ("json-columns", Format::JsonColumns),
];

const MEDIA_TYPES: &[(&str, Format)] = &[
    ("application/json", Format::Json),
    ("application/jsonl", Format::JsonLines),
    ("application/x-ndjson", Format::JsonLines),
    ("application/ndjson", Format::JsonLines),
    ("application/json-lines", Format::JsonLines),
    ("text/csv", Format::Csv),
    ("application/vnd.apache.arrow.stream", Format::Arrow),
    ("application/vnd.apache.parquet", Format::Parquet),
    ("text/plain", Format::Pretty),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_in_any_case_and_by_what_others_call_them() {
        for (name, expected) in [
            ("jsonl", Some(Format::JsonLines)),
            ("NDJSON", Some(Format::JsonLines)),
            ("JSON", Some(Format::Json)),
            (" Csv ", Some(Format::Csv)),
            ("text/csv", Some(Format::Csv)),
            ("json_columns", Some(Format::JsonColumns)),
            ("xml", None),
            ("", None),
        ] {
            assert_eq!(Format::from_name(name), expected, "{name}");
        }
        assert!(Format::names().all(|name| Format::from_name(name).is_some()));
    }
}
