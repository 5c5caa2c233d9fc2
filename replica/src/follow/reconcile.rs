//! What a secondary does with the logs it holds so that it can follow again, as decisions: with
//! which one it introduces itself, what becomes of one that does not meet the upstream's, and of
//! one that is replaced. Pure: it must never touch a log or a disk; `logs` does that, and a
//! simulation.

use wal::{Chain, Epoch, Lsn, Position};

use crate::wire::Route;

/// Where two logs meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meeting {
    /// The last end of a block that both have; none: nothing that is still held.
    pub common: Option<Position>,
    /// The upstream's durable end when it was first told: the search may take a while.
    pub durable: Lsn,
    /// Whom the upstream follows.
    pub route: Route,
    /// The upstream's log went another way before anything that is still held here.
    pub diverged_before: bool,
}

/// What to do once it is known where two logs meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing: it is not the primary's word, or no difference.
    Wait(&'static str),
    /// Give up what is being brought in; its files may fit the next attempt.
    GiveUp,
    /// Close the log in force and put aside what is not the primary's; see [`truncate_at`].
    SaveDiverged,
}

/// What to do before blocks are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    Nothing,
    /// Open the log in force: it begins with them.
    Open,
    /// Begin another log beside the one in force, and introduce that.
    Begin,
}

/// What becomes of a log that another one replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// All of it is in the new one.
    Remove,
    /// Up to here it is: what lies behind is put aside first.
    Save(Position),
    /// That cannot be proven, or only for this much: it is put aside whole.
    Keep(Option<Position>),
}

/// The log to introduce a node with, of the one that is being brought in and the one in force, and
/// whether blocks will be for a log that is being brought in. `must_replace`: the one in force has
/// diverged too far back to be cut.
pub fn introduced<T>(
    bootstrapping: Option<T>,
    in_force: Option<T>,
    must_replace: bool,
) -> (Option<T>, bool) {
    match bootstrapping {
        Some(bootstrapping) => (Some(bootstrapping), true),
        None if must_replace => (None, true),
        None => (in_force, false),
    }
}

/// What to do before blocks from the agreed position on are taken.
#[must_use]
pub fn before_blocks(is_bootstrapping: bool, must_replace: bool, has_log: bool) -> Before {
    match (is_bootstrapping, must_replace, has_log) {
        (false, true, _) => Before::Begin,
        (false, false, false) => Before::Open,
        _ => Before::Nothing,
    }
}

/// What to do about a log that was compared and begins at `oldest`. Only the primary's word counts:
/// a relay that stands before this node, or that has lost the primary itself, is waited for.
#[must_use]
pub fn decide(meeting: &Meeting, is_bootstrapping: bool, oldest: Lsn) -> Decision {
    if !meeting.route.rooted {
        let reason = "the upstream's log is another, and it has no way to the primary now";
        return Decision::Wait(reason);
    }
    // A relay may be anywhere behind: then all of its log is in this one, as far as that reaches.
    let agrees = |at: Position| at.lsn >= meeting.durable;
    let is_relay = meeting.route.hops.len() > 1;
    let unproven = meeting.durable < oldest && !meeting.diverged_before;
    if is_relay && (meeting.common.is_some_and(agrees) || unproven) {
        return Decision::Wait("the upstream's log ends before this node's: it will come");
    }
    if is_bootstrapping {
        Decision::GiveUp
    } else {
        Decision::SaveDiverged
    }
}

/// The primary whose history a log holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Identity of its data directory.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Epoch of the log when it was followed.
    pub epoch: Epoch,
}

impl Held {
    /// The primary at the end of this way, if that leads to one.
    #[must_use]
    pub fn at(route: &Route, epoch: Epoch) -> Option<Self> {
        let primary = route.hops.last().filter(|_| route.rooted)?;
        Some(Self {
            id: primary.id.clone(),
            name: primary.name.clone(),
            epoch,
        })
    }
}

/// Whether a node may leave the history it holds for that of `other`, which does not continue it.
/// Where it has several upstreams that must not depend on which of them answers: in one epoch only
/// the primary it has followed counts. A later epoch always does, and so does what an operator says
/// by naming only one upstream.
#[must_use]
pub fn may_leave(held: Option<&Held>, other: &Held, upstreams: usize) -> bool {
    let Some(held) = held else { return true };
    upstreams < 2 || held.id == other.id || other.epoch > held.epoch
}

/// Where to cut a log of which all before `compacted` is in files; none: it cannot be cut, and
/// another one has to be brought in. Only once nothing is compacted any more.
#[must_use]
pub fn truncate_at(common: Option<Position>, compacted: Lsn) -> Option<Position> {
    common.filter(|at| at.lsn >= compacted)
}

/// What becomes of a closed log that ends at `tip`. `landmarks`, which ascend, are looked for in
/// the new one.
pub fn fate(
    landmarks: &[Position],
    chain_at: impl Fn(Lsn) -> Option<Chain>,
    compacted: Lsn,
    tip: Position,
) -> Fate {
    let same = |at: &&Position| chain_at(at.lsn) == Some(at.chain);
    let proven = landmarks.iter().rev().find(same).copied();
    match truncate_at(proven, compacted) {
        Some(at) if at == tip => Fate::Remove,
        Some(at) => Fate::Save(at),
        None => Fate::Keep(proven),
    }
}

/// Segment starts of an old log that are compared with the new one.
pub const LANDMARKS: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::WireHop;

    fn at(lsn: u64, chain: u64) -> Position {
        Position {
            lsn: Lsn(lsn),
            chain: Chain(chain),
        }
    }

    fn meeting(common: Option<u64>, durable: u64, hops: usize, rooted: bool) -> Meeting {
        let hop = |_| WireHop {
            id: String::new(),
            name: String::new(),
        };
        Meeting {
            common: common.map(|lsn| at(lsn, 1)),
            durable: Lsn(durable),
            route: Route {
                hops: (0..hops).map(hop).collect(),
                rooted,
            },
            diverged_before: false,
        }
    }

    #[test]
    fn only_the_word_of_the_primary_parts_a_log() {
        let part = |meeting: Meeting| decide(&meeting, false, Lsn(40));
        let waits = |meeting: Meeting| matches!(part(meeting), Decision::Wait(_));
        assert_eq!(
            part(meeting(Some(50), 100, 1, true)),
            Decision::SaveDiverged
        );
        assert_eq!(
            part(meeting(Some(50), 100, 2, true)),
            Decision::SaveDiverged
        );
        assert_eq!(part(meeting(None, 100, 3, true)), Decision::SaveDiverged);
        assert!(waits(meeting(Some(50), 100, 2, false)));
        // The primary itself was put back: nobody else will come.
        assert_eq!(
            part(meeting(Some(100), 100, 1, true)),
            Decision::SaveDiverged
        );
        assert_eq!(part(meeting(None, 30, 1, true)), Decision::SaveDiverged);
        // A relay is only behind.
        assert!(waits(meeting(Some(100), 100, 2, true)));
        assert!(waits(meeting(None, 30, 2, true)));
        let proven = Meeting {
            diverged_before: true,
            ..meeting(None, 30, 2, true)
        };
        assert_eq!(part(proven), Decision::SaveDiverged);
        let bootstrapping = decide(&meeting(Some(50), 100, 1, true), true, Lsn(40));
        assert_eq!(bootstrapping, Decision::GiveUp);
    }

    #[test]
    fn a_history_is_not_left_for_another_of_the_same_epoch() {
        let of = |id: &str, epoch| Held {
            id: id.to_owned(),
            name: id.to_owned(),
            epoch: Epoch(epoch),
        };
        let held = of("a", 3);
        assert!(!may_leave(Some(&held), &of("b", 3), 2));
        assert!(!may_leave(Some(&held), &of("b", 2), 2));
        // The same primary that was put back, a promotion, an operator's word, nothing known.
        assert!(may_leave(Some(&held), &of("a", 3), 2));
        assert!(may_leave(Some(&held), &of("b", 4), 2));
        assert!(may_leave(Some(&held), &of("b", 3), 1));
        assert!(may_leave(None, &of("b", 3), 2));
    }

    #[test]
    fn what_is_in_files_is_not_cut() {
        assert_eq!(truncate_at(Some(at(50, 1)), Lsn(50)), Some(at(50, 1)));
        assert_eq!(truncate_at(Some(at(49, 1)), Lsn(50)), None);
        assert_eq!(truncate_at(None, Lsn(0)), None);
    }

    #[test]
    fn what_is_brought_in_goes_before_what_is_in_force() {
        assert_eq!(introduced(Some(1), Some(2), true), (Some(1), true));
        assert_eq!(introduced(None, Some(2), true), (None, true));
        assert_eq!(introduced(None, Some(2), false), (Some(2), false));
        assert_eq!(introduced::<u8>(None, None, false), (None, false));
        assert_eq!(before_blocks(true, true, true), Before::Nothing);
        assert_eq!(before_blocks(false, true, true), Before::Begin);
        assert_eq!(before_blocks(false, false, false), Before::Open);
        assert_eq!(before_blocks(false, false, true), Before::Nothing);
    }

    #[test]
    fn a_log_is_proven_up_to_the_last_landmark_that_the_other_has_too() {
        let old = [at(0, 1), at(100, 2), at(200, 3), at(250, 4)];
        let fate = |known: &[Position], compacted: u64| {
            let chain_at = |lsn: Lsn| known.iter().find(|at| at.lsn == lsn).map(|at| at.chain);
            fate(&old, chain_at, Lsn(compacted), at(250, 4))
        };
        assert_eq!(fate(&old, 250), Fate::Remove);
        assert_eq!(fate(&old[..3], 200), Fate::Save(at(200, 3)));
        assert_eq!(fate(&old[..3], 201), Fate::Keep(Some(at(200, 3))));
        let other = [at(0, 1), at(100, 2), at(200, 9), at(250, 9)];
        assert_eq!(fate(&other, 0), Fate::Save(at(100, 2)));
        assert_eq!(fate(&[at(300, 5)], 0), Fate::Keep(None));
    }
}
