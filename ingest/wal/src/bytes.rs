//! Bytes of every file the log writes: their checksum, little-endian numbers, the version of the
//! format. Pure; it must never know what the bytes mean.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use twox_hash::XxHash3_64;

/// The checksum of everything Headwater writes: XXH3, 64 bits. It finds accidents, not malice.
pub(crate) fn checksum(bytes: &[u8]) -> u64 {
    XxHash3_64::oneshot(bytes)
}

/// The same under a seed: who does not know it cannot tell what it will be.
pub(crate) fn seeded_checksum(bytes: &[u8], seed: u64) -> u64 {
    XxHash3_64::oneshot_with_seed(seed, bytes)
}

/// Puts `bytes` at `at`; the caller has made room.
#[expect(
    clippy::indexing_slicing,
    reason = "writing: a wrong length is a slip of ours"
)]
pub(crate) fn put(out: &mut [u8], at: usize, bytes: &[u8]) {
    out[at..at + bytes.len()].copy_from_slice(bytes);
}

/// `N` bytes at `at`; the caller has checked the length.
#[expect(clippy::indexing_slicing, reason = "the caller has checked the length")]
pub(crate) fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut raw = [0; N];
    raw.copy_from_slice(&bytes[at..at + N]);
    raw
}

/// Little-endian u32 at `at`; the caller has checked the length.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}

/// Little-endian u64 at `at`; the caller has checked the length.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, at))
}

/// Version of every format on disk. A node refuses files of a newer one.
pub const FORMAT_VERSION: u8 = 4;
