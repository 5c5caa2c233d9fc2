//! Where two logs diverge: the search of a secondary for the highest block boundary that its log
//! and its upstream's have in common, and the upstream's side of each round. Pure but for the
//! boundaries it asks its log for; it must never decide what becomes of the rest.
//!
//! A chain value covers everything before it. So of the boundaries that the upstream still holds,
//! it has all up to the highest common one and none after it.

use std::collections::VecDeque;
use std::fmt;

use wal::{Chain, Log, Lsn, Position};

/// Up to so many boundaries of a log between two LSNs, ascending, evenly spread, with the outermost
/// ones.
type Boundaries = Box<dyn Fn(Lsn, Lsn, usize) -> Vec<Position> + Send>;

/// A secondary's search. Reads the log in [`Search::probe`], which may block.
pub struct Search<F = Boundaries> {
    boundaries: F,
    /// What is still to be looked at, next first: once something common is known, one range with
    /// both ends decided.
    ranges: VecDeque<(Lsn, Lsn)>,
    asked: Vec<Position>,
    range: (Lsn, Lsn),
    common: Option<Position>,
    rounds: usize,
}

impl Search {
    /// A search over everything durable that this log holds.
    #[must_use]
    pub fn new(log: &Log) -> Self {
        let (from, to) = (log.oldest().lsn, log.durable().borrow().lsn);
        let log = log.clone();
        Self::over(
            from,
            to,
            Box::new(move |from, to, most| log.boundaries(from, to, most)),
        )
    }
}

impl<F: Fn(Lsn, Lsn, usize) -> Vec<Position>> Search<F> {
    /// A search between two LSNs.
    pub fn over(from: Lsn, to: Lsn, boundaries: F) -> Self {
        Self {
            boundaries,
            ranges: VecDeque::from([(from, to)]),
            asked: Vec::new(),
            range: (from, to),
            common: None,
            rounds: 0,
        }
    }

    /// The next boundaries to ask about, ascending; `None` when the search is over.
    pub fn probe(&mut self) -> Option<Vec<Position>> {
        while self.asked.is_empty() {
            if self.rounds >= MAX_ROUNDS {
                return None;
            }
            let (from, to) = self.ranges.pop_front()?;
            self.range = (from, to);
            self.asked = if self.common.is_some() {
                // Both ends come too, and are decided.
                let mut points = (self.boundaries)(from, to, MAX_POINTS + 2);
                points.retain(|point| from < point.lsn && point.lsn < to);
                points
            } else {
                (self.boundaries)(from, to, MAX_POINTS)
            };
            self.asked.truncate(MAX_POINTS);
        }
        Some(self.asked.clone())
    }

    /// Which of the boundaries asked about last is the highest that the upstream has too; `None`:
    /// none of them.
    pub fn answer(&mut self, index: Option<usize>) {
        let asked = std::mem::take(&mut self.asked);
        let (from, to) = self.range;
        self.rounds += 1;
        let found = index.and_then(|index| asked.get(index).map(|found| (index, *found)));
        if let Some((index, found)) = found {
            let above = asked.get(index + 1).map_or(to, |above| above.lsn);
            self.common = Some(found);
            self.ranges = VecDeque::from([(found.lsn, above)]);
        } else if self.common.is_some() {
            let above = asked.first().map_or(to, |above| above.lsn);
            self.ranges = VecDeque::from([(from, above)]);
        } else if asked.len() >= MAX_POINTS / 2
            && let Some(middle) = asked.get(asked.len() / 2)
        {
            // What the upstream holds of the common history may lie between two of these: its own
            // beginning is not known here. The newer half first, both before their parts.
            self.ranges.push_back((middle.lsn, to));
            self.ranges.push_back((from, middle.lsn));
        }
    }

    /// The highest common boundary found so far; `None`: nothing that both hold is common.
    #[must_use]
    pub fn common(&self) -> Option<Position> {
        self.common
    }
}

impl<F> fmt::Debug for Search<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Search")
            .field("ranges", &self.ranges)
            .field("common", &self.common)
            .field("rounds", &self.rounds)
            .finish_non_exhaustive()
    }
}

/// Where segments of this log began that are gone, the newest at or below `durable`, ascending:
/// what can still be compared with an upstream that ends before everything held.
#[must_use]
pub fn retired(log: &Log, durable: Lsn) -> Vec<Position> {
    let oldest = log.oldest().lsn;
    let mut known = log.landmarks(usize::MAX);
    known.retain(|at| at.lsn < oldest && at.lsn <= durable);
    known.drain(..known.len().saturating_sub(MAX_POINTS));
    known
}

/// Whether an upstream that has the boundary `common` of these, which it has got past, and none of
/// those behind it, went another way. Whatever it may have forgotten, it knows where its newest
/// segment begins: with the same history that is the last of these.
#[must_use]
pub fn has_diverged(known: &[Position], common: Option<usize>) -> bool {
    common.is_some_and(|common| common + 1 < known.len())
}

/// The upstream's side of a round: the last of these boundaries, which ascend, that its log has
/// with the same chain value. `durable` is its own end.
pub fn find_common(
    points: &[Position],
    durable: Position,
    chain_at: impl Fn(Lsn) -> Option<Chain>,
) -> Option<usize> {
    points.iter().rposition(|point| {
        if point.lsn == durable.lsn {
            point.chain == durable.chain
        } else {
            point.lsn < durable.lsn && chain_at(point.lsn) == Some(point.chain)
        }
    })
}

/// Most boundaries asked about in one round.
pub const MAX_POINTS: usize = 1024;

/// Most rounds of a search: enough to find one common boundary in 16,000, and what follows it.
pub const MAX_ROUNDS: usize = 60;

#[cfg(test)]
mod tests {
    use super::*;

    /// Boundaries of a log, ascending.
    type History = Vec<Position>;

    /// A log that goes on from the last of `history` to about `count` boundaries more.
    fn grow(history: &mut History, count: usize, random: &mut fastrand::Rng) {
        for _ in 0..count {
            let lsn = history.last().map_or(0, |last| last.lsn.0);
            history.push(Position {
                lsn: Lsn(lsn + random.u64(1..50)),
                chain: Chain(random.u64(..)),
            });
        }
    }

    fn evenly(held: &[Position]) -> impl Fn(Lsn, Lsn, usize) -> Vec<Position> {
        move |from, to, most| {
            let inside = |point: &&Position| (from..=to).contains(&point.lsn);
            let points: History = held.iter().filter(inside).copied().collect();
            let last = points.len().saturating_sub(1);
            let count = most.min(points.len());
            let chosen = (0..count).map(|nth| nth * last / (count - 1).max(1));
            chosen.map(|at| points[at]).collect()
        }
    }

    /// What the search finds, and in how many rounds.
    fn search(mine: &[Position], theirs: &[Position]) -> (Option<Position>, usize) {
        let (from, to) = (mine[0].lsn, mine[mine.len() - 1].lsn);
        let durable = theirs[theirs.len() - 1];
        let chain_at = |lsn| {
            let at = theirs.binary_search_by_key(&lsn, |point| point.lsn).ok()?;
            Some(theirs[at].chain)
        };
        let mut search = Search::over(from, to, evenly(mine));
        while let Some(points) = search.probe() {
            assert!((1..=MAX_POINTS).contains(&points.len()));
            assert!(points.is_sorted_by_key(|point| point.lsn));
            search.answer(find_common(&points, durable, chain_at));
        }
        (search.common(), search.rounds)
    }

    #[test]
    fn the_highest_common_boundary_is_found() {
        for _ in 0..300 {
            let seed = fastrand::u64(..);
            println!("seed {seed}");
            let mut random = fastrand::Rng::with_seed(seed);
            let mut mine = vec![Position::default()];
            let most = if random.bool() { 20 } else { 6_000 };
            grow(&mut mine, random.usize(0..most), &mut random);
            let mut theirs = mine.clone();
            let (own, other) = (random.usize(0..most), random.usize(0..most));
            grow(&mut mine, own, &mut random);
            grow(&mut theirs, other, &mut random);
            // Each has retired its head, up to any place.
            let mine = &mine[random.usize(0..mine.len())..];
            let theirs = &theirs[random.usize(0..theirs.len())..];
            let common = mine.iter().rev().find(|point| {
                let at = theirs.binary_search_by_key(&point.lsn, |theirs| theirs.lsn);
                at.is_ok_and(|at| theirs[at].chain == point.chain)
            });
            assert_eq!(search(mine, theirs).0, common.copied());
        }
    }

    #[test]
    fn a_long_log_takes_a_few_rounds() {
        let mut random = fastrand::Rng::with_seed(3);
        let mut mine = vec![Position::default()];
        grow(&mut mine, 1_000_000, &mut random);
        let mut theirs = mine.clone();
        grow(&mut mine, 300, &mut random);
        grow(&mut theirs, 7, &mut random);
        assert_eq!(search(&mine, &theirs), (Some(mine[1_000_000]), 2));
    }

    #[test]
    fn an_upstream_that_is_only_behind_shares_its_end() {
        let mut random = fastrand::Rng::with_seed(4);
        let mut mine = vec![Position::default()];
        grow(&mut mine, 5_000, &mut random);
        for end in [0, 1, 4_999, 5_000] {
            let (common, _) = search(&mine, &mine[..=end]);
            assert_eq!(common, Some(mine[end]));
        }
    }

    #[test]
    fn a_little_in_common_between_two_probes_is_found() {
        let mut random = fastrand::Rng::with_seed(5);
        let mut mine = vec![Position::default()];
        grow(&mut mine, 20_000, &mut random);
        let mut theirs = mine[7_001..7_003].to_vec();
        grow(&mut theirs, 100, &mut random);
        let (common, rounds) = search(&mine, &theirs);
        assert_eq!(common, Some(mine[7_002]));
        assert!(rounds <= MAX_ROUNDS, "{rounds}");
    }

    #[test]
    fn nothing_in_common_ends_the_search_too() {
        let mut random = fastrand::Rng::with_seed(6);
        let (mut mine, mut theirs) = (Vec::new(), Vec::new());
        grow(&mut mine, 200_000, &mut random);
        grow(&mut theirs, 200_000, &mut random);
        let (common, rounds) = search(&mine, &theirs);
        assert_eq!(common, None);
        assert!(rounds <= MAX_ROUNDS, "{rounds}");
    }

    #[test]
    fn a_peer_that_answers_at_random_ends_the_search_too() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let mut mine = Vec::new();
        grow(&mut mine, 50_000, &mut random);
        for _ in 0..20 {
            let end = mine[mine.len() - 1].lsn;
            let mut search = Search::over(Lsn(0), end, evenly(&mine));
            while search.probe().is_some() {
                search.answer(random.bool().then(|| random.usize(0..1_200)));
            }
            assert!(search.rounds <= MAX_ROUNDS);
        }
    }

    #[test]
    fn a_log_without_boundaries_asks_nothing() {
        let mut search = Search::over(Lsn(0), Lsn(0), |_, _, _| Vec::new());
        assert_eq!(search.probe(), None);
        assert_eq!(search.common(), None);
    }

    #[test]
    fn a_probe_that_was_not_answered_is_asked_again() {
        let points: History = (0..10)
            .map(|lsn| Position {
                lsn: Lsn(lsn),
                chain: Chain(lsn),
            })
            .collect();
        let mut search = Search::over(Lsn(0), Lsn(9), evenly(&points));
        assert_eq!(search.probe(), search.probe());
    }

    #[test]
    fn an_upstream_that_has_forgotten_everything_is_not_one_that_went_another_way() {
        let known = [Position::default(); 3];
        assert!(!has_diverged(&known, None));
        assert!(!has_diverged(&known, Some(2)));
        assert!(has_diverged(&known, Some(1)) && has_diverged(&known, Some(0)));
        assert!(!has_diverged(&known[..1], Some(0)));
    }

    #[test]
    fn an_upstream_compares_its_own_end_without_looking_it_up() {
        let at = |lsn, chain| Position {
            lsn: Lsn(lsn),
            chain: Chain(chain),
        };
        let points = [at(1, 10), at(2, 20), at(3, 30)];
        let none = |_| None;
        assert_eq!(find_common(&points, at(2, 20), none), Some(1));
        assert_eq!(find_common(&points, at(2, 21), none), None);
        let first = |lsn: Lsn| (lsn.0 == 1).then_some(Chain(10));
        assert_eq!(find_common(&points, at(2, 21), first), Some(0));
        assert_eq!(find_common(&[], at(2, 21), first), None);
    }
}
