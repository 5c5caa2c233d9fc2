//! The bounds of a packet, checked before the codec sees it. Pure; must never panic on any bytes.
//!
//! The codec is only ever given whole packets whose inner lengths stay inside their frame. So it
//! never waits for bytes that belong to the next packet, never subtracts a header from a shorter
//! remaining length, and never holds more than the packet limit.

/// Which protocol a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// 3.1.1
    V3,
    /// 5.0
    V5,
}

/// Why bytes are no packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("a packet of {len} bytes exceeds the limit of {limit}")]
    TooLarge { len: u32, limit: u32 },
    #[error("malformed remaining length")]
    Length,
    #[error("a PUBLISH whose topic or properties exceed the packet")]
    Publish,
}

/// Length of the packet at the start of `bytes`; `None` while more bytes must come.
///
/// # Errors
/// When no further byte can make it a packet within `limit`.
pub fn frame_len(bytes: &[u8], limit: u32, version: Version) -> Result<Option<usize>, FrameError> {
    let Some((head, whole)) = announced(bytes, limit)? else {
        return Ok(None);
    };
    let (Some(first), Some(body)) = (bytes.first(), bytes.get(head..whole)) else {
        return Ok(None);
    };
    if first >> 4 == 3 {
        check_publish(*first, body, version)?;
    }
    Ok(Some(whole))
}

/// Length of the fixed header at the start of `bytes`, and of the whole packet, as soon as it says
/// so.
///
/// # Errors
/// When no further byte can make it a packet within `limit`.
pub(crate) fn announced(bytes: &[u8], limit: u32) -> Result<Option<(usize, usize)>, FrameError> {
    let Some((_, rest)) = bytes.split_first() else {
        return Ok(None);
    };
    let Some((len, used)) = varint(rest)? else {
        return Ok(None);
    };
    if len > limit {
        return Err(FrameError::TooLarge { len, limit });
    }
    let head = 1 + used;
    Ok(Some((head, head + len as usize)))
}

fn check_publish(first: u8, body: &[u8], version: Version) -> Result<(), FrameError> {
    let (topic, rest) = body.split_first_chunk().ok_or(FrameError::Publish)?;
    let topic = usize::from(u16::from_be_bytes(*topic));
    let packet_id = if first & 0b0110 == 0 { 0 } else { 2 };
    let rest = rest.get(topic + packet_id..).ok_or(FrameError::Publish)?;
    if version == Version::V5 {
        let (properties, used) = varint(rest)?.ok_or(FrameError::Publish)?;
        if rest.len() < used + properties as usize {
            return Err(FrameError::Publish);
        }
    }
    Ok(())
}

/// A variable byte integer and its length; `None` while more bytes must come.
fn varint(bytes: &[u8]) -> Result<Option<(u32, usize)>, FrameError> {
    let mut value = 0;
    for (at, byte) in bytes.iter().take(MAX_LENGTH_BYTES).enumerate() {
        value |= u32::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok(Some((value, at + 1)));
        }
    }
    if bytes.len() < MAX_LENGTH_BYTES {
        Ok(None)
    } else {
        Err(FrameError::Length)
    }
}

/// Longest run of bytes a remaining length may take.
const MAX_LENGTH_BYTES: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_whole_or_waited_for() {
        let publish = b"\x32\x07\x00\x03a/b\x00\x01";
        for at in 0..publish.len() {
            assert_eq!(
                frame_len(&publish[..at], 100, Version::V3),
                Ok(None),
                "{at} bytes"
            );
        }
        assert_eq!(
            frame_len(publish, 100, Version::V3),
            Ok(Some(publish.len()))
        );
        assert_eq!(
            frame_len(publish, 6, Version::V3),
            Err(FrameError::TooLarge { len: 7, limit: 6 })
        );
    }

    #[test]
    fn inner_lengths_must_stay_inside_the_packet() {
        for bytes in [
            &b"\x30\x01\x00"[..],
            b"\x30\x04\x00\x09ab",
            b"\x32\x04\x00\x02ab",
            b"\x32\x05\x00\x02ab\x00",
        ] {
            assert_eq!(
                frame_len(bytes, 100, Version::V3),
                Err(FrameError::Publish),
                "{bytes:?}"
            );
        }
        let v5 = b"\x30\x06\x00\x02ab\x7f\x00";
        assert_eq!(frame_len(v5, 100, Version::V5), Err(FrameError::Publish));
        assert_eq!(
            frame_len(b"\xc0\xff\xff\xff\xff\x01", 100, Version::V3),
            Err(FrameError::Length)
        );
    }
}
