//! The guard against clocks of all kinds, in model time. Tests only; must never wait for a clock.

use std::time::{Duration, Instant};

use super::{Clocks, DAY, Guard, MINUTE, Pace, nanos};
use crate::format::options::Expiry;

const HOUR: i64 = 60 * MINUTE;
/// Noon of some day.
const NOON: i64 = 20_000 * DAY + 12 * HOUR;

/// A table, a node that may be started again, and clocks that may be wrong.
struct World {
    retention: i64,
    held: Expiry,
    rows: Vec<i64>,
    guard: Guard,
    wall: i64,
    now: Instant,
    is_waiting: bool,
}

impl World {
    fn new(retention: i64) -> Self {
        Self {
            retention,
            held: Expiry::default(),
            rows: Vec::new(),
            guard: Guard::default(),
            wall: NOON,
            now: Instant::now(),
            is_waiting: false,
        }
    }

    /// A table that has been written to for two retentions, a row per hundredth.
    fn settled(retention: i64) -> Self {
        let mut world = Self::new(retention);
        for _ in 0..200 {
            world.write();
            world.run(retention / 100);
        }
        assert!(!world.is_waiting);
        world
    }

    fn write(&mut self) {
        self.rows.push(self.wall);
    }

    /// Time passes, and the node looks.
    fn run(&mut self, time: i64) {
        self.wall += time;
        self.now += Duration::from_nanos(time.unsigned_abs());
        self.look();
    }

    fn look(&mut self) {
        let (wall, now) = (self.wall, self.now);
        let rows = &self.rows;
        let holds = |times: std::ops::Range<i64>| rows.iter().any(|row| times.contains(row));
        let retention = Some(self.retention);
        let decision = self
            .guard
            .decide(retention, self.held, Clocks { wall, now }, holds);
        self.held = decision.expiry;
        self.is_waiting = decision.waiting.is_some();
    }

    /// The clock is set, and nobody has seen time pass.
    fn jump(&mut self, by: i64) {
        self.wall += by;
        self.look();
    }

    /// Killed and started again, after so long.
    fn restart(&mut self, after: i64) {
        self.guard = Guard::default();
        self.wall += after;
        self.look();
    }

    fn seen(&self) -> usize {
        let from = self.held.seen_from().unwrap_or(i64::MIN);
        self.rows.iter().filter(|row| **row >= from).count()
    }

    /// Runs on in small steps.
    fn run_for(&mut self, time: i64) {
        for _ in 0..100 {
            self.run(time / 100);
        }
    }
}

#[test]
fn a_jump_hides_nothing_whenever_it_comes_and_however_often_the_node_is_started() {
    for (retention, jump) in [
        (30 * DAY, 40 * DAY),
        (12 * HOUR, 13 * HOUR),
        (DAY, 4 * HOUR),
    ] {
        let mut world = World::settled(retention);
        let seen = world.seen();
        world.jump(jump);
        world.write();
        world.run(20_000_000_000);
        for _ in 0..5 {
            world.restart(0);
            world.write();
            world.run(MINUTE);
        }
        assert!(world.is_waiting);
        assert_eq!(world.seen(), seen + 6);
        // While it was down.
        world.restart(jump);
        assert_eq!(world.seen(), seen + 6);
        // Set right: everything is as it was, at once.
        world.jump(-2 * jump);
        assert!(!world.is_waiting);
        world.write();
        assert_eq!(world.seen(), seen + 7);
    }
}

#[test]
fn a_node_that_was_off_for_long_expires_rows_in_the_end() {
    let mut world = World::settled(30 * DAY);
    world.restart(40 * DAY);
    world.write();
    assert!(world.is_waiting && world.seen() > 50);
    world.run_for(DAY / 2);
    assert!(world.is_waiting && world.seen() > 50);
    world.run_for(DAY);
    assert!(!world.is_waiting);
    assert_eq!(world.seen(), 1);
    // At its usual pace it goes on, and purges what it has hidden.
    world.run_for(DAY);
    let Expiry { cut, purged } = world.held;
    let (cut, purged) = (cut.expect("cut"), purged.expect("purged"));
    let pace = Pace::of(30 * DAY);
    assert!(cut <= world.wall - 30 * DAY && cut > world.wall - 30 * DAY - 2 * pace.grain);
    assert!(purged > cut - pace.lag - pace.slack - pace.grain && purged < cut);
}

#[test]
fn an_operators_word_ends_the_wait() {
    let mut world = World::settled(30 * DAY);
    world.guard.approve();
    world.look();
    let purged = world.held.purged;
    world.restart(40 * DAY);
    assert!(
        world.is_waiting,
        "a word for what did not wait is forgotten"
    );
    world.guard.approve();
    world.look();
    assert!(!world.is_waiting);
    assert_eq!(world.seen(), 0);
    assert_eq!(world.held.purged, purged, "it can still be taken back");
    world.jump(-40 * DAY);
    assert!(world.seen() > 90);
}

#[test]
fn a_longer_retention_or_none_brings_rows_back_and_a_shorter_one_waits() {
    let mut world = World::settled(30 * DAY);
    let before = world.seen();
    world.retention = 33 * DAY;
    world.look();
    assert!(world.seen() > before, "those that are not purged");
    world.retention = 10 * DAY;
    world.look();
    assert!(world.is_waiting && world.seen() > before);
    while world.is_waiting {
        world.run(HOUR / 2);
    }
    assert!(world.seen() < before / 2);
    world.run_for(HOUR / 2);
    world.retention = 30 * DAY;
    world.look();
    assert!(world.seen() >= before - 10, "and back, soon after");
    let (held, clocks) = (
        world.held,
        Clocks {
            wall: world.wall,
            now: world.now,
        },
    );
    let decision = world.guard.decide(None, held, clocks, |_| true);
    assert_eq!(decision.expiry.cut, None);
    assert_eq!(decision.expiry.purged, held.purged);
}

#[test]
fn a_first_clock_that_is_ahead_bars_no_row_once_it_is_right() {
    let mut world = World::new(30 * DAY);
    world.jump(40 * DAY);
    world.run_for(2 * HOUR);
    world.write();
    world.jump(-40 * DAY);
    world.write();
    assert_eq!(world.seen(), 2);
    world.restart(0);
    world.run_for(2 * DAY);
    assert_eq!(world.seen(), 2);
}

#[test]
fn a_clock_that_starts_in_1970_hides_and_refuses_nothing_and_is_soon_forgotten() {
    let mut world = World::settled(30 * DAY);
    let (seen, held) = (world.seen(), world.held);
    world.restart(0);
    world.jump(-NOON);
    world.run(MINUTE);
    assert!(world.seen() >= seen);
    world.jump(NOON);
    assert!(!world.is_waiting, "what came back was cut before");
    assert!(world.seen() <= seen && world.held.purged == held.purged);
}

#[test]
fn a_clock_that_runs_fast_is_followed_and_what_it_hides_comes_back() {
    let mut world = World::settled(30 * DAY);
    for _ in 0..300 {
        world.jump(HOUR / 100);
        world.run(HOUR / 10);
        world.write();
    }
    assert!(!world.is_waiting);
    let seen = world.seen();
    world.jump(-3 * HOUR);
    assert!(world.seen() >= seen);
}

/// Any order of running, jumps and restarts.
#[test]
fn no_clock_hides_rows_out_of_turn_and_a_right_one_expires_them() {
    let seed = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..300 {
        let retention = [2 * MINUTE, HOUR, 12 * HOUR, DAY, 30 * DAY, 400 * DAY][random.usize(..6)];
        one_life(&mut random, retention);
    }
}

fn one_life(random: &mut fastrand::Rng, retention: i64) {
    let pace = Pace::of(retention);
    let mut world = World::settled(retention);
    // The clock has not jumped, in this process, since then; it is right by so much.
    let (mut steady_since, mut error, mut looked_at) = (world.now, 0, world.now);
    let mut highest = world.held.cut;
    for _ in 0..random.usize(1..60) {
        let before = (world.held, world.seen());
        match random.u32(..8) {
            0 => {
                let by = retention * random.i64(1..20) * [1, -1][random.usize(..2)];
                // Far enough that no time that has passed makes up for it.
                let by = if random.bool() { by - error } else { by };
                if by != 0 {
                    steady_since = world.now;
                }
                error += by;
                world.jump(by);
            }
            1 => {
                steady_since = world.now;
                world.restart(retention * random.i64(0..3) / 2);
            }
            2 => world.write(),
            _ => world.run(retention / random.i64(10..1_000)),
        }
        let passed = nanos(world.now - looked_at);
        // A clock that was not believed has to make up for no time.
        if !world.is_waiting {
            looked_at = world.now;
        }
        let Expiry { cut, purged } = world.held;
        assert!(purged >= before.0.purged, "what is purged stays so");
        assert!(
            purged <= cut.max(before.0.purged),
            "only what is cut is purged"
        );
        if purged > before.0.purged && purged > before.0.seen_from() {
            assert!(
                world.now - steady_since >= pace.purge_wait,
                "hidden before it is purged: {before:?} {:?}",
                world.held
            );
        }
        // What was cut before may be cut again, when a clock that was behind is set right.
        let from = before.0.cut.max(highest).unwrap_or(0);
        highest = highest.max(cut);
        let step = cut.unwrap_or(0).saturating_sub(from);
        if step > pace.slack + passed + pace.grain && world.seen() < before.1 {
            let waited = world.now - steady_since;
            assert!(
                waited >= pace.wait,
                "hidden {step} after {waited:?} of {:?}",
                pace.wait
            );
        }
    }
    world.jump(-error);
    world.write();
    let purged = world.held.purged;
    if purged.is_none_or(|purged| world.wall >= purged) {
        assert!(world.seen() > 0, "a row of now is seen");
    }
    for _ in 0..40 {
        world.run_for(retention / 8 + 2 * HOUR);
    }
    let newest = world.held.seen_from().expect("cut");
    assert!(newest >= world.wall - retention - 2 * pace.grain, "expired");
}
