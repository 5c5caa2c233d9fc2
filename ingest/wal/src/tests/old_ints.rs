//! Logs of older versions of the format, which do not tell integers that floats would round from
//! others. Tests only; must never write such a log where a node could find it.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::bytes::{checksum, u32_at};
use crate::format::block::{BLOCK_HEADER_LEN, BlockHeader, BlockKind};
use crate::format::catalog::Catalog;
use crate::format::control::Control;
use crate::format::schema::TableSchema;
use crate::format::segment::{BlockEntry, SegmentFooter, SegmentHeader};
use crate::ids::{Chain, LogId, Lsn, Position};
use crate::parquet::manifest::{MANIFEST, Manifest};
use crate::paths::{log_dir, segment_name, segments};
use crate::tests::model::{follow, open_copy};
use crate::tests::numbers::Number::{Float, Int};
use crate::tests::numbers::{ID, kind, open, send, stored};
use crate::{ColumnType, Config, OsDisk, compact_now};

/// A log as version 2 of the format would have written it: integers of every size are one type.
fn downgrade(dir: &Path, id: LogId) {
    let disk = OsDisk::new();
    let log = log_dir(dir, id);
    let mut tip = id.genesis();
    let mut chains = HashMap::from([(tip.lsn, tip.chain)]);
    for first in segments(disk.as_ref(), &log).expect("lists") {
        let path = log.join(segment_name(first));
        let bytes = Bytes::from(std::fs::read(&path).expect("reads"));
        let (mut header, len) = SegmentHeader::decode("f", &bytes).expect("whole");
        header.start = tip;
        let no = Catalog::default();
        let mut catalog = Catalog::of_head(&header.tables, &no).expect("schemas");
        header.tables.schemas = header.tables.schemas.iter().map(old).collect();
        let encoded = header.encode();
        assert_eq!(encoded.len(), len);
        let mut out = dated(encoded, len - 16);
        let footer = SegmentFooter::decode("f", &bytes).ok();
        let end = footer.as_ref().map_or(bytes.len(), |footer| {
            let last = footer.entries.last().expect("blocks");
            usize::try_from(last.offset).expect("fits") + last.len as usize
        });
        let (mut at, mut entries) = (len, Vec::new());
        while at < end {
            let (mut block, body) = BlockHeader::decode_block(&bytes[at..]).expect("whole");
            at += block.total_len();
            let control = Control::of(&block, body).expect("whole");
            if let Some(control) = &control {
                catalog.apply(control).expect("follows");
            }
            let body = match control {
                Some(Control::Schema(_) | Control::Change(_)) => {
                    block.kind = BlockKind::Schema;
                    old(catalog.newest(block.table).expect("the table")).encode()
                }
                _ => body.to_vec(),
            };
            block.body_len = u32::try_from(body.len()).expect("fits");
            block.format = 2;
            block.prev = tip.chain;
            block.body_hash = checksum(&body);
            let (head, chain) = block.encode();
            block.chain = chain;
            tip = block.end();
            chains.insert(tip.lsn, tip.chain);
            entries.push(BlockEntry::of(&block, out.len() as u64));
            out.extend_from_slice(&head);
            out.extend_from_slice(&body);
        }
        if let Some(mut footer) = footer {
            (footer.end, footer.entries) = (tip, entries);
            out.extend(footer.encode(out.len() as u64));
        }
        std::fs::write(&path, out).expect("writes");
    }
    downgrade_manifest(&log.join(MANIFEST), &chains);
}

/// A schema as version 2 would have it.
fn old(schema: &Arc<TableSchema>) -> Arc<TableSchema> {
    let mut old = TableSchema::clone(schema);
    for at in 1..old.columns.len() {
        let column = &old.columns[at];
        if column.kind.is_integer() {
            old.columns.set(at, column.of_kind(ColumnType::Int));
        }
    }
    Arc::new(old)
}

fn downgrade_manifest(path: &Path, chains: &HashMap<Lsn, Chain>) {
    let Ok(bytes) = std::fs::read(path) else {
        return;
    };
    let mut manifest = Manifest::decode("m", &bytes).expect("whole");
    let mut tables = manifest.catalog.head();
    tables.schemas = tables.schemas.iter().map(old).collect();
    let catalog = Catalog::of_head(&tables, &Catalog::default());
    manifest.catalog = Arc::new(catalog.expect("new"));
    manifest.compacted = Position {
        lsn: manifest.compacted.lsn,
        chain: chains[&manifest.compacted.lsn],
    };
    let bytes = manifest.encode();
    let of_tables = u32_at(&bytes, 12) as usize;
    std::fs::write(path, dated(bytes, 88 + of_tables - 8)).expect("writes");
}

/// The bytes of a header or manifest, with version 2 in it, which had no id of the next table: that
/// is in this place.
fn dated(mut bytes: Vec<u8>, next_table: usize) -> Vec<u8> {
    bytes.drain(next_table..next_table + 8);
    let len = u32_at(&bytes, 12) - 8;
    bytes[12..16].copy_from_slice(&len.to_le_bytes());
    bytes[8] = 2;
    let end = bytes.len() - 8;
    let hash = checksum(&bytes[..end]).to_le_bytes();
    bytes[end..].copy_from_slice(&hash);
    bytes
}

/// Numbers in a log of version 2, some of them in files or not.
fn old_log(dir: &Path, numbers: impl Iterator<Item = i64>, compacted: bool) -> LogId {
    let config = Config {
        segment_size: 1_500,
        ..Config::default()
    };
    let (committer, mut appender) = open(dir, &config);
    for (time, number) in (0..).zip(numbers) {
        send(&mut appender, time, &[Int(number)]).expect("fits");
    }
    if compacted {
        compact_now(committer.log()).expect("compacts");
        assert!(!committer.log().snapshot().file_infos().is_empty());
    }
    let id = committer.log().id();
    drop(appender);
    committer.stop().expect("stops");
    downgrade(dir, id);
    id
}

#[tokio::test]
async fn integers_of_an_older_log_are_found_to_be_small_or_large() {
    for compacted in [false, true] {
        // Large ones are where floats would round, in files or in the newest blocks.
        for large in [None, Some(3), Some(59)] {
            let numbers = |time: i64| match large {
                Some(at) if at == time => ID,
                _ => 5_000_000_000 + time,
            };
            let dirs = [(); 2].map(|()| tempfile::tempdir().expect("dir"));
            let id = old_log(dirs[0].path(), (0..60).map(numbers), compacted);
            let follower = crate::FollowerConfig::default();
            let (old, _) = crate::open_follower(
                OsDisk::new(),
                dirs[0].path(),
                id,
                crate::Epoch(1),
                &follower,
            )
            .expect("opens");
            assert_eq!(kind(old.log()), Some(ColumnType::OldInt));
            old.stop().await.expect("stops");

            let (committer, mut appender) = open(dirs[0].path(), &Config::default());
            let fraction = send(&mut appender, 100, &[Float(0.5)]);
            assert_eq!(fraction.is_ok(), large.is_none(), "{fraction:?}");
            send(&mut appender, 101, &[Float(7.0)]).expect("fits either");
            let expected = match large {
                Some(_) => ColumnType::BigInt,
                None => ColumnType::Float,
            };
            assert_eq!(kind(committer.log()), Some(expected));
            let mut secondary = open_copy(dirs[1].path(), committer.log());
            follow(committer.log(), &mut secondary).await;
            for log in [committer.log(), secondary.log()] {
                for _ in 0..2 {
                    let found = stored(log);
                    let same = |time: i64| found[usize::try_from(time).expect("small")].1;
                    assert!((0..60).all(|time| same(time).is(Int(numbers(time)))));
                    compact_now(log).expect("compacts");
                }
                assert_eq!(log.verify().faults, []);
            }
            drop(appender);
            committer.stop().expect("stops");
            secondary.stop().await.expect("stops");
            // It is in the log: nothing is to be found out again.
            let (committer, appender) = open(dirs[0].path(), &Config::default());
            assert_eq!(kind(committer.log()), Some(expected));
            drop(appender);
            committer.stop().expect("stops");
        }
    }
}

#[test]
fn integers_that_cannot_be_read_are_not_taken_for_small() {
    let dir = tempfile::tempdir().expect("dir");
    let id = old_log(dir.path(), 0..60, false);
    let log = log_dir(dir.path(), id);
    let path = log.join(segment_name(Lsn(0)));
    let whole = std::fs::read(&path).expect("reads");
    let mut damaged = whole.clone();
    // The body of its last block of rows.
    let footer = SegmentFooter::decode("f", &whole).expect("sealed");
    let rows = footer
        .entries
        .iter()
        .rfind(|entry| entry.kind == BlockKind::Data);
    let at = usize::try_from(rows.expect("rows").offset).expect("fits") + BLOCK_HEADER_LEN + 8;
    damaged[at] ^= 1;
    std::fs::write(&path, damaged).expect("writes");
    let (committer, mut appender) = open(dir.path(), &Config::default());
    assert_eq!(kind(committer.log()), Some(ColumnType::OldInt));
    let refused = send(&mut appender, 100, &[Float(0.5)]).expect_err("may be large");
    assert!(
        refused.to_string().contains("may be beyond 2^53"),
        "{refused}"
    );
    send(&mut appender, 101, &[Int(ID), Float(7.0)]).expect("integers of any size");
    drop(appender);
    committer.stop().expect("stops");
    std::fs::write(&path, whole).expect("writes");
    let (committer, appender) = open(dir.path(), &Config::default());
    drop(appender);
    committer.stop().expect("stops");
    let (committer, appender) = open(dir.path(), &Config::default());
    assert_eq!(kind(committer.log()), Some(ColumnType::BigInt));
    drop(appender);
    committer.stop().expect("stops");
}
