//! Any bytes: a segment's header and footer decode or are refused; it must never panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok((header, len)) = wal::SegmentHeader::decode("fuzz", bytes) {
        assert!(len <= bytes.len());
        assert_eq!(header.encode(), bytes[..len]);
    }
    let _ = wal::SegmentFooter::decode("fuzz", bytes);
});
