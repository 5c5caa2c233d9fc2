//! Who is known, who counts as a copy, who is taken for somebody else.

use super::*;
use crate::wire::{Disk, Status};

fn peer(id: &str) -> Peer {
    Peer {
        name: format!("name-{id}"),
        id: id.to_owned(),
        address: SocketAddr::from(([127, 0, 0, 1], 4000)),
        protocol: 3,
        serves: String::new(),
    }
}

fn at(lsn: u64) -> Position {
    Position {
        lsn: Lsn(lsn),
        chain: 1,
    }
}

fn report(lsn: u64) -> Report {
    Report {
        status: Status {
            received: lsn,
            flushed: lsn,
            applied: lsn,
            chain: 1,
        },
        ..Report::default()
    }
}

fn disk(id: &str, flushed: u64) -> Disk {
    let node = fnv(id);
    Disk { node, flushed }
}

fn copy(id: &str, flushed: u64) -> NodeCopy {
    disk(id, flushed).into()
}

fn disconnect(book: &mut Book, id: &str) {
    let entry = book.entries.get_mut(id).expect("an entry");
    entry.live = None;
    entry.state = SecondaryState::Disconnected;
}

fn view(book: &Book, id: &str, durable: u64) -> SecondaryStatus {
    let all = book.statuses(Lsn(durable), Instant::now());
    all.into_iter().find(|s| s.id == id).expect("a status")
}

#[test]
fn a_secondary_connects_catches_up_and_streams() {
    let mut book = Book::new(4);
    book.register(peer("a"), at(10), false, 1_000)
        .expect("room");
    let seen = view(&book, "a", 100);
    assert_eq!(
        (seen.state, seen.sent, seen.lag_ms),
        ("catching_up", Lsn(10), None)
    );
    assert_eq!(seen.connected_at_unix_ms, 1_000);
    let entry = book.entries.get_mut("a").expect("an entry");
    entry.freshness.beat(Lsn(100), 5_000_000, Instant::now());
    entry.report(&report(60), false, 1_500);
    let seen = view(&book, "a", 100);
    assert_eq!((seen.state, seen.lag_rows), ("catching_up", 40));
    let entry = book.entries.get_mut("a").expect("an entry");
    entry.report(&report(100), true, 2_000);
    let seen = view(&book, "a", 100);
    assert_eq!(
        (seen.state, seen.lag_rows, seen.lag_ms),
        ("streaming", 0, Some(0))
    );
    assert_eq!(seen.last_seen_unix_ms, 2_000);
}

#[test]
fn a_newer_connection_supersedes_the_older() {
    let mut book = Book::new(4);
    let first = book.register(peer("a"), at(0), false, 1).expect("room");
    let second = book.register(peer("a"), at(5), false, 2).expect("room");
    assert!(first.superseded.is_cancelled());
    assert!(!second.superseded.is_cancelled());
    assert_eq!(book.entries.len(), 1);
    let entry = &book.entries["a"];
    assert!(entry.is_of(&second) && !entry.is_of(&first));
}

#[test]
fn what_was_known_survives_a_reconnect() {
    let mut book = Book::new(4);
    book.register(peer("a"), at(0), false, 1).expect("room");
    book.entries
        .get_mut("a")
        .expect("an entry")
        .report(&report(50), true, 2);
    disconnect(&mut book, "a");
    book.register(peer("a"), at(50), false, 3).expect("room");
    let seen = view(&book, "a", 50);
    assert_eq!(
        (seen.state, seen.applied, seen.connected_at_unix_ms),
        ("catching_up", Lsn(50), 3)
    );
}

#[test]
fn the_one_gone_longest_is_forgotten_first() {
    let mut book = Book::new(2);
    book.register(peer("a"), at(0), false, 1).expect("room");
    book.register(peer("b"), at(0), false, 2).expect("room");
    let full = book
        .register(peer("c"), at(0), false, 3)
        .expect_err("all connected");
    assert_eq!(full, RefuseReason::Full { limit: 2 });
    disconnect(&mut book, "b");
    disconnect(&mut book, "a");
    book.register(peer("c"), at(0), false, 4).expect("room");
    assert!(book.entries.contains_key("b") && !book.entries.contains_key("a"));
}

#[test]
fn a_refusal_is_remembered_but_never_hides_a_live_connection() {
    let mut book = Book::new(2);
    book.refused(peer("a"), at(7), "another log".to_owned(), 1);
    let seen = view(&book, "a", 100);
    assert_eq!(seen.state, "refused");
    assert_eq!(seen.reason.as_deref(), Some("another log"));
    book.register(peer("a"), at(7), false, 2).expect("room");
    assert_eq!(view(&book, "a", 100).reason, None);
    book.refused(peer("a"), at(9), "another log".to_owned(), 3);
    assert_eq!(view(&book, "a", 100).state, "catching_up");
    book.register(peer("b"), at(0), false, 4).expect("room");
    book.refused(peer("c"), at(0), "no room".to_owned(), 5);
    assert_eq!(book.entries.len(), 2);
}

#[test]
fn what_a_joining_node_has_on_disk_is_no_copy_yet() {
    let mut book = Book::new(4);
    book.register(peer("a"), at(10), true, 1).expect("room");
    let entry = book.entries.get_mut("a").expect("an entry");
    entry.report(&report(60), true, 2);
    assert_eq!(view(&book, "a", 60).state, "bootstrapping");
    assert!(book.copies().is_empty());
    book.register(peer("a"), at(60), false, 3).expect("room");
    assert!(book.copies().is_empty(), "it has said nothing yet");
    let entry = book.entries.get_mut("a").expect("an entry");
    entry.report(&report(60), true, 4);
    assert_eq!(book.copies(), [copy("a", 60)]);
}

#[test]
fn copies_behind_a_relay_count() {
    let mut book = Book::new(4);
    book.register(peer("a"), at(10), false, 1).expect("room");
    let entry = book.entries.get_mut("a").expect("an entry");
    let below = Report {
        below: vec![disk("b", 50), disk("c", 70)],
        ..report(60)
    };
    let moved = entry.report(&below, true, 2);
    assert!(moved.flushed && !moved.noteworthy);
    // Nobody below has more than the relay itself.
    let all = [copy("a", 60), copy("b", 50), copy("c", 60)];
    assert_eq!(book.copies(), all);
    disconnect(&mut book, "a");
    assert!(book.copies().is_empty());
}

#[test]
fn a_node_that_left_a_relay_is_one_copy_and_one_entry() {
    let mut book = Book::new(4);
    for id in ["relay", "leaf"] {
        book.register(peer(id), at(10), false, 1).expect("room");
    }
    let entry = book.entries.get_mut("relay").expect("an entry");
    let stale = Report {
        below: vec![disk("leaf", 50)],
        ..report(60)
    };
    entry.report(&stale, true, 2);
    entry.descendants = vec![NodeSummary {
        id: "leaf".to_owned(),
        ..NodeSummary::default()
    }];
    let entry = book.entries.get_mut("leaf").expect("an entry");
    entry.report(&report(70), true, 2);
    let replicated = wal::Replicated::new(book.copies());
    assert_eq!(replicated.connected, 2);
    assert_eq!((replicated.by(2), replicated.by(3)), (Lsn(50), Lsn(0)));
    // Back behind the relay, it is told there alone.
    disconnect(&mut book, "leaf");
    let all = book.statuses(Lsn(100), Instant::now());
    assert_eq!(all.len(), 1);
}

#[test]
fn a_copied_directory_does_not_take_over_a_live_connection() {
    let mut book = Book::new(4);
    book.register(peer("a"), at(10), false, 1).expect("room");
    let copy = Peer {
        name: "copy".to_owned(),
        ..peer("a")
    };
    let refused = book.register(copy.clone(), at(10), false, 2);
    let (id, name) = ("a".to_owned(), "name-a".to_owned());
    let refused = refused.expect_err("a clone");
    assert_eq!(refused, RefuseReason::CloneId { id, name });
    disconnect(&mut book, "a");
    book.register(copy, at(10), false, 3).expect("nobody else");
}

#[test]
fn what_is_kept_comes_back_disconnected() {
    let mut book = Book::new(4);
    book.register(peer("a"), at(10), false, 1).expect("room");
    let entry = book.entries.get_mut("a").expect("an entry");
    let moved = entry.report(&report(60), true, NOTE_EVERY_MS + 1);
    assert!(moved.noteworthy);
    let members = book.members();
    let mut next = Book::new(4);
    members
        .iter()
        .for_each(|member| next.restore(member.clone()));
    assert_eq!(next.members(), members);
    let seen = view(&next, "a", 100);
    assert_eq!((seen.state, seen.flushed), ("disconnected", Lsn(60)));
    assert!(next.copies().is_empty());
}

#[test]
fn only_those_who_are_gone_can_be_forgotten() {
    let mut book = Book::new(4);
    book.register(peer("a"), at(10), false, 1).expect("room");
    assert_eq!(book.forget("a"), Forgotten::Connected);
    assert_eq!(book.forget("b"), Forgotten::Unknown);
    disconnect(&mut book, "a");
    assert_eq!(book.forget("name-a"), Forgotten::Done);
    assert_eq!(book.len(), 0);
}
