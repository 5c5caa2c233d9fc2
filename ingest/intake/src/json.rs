//! JSON to rows: an object, an array of objects, or JSON lines. Values are borrowed from the
//! payload where they can be. Pure; must never panic on any bytes, nor lose digits unnoticed.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::de::SliceRead;
use wal::Value;

use crate::decoded::Decoded;
use crate::error::PayloadError;
use crate::timestamp::Unit;

/// Decodes a payload, whole or not at all.
///
/// # Errors
/// What is wrong with the payload.
pub fn decode(payload: &[u8]) -> Result<Decoded<'_>, PayloadError> {
    decode_as(payload, Unit::Auto, None)
}

/// The same with times of a known unit, and at most so many rows.
pub(crate) fn decode_as(
    payload: &[u8],
    unit: Unit,
    max_rows: Option<usize>,
) -> Result<Decoded<'_>, PayloadError> {
    let mut out = Decoded::new(unit, max_rows);
    let first = payload.iter().find(|byte| !byte.is_ascii_whitespace());
    let mut json = serde_json::Deserializer::from_slice(payload);
    let result = match first {
        None => return Err(PayloadError::Empty),
        Some(b'{') => lines(&mut json, &mut out),
        Some(b'[') => Rows(&mut out)
            .deserialize(&mut json)
            .and_then(|()| json.end()),
        Some(_) => return Err(PayloadError::NotJson),
    };
    if let Some(error) = out.error.take() {
        return Err(error);
    }
    result.map_err(|error| PayloadError::Json(error.to_string()))?;
    if out.is_empty() {
        return Err(PayloadError::NoRows);
    }
    if out.has_huge_numbers {
        refuse_huge_integers(payload)?;
    }
    Ok(out)
}

/// Objects one after the other, with white space between them.
fn lines<'a>(
    json: &mut serde_json::Deserializer<SliceRead<'a>>,
    out: &mut Decoded<'a>,
) -> serde_json::Result<()> {
    loop {
        Object(out).deserialize(&mut *json)?;
        if json.end().is_ok() {
            return Ok(());
        }
    }
}

/// JSON numbers beyond 64 bits arrive as floats; an integer must not lose digits unnoticed.
fn refuse_huge_integers(payload: &[u8]) -> Result<(), PayloadError> {
    let mut in_text = false;
    let mut rest = payload;
    while let Some((byte, after)) = rest.split_first() {
        rest = match byte {
            b'\\' if in_text => after.get(1..).unwrap_or_default(),
            b'"' => {
                in_text = !in_text;
                after
            }
            b'0'..=b'9' if !in_text => {
                let part =
                    |byte: &u8| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-');
                let (number, after) =
                    rest.split_at(rest.iter().take_while(|byte| part(byte)).count());
                if number.len() >= 19 && number.iter().all(u8::is_ascii_digit) {
                    let digits: String = number.iter().take(40).copied().map(char::from).collect();
                    return Err(PayloadError::Json(format!(
                        "integer {digits} exceeds 64 bits"
                    )));
                }
                after
            }
            _ => after,
        };
    }
    Ok(())
}

/// An array of objects.
struct Rows<'o, 'a>(&'o mut Decoded<'a>);

impl<'a> DeserializeSeed<'a> for Rows<'_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_seq(self)
    }
}

impl<'a> Visitor<'a> for Rows<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of objects")
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut rows: A) -> Result<(), A::Error> {
        while rows.next_element_seed(Object(self.0))?.is_some() {}
        Ok(())
    }
}

/// One object: one row.
struct Object<'o, 'a>(&'o mut Decoded<'a>);

impl<'a> DeserializeSeed<'a> for Object<'_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_map(self)
    }
}

impl<'a> Visitor<'a> for Object<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        let out = self.0;
        while let Some(Text(name)) = map.next_key_seed(TextSeed)? {
            map.next_value_seed(Field {
                out: &mut *out,
                name,
                top_level: true,
            })?;
        }
        out.finish_row().map_err(|error| {
            let text = error.to_string();
            out.error = Some(error);
            A::Error::custom(text)
        })
    }
}

/// One value under its full name.
struct Field<'o, 'a> {
    out: &'o mut Decoded<'a>,
    name: Cow<'a, str>,
    /// Only here a field can be the time.
    top_level: bool,
}

impl<'a> Field<'_, 'a> {
    fn put(self, value: Value<'a>) {
        if self.top_level {
            self.out.put(self.name, value);
        } else {
            self.out.put_nested(self.name, value);
        }
    }
}

impl<'a> DeserializeSeed<'a> for Field<'_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'a> Visitor<'a> for Field<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, text, boolean, null or object")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.put(Value::Bool(value));
        Ok(())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.put(Value::Int(value));
        Ok(())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        let Ok(value) = i64::try_from(value) else {
            return Err(E::custom(format_args!("integer {value} exceeds 64 bits")));
        };
        self.put(Value::Int(value));
        Ok(())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.out.has_huge_numbers |= value.abs() >= 9.2e18;
        self.put(Value::Float(value));
        Ok(())
    }

    fn visit_borrowed_str<E: Error>(self, value: &'a str) -> Result<(), E> {
        self.put(Value::Text(Cow::Borrowed(value)));
        Ok(())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.put(Value::Text(Cow::Owned(value.to_owned())));
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Text(name)) = map.next_key_seed(TextSeed)? {
            if self.name.len() + name.len() >= wal::MAX_NAME {
                let reason = format_args!("a field's name is longer than {} bytes", wal::MAX_NAME);
                return Err(A::Error::custom(reason));
            }
            let name = Cow::Owned(format!("{}_{name}", self.name));
            map.next_value_seed(Field {
                out: &mut *self.out,
                name,
                top_level: false,
            })?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut seq: A) -> Result<(), A::Error> {
        if seq.next_element::<IgnoredAny>()?.is_none() {
            return Ok(());
        }
        Err(A::Error::custom(format_args!(
            "field {:?} is an array",
            self.name
        )))
    }
}

/// Text, borrowed unless it had escapes.
struct Text<'a>(Cow<'a, str>);
struct TextSeed;

impl<'a> DeserializeSeed<'a> for TextSeed {
    type Value = Text<'a>;

    fn deserialize<D: Deserializer<'a>>(self, json: D) -> Result<Text<'a>, D::Error> {
        json.deserialize_str(self)
    }
}

impl<'a> Visitor<'a> for TextSeed {
    type Value = Text<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_str<E: Error>(self, value: &'a str) -> Result<Text<'a>, E> {
        Ok(Text(Cow::Borrowed(value)))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Text<'a>, E> {
        Ok(Text(Cow::Owned(value.to_owned())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(payload: &str) -> Vec<(i64, Vec<(String, String)>)> {
        let decoded = decode(payload.as_bytes()).expect("decodes");
        decoded
            .rows(&[], -1)
            .map(|row| {
                let fields = row
                    .fields
                    .iter()
                    .map(|(k, v)| (k.to_string(), format!("{v:?}")));
                (row.time, fields.collect())
            })
            .collect()
    }

    fn reason(payload: &str) -> String {
        decode(payload.as_bytes()).expect_err("refused").to_string()
    }

    #[test]
    fn objects_arrays_and_lines_become_rows() {
        let one = shape(r#"{"t":21.5,"n":3,"ok":true,"s":"a\"b","none":null,"in":{"x":{"y":1}}}"#);
        let names: Vec<&str> = one[0].1.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["t", "n", "ok", "s", "in_x_y"]);
        assert_eq!(one[0].0, -1);
        assert_eq!(shape(r#"[{"a":1,"ts":1},{"a":2}]"#).len(), 2);
        assert_eq!(shape("{\"a\":1}\n{\"a\":2}\r\n{\"a\":3}\n").len(), 3);
        assert_eq!(shape(r#"{"a":1,"ts":1}"#)[0].0, 1_000_000_000);
    }

    #[test]
    fn the_first_time_field_is_the_time_and_the_others_stay_fields() {
        let rows = shape(r#"{"timestamp":7,"time":2,"a":1}"#);
        assert_eq!(rows[0].0, 2_000_000_000);
        assert_eq!(rows[0].1.len(), 2);
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert_eq!(reason(" "), "the payload is empty");
        assert!(reason("hello").contains("neither a JSON object"));
        assert!(reason(r#"{"a":NaN}"#).contains("invalid JSON"));
        assert!(reason(r#"{"a":1e999}"#).contains("out of range"));
        assert!(reason(r#"{"a":[1]}"#).contains(r#"field "a" is an array"#));
        assert!(reason(r#"{"a":9223372036854775808}"#).contains("exceeds 64 bits"));
        assert!(reason(r#"{"a":123456789012345678901234567890}"#).contains("exceeds 64 bits"));
        assert!(reason(r#"{"time":"noon","a":1}"#).contains("time field \"time\""));
        assert!(reason(r#"{"a":1}{"b":"#).contains("invalid JSON"));
        assert!(
            reason(&format!("{}1{}", "{\"a\":".repeat(500), "}".repeat(500))).contains("recursion")
        );
        assert_eq!(reason("[]"), "an array without rows");
        let long = "n".repeat(250);
        assert!(reason(&format!(r#"{{"{long}":{{"123456":1}}}}"#)).contains("longer than 256"));
        assert!(decode(format!(r#"{{"{long}":{{"12345":1}}}}"#).as_bytes()).is_ok());
        assert!(decode(br#"{"a":1e30,"b":"12345678901234567890123"}"#).is_ok());
    }

    #[test]
    fn damaged_payloads_never_panic() {
        let seed = fastrand::u64(..);
        println!("seed={seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let valid =
            r#"[{"t":21.5,"ts":"2023-11-14T22:13:20Z","in":{"x":-1}},{"s":"\u00e9","b":null}]"#;
        for _ in 0..20_000 {
            let mut bytes = valid.as_bytes().to_vec();
            for _ in 0..random.usize(1..6) {
                let at = random.usize(..bytes.len());
                match random.u8(..3) {
                    0 => bytes[at] = random.u8(..),
                    1 => bytes.truncate(at.max(1)),
                    _ => bytes.insert(at, random.u8(..)),
                }
            }
            let _ = decode(&bytes);
        }
    }
}
