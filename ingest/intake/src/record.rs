//! One row on its way into the log, borrowed from its payload, with the tags that are its own.
//! Must never copy text that it can borrow.

use std::borrow::Cow;

use wal::Value;

/// A name and its value.
pub(crate) type Field<'a> = (Cow<'a, str>, Value<'a>);

/// A row with the place it came from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Record<'a> {
    /// Line of the payload, from 1; 0 where lines mean nothing.
    pub(crate) line: usize,
    /// Unix nanoseconds.
    pub(crate) time: i64,
    pub(crate) tags: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    pub(crate) fields: Vec<Field<'a>>,
}

impl<'a> Record<'a> {
    /// A row whose tags are among its fields, under these names.
    pub(crate) fn new(line: usize, time: i64, fields: Vec<Field<'a>>, tags: &[String]) -> Self {
        let is_tag = |name: &str| tags.iter().any(|tag| tag == name);
        let (tag_fields, mut fields): (Vec<_>, Vec<_>) =
            fields.into_iter().partition(|(name, _)| is_tag(name));
        // Most rows are small: what a vector takes in advance would be more than what is in it.
        fields.shrink_to_fit();
        let tags = tag_fields
            .into_iter()
            .map(|(name, value)| (name, text(value)));
        Self {
            line,
            time,
            tags: tags.collect(),
            fields,
        }
    }
}

/// A value as the text of a tag.
fn text(value: Value<'_>) -> Cow<'_, str> {
    match value {
        Value::Text(text) => text,
        Value::Int(number) => Cow::Owned(number.to_string()),
        Value::Float(number) => Cow::Owned(number.to_string()),
        Value::Bool(truth) => Cow::Owned(truth.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_that_say_who_become_tags() {
        let field = |name, value| (Cow::Borrowed(name), value);
        let fields = vec![
            field("site", Value::Text("a".into())),
            field("t", Value::Float(1.5)),
            field("unit", Value::Int(7)),
        ];
        let names = ["unit".to_owned(), "site".to_owned(), "gone".to_owned()];
        let record = Record::new(3, 9, fields, &names);
        let tags: Vec<(&str, &str)> = record.tags.iter().map(|(n, v)| (&**n, &**v)).collect();
        assert_eq!(tags, [("site", "a"), ("unit", "7")]);
        assert_eq!(record.fields, [field("t", Value::Float(1.5))]);
    }
}
