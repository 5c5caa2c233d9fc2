//! What is told of following, and what is not claimed. Tests of the transitions alone: they must
//! never need a connection.

use std::time::Duration;

use super::*;
use crate::wire::WireHop;

fn fresh() -> FollowState {
    FollowState::new(None, hop("own"), None)
}

fn hop(id: &str) -> Hop {
    Hop {
        id: id.to_owned(),
        name: id.to_owned(),
    }
}

/// The way of who follows the primary.
fn rooted() -> Route {
    Route {
        hops: vec![WireHop::default()],
        rooted: true,
    }
}

fn status(state: &FollowState) -> FollowStatus {
    state.status(&[], Instant::now())
}

fn phase(state: &FollowState) -> FollowPhase {
    status(state).state
}

#[test]
fn nothing_is_known_before_the_first_contact() {
    let state = fresh();
    state.trying("primary:7441");
    let status = status(&state);
    assert_eq!(status.state, FollowPhase::Connecting);
    assert_eq!(status.upstream, "primary:7441");
    assert_eq!((status.lag_rows, status.lag_ms), (None, None));
    assert_eq!(status.last_contact_unix_ms, 0);
    assert_eq!(status.log_id, None);
}

#[test]
fn streaming_begins_when_what_was_announced_is_applied() {
    let state = fresh();
    state.welcomed(false);
    assert_eq!(phase(&state), FollowPhase::CatchingUp);
    state.applied(Lsn(10), 1);
    assert_eq!(phase(&state), FollowPhase::CatchingUp);
    state.caught_up(Lsn(20), Lsn(10));
    assert_eq!(phase(&state), FollowPhase::CatchingUp);
    state.applied(Lsn(20), 2);
    assert_eq!(phase(&state), FollowPhase::Streaming);
    state.ended(FollowPhase::Connecting, "gone".to_owned());
    assert_eq!(phase(&state), FollowPhase::Connecting);
    state.caught_up(Lsn(20), Lsn(20));
    assert_eq!(phase(&state), FollowPhase::Connecting);
    state.welcomed(false);
    assert_eq!(phase(&state), FollowPhase::CatchingUp);
    assert_eq!(status(&state).reason.as_deref(), Some("gone"));
    state.caught_up(Lsn(20), Lsn(20));
    assert_eq!(status(&state).reason, None);
}

#[test]
fn a_refusal_stays_visible_through_retries() {
    let state = fresh();
    state.ended(FollowPhase::Refused, "another log".to_owned());
    state.retrying();
    let status = status(&state);
    assert_eq!(status.state, FollowPhase::Refused);
    assert_eq!(status.reason.as_deref(), Some("another log"));
    assert_eq!(status.reconnects, 1);
}

#[test]
fn contact_and_its_loss_show_in_the_lag() {
    let state = fresh();
    let start = Instant::now();
    state.routed(rooted());
    state.beat(Lsn(0), 5_000_000_000, start);
    let status = state.status(&[], start);
    assert_eq!((status.lag_rows, status.lag_ms), (Some(0), Some(0)));
    assert!(status.last_contact_unix_ms > 0);
    state.ended(FollowPhase::Refused, "revoked".to_owned());
    let status = state.status(&[], start + Duration::from_secs(10));
    assert_eq!((status.lag_rows, status.lag_ms), (None, Some(10_000)));
    assert!(status.is_met);
    let later = state.status(&[], start + Duration::from_secs(30));
    assert_eq!(later.lag_ms, Some(30_000));
}

#[test]
fn a_relay_that_repeats_itself_is_no_word_of_the_primary() {
    let state = fresh();
    let start = Instant::now();
    state.routed(rooted());
    state.beat(Lsn(0), 5_000_000_000, start);
    state.beat(Lsn(0), 5_000_000_000, start + Duration::from_secs(30));
    let later = state.status(&[], start + Duration::from_secs(30));
    assert_eq!(later.lag_ms, Some(30_000));
}

#[test]
fn a_relay_without_a_way_to_the_primary_streams_nothing_and_says_why() {
    let state = fresh();
    let start = Instant::now();
    state.welcomed(false);
    state.routed(rooted());
    state.beat(Lsn(0), 5_000_000_000, start);
    state.caught_up(Lsn(0), Lsn(0));
    assert_eq!(phase(&state), FollowPhase::Streaming);
    let relay = WireHop {
        id: "r".to_owned(),
        name: "relay".to_owned(),
    };
    let cut = Route {
        hops: vec![relay],
        rooted: false,
    };
    state.routed(cut);
    let seen = status(&state);
    assert_eq!((seen.state, seen.lag_rows), (FollowPhase::CutOff, None));
    assert!(!seen.state.is_connected());
    state.cut_off("refused: its certificate is revoked".to_owned());
    let seen = status(&state);
    let expected = "relay has no way to the primary: refused: its certificate is revoked";
    assert_eq!(seen.reason.as_deref(), Some(expected));
    // Those below this node are told as well.
    let lineage = state.lineage().borrow().clone();
    assert_eq!(lineage.cut.as_deref(), Some(expected));
    state.routed(rooted());
    let seen = status(&state);
    assert_eq!((seen.state, seen.reason), (FollowPhase::Streaming, None));
    assert_eq!(seen.lag_rows, None, "no word of the primary yet");
}

#[test]
fn the_way_to_the_primary_is_told_on_and_forgotten_with_the_connection() {
    let state = fresh();
    let primary = WireHop {
        id: "p".to_owned(),
        name: "p".to_owned(),
    };
    let route = Route {
        hops: vec![primary],
        rooted: true,
    };
    state.routed(route);
    let lineage = state.lineage().borrow().clone();
    assert_eq!(lineage.hops, [hop("own"), hop("p")]);
    assert!(lineage.rooted && !lineage.is_primary());
    assert_eq!(status(&state).route, [hop("p")]);
    state.ended(FollowPhase::Connecting, "gone".to_owned());
    let lineage = state.lineage().borrow().clone();
    assert!(lineage.hops == [hop("own")] && !lineage.rooted);
}

#[test]
fn a_joining_node_says_what_it_waits_for_until_it_goes_on() {
    let state = fresh();
    let progress = |bytes_held| {
        Some(BootstrapProgress {
            bytes_held,
            ..BootstrapProgress::default()
        })
    };
    state.bootstrapping(progress(1));
    state.welcomed(true);
    state.waits_for("no space left on device");
    state.bootstrapping(progress(1));
    let seen = status(&state);
    assert_eq!(seen.state, FollowPhase::Bootstrapping);
    assert_eq!(seen.reason.as_deref(), Some("no space left on device"));
    state.bootstrapping(progress(2));
    assert_eq!(status(&state).reason, None);
}

#[test]
fn a_snapshot_under_way_stays_visible_without_contact() {
    let state = fresh();
    state.bootstrapping(Some(BootstrapProgress::default()));
    state.welcomed(true);
    assert_eq!(phase(&state), FollowPhase::Bootstrapping);
    state.ended(FollowPhase::Connecting, "gone".to_owned());
    assert_eq!(phase(&state), FollowPhase::Bootstrapping);
    state.bootstrapped();
    state.welcomed(false);
    assert_eq!(
        (phase(&state), status(&state).snapshots),
        (FollowPhase::CatchingUp, 1)
    );
}
