//! Who is known, who counts as a copy, who is taken for somebody else. Tests of the rules alone:
//! they must never need a connection or a clock.

use super::entry::{NOTE_EVERY_MS, TWIN_TOLD};
use super::*;
use crate::certs::member::Member;
use crate::wire::statement::fnv;
use crate::wire::{Disk, Heartbeat, Report, Statement};
use std::sync::Arc;
use wal::Lsn;

/// What the primary's clock shows.
const NOW: i64 = 1_700_000_000_000_000_000;

fn peer(id: &str) -> Peer {
    Peer {
        name: format!("name-{id}"),
        key: fnv(id.as_bytes()),
        id: id.to_owned(),
        address: SocketAddr::from(([127, 0, 0, 1], 4000)),
        protocol: 3,
        serves: String::new(),
    }
}

fn at(lsn: u64) -> Position {
    Position {
        lsn: Lsn(lsn),
        chain: wal::Chain(1),
    }
}

fn report(lsn: u64) -> Report {
    Report {
        received: lsn,
        flushed: lsn,
        applied: lsn,
        chain: 1,
        ..Report::default()
    }
}

/// What a node behind another vouches for, having heard the primary at that time.
fn vouched(id: &str, flushed: u64, heard_ns: i64) -> Vouched {
    let member = Arc::new(Member::made_up(fnv(id.as_bytes())));
    let statement = Statement {
        flushed,
        heard_ns,
        ..Statement::default()
    };
    Vouched { member, statement }
}

fn copy(id: &str, flushed: u64) -> NodeCopy {
    let flushed = Lsn(flushed);
    let node = fnv(id.as_bytes());
    NodeCopy { node, flushed }
}

fn disconnect(entries: &mut Entries, id: &str) {
    let entry = entries.by_id.get_mut(id).expect("an entry");
    entry.live = None;
    entry.state = SecondaryState::Disconnected;
}

/// The primary's own end.
fn end(lsn: u64) -> Reach {
    Reach {
        lsn: Lsn(lsn),
        is_primary: true,
    }
}

fn beat(durable: u64, now_unix_ns: i64) -> Heartbeat {
    Heartbeat {
        durable,
        now_unix_ns,
        ..Heartbeat::default()
    }
}

fn view(entries: &Entries, id: &str, durable: u64) -> SecondaryStatus {
    let all = entries.statuses(end(durable), Instant::now());
    all.into_iter().find(|s| s.id == id).expect("a status")
}

#[test]
fn a_secondary_connects_catches_up_and_streams() {
    let mut entries = Entries::new(4);
    entries
        .register(peer("a"), at(10), false, 1_000)
        .expect("room");
    let seen = view(&entries, "a", 100);
    assert_eq!(
        (seen.state, seen.sent, seen.lag_ms),
        (SecondaryState::CatchingUp, Lsn(10), None)
    );
    assert_eq!(seen.connected_at_unix_ms, 1_000);
    let entry = entries.by_id.get_mut("a").expect("an entry");
    entry.freshness.beat(Lsn(100), 5_000_000, Instant::now());
    entry.report(&report(60), false, 1_500);
    let seen = view(&entries, "a", 100);
    assert_eq!(
        (seen.state, seen.lag_rows),
        (SecondaryState::CatchingUp, Some(40))
    );
    let entry = entries.by_id.get_mut("a").expect("an entry");
    entry.report(&report(100), true, 2_000);
    let seen = view(&entries, "a", 100);
    assert_eq!(
        (seen.state, seen.lag_rows, seen.lag_ms),
        (SecondaryState::Streaming, Some(0), Some(0))
    );
    assert_eq!(seen.last_seen_unix_ms, 2_000);
}

#[test]
fn no_lag_is_claimed_of_who_is_away_or_turned_away() {
    let mut entries = Entries::new(4);
    let start = Instant::now();
    entries.register(peer("a"), at(10), false, 1).expect("room");
    let entry = entries.by_id.get_mut("a").expect("an entry");
    entry.beat(&beat(60, 5_000_000_000), start);
    entry.report(&report(60), true, 2);
    let at_once = entries.statuses(end(60), start);
    assert_eq!((at_once[0].lag_rows, at_once[0].lag_ms), (Some(0), Some(0)));
    disconnect(&mut entries, "a");
    let later = start + std::time::Duration::from_secs(30);
    let away = entries.statuses(end(60), later);
    assert_eq!((away[0].lag_rows, away[0].lag_ms), (None, Some(30_000)));
    // What came since is missing there for certain.
    let away = entries.statuses(end(65), later);
    assert_eq!(away[0].lag_rows, Some(5));
    entries.refused(peer("a"), at(7), ("another log".to_owned(), None), 3);
    let refused = entries.statuses(end(65), later);
    assert_eq!((refused[0].lag_rows, refused[0].lag_ms), (None, None));
}

#[test]
fn a_node_without_a_way_to_the_primary_claims_no_lag_of_those_below() {
    let mut entries = Entries::new(4);
    let start = Instant::now();
    entries.register(peer("a"), at(10), false, 1).expect("room");
    let entry = entries.by_id.get_mut("a").expect("an entry");
    entry.report(&report(60), true, 2);
    let repeated = beat(60, 5_000_000_000);
    let later = start + std::time::Duration::from_secs(30);
    entry.beat(&repeated, start);
    entry.beat(&repeated, later);
    let cut_off = Reach {
        lsn: Lsn(60),
        is_primary: false,
    };
    let seen = entries.statuses(cut_off, later);
    assert_eq!((seen[0].lag_rows, seen[0].lag_ms), (None, Some(30_000)));
}

#[test]
fn a_newer_connection_supersedes_the_older() {
    let mut entries = Entries::new(4);
    let first = entries.register(peer("a"), at(0), false, 1).expect("room");
    let second = entries.register(peer("a"), at(5), false, 2).expect("room");
    assert!(first.superseded.is_cancelled());
    assert!(!second.superseded.is_cancelled());
    assert_eq!(entries.by_id.len(), 1);
    let entry = &entries.by_id["a"];
    assert!(entry.is_of(&second) && !entry.is_of(&first));
}

#[test]
fn what_was_known_survives_a_reconnect() {
    let mut entries = Entries::new(4);
    entries.register(peer("a"), at(0), false, 1).expect("room");
    entries
        .by_id
        .get_mut("a")
        .expect("an entry")
        .report(&report(50), true, 2);
    disconnect(&mut entries, "a");
    entries.register(peer("a"), at(50), false, 3).expect("room");
    let seen = view(&entries, "a", 50);
    assert_eq!(
        (seen.state, seen.applied, seen.connected_at_unix_ms),
        (SecondaryState::CatchingUp, Lsn(50), 3)
    );
}

#[test]
fn the_one_gone_longest_is_forgotten_first() {
    let mut entries = Entries::new(2);
    entries.register(peer("a"), at(0), false, 1).expect("room");
    entries.register(peer("b"), at(0), false, 2).expect("room");
    let full = entries
        .register(peer("c"), at(0), false, 3)
        .expect_err("all connected");
    assert_eq!(full, RefuseReason::Full { limit: 2 });
    disconnect(&mut entries, "b");
    disconnect(&mut entries, "a");
    entries.register(peer("c"), at(0), false, 4).expect("room");
    assert!(entries.by_id.contains_key("b") && !entries.by_id.contains_key("a"));
}

#[test]
fn a_refusal_is_remembered_but_never_hides_a_live_connection() {
    let mut entries = Entries::new(2);
    entries.refused(peer("a"), at(7), ("another log".to_owned(), None), 1);
    let seen = view(&entries, "a", 100);
    assert_eq!(seen.state, SecondaryState::Refused);
    assert_eq!(seen.reason.as_deref(), Some("another log"));
    entries.register(peer("a"), at(7), false, 2).expect("room");
    assert_eq!(view(&entries, "a", 100).reason, None);
    entries.refused(peer("a"), at(9), ("another log".to_owned(), None), 3);
    assert_eq!(view(&entries, "a", 100).state, SecondaryState::CatchingUp);
    entries.register(peer("b"), at(0), false, 4).expect("room");
    entries.refused(peer("c"), at(0), ("no room".to_owned(), None), 5);
    assert_eq!(entries.by_id.len(), 2);
}

#[test]
fn what_a_joining_node_has_on_disk_is_no_copy_yet() {
    let mut entries = Entries::new(4);
    entries.register(peer("a"), at(10), true, 1).expect("room");
    let entry = entries.by_id.get_mut("a").expect("an entry");
    entry.report(&report(60), true, 2);
    assert_eq!(view(&entries, "a", 60).state, SecondaryState::Bootstrapping);
    assert!(entries.copies().is_empty());
    entries.register(peer("a"), at(60), false, 3).expect("room");
    assert!(entries.copies().is_empty(), "it has said nothing yet");
    let entry = entries.by_id.get_mut("a").expect("an entry");
    entry.report(&report(60), true, 4);
    assert_eq!(entries.copies(), [copy("a", 60)]);
}

#[test]
fn copies_behind_a_relay_count() {
    let mut entries = Entries::new(4);
    entries.register(peer("a"), at(10), false, 1).expect("room");
    let entry = entries.by_id.get_mut("a").expect("an entry");
    let boast = Report {
        descendants: vec![Disk {
            node: 7,
            flushed: 60,
        }],
        ..report(60)
    };
    let moved = entry.report(&boast, true, 2);
    assert!(moved.flushed && !moved.noteworthy);
    let entry = entries.by_id.get_mut("a").expect("an entry");
    entry.vouched = vec![vouched("b", 50, NOW), vouched("c", 70, NOW)];
    assert!(entry.count_vouched(Some(NOW + 1)));
    assert!(!entry.count_vouched(Some(NOW + 2)));
    // Nobody below has more than the relay itself.
    let all = [copy("a", 60), copy("b", 50), copy("c", 60)];
    assert_eq!(entries.copies(), all);
    // Who has not been heard for long is not there, and nobody knows what the primary will say.
    for (primary_ns, counted) in [
        (Some(NOW + 29_000_000_000), 3),
        (Some(NOW + 31_000_000_000), 1),
        (Some(NOW - 4_000_000_000), 3),
        (Some(NOW - 6_000_000_000), 1),
        (Some(i64::MAX), 1),
        (Some(i64::MIN), 1),
        (None, 3),
    ] {
        let entry = entries.by_id.get_mut("a").expect("an entry");
        entry.count_vouched(primary_ns);
        assert_eq!(entries.copies().len(), counted, "{primary_ns:?}");
    }
    disconnect(&mut entries, "a");
    assert!(entries.copies().is_empty());
}

#[test]
fn a_node_that_left_a_relay_is_one_copy_and_one_entry() {
    let mut entries = Entries::new(4);
    for id in ["relay", "leaf"] {
        entries.register(peer(id), at(10), false, 1).expect("room");
    }
    let entry = entries.by_id.get_mut("relay").expect("an entry");
    entry.report(&report(60), true, 2);
    entry.vouched = vec![vouched("leaf", 50, NOW)];
    entry.count_vouched(None);
    entry.descendants = vec![NodeSummary {
        id: "leaf".to_owned(),
        ..NodeSummary::default()
    }];
    let entry = entries.by_id.get_mut("leaf").expect("an entry");
    entry.report(&report(70), true, 2);
    let replicated = wal::Replicated::new(entries.copies());
    assert_eq!(replicated.connected, 2);
    assert_eq!((replicated.by(2), replicated.by(3)), (Lsn(50), Lsn(0)));
    // Back behind the relay, it is listed there alone.
    disconnect(&mut entries, "leaf");
    let all = entries.statuses(end(100), Instant::now());
    assert_eq!(all.len(), 1);
}

#[test]
fn ids_that_are_made_up_make_nobody_else_forgotten() {
    let mut entries = Entries::new(8);
    for id in ["a", "b", "c"] {
        entries.register(peer(id), at(10), false, 1).expect("room");
        disconnect(&mut entries, id);
    }
    for nth in 0..100 {
        let id = format!("made-up-{nth}");
        let one = Peer {
            name: "thief".to_owned(),
            ..peer(&id)
        };
        if nth % 2 == 0 {
            entries.refused(one, at(0), ("no".to_owned(), None), 100 + nth);
        } else if entries.register(one, at(0), false, 100 + nth).is_ok() {
            disconnect(&mut entries, &id);
        }
    }
    assert_eq!(entries.by_id.len(), 8);
    for id in ["a", "b", "c"] {
        assert!(entries.by_id.contains_key(id), "{id}");
    }
    assert_eq!(entries.absent(), 4);
    // While none of that name can go, nobody goes for it.
    for entry in entries.by_id.values_mut() {
        if entry.peer.name == "thief" {
            entry.live = Some(Live {
                number: 0,
                superseded: CancellationToken::new(),
            });
        }
    }
    let one = Peer {
        name: "thief".to_owned(),
        ..peer("one more")
    };
    let refused = entries.register(one, at(0), false, 1_000);
    assert!(matches!(refused, Err(RefuseReason::Full { .. })));
    entries
        .register(peer("honest"), at(0), false, 1_000)
        .expect("the oldest goes");
}

#[test]
fn a_copied_directory_does_not_take_over_a_live_connection() {
    let mut entries = Entries::new(4);
    entries.register(peer("a"), at(10), false, 1).expect("room");
    let copy = Peer {
        name: "copy".to_owned(),
        ..peer("a")
    };
    let refused = entries.register(copy.clone(), at(10), false, 2);
    let taken = RefuseReason::CloneId {
        id: "a".to_owned(),
        name: "name-a".to_owned(),
        address: peer("a").address,
    };
    assert_eq!(refused.expect_err("a clone"), taken);
    let now = Instant::now();
    assert_eq!(entries.contest(&copy, now, now), Contest::Taken(taken));
    disconnect(&mut entries, "a");
    entries
        .register(copy, at(10), false, 3)
        .expect("nobody else");
}

#[test]
fn a_copy_with_the_same_certificate_is_told_from_a_node_that_comes_back() {
    let mut entries = Entries::new(4);
    let start = Instant::now();
    let after = |ms| start + Duration::from_millis(ms);
    assert_eq!(entries.contest(&peer("a"), start, start), Contest::Free);
    entries.register(peer("a"), at(10), false, 1).expect("room");
    entries.by_id.get_mut("a").expect("an entry").heard = Some(after(900));
    let contest = |entries: &Entries, ms| entries.contest(&peer("a"), after(1_000), after(ms));
    assert_eq!(contest(&entries, 1_001), Contest::Open);
    // What it said before it was killed came late.
    entries.by_id.get_mut("a").expect("an entry").heard = Some(after(1_200));
    assert_eq!(contest(&entries, 1_300), Contest::Open);
    assert_eq!(contest(&entries, 2_700), Contest::Free);
    entries.by_id.get_mut("a").expect("an entry").heard = Some(after(2_000));
    assert!(matches!(contest(&entries, 2_000), Contest::Taken(_)));
    let twin = Peer {
        address: SocketAddr::from(([10, 0, 0, 9], 7)),
        ..peer("a")
    };
    entries.twin(&twin, after(2_000));
    entries.twin(&twin, after(2_001));
    let seen = entries.statuses(end(10), after(2_002));
    let reason = seen[0].reason.clone().unwrap_or_default();
    assert!(reason.contains("came from 10.0.0.9:7, 2 times"), "{reason}");
    assert_eq!(seen[0].state, SecondaryState::CatchingUp);
    let later = entries.statuses(end(10), after(2_002) + TWIN_TOLD);
    assert_eq!(later[0].reason, None);
}

#[test]
fn what_is_known_of_one_turned_away_in_tls_is_told_of_those_who_are_gone() {
    let mut entries = Entries::new(4);
    let from = SocketAddr::from(([10, 0, 0, 9], 7));
    assert!(!entries.turned_away("name-a", from, "expired"));
    assert_eq!(entries.len(), 0, "nobody is remembered for a mere claim");
    entries.register(peer("a"), at(10), false, 1).expect("room");
    assert!(!entries.turned_away("name-a", from, "expired"));
    disconnect(&mut entries, "a");
    assert!(entries.turned_away("name-a", from, "expired"));
    let seen = view(&entries, "a", 10);
    assert_eq!(seen.state, SecondaryState::Refused);
    assert_eq!(
        seen.reason.as_deref(),
        Some("expired (it came from 10.0.0.9)")
    );
}

#[test]
fn what_is_kept_comes_back_disconnected() {
    let mut entries = Entries::new(4);
    entries.register(peer("a"), at(10), false, 1).expect("room");
    let entry = entries.by_id.get_mut("a").expect("an entry");
    let moved = entry.report(&report(60), true, NOTE_EVERY_MS + 1);
    assert!(moved.noteworthy);
    let members = entries.members();
    let mut next = Entries::new(4);
    members
        .iter()
        .for_each(|member| next.restore(member.clone()));
    assert_eq!(next.members(), members);
    let seen = view(&next, "a", 100);
    assert_eq!(
        (seen.state, seen.flushed),
        (SecondaryState::Disconnected, Lsn(60))
    );
    assert!(next.copies().is_empty());
}

#[test]
fn only_those_who_are_gone_can_be_forgotten() {
    let mut entries = Entries::new(4);
    entries.register(peer("a"), at(10), false, 1).expect("room");
    assert_eq!(entries.forget("a"), Forgotten::Connected);
    assert_eq!(entries.forget("b"), Forgotten::Unknown);
    disconnect(&mut entries, "a");
    assert_eq!(entries.forget("name-a"), Forgotten::Done);
    assert_eq!(entries.len(), 0);
}

#[test]
fn who_asks_for_another_log_is_known_until_one_follows_this_one() {
    let mut entries = Entries::new(3);
    let other = LogId::random();
    assert!(entries.foreign(0).is_empty());
    let refuse = |entries: &mut Entries, id, lsn, log| {
        entries.refused(peer(id), at(lsn), (String::new(), log), 1_000);
    };
    refuse(&mut entries, "a", 7, Some(other));
    refuse(&mut entries, "b", 9, Some(other));
    refuse(&mut entries, "c", 99, None);
    let lsns = |entries: &Entries, now| -> Vec<u64> {
        entries
            .foreign(now)
            .iter()
            .map(|foreign| foreign.lsn.0)
            .collect()
    };
    assert_eq!(lsns(&entries, 1_000), [9, 7]);
    assert_eq!(lsns(&entries, 1_000 + ASKS_MS), [0_u64; 0], "long ago");
    assert_eq!(entries.forget("b"), Forgotten::Done);
    assert_eq!(lsns(&entries, 1_000), [7]);
    entries
        .register(peer("c"), at(0), false, 2_000)
        .expect("room");
    assert!(
        entries.foreign(2_000).is_empty(),
        "this log is the right one"
    );
}
