//! Frames made and taken apart, good ones and others: bad ones must never cost memory or a panic.

use super::*;
use crate::wire::unpack::Unpacker;

fn chunk(parts: Vec<Bytes>, end: u64) -> Chunk {
    Chunk {
        bytes: parts.iter().map(Bytes::len).sum(),
        parts,
        end: Position {
            lsn: Lsn(end),
            chain: wal::Chain(end ^ 0xabcd),
        },
    }
}

/// Bytes of which a part repeats.
fn part(random: &mut fastrand::Rng, most: usize) -> Bytes {
    let mut bytes = vec![7; random.usize(0..most)];
    if random.bool() {
        random.fill(&mut bytes);
    }
    Bytes::from(bytes)
}

fn drain(unpacker: &mut Unpacker, out: &mut Vec<u8>) {
    while let Some(bytes) = unpacker.next().expect("good frames") {
        assert!(!bytes.is_empty());
        out.extend_from_slice(&bytes);
    }
}

fn unpacked(pieces: impl IntoIterator<Item = Bytes>) -> Vec<u8> {
    let (mut unpacker, mut out) = (Unpacker::new(), Vec::new());
    for piece in pieces {
        unpacker.push(piece);
    }
    drain(&mut unpacker, &mut out);
    assert_eq!(unpacker.held(), 0);
    out
}

#[test]
fn any_chunking_gives_the_same_bytes() {
    for _ in 0..100 {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let compression = if random.bool() {
            Compression::Zstd
        } else {
            Compression::None
        };
        let packer = Packer::new(compression);
        let (mut stream, mut blocks) = (Vec::new(), Vec::new());
        for at in 0..random.u64(1..12) {
            let parts: Vec<Bytes> = (0..random.usize(1..5))
                .map(|_| part(&mut random, 3_000))
                .collect();
            blocks.extend(parts.concat());
            stream.extend(packer.frame(Lsn(at), &chunk(parts, at + 1)).concat());
        }
        let (mut unpacker, mut out) = (Unpacker::new(), Vec::new());
        let mut rest = Bytes::from(stream);
        while !rest.is_empty() {
            let most = if random.bool() { 5 } else { 900 };
            unpacker.push(rest.split_to(random.usize(0..=most.min(rest.len()))));
            if random.bool() {
                drain(&mut unpacker, &mut out);
            }
        }
        drain(&mut unpacker, &mut out);
        assert_eq!(out, blocks);
        assert_eq!(unpacker.held(), 0);
    }
}

#[test]
fn what_travels_as_it_is_is_not_copied() {
    let mut noise = vec![0; 9_000];
    fastrand::Rng::with_seed(1).fill(&mut noise);
    let parts = vec![Bytes::from(noise), Bytes::from(vec![1; 10])];
    for compression in [Compression::None, Compression::Zstd] {
        let frames = Packer::new(compression).frame(Lsn(0), &chunk(parts.clone(), 5));
        assert_eq!(frames.len(), 3);
        assert_eq!(frames[0][..], [0, 0x32, 0x23, 0, 0, 0x32, 0x23, 0, 0]);
        assert_eq!(frames[1].as_ptr(), parts[0].as_ptr());
        assert_eq!(frames[2].as_ptr(), parts[1].as_ptr());
        let mut unpacker = Unpacker::new();
        frames.iter().for_each(|frame| unpacker.push(frame.clone()));
        let first = unpacker.next().expect("good").expect("bytes");
        assert_eq!(first.as_ptr(), parts[0].as_ptr());
    }
}

#[test]
fn what_repeats_is_compressed_and_the_rest_is_not() {
    let packer = Packer::new(Compression::Zstd);
    let repeats = chunk(vec![Bytes::from(vec![3; 4_000]); 3], 1);
    let frames = packer.frame(Lsn(0), &repeats);
    assert_eq!(frames[0][0], ZSTD);
    let bytes: usize = frames.iter().map(Bytes::len).sum();
    assert!(bytes < 12_000 / 8, "{bytes}");
    assert_eq!(unpacked(frames), vec![3; 12_000]);

    let short = packer.frame(Lsn(1), &chunk(vec![Bytes::from(vec![3; 511])], 2));
    assert_eq!(short[0][0], RAW);
    let off = Packer::new(Compression::None).frame(Lsn(0), &repeats);
    assert_eq!(off[0][0], RAW);
}

#[test]
fn followers_at_the_same_place_share_the_work() {
    let packer = Packer::new(Compression::Zstd);
    let work = chunk(vec![Bytes::from(vec![3; 4_000])], 1);
    let frames = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| packer.frame(Lsn(0), &work)))
            .collect();
        let made = threads.into_iter().map(|one| one.join().expect("a frame"));
        made.collect::<Vec<_>>()
    });
    for made in &frames {
        assert_eq!(made[1].as_ptr(), frames[0][1].as_ptr());
    }
    // The same place of another history is another place.
    let other = chunk(vec![Bytes::from(vec![4; 4_000])], 1);
    let other = Chunk {
        end: Position {
            lsn: Lsn(1),
            chain: wal::Chain(99),
        },
        ..other
    };
    assert_eq!(unpacked(packer.frame(Lsn(0), &other)), vec![4; 4_000]);
}

#[test]
fn a_bounded_amount_is_kept() {
    let packer = Packer::new(Compression::Zstd);
    for at in 0..300 {
        let work = chunk(vec![Bytes::from(vec![3; 1_000])], at + 1);
        let _ = packer.frame(Lsn(at), &work);
    }
    assert_eq!(lock(&packer.done).len(), KEPT_FRAMES);
    let mut random = fastrand::Rng::with_seed(5);
    for at in 0..12 {
        // Half noise: compresses to half.
        let mut bytes = vec![0; 4 << 20];
        random.fill(&mut bytes[..2 << 20]);
        let work = chunk(vec![Bytes::from(bytes)], 1_000 + at);
        let _ = packer.frame(Lsn(1_000 + at), &work);
    }
    let kept = lock(&packer.done);
    let sizes = kept.iter().filter_map(|(_, slot)| slot.get()?.as_ref());
    let bytes: usize = sizes.map(Bytes::len).sum();
    assert!((KEPT_BYTES / 2..=KEPT_BYTES).contains(&bytes), "{bytes}");
}

fn error_of(stream: &[u8]) -> BlockFrameError {
    let mut unpacker = Unpacker::new();
    unpacker.push(Bytes::copy_from_slice(stream));
    loop {
        match unpacker.next() {
            Ok(Some(_)) => {}
            Ok(None) => panic!("no error"),
            Err(error) => return error,
        }
    }
}

#[test]
fn impossible_frames_are_errors_before_their_bytes_are_awaited() {
    let bad = |kind, length, raw_length| {
        let header = header(kind, length, raw_length).expect("a header");
        error_of(&header)
    };
    assert!(matches!(bad(2, 5, 5), BlockFrameError::Kind { kind: 2 }));
    for (kind, length, raw_length) in [
        (RAW, 0, 0),
        (RAW, 4, 5),
        (RAW, MAX_RAW_LEN + 1, MAX_RAW_LEN + 1),
        (ZSTD, 0, 5),
        (ZSTD, 6, 5),
        (ZSTD, 5, MAX_RAW_LEN + 1),
    ] {
        let error = bad(kind, length, raw_length);
        assert!(matches!(error, BlockFrameError::Length { .. }), "{error}");
    }
}

#[test]
fn a_compressed_frame_holds_exactly_what_it_announces() {
    let packed = zstd::bulk::compress(&[1; 1_000], LEVEL).expect("compressed");
    let framed = |raw_length| {
        let header = header(ZSTD, packed.len(), raw_length).expect("a header");
        [&header[..], &packed].concat()
    };
    assert!(matches!(error_of(&framed(999)), BlockFrameError::Zstd(_)));
    let error = error_of(&framed(1_001));
    assert!(matches!(error, BlockFrameError::Short { found: 1_000, .. }));
    let mut spoilt = framed(1_000);
    spoilt[HEADER_LEN] ^= 1;
    assert!(matches!(error_of(&spoilt), BlockFrameError::Zstd(_)));
}

#[test]
fn a_long_frame_is_unpacked_as_it_comes_and_holds_exactly_what_it_announces() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bytes = vec![5; 9 << 20];
    random.fill(&mut bytes[2 << 20..3 << 20]);
    let packed = zstd::bulk::compress(&bytes, LEVEL).expect("compressed");
    let framed = |packed: &[u8], raw_length| {
        let header = header(ZSTD, packed.len(), raw_length).expect("a header");
        [&header[..], packed].concat()
    };
    let whole = framed(&packed, bytes.len());
    let mut stream = Bytes::from([&whole[..], &whole].concat());
    let (mut unpacker, mut out, mut most) = (Unpacker::new(), Vec::new(), 0);
    while !stream.is_empty() {
        let piece = random.usize(1..20_000).min(stream.len());
        unpacker.push(stream.split_to(piece));
        while let Some(part) = unpacker.next().expect("good frames") {
            most = most.max(unpacker.held() + part.len());
            out.extend_from_slice(&part);
        }
    }
    assert!(out == [&bytes[..], &bytes].concat());
    assert!(most < 2 << 20, "{most}");
    for raw_length in [bytes.len() - 1, bytes.len() + 1] {
        let error = error_of(&framed(&packed, raw_length));
        assert!(matches!(error, BlockFrameError::Short { .. }), "{error}");
    }
    let cut = framed(&packed[..packed.len() - 1], bytes.len());
    let error = error_of(&cut);
    assert!(matches!(error, BlockFrameError::Short { .. }), "{error}");
    let behind = framed(&[&packed[..], b"more"].concat(), bytes.len());
    assert!(matches!(error_of(&behind), BlockFrameError::Zstd(_)));
}

#[test]
fn random_bytes_never_panic() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..2_000 {
        let mut bytes = vec![0; random.usize(0..200)];
        random.fill(&mut bytes);
        // Lengths that may be, so that more than headers is read.
        for (at, value) in [(0, random.u8(0..3)), (2, 0), (3, 0), (4, 0), (7, 0), (8, 0)] {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        let mut unpacker = Unpacker::new();
        unpacker.push(Bytes::from(bytes));
        while let Ok(Some(_)) = unpacker.next() {}
    }
}
