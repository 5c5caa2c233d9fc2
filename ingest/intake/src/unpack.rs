//! From the bytes of a payload to its text, the same for every way in: gzip and zstd are unpacked
//! within a bound, UTF-16 becomes UTF-8, and what some programs put around a text is dropped. Pure;
//! must never go on beyond the bound, nor change what is inside a text.

use std::borrow::Cow;
use std::io::{self, Read};

use flate2::read::MultiGzDecoder;
use zstd::stream::read::Decoder as ZstdDecoder;

use crate::error::PayloadError;
use crate::write::Encoding;

/// The text of a payload as it came in: packed or not, as its first bytes say.
///
/// # Errors
/// What is wrong with the payload.
pub fn text_of(payload: &[u8]) -> Result<Cow<'_, str>, PayloadError> {
    let room = Encoding::of(payload).room(payload.len());
    text(payload, Encoding::Plain, room.min(MAX_UNPACKED))
}

/// The same for a payload that is said to be packed so, or is by its first bytes; unpacked it has
/// at most `limit` bytes.
pub(crate) fn text(
    payload: &[u8],
    encoding: Encoding,
    limit: usize,
) -> Result<Cow<'_, str>, PayloadError> {
    let encoding = match encoding {
        Encoding::Plain => Encoding::of(payload),
        packed => packed,
    };
    let unpacked = match encoding {
        Encoding::Plain => return trimmed(payload),
        Encoding::Gzip => unpack("gzip", MultiGzDecoder::new(payload), limit)?,
        Encoding::Zstd => {
            let failed = |error: io::Error| packed("zstd", &error);
            let mut decoder = ZstdDecoder::with_buffer(payload).map_err(failed)?;
            decoder.window_log_max(MAX_WINDOW_LOG).map_err(failed)?;
            unpack("zstd", decoder, limit)?
        }
    };
    trimmed(&unpacked).map(|text| Cow::Owned(text.into_owned()))
}

fn unpack(format: &'static str, decoder: impl Read, limit: usize) -> Result<Vec<u8>, PayloadError> {
    let mut out = Vec::new();
    decoder
        .take(limit as u64 + 1)
        .read_to_end(&mut out)
        .map_err(|error| packed(format, &error))?;
    if out.len() > limit {
        return Err(PayloadError::TooLong { limit });
    }
    Ok(out)
}

fn packed(format: &'static str, error: &io::Error) -> PayloadError {
    PayloadError::Packed {
        format,
        reason: error.to_string(),
    }
}

/// The text without the byte order mark before it, and without NUL bytes and blanks behind it.
fn trimmed(bytes: &[u8]) -> Result<Cow<'_, str>, PayloadError> {
    let bytes = match bytes {
        [0xff, 0xfe, 0, 0, ..] => {
            return Err(PayloadError::Bytes("begins as UTF-32: send UTF-8"));
        }
        [0xff, 0xfe, rest @ ..] => return utf16(rest, u16::from_le_bytes).map(Cow::Owned),
        [0xfe, 0xff, rest @ ..] => return utf16(rest, u16::from_be_bytes).map(Cow::Owned),
        [0xef, 0xbb, 0xbf, rest @ ..] => rest,
        [a, b, c, d, ..] if (*a == 0) != (*b == 0) && (*a == 0, *b == 0) == (*c == 0, *d == 0) => {
            let told = "begins as UTF-16 without a byte order mark: send UTF-8";
            return Err(PayloadError::Bytes(told));
        }
        _ => bytes,
    };
    let end = bytes
        .iter()
        .rposition(|byte| *byte != 0 && !byte.is_ascii_whitespace());
    let bytes = bytes
        .get(..end.map_or(0, |end| end + 1))
        .unwrap_or_default();
    if bytes.first() == Some(&0) {
        return Err(PayloadError::Bytes(
            "begins with a NUL byte: send text alone",
        ));
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(Cow::Borrowed(text)),
        Err(error) => {
            let at = error.valid_up_to();
            let before = bytes.get(..at).unwrap_or_default();
            Err(PayloadError::Utf8 {
                at,
                line: before.iter().filter(|byte| **byte == b'\n').count() + 1,
                seems: seems(bytes),
            })
        }
    }
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<String, PayloadError> {
    let broken = || PayloadError::Bytes("begins as UTF-16 and is none: send UTF-8");
    let (pairs, rest) = bytes.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(broken());
    }
    let units = pairs.iter().map(|pair| unit(*pair));
    let text: Result<String, _> = char::decode_utf16(units).collect();
    let mut text = text.map_err(|_| broken())?;
    let end = text.trim_end_matches(['\0', ' ', '\t', '\r', '\n']).len();
    text.truncate(end);
    Ok(text)
}

/// What bytes that are no text begin as.
fn seems(bytes: &[u8]) -> String {
    let known = MAGIC.iter().find(|(magic, _)| bytes.starts_with(magic));
    match known {
        Some((_, name)) => format!(": it begins as {name}"),
        None => String::new(),
    }
}

/// Most bytes that a payload may have once it is unpacked, where nobody sets another bound.
const MAX_UNPACKED: usize = 16 << 20;

/// Logarithm of the memory that unpacking zstd may take.
const MAX_WINDOW_LOG: u32 = 24;

/// What files that are sent by mistake begin with.
const MAGIC: [(&[u8], &str); 8] = [
    (b"PK\x03\x04", "a ZIP file, perhaps a workbook: send CSV"),
    (b"BZh", "bzip2: pack with gzip or zstd"),
    (b"\xfd7zXZ", "xz: pack with gzip or zstd"),
    (b"\x04\x22\x4d\x18", "lz4: pack with gzip or zstd"),
    (b"PAR1", "a Parquet file"),
    (b"%PDF", "a PDF"),
    (b"\x89PNG", "a picture"),
    (b"\xff\xd8\xff", "a picture"),
];

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).expect("memory");
        encoder.finish().expect("memory")
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        zstd::stream::encode_all(bytes, 3).expect("memory")
    }

    fn told(payload: &[u8]) -> String {
        text_of(payload).expect_err("refused").to_string()
    }

    #[test]
    fn members_follow_each_other_and_a_bomb_stops_at_the_limit() {
        for (pack, encoding) in [
            (gzip as fn(&[u8]) -> Vec<u8>, Encoding::Gzip),
            (zstd, Encoding::Zstd),
        ] {
            let two = [pack(b"ab"), pack(b"c")].concat();
            for said in [Encoding::Plain, encoding] {
                assert_eq!(text(&two, said, 3), Ok("abc".into()));
                assert_eq!(text(&two, said, 2), Err(PayloadError::TooLong { limit: 2 }));
                let bomb = pack(&vec![b'x'; 1 << 20]);
                let stopped = Err(PayloadError::TooLong { limit: 1_000 });
                assert_eq!(text(&bomb, said, 1_000), stopped);
                let cut = text(&two[..two.len() - 1], said, 100);
                assert!(matches!(cut, Err(PayloadError::Packed { .. })));
            }
            let plain = text(b"plain", encoding, 100);
            assert!(matches!(plain, Err(PayloadError::Packed { .. })));
            assert_eq!(
                text_of(&pack("\u{feff}abc\0\0".as_bytes())),
                Ok("abc".into())
            );
            let bomb = pack(&vec![b'x'; 64 << 20]);
            assert!(matches!(text_of(&bomb), Err(PayloadError::TooLong { .. })));
        }
    }

    #[test]
    fn what_is_around_a_text_is_dropped_and_what_is_in_it_stays() {
        for (payload, expected) in [
            ("abc", "abc"),
            ("\u{feff}abc", "abc"),
            ("abc\0", "abc"),
            ("\u{feff} a\0b\u{feff}\0\0\r\n\0", " a\0b\u{feff}"),
            ("5\0", "5"),
            ("5\0\0\0", "5"),
            ("\0\0", ""),
            ("", ""),
            ("\u{feff}", ""),
        ] {
            assert_eq!(
                text_of(payload.as_bytes()),
                Ok(expected.into()),
                "{payload:?}"
            );
        }
    }

    #[test]
    fn utf_16_with_a_mark_is_taken_and_without_one_named() {
        let wide = |text: &str, unit: fn(u16) -> [u8; 2]| -> Vec<u8> {
            text.encode_utf16().flat_map(unit).collect()
        };
        let expected = "{\"é\":\"😀\"}";
        for unit in [u16::to_le_bytes, u16::to_be_bytes] {
            let marked = wide(&format!("\u{feff}{expected}\r\n\0"), unit);
            assert_eq!(text_of(&marked), Ok(expected.into()));
            assert!(told(&marked[..marked.len() - 1]).contains("begins as UTF-16"));
            assert!(told(&wide("{\"a\":1}", unit)).contains("UTF-16 without a byte order mark"));
        }
        assert!(told(b"\xff\xfe\0\xd8").contains("begins as UTF-16 and is none"));
        assert!(told(b"\xff\xfe\0\0{\0\0\0").contains("UTF-32"));
    }

    #[test]
    fn what_is_no_text_is_named() {
        assert_eq!(
            told(b"a\n\xb0C"),
            "the payload is not UTF-8 at byte 2 (line 2)"
        );
        assert!(told(b"\0{\"a\":1}").contains("begins with a NUL byte"));
        assert!(told(b"PK\x03\x04\xff").contains("ZIP file"));
        assert!(told(b"\x89PNG\r\n").contains("a picture"));
    }
}
