//! Any bytes on a block stream: pieces of blocks or an error, and never a piece longer than a
//! frame may hold.
#![no_main]

use replica::wire::blocks::MAX_RAW_LEN;
use replica::wire::unpack::Unpacker;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut unpacker = Unpacker::new();
    for piece in bytes.chunks(7) {
        unpacker.push(piece.to_vec().into());
        while let Ok(Some(raw)) = unpacker.next() {
            assert!(raw.len() <= MAX_RAW_LEN);
        }
    }
});
