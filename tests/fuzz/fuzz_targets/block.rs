//! Any bytes: a block decodes or is refused, and what decodes is inside the bytes; it must
//! never panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok((header, body)) = wal::BlockHeader::decode_block(bytes) {
        assert!(header.total_len() <= bytes.len() && body.len() <= header.body_len as usize);
    }
});
