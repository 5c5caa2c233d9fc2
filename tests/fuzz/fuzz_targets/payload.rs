//! Any payload: rows or a reason, never a panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(explained) = mqtt::explain("fuzz/device", bytes, 0) {
        assert!(!explained.rows.is_empty());
    }
});
