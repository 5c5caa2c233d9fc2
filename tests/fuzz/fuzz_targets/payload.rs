//! Any payload: rows or a reason, never a panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = intake::text_of(bytes) else {
        return;
    };
    if let Ok(decoded) = intake::decode(&text, intake::Reading::default()) {
        assert_eq!(decoded.rows(&[], 0).count(), decoded.len());
    }
});
