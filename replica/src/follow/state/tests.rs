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

/// What happens to a node that follows, as its tasks tell it.
#[derive(Clone, Copy, Debug)]
enum Happens {
    Welcomed(bool),
    Routed(bool),
    Beat(u64),
    Received(u64),
    CaughtUp(u64),
    Applied(u64),
    CutOff,
    Ended(FollowPhase),
    Retrying,
    Bootstraps(bool),
    Bootstrapped,
    Over,
}

fn some_event(random: &mut fastrand::Rng) -> Happens {
    let lsn = random.u64(0..30);
    let phases = [
        FollowPhase::Connecting,
        FollowPhase::Refused,
        FollowPhase::Failed,
    ];
    match random.u8(0..20) {
        0..3 => Happens::Welcomed(random.u8(..) < 60),
        3..6 => Happens::Routed(random.u8(..) < 200),
        6..9 => Happens::Beat(lsn),
        9..11 => Happens::Received(lsn),
        11..13 => Happens::CaughtUp(lsn),
        13..15 => Happens::Applied(lsn),
        15 => Happens::CutOff,
        16 => Happens::Ended(phases[random.usize(0..3)]),
        17 => Happens::Retrying,
        18 if random.bool() => Happens::Bootstraps(random.bool()),
        18 => Happens::Bootstrapped,
        _ if random.u8(..) < 80 => Happens::Over,
        _ => Happens::Applied(lsn),
    }
}

/// What may be claimed, by what has happened alone.
#[derive(Debug, Default)]
struct Truth {
    /// An upstream has agreed, and nothing has ended that since.
    connected: bool,
    /// It has said on this connection that everything was sent.
    caught_up: bool,
    rooted: Option<bool>,
    heard: bool,
    over: bool,
}

impl Truth {
    fn note(&mut self, event: Happens) {
        match event {
            Happens::Welcomed(_) => (self.connected, self.caught_up) = (true, false),
            Happens::Routed(rooted) => {
                self.rooted = Some(rooted);
                self.heard &= rooted;
            }
            Happens::Beat(_) => self.heard |= self.rooted == Some(true),
            Happens::CaughtUp(_) => self.caught_up = true,
            Happens::Ended(phase) => {
                *self = Self {
                    over: phase == FollowPhase::Failed,
                    ..Self::default()
                };
            }
            Happens::Over => {
                *self = Self {
                    over: true,
                    ..Self::default()
                };
            }
            _ => {}
        }
    }

    fn holds(&self, status: &FollowStatus, story: &[Happens]) {
        let flows = [FollowPhase::Streaming, FollowPhase::CatchingUp].contains(&status.state);
        assert!(self.connected || !flows, "{story:?}: {status:?}");
        if status.state == FollowPhase::Streaming {
            let sent = self.caught_up && self.rooted != Some(false);
            assert!(sent, "{story:?}: {status:?}");
        }
        if status.lag_rows == Some(0) {
            assert!(self.heard, "{story:?}: {status:?}");
        }
        if self.over {
            assert_eq!(status.state, FollowPhase::Failed);
            assert!(status.reason.is_some() && !status.rooted && status.route.is_empty());
            assert_ne!(status.lag_rows, Some(0));
        }
    }
}

#[test]
fn whatever_happens_in_whatever_order_nobody_is_told_that_all_is_well_when_it_is_not() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..3_000 {
        let (state, mut truth, mut story) = (fresh(), Truth::default(), Vec::new());
        let mut now = Instant::now();
        for clock in 1..random.i64(2..40) {
            let event = some_event(&mut random);
            story.push(event);
            // Nothing comes after the end of the task.
            if truth.over {
                break;
            }
            match event {
                Happens::Welcomed(bootstrapping) => state.welcomed(bootstrapping),
                Happens::Routed(true) => state.routed(rooted()),
                Happens::Routed(false) => state.routed(Route {
                    rooted: false,
                    ..rooted()
                }),
                Happens::Beat(lsn) => state.beat(Lsn(lsn), clock * 1_000_000_000, now),
                Happens::Received(lsn) => state.received(Lsn(lsn)),
                Happens::CaughtUp(lsn) => state.caught_up(Lsn(lsn), Lsn(random.u64(0..30))),
                Happens::Applied(lsn) => state.applied(Lsn(lsn), 1),
                Happens::CutOff => state.cut_off("it says why".to_owned()),
                Happens::Ended(phase) => state.ended(phase, "it ended".to_owned()),
                Happens::Retrying => state.retrying(),
                Happens::Bootstraps(on) => {
                    state.bootstrapping(on.then(BootstrapProgress::default));
                }
                Happens::Bootstrapped => state.bootstrapped(),
                Happens::Over => state.over(),
            }
            truth.note(event);
            let seen = state.status(&[], now);
            truth.holds(&seen, &story);
            // Silence is never lag 0 for long, whatever is shown beside it.
            now += Duration::from_secs(random.u64(1..100));
            let later = state.status(&[], now);
            assert_ne!(later.lag_ms, Some(0), "{story:?}");
        }
    }
}

#[test]
fn what_failed_stays_the_reason_when_the_task_ends_over_it() {
    let state = fresh();
    state.ended(FollowPhase::Failed, "the disk is gone".to_owned());
    state.over();
    let seen = status(&state);
    assert_eq!(seen.reason.as_deref(), Some("the disk is gone"));
    let state = fresh();
    state.welcomed(false);
    state.routed(rooted());
    state.caught_up(Lsn(0), Lsn(0));
    assert_eq!(phase(&state), FollowPhase::Streaming);
    state.over();
    assert_eq!(
        (phase(&state), status(&state).rooted),
        (FollowPhase::Failed, false)
    );
    let lineage = state.lineage().borrow().clone();
    assert!(lineage.cut.is_some_and(|cut| cut.contains("has ended")));
}
