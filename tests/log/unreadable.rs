//! Headers of blocks in the newest segment that cannot be read: turned back where checksums say what
//! they were, else brought from elsewhere or lost by word. Must never be lost in silence.

use std::path::Path;
use std::sync::Arc;

use tests::crash_disk::CrashDisk;
use tests::workload::numbers;
use wal::{BLOCK_HEADER_LEN, open_primary};

use crate::damage::{ROWS, blocks, config, dir, filled, open_and_read, segments};

#[test]
fn flipped_bits_in_a_header_of_the_newest_segment_are_turned_back() {
    let mut random = fastrand::Rng::with_seed(tests::seed());
    let pristine = filled();
    let (path, bytes) = segments(&pristine).pop().expect("an active segment");
    let blocks = blocks(&bytes);
    for at in &blocks {
        for bits in 1..3 {
            let disk = pristine.copy();
            let first = random.usize(..BLOCK_HEADER_LEN * 8);
            let second = (first + random.usize(1..BLOCK_HEADER_LEN * 8)) % (BLOCK_HEADER_LEN * 8);
            disk.damage(&path, |bytes| {
                for bit in [first, second].into_iter().take(bits) {
                    bytes[at + bit / 8] ^= 1 << (bit % 8);
                }
            });
            let opened = open_primary(Arc::new(disk.clone()), dir(), &config());
            let (committer, recovery) = opened.expect("opens");
            assert_eq!(
                (recovery.mended, recovery.torn_tail),
                (1, None),
                "{first} {second}"
            );
            assert_eq!(recovery.damaged, 0);
            assert!(
                numbers(committer.log())
                    .expect("whole")
                    .into_iter()
                    .eq(0..ROWS)
            );
            committer.stop().expect("stops");
            let (committer, recovery) =
                open_primary(Arc::new(disk), dir(), &config()).expect("opens");
            assert_eq!(recovery.mended, 0, "for good");
            committer.stop().expect("stops");
        }
    }
    // What was never written whole is still an unfinished write.
    let last = *blocks.last().expect("a block");
    for kept in [4, 60, BLOCK_HEADER_LEN, BLOCK_HEADER_LEN + 8] {
        let disk = pristine.copy();
        disk.damage(&path, |bytes| bytes[last + kept..].fill(0));
        let (committer, recovery) = open_primary(Arc::new(disk), dir(), &config()).expect("opens");
        assert_eq!((recovery.mended, recovery.torn_tail.is_some()), (0, true));
        committer.stop().expect("stops");
    }
}

#[test]
fn what_cannot_be_read_is_brought_from_another_directory_or_lost_by_word_alone() {
    let pristine = filled();
    let (path, bytes) = segments(&pristine).pop().expect("an active segment");
    let blocks = blocks(&bytes);
    let as_disk = |disk: &CrashDisk| -> Arc<dyn wal::Disk> { Arc::new(disk.clone()) };
    assert_eq!(
        wal::find_unreadable(&as_disk(&pristine), dir()).expect("reads"),
        None
    );
    for at in &blocks[..blocks.len() - 1] {
        let disk = pristine.copy();
        disk.damage(&path, |bytes| bytes[at + 8..at + 64].fill(0));
        assert!(open_and_read(&disk).is_err());
        let found = wal::find_unreadable(&as_disk(&disk), dir()).expect("reads");
        let found = found.expect("unreadable");
        assert_eq!((found.offset, &found.file), (*at as u64, &path));
        assert!(found.rows_behind > 0 && found.to > found.from.lsn);
        assert!(open_and_read(&disk).is_err(), "looking changes nothing");

        // Another node's directory, on the same disk.
        let filled = disk.copy();
        let other = Path::new("other");
        for (path, bytes) in pristine.contents() {
            let path = other.join(path.strip_prefix(dir()).expect("inside"));
            as_disk(&filled)
                .replace(&path.with_extension("copy"), &path, &bytes)
                .expect("copies");
        }
        let brought = wal::fill_unreadable(&as_disk(&filled), dir(), other).expect("brings");
        assert_eq!(brought, Some(found.clone()));
        assert!(
            open_and_read(&filled)
                .expect("whole")
                .into_iter()
                .eq(0..ROWS)
        );

        let (lost, kept) = wal::cut_unreadable(&as_disk(&disk), dir())
            .expect("cuts")
            .expect("something");
        assert_eq!(lost, found);
        let rows = open_and_read(&disk).expect("sound");
        assert!(rows.len() < usize::try_from(ROWS).expect("small"));
        assert!(rows.iter().copied().eq(0..rows.len() as i64), "a beginning");
        let copies = disk
            .contents()
            .into_iter()
            .filter(|(path, _)| path.starts_with(&kept));
        assert_eq!(copies.count(), 1, "{}", kept.display());
        assert_eq!(
            wal::cut_unreadable(&as_disk(&disk), dir()).expect("reads"),
            None
        );
    }
}

#[test]
fn what_cannot_be_read_is_taken_from_another_open_log_as_far_as_that_has_it() {
    let mut random = fastrand::Rng::with_seed(tests::seed());
    let pristine = filled();
    let (path, bytes) = segments(&pristine).pop().expect("an active segment");
    let blocks = blocks(&bytes);
    let (peer, _) = open_primary(Arc::new(pristine.copy()), dir(), &config()).expect("opens");
    let lent = |from, to| {
        peer.log()
            .export_blocks(from, to, usize::MAX)
            .expect("held")
    };
    for first in 0..blocks.len() - 2 {
        for second in first..blocks.len() - 1 {
            let disk = pristine.copy();
            disk.damage(&path, |bytes| {
                for block in [first, second] {
                    // Anywhere in the header, and for the first one perhaps beyond it.
                    let at = blocks[block] + random.usize(..BLOCK_HEADER_LEN - 8);
                    let most = if block == first { 200 } else { 8 };
                    let len = random.usize(4..=most).min(bytes.len() - at);
                    bytes[at..at + len]
                        .iter_mut()
                        .for_each(|byte| *byte ^= 0x5a);
                }
            });
            let as_disk: Arc<dyn wal::Disk> = Arc::new(disk.clone());
            let find = || wal::find_unreadable(&as_disk, dir()).expect("reads");
            let Some(found) = find() else {
                // No block of a later group is left that could tell.
                continue;
            };
            let mut wrong = lent(found.from, found.to).to_vec();
            wrong[BLOCK_HEADER_LEN] ^= 1;
            assert!(wal::take_unreadable(&as_disk, dir(), &wrong).is_err());
            assert!(wal::take_unreadable(&as_disk, dir(), &[]).is_err());
            assert_eq!(find(), Some(found.clone()), "nothing was changed");

            // A peer that lags has less.
            let less = lent(found.from, wal::Lsn(found.from.lsn.0 + 1));
            let left = match wal::take_unreadable(&as_disk, dir(), &less) {
                Ok(left) => left,
                Err(error) => {
                    assert!(matches!(error, wal::WalError::NotHeld(_)), "{error}");
                    Some(found)
                }
            };
            if let Some(left) = left {
                let rest = lent(left.from, left.to);
                let left = wal::take_unreadable(&as_disk, dir(), &rest).expect("fits");
                assert_eq!(left, None);
            }
            let rows = open_and_read(&disk).expect("whole");
            assert!(rows.into_iter().eq(0..ROWS), "{first} {second}");
        }
    }
    assert!(
        peer.log()
            .export_blocks(peer.log().end(), wal::Lsn(0), 0)
            .is_some()
    );
    let genesis = peer.log().id().genesis();
    assert_eq!(
        peer.log().export_blocks(genesis, peer.log().end().lsn, 10),
        None
    );
    peer.stop().expect("stops");
}
