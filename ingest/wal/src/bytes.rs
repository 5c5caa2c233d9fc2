//! Bytes of every file the log writes: their checksum, little-endian numbers, the version of the
//! format. Pure; it must never know what the bytes mean.

use twox_hash::XxHash3_64;

/// The checksum of everything Headwater writes: XXH3, 64 bits. It finds accidents, not malice.
pub(crate) fn checksum(bytes: &[u8]) -> u64 {
    XxHash3_64::oneshot(bytes)
}

/// Puts `bytes` at `at`; the caller has made room.
pub(crate) fn put(out: &mut [u8], at: usize, bytes: &[u8]) {
    out[at..at + bytes.len()].copy_from_slice(bytes);
}

/// Little-endian u32 at `at`; the caller has checked the length.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut raw = [0; 4];
    raw.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(raw)
}

/// Little-endian u64 at `at`; the caller has checked the length.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut raw = [0; 8];
    raw.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(raw)
}

/// Version of every format on disk. A node refuses files of a newer one.
pub const FORMAT_VERSION: u8 = 2;
