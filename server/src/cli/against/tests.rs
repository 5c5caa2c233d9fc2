//! A moment that both nodes hold is found, or it is said why not. Must never need a node.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::api::digest::End;
use crate::cli::client::Refusal;

/// A node that gets a row further each time its status is asked, with as many files in force as
/// `files` says of its LSN.
struct Fake {
    log: &'static str,
    lsn: AtomicU64,
    step: u64,
    files: fn(u64) -> u64,
    /// Older files are remembered this far back.
    remembers: u64,
    /// Answers with this before all else, once.
    refuses: Mutex<Option<&'static str>>,
    /// What was read: up to which LSN, and which files.
    read: Mutex<Vec<(u64, u64)>>,
}

fn fake(lsn: u64, step: u64, remembers: u64) -> Fake {
    Fake {
        log: "abab",
        lsn: AtomicU64::new(lsn),
        step,
        files: |lsn| lsn / 10,
        remembers,
        refuses: Mutex::new(None),
        read: Mutex::default(),
    }
}

fn refusal(code: &str) -> Refusal {
    serde_json::from_str(&format!(r#"{{"error": "no", "code": "{code}"}}"#)).unwrap()
}

fn mark(files: u64) -> Mark {
    Mark {
        compacted: files * 10,
        next: files,
        digest: "00".to_owned(),
    }
}

impl Node for Fake {
    fn url(&self) -> &'static str {
        "http://fake"
    }

    fn status(&self) -> Result<Status, ClientError> {
        let lsn = self.lsn.fetch_add(self.step, Ordering::Relaxed);
        let (log, start) = (
            self.log,
            r#"{"node": "f", "node_id": "", "role": "primary""#,
        );
        Ok(serde_json::from_str(&format!(
            r#"{start}, "version": "", "uptime_s": 0, "log_id": "{log}", "epoch": 1,
            "lsn": {lsn}, "oldest_lsn": 0, "committed_unix_ms": 0, "segments": 0,
            "segment_bytes": 0}}"#
        ))
        .unwrap())
    }

    fn digest(&self, upto: Option<u64>, wanted: Option<&Mark>) -> Result<Digest, DigestError> {
        if let Some(code) = self.refuses.lock().unwrap().take() {
            return Err(ClientError::Refused(refusal(code)).into());
        }
        let lsn = self.lsn.load(Ordering::Relaxed);
        let newest = (self.files)(lsn);
        let wanted = wanted.map_or(newest, |mark| mark.next);
        if wanted > newest || wanted + self.remembers < newest {
            return Err(DigestError::UnknownMark {
                newest: Box::new(mark(newest)),
                refusal: refusal("unknown_mark"),
            });
        }
        let upto = upto.unwrap_or(lsn);
        assert!(upto <= lsn, "{upto} was asked for at {lsn}");
        self.read.lock().unwrap().push((upto, wanted));
        Ok(Digest {
            log: self.log.to_owned(),
            epoch: 1,
            upto: End {
                lsn: upto,
                chain: "00".to_owned(),
            },
            oldest: 0,
            mark: mark(wanted),
            ranges: Vec::new(),
            partitions: Vec::new(),
        })
    }
}

#[test]
fn nodes_that_stand_still_are_read_once() {
    let (a, b) = (fake(57, 0, 0), fake(57, 0, 0));
    let (first, second) = read_both(&a, &b, EAGER).unwrap();
    assert_eq!((first.upto.lsn, first.mark.next), (57, 5));
    assert_eq!(first, second);
    for node in [a, b] {
        assert_eq!(*node.read.lock().unwrap(), [(57, 5)]);
    }
}

#[test]
fn the_second_node_may_be_ahead_and_remember_what_the_first_one_has() {
    let (behind, ahead) = (fake(57, 0, 0), fake(87, 0, 5));
    let (first, second) = read_both(&behind, &ahead, EAGER).unwrap();
    assert_eq!((first.upto.lsn, first.mark.next), (57, 5));
    assert_eq!(first, second);
}

#[test]
fn the_second_node_must_reach_what_the_first_one_had() {
    let (ahead, behind) = (fake(87, 0, 5), fake(57, 0, 0));
    let error = read_both(&ahead, &behind, HASTY).unwrap_err().to_string();
    assert!(error.ends_with("is at LSN 57, before 87"), "{error}");
    assert!(ahead.read.lock().unwrap().is_empty());
}

#[test]
fn a_moment_is_found_while_both_go_on() {
    let (a, b) = (fake(507, 1, 2), fake(3, 7, 2));
    let (first, second) = read_both(&a, &b, EAGER).unwrap();
    assert_eq!(first, second);
    assert!(first.upto.lsn >= 507, "{first:?}");
    assert_eq!(a.read.lock().unwrap().len(), 1);
    assert_eq!(b.read.lock().unwrap().len(), 1);
}

#[test]
fn nobody_reads_for_nothing_when_there_is_no_such_moment() {
    let (mut a, b) = (fake(507, 0, 3), fake(507, 0, 3));
    a.files = |_| 10;
    let error = read_both(&a, &b, HASTY).unwrap_err().to_string();
    assert!(
        error.contains("for 0 s: http://fake: no (unknown_mark)"),
        "{error}"
    );
    assert!(a.read.lock().unwrap().is_empty());
    assert!(b.read.lock().unwrap().is_empty());
}

#[test]
fn what_passes_is_waited_for_and_what_does_not_is_told() {
    for code in PASSING {
        let (a, b) = (fake(57, 0, 0), fake(57, 0, 0));
        *b.refuses.lock().unwrap() = Some(code);
        assert!(read_both(&a, &b, EAGER).is_ok(), "{code}");
    }
    let (a, b) = (fake(57, 0, 0), fake(57, 0, 0));
    *b.refuses.lock().unwrap() = Some("path");
    let error = read_both(&a, &b, EAGER).unwrap_err();
    assert!(matches!(error, AgainstError::Client(_)), "{error}");
}

#[test]
fn two_logs_are_not_compared() {
    let (a, mut b) = (fake(57, 0, 0), fake(57, 0, 0));
    b.log = "cdcd";
    let error = read_both(&a, &b, EAGER).unwrap_err().to_string();
    assert_eq!(
        error,
        "there is nothing to compare: http://fake holds log abab, http://fake log cdcd"
    );
}

/// Looks again at once.
const EAGER: Pace = Pace {
    give_up: Duration::from_secs(20),
    look: Duration::ZERO,
    refusal: Duration::from_secs(10),
};

const HASTY: Pace = Pace {
    give_up: Duration::ZERO,
    ..EAGER
};
