//! What differs between two digests is told once, with its node and place. Must never
//! need a node.

use super::*;
use crate::api::digest::End;

fn range(first: u64, end: u64, chain: &str) -> Range {
    Range {
        first,
        end,
        chain: chain.to_owned(),
        fault: None,
    }
}

fn partition(table: &str, rows: u64, digest: &str) -> Partition {
    Partition {
        table: table.to_owned(),
        partition: "2026-11-21T00:00:00Z/1d".to_owned(),
        files: 1,
        rows,
        bytes: rows * 100,
        digest: digest.to_owned(),
        fault: None,
    }
}

/// Three ranges and two partitions.
fn digest() -> Digest {
    Digest {
        log: "abab".to_owned(),
        epoch: 2,
        upto: End {
            lsn: 90,
            chain: "c3".to_owned(),
        },
        oldest: 4,
        mark: Mark {
            compacted: 5,
            next: 3,
            digest: "ff".to_owned(),
        },
        ranges: vec![range(4, 10, "c1"), range(10, 50, "c2"), range(50, 90, "c3")],
        partitions: vec![partition("plant", 5, "d1"), partition("site", 2, "d2")],
    }
}

fn shown(first: &Digest, second: &Digest) -> String {
    let found = compare(first, second);
    let text = found.show("a", "b");
    assert_eq!(found.is_equal(), text.ends_with(": equal\n"), "{text}");
    assert_eq!(found.is_equal(), text.lines().count() == 1, "{text}");
    text
}

/// The lines before the last.
fn differences(first: &Digest, second: &Digest) -> Vec<String> {
    let text = shown(first, second);
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.pop();
    lines
}

#[test]
fn equal_nodes_are_one_line_of_what_was_compared() {
    assert_eq!(
        shown(&digest(), &digest()),
        "at LSN 90, epoch 2: 3 ranges of the log from LSN 4, 2 partitions of files to LSN 5 with \
         7 rows, 700 bytes: equal\n"
    );
}

#[test]
fn ranges_are_compared_where_both_end() {
    // Holds less of the past, and has not sealed where the other has.
    let other = Digest {
        oldest: 10,
        ranges: vec![range(10, 50, "c2"), range(60, 90, "c3")],
        ..digest()
    };
    let text = shown(&digest(), &other);
    assert!(text.contains("2 ranges of the log from LSN 10, "), "{text}");
    let none = Digest {
        oldest: 90,
        ranges: Vec::new(),
        ..digest()
    };
    let text = shown(&digest(), &none);
    assert!(text.contains("no range of the log, "), "{text}");
}

#[test]
fn a_log_that_parts_is_told_where_it_does() {
    let other = Digest {
        upto: End {
            lsn: 90,
            chain: "e3".to_owned(),
        },
        ranges: vec![range(4, 10, "c1"), range(10, 50, "e2"), range(50, 90, "e3")],
        ..digest()
    };
    assert_eq!(
        differences(&digest(), &other),
        ["a and b: log from LSN 10 to 50: chain c2 is not e2, and so in 1 range behind it"]
    );
    let bare = |chain: &str| Digest {
        ranges: Vec::new(),
        upto: End {
            lsn: 90,
            chain: chain.to_owned(),
        },
        ..digest()
    };
    assert_eq!(
        differences(&bare("c3"), &bare("e3")),
        ["a and b: log at LSN 90: chain c3 is not e3"]
    );
}

#[test]
fn a_damaged_range_is_a_fault_of_its_node_alone() {
    let mut other = digest();
    other.ranges[2].fault = Some("a flipped bit".to_owned());
    other.ranges[2].chain = "c2".to_owned();
    other.upto.chain = "c2".to_owned();
    other.partitions[1].fault = Some("cut short".to_owned());
    let text = shown(&digest(), &other);
    assert_eq!(
        text,
        "b: log from LSN 50 to 90: damaged: a flipped bit\n\
         b: files of site 2026-11-21T00:00:00Z/1d: damaged: cut short\n\
         at LSN 90, epoch 2: 2 ranges of the log from LSN 4, 1 partition of files to LSN 5 with \
         5 rows, 500 bytes: 2 differences\n"
    );
    let text = shown(&other, &digest());
    assert!(text.starts_with("a: log from LSN 50 to 90: damaged"));
}

#[test]
fn partitions_that_differ_or_lack_are_named() {
    let mut other = digest();
    other.mark.digest = "fe".to_owned();
    other.partitions = vec![partition("plant", 6, "d9"), partition("tank", 1, "d3")];
    assert_eq!(
        differences(&digest(), &other),
        [
            "a and b: the list of files: ff is not fe",
            "a and b: files of plant 2026-11-21T00:00:00Z/1d: 5 rows are not 6, 500 bytes are not \
             600, digest d1 is not d9",
            "b: files of site 2026-11-21T00:00:00Z/1d: not there; the other node has 2 rows in \
             1 file",
            "a: files of tank 2026-11-21T00:00:00Z/1d: not there; the other node has 1 row in \
             1 file",
        ]
    );
}

#[test]
fn what_cannot_be_compared_is_no_equality() {
    let mut other = digest();
    other.log = "cdcd".to_owned();
    other.upto.chain = "e3".to_owned();
    let lines = differences(&digest(), &other);
    assert_eq!(lines, ["a and b: the log: abab is not cdcd"]);
    let mut other = digest();
    other.epoch = 3;
    other.mark.next = 4;
    other.upto.lsn = 60;
    other.ranges[2] = range(50, 60, "c9");
    assert_eq!(
        differences(&digest(), &other),
        [
            "a and b: the epoch: 2 is not 3",
            "a and b: the end of the log: 90 is not 60",
            "a and b: the set of files: to LSN 5 before file 3 is not to LSN 5 before file 4",
        ]
    );
}
