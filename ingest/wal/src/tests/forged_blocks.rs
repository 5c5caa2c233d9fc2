//! Text that looks like blocks of the log, in rows that a crash tears: nobody who can write a message
//! may decide what opening the log takes for durable. Tests only; must never use a real secret.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use crate::bytes::{FORMAT_VERSION, checksum};
use crate::format::block::{BLOCK_HEADER_LEN, BlockHeader, BlockKind};
use crate::format::segment::{BlockEntry, SegmentFooter, SegmentHeader};
use crate::ids::{Chain, Lsn, TableId};
use crate::paths::{log_dir, segment_name};
use crate::{Committer, Config, OsDisk, Recovery, Row, Value, open_primary};

/// A whole block of a later group, all of it valid UTF-8, as a message can bring it in; with a footer
/// behind it where it is known that it ends there, UTF-8 or not.
fn forged(format: u8, kind: BlockKind, end: Option<u64>) -> Vec<u8> {
    for nonce in 0_u64.. {
        let body = [[0; 8], nonce.to_le_bytes().map(|byte| byte & 0x7f)].concat();
        let mut header = BlockHeader {
            format,
            kind,
            body_len: 16,
            rows: u32::from(kind == BlockKind::Data),
            table: TableId(1),
            schema_version: 1,
            first_lsn: Lsn(0x7f7f),
            group_lsn: Lsn(0x7f7f),
            min_time: 1,
            max_time: 1,
            committed_at: 1,
            prev: Chain(nonce & 0x7f7f_7f7f),
            body_hash: checksum(&body),
            chain: Chain::default(),
        };
        let (bytes, chain) = header.encode();
        header.chain = chain;
        let mut all = [&bytes[..], &body].concat();
        if let Some(offset) = end {
            let footer = SegmentFooter {
                end: header.end(),
                committed_at: 1,
                entries: vec![BlockEntry::of(&header, offset - all.len() as u64)],
            };
            all.extend(footer.encode(offset));
        }
        if end.is_some() || str::from_utf8(&all).is_ok() {
            return all;
        }
    }
    unreachable!("some are valid")
}

/// At every place modulo 8, so that one of them lies where blocks may.
fn everywhere(block: &[u8]) -> String {
    let block = str::from_utf8(block).expect("valid");
    (0..8)
        .map(|at| format!("{block}{}", &".........."[..at + 1]))
        .collect()
}

fn send(committer: &Committer, text: &str) {
    let mut appender = committer.appender(Box::new(|_| ()));
    let row = Row {
        time: 1,
        tags: &[],
        fields: &[("text".into(), Value::Text(Cow::Borrowed(text)))],
    };
    let group = appender.append("one", &[row]).expect("fits");
    appender.wait(group).expect("durable");
}

fn open(dir: &Path) -> Result<(Committer, Recovery), crate::WalError> {
    open_primary(OsDisk::new(), dir, &Config::default())
}

/// A log that ends with this text, its newest segment, and where the last block begins.
fn ending_with(dir: &Path, text: &str) -> (PathBuf, usize) {
    let (committer, _) = open(dir).expect("opens");
    send(&committer, "nothing");
    let before = committer.log().snapshot().tail_bytes;
    send(&committer, text);
    let path = log_dir(dir, committer.log().id()).join(segment_name(Lsn(0)));
    committer.stop().expect("stops");
    (path, usize::try_from(before).expect("short"))
}

#[test]
fn text_that_looks_like_later_blocks_is_not_taken_for_them() {
    for (format, kind) in [
        (FORMAT_VERSION, BlockKind::Data),
        (3, BlockKind::Data),
        (3, BlockKind::Seal),
        (FORMAT_VERSION, BlockKind::Secret),
    ] {
        let text = everywhere(&forged(format, kind, None));
        for cut in [0, 24] {
            let dir = tempfile::tempdir().expect("dir");
            let (path, at) = ending_with(dir.path(), &text);
            let mut bytes = std::fs::read(&path).expect("reads");
            // The sector with its header never reached the disk, or the last one did not.
            let torn = if cut == 0 {
                at..at + BLOCK_HEADER_LEN
            } else {
                bytes.len() - cut..bytes.len()
            };
            bytes[torn].fill(0);
            std::fs::write(&path, &bytes).expect("writes");
            let (committer, recovery) = open(dir.path()).expect("opens");
            let torn = recovery.torn_tail.expect("cut and told");
            assert_eq!((torn.offset, recovery.damaged), (at as u64, 0), "{kind:?}");
            send(&committer, "goes on");
            committer.stop().expect("stops");
            let (committer, recovery) = open(dir.path()).expect("opens");
            assert_eq!((recovery.torn_tail, recovery.damaged), (None, 0));
            committer.stop().expect("stops");
        }
    }
}

#[test]
fn text_that_looks_like_the_end_of_a_segment_is_not_taken_for_it() {
    let dir = tempfile::tempdir().expect("dir");
    let (path, at) = ending_with(dir.path(), "");
    let bytes = std::fs::read(&path).expect("reads");
    // Torn right behind the text, which knows where that is.
    let block = forged(
        FORMAT_VERSION,
        BlockKind::Seal,
        Some((at + 96 + BLOCK_HEADER_LEN + 16) as u64),
    );
    let torn = [&bytes[..at + 96], &block[..]].concat();
    assert!(SegmentFooter::decode("f", &torn).is_ok() && SegmentHeader::decode("f", &torn).is_ok());
    std::fs::write(&path, torn).expect("writes");
    let (committer, recovery) = open(dir.path()).expect("opens");
    assert_eq!(recovery.torn_tail.map(|torn| torn.offset), Some(at as u64));
    assert_eq!(recovery.newest_gone, None);
    send(&committer, "goes on");
    committer.stop().expect("stops");
}
