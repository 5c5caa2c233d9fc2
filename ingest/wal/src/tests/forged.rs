//! Copies with the right checksums and other bytes: whoever holds a log can make them at once. What
//! a node once had whole must never be replaced by one of them.

use std::borrow::Cow;
use std::path::Path;

use bytes::Bytes;

use crate::bytes::checksum;
use crate::paths::log_dir;
use crate::{Committer, Config, OsDisk, Row, Value, WalError, compact_now, open_primary};

/// Changes 32 bytes so that the checksum stays the same: four words of one lane of XXH3, whose sum
/// and whose sum of products are as before.
fn forge(bytes: &mut [u8]) {
    assert!(bytes.len() > 1024, "{} bytes", bytes.len());
    let before = (checksum(bytes), bytes.to_vec());
    let at = |stripe: usize| stripe * 64..stripe * 64 + 8;
    let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight"));
    let key = |stripe: usize| word(&SECRET[stripe * 8..stripe * 8 + 8]);
    let (low, high) = (|x: u64| x & LOW, |x: u64| x >> 32);
    let (mut sum, mut products) = (0_u64, 0_u64);
    for stripe in STRIPES {
        let data = word(&bytes[at(stripe)]);
        let mixed = data ^ key(stripe);
        sum = sum.wrapping_add(data);
        products = products.wrapping_add(low(mixed).wrapping_mul(high(mixed)));
    }
    let [one, two, three, four] = STRIPES;
    // Products of 1 and of 2^32 - 1 with anything add up to what they were; the other two are 0.
    let second = (products / LOW).min(LOW);
    let first = products - second * LOW;
    assert!(first <= LOW, "one in four billion cannot be made so");
    let first = (first << 32 | 1) ^ key(one);
    let second = (second << 32 | LOW) ^ key(two);
    let rest = sum.wrapping_sub(first).wrapping_sub(second);
    let fourth_low = low(rest).wrapping_sub(low(key(three))) & LOW;
    let carry = high(low(key(three)) + fourth_low);
    let third_high = high(rest).wrapping_sub(high(key(four))).wrapping_sub(carry) & LOW;
    let third = third_high << 32 | low(key(three));
    let fourth = high(key(four)) << 32 | fourth_low;
    for (stripe, word) in STRIPES.into_iter().zip([first, second, third, fourth]) {
        bytes[at(stripe)].copy_from_slice(&word.to_le_bytes());
    }
    assert_eq!(checksum(bytes), before.0);
    assert_ne!(bytes, before.1);
}

fn open(dir: &Path) -> Committer {
    let config = Config {
        segment_size: 60_000,
        ..Config::default()
    };
    open_primary(OsDisk::new(), dir, &config).expect("opens").0
}

/// Numbers that no encoding makes small.
fn scattered(number: i64) -> i64 {
    number.wrapping_mul(0x1e37_79b9_7f4a_7c15) & ((1 << 52) - 1)
}

/// Groups of many rows, until a segment is sealed.
fn fill(committer: &Committer) {
    let mut appender = committer.appender(Box::new(|_| ()));
    let mut time = 0;
    while committer.log().snapshot().sealed.is_empty() {
        let fields: Vec<_> = (0..100)
            .map(|at| [(Cow::Borrowed("n"), Value::Int(scattered(time + at)))])
            .collect();
        let rows: Vec<_> = fields
            .iter()
            .map(|fields| {
                time += 1;
                Row {
                    time,
                    tags: &[],
                    fields,
                }
            })
            .collect();
        let group = appender.append("one", &rows).expect("fits");
        appender.wait(group).expect("durable");
    }
}

/// Whatever a file's checksums say, and however it has been damaged: what is put in its place is
/// what was there.
fn only_the_right_one_is_taken(committer: Committer, dir: &Path, name: &str, forged: &[u8]) {
    let id = committer.log().id();
    let right = committer.log().export(name).expect("whole");
    assert_eq!(right.len(), forged.len());
    let state = committer.log().state();
    let take = |committer: &Committer| {
        let refused = committer
            .log()
            .install(name, Bytes::copy_from_slice(forged));
        let Err(WalError::Corrupt { reason, .. }) = refused else {
            panic!("{name}: {refused:?}");
        };
        assert!(reason.contains("forged"), "{reason}");
        assert!(committer.log().install(name, right.clone()).expect("right"));
        assert!(committer.log().damage().borrow().is_empty());
    };
    state.damage.report(name, 0, "a byte in it has rotted");
    take(&committer);
    committer.stop().expect("stops");
    // After a restart nothing can be read of it any more.
    std::fs::write(log_dir(dir, id).join(name), [0; 4_096]).expect("writes");
    let committer = open(dir);
    assert!(committer.log().state().damage.holds(name));
    take(&committer);
    committer.stop().expect("stops");
}

#[test]
fn a_segment_with_the_right_checksums_and_other_rows_is_not_taken() {
    let dir = tempfile::tempdir().expect("dir");
    let committer = open(dir.path());
    fill(&committer);
    compact_now(committer.log()).expect("compacts");
    let (name, entry) = {
        let snapshot = committer.log().snapshot();
        let segment = &snapshot.sealed[0];
        let longest = segment.entries.iter().max_by_key(|entry| entry.len);
        (segment.name(), *longest.expect("blocks"))
    };
    let mut forged = committer.log().export(&name).expect("whole").to_vec();
    let body = usize::try_from(entry.offset).expect("small") + crate::BLOCK_HEADER_LEN;
    let end = usize::try_from(entry.offset).expect("small") + entry.len as usize;
    forge(&mut forged[body..end]);
    only_the_right_one_is_taken(committer, dir.path(), &name, &forged);
}

#[test]
fn a_parquet_file_with_the_right_checksums_and_other_bytes_is_not_taken() {
    let dir = tempfile::tempdir().expect("dir");
    let committer = open(dir.path());
    fill(&committer);
    compact_now(committer.log()).expect("compacts");
    let snapshot = committer.log().snapshot();
    let name = snapshot.files.all().next().expect("a file").meta.name();
    drop(snapshot);
    let mut forged = committer.log().export(&name).expect("whole").to_vec();
    forge(&mut forged);
    only_the_right_one_is_taken(committer, dir.path(), &name, &forged);
}

const LOW: u64 = 0xffff_ffff;
const STRIPES: [usize; 4] = [1, 2, 3, 4];

/// The secret that XXH3 is public with.
const SECRET: [u8; 64] = [
    0xb8, 0xfe, 0x6c, 0x39, 0x23, 0xa4, 0x4b, 0xbe, 0x7c, 0x01, 0x81, 0x2c, 0xf7, 0x21, 0xad, 0x1c,
    0xde, 0xd4, 0x6d, 0xe9, 0x83, 0x90, 0x97, 0xdb, 0x72, 0x40, 0xa4, 0xa4, 0xb7, 0xb3, 0x67, 0x1f,
    0xcb, 0x79, 0xe6, 0x4e, 0xcc, 0xc0, 0xe5, 0x78, 0x82, 0x5a, 0xd0, 0x7d, 0xcc, 0xff, 0x72, 0x21,
    0xb8, 0x08, 0x46, 0x74, 0xf7, 0x43, 0x24, 0x8e, 0xe0, 0x35, 0x90, 0xe6, 0x81, 0x3a, 0x26, 0x4c,
];
