//! Any bytes on the control stream: messages or an error; what decodes encodes to itself again;
//! it must never panic.
#![no_main]

use replica::wire::codec::{FrameReader, decode, encode};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(message) = decode(bytes) {
        let again = encode(&message).expect("within the limit");
        assert_eq!(decode(&again[4..]).expect("valid"), message);
    }
    let mut reader = FrameReader::new();
    reader.push(bytes);
    while let Ok(Some(_)) = reader.next_message() {}
});
