//! Unpacking gzip within a bound, several members in a row too. Pure; must never go on beyond the
//! bound.

use std::io::Read;

use flate2::read::MultiGzDecoder;

use crate::error::PayloadError;

/// Unpacks to at most `limit` bytes.
pub(crate) fn gunzip(packed: &[u8], limit: usize) -> Result<Vec<u8>, PayloadError> {
    let mut out = Vec::new();
    MultiGzDecoder::new(packed)
        .take(limit as u64 + 1)
        .read_to_end(&mut out)
        .map_err(|error| PayloadError::Gzip(error.to_string()))?;
    if out.len() > limit {
        return Err(PayloadError::TooLong { limit });
    }
    Ok(out)
}

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

    #[test]
    fn members_follow_each_other_and_a_bomb_stops_at_the_limit() {
        let two = [gzip(b"ab"), gzip(b"c")].concat();
        assert_eq!(gunzip(&two, 3), Ok(b"abc".to_vec()));
        assert_eq!(gunzip(&two, 2), Err(PayloadError::TooLong { limit: 2 }));
        let bomb = gzip(&vec![0; 1 << 20]);
        assert_eq!(
            gunzip(&bomb, 1_000),
            Err(PayloadError::TooLong { limit: 1_000 })
        );
        let cut = gunzip(&two[..two.len() - 1], 100);
        assert!(matches!(cut, Err(PayloadError::Gzip(_))));
        assert!(matches!(gunzip(b"plain", 100), Err(PayloadError::Gzip(_))));
    }
}
