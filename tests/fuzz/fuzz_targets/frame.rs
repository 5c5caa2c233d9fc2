//! Any bytes from a client: a packet inside its bounds, a wait for more, or a refusal; it must
//! never panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    for version in [mqtt::Version::V3, mqtt::Version::V5] {
        if let Ok(Some(len)) = mqtt::frame_len(bytes, 1 << 20, version) {
            assert!(len <= bytes.len());
        }
    }
});
