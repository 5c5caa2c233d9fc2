//! Who follows whom below the node that was asked: its secondaries, and those that relays tell of.
//! Must never leave out a node that is known, nor show it twice, whatever the relays say.

use std::collections::HashMap;

use replica::{Descendant, SecondaryState, SecondaryStatus};

use super::tree::Branch;
use crate::api::status::Status;
use crate::cli::show::{count_if_known, show_bytes, show_lag, show_moment};

/// One node that is known of, and where it stands.
struct Known<'a> {
    /// Empty: not told.
    id: &'a str,
    connected: bool,
    /// The node whose news this is, in the list of all.
    told_by: Option<usize>,
    /// Id of whom it follows; empty: the node that was asked.
    via: &'a str,
    told: Told<'a>,
}

/// What there is to say.
#[derive(Clone, Copy)]
enum Told<'a> {
    Here(&'a SecondaryStatus),
    /// By a relay; and the end of the log, where that is known.
    Relayed(&'a Descendant, Option<u64>),
}

/// Those below the node that was asked.
pub(super) fn branches(status: &Status) -> Vec<Branch> {
    let known = known(status);
    let at = places(&known);
    let mut forest = Forest {
        follows: known.iter().map(|one| upstream(one, &known, &at)).collect(),
        stands: (0..known.len())
            .map(|index| known[index].id.is_empty() || at.get(known[index].id) == Some(&index))
            .collect(),
        known,
    };
    let mut branches = forest.grow(None, 0);
    // Relays that name each other, or a chain without end: shown, if not in its place.
    while let Some(lost) = forest.stands.iter().position(|stands| *stands) {
        branches.push(forest.branch(lost, MOST_DEEP));
    }
    branches
}

fn known(status: &Status) -> Vec<Known<'_>> {
    let here = status.log.as_ref().map_or(0, |log| log.lsn);
    let end = match &status.upstream {
        // Without a way to the primary nobody knows where its log ends now.
        Some(up) => up.lag_rows.map(|_| up.lsn.max(here)),
        None => Some(here),
    };
    let mut known = Vec::new();
    for secondary in status.secondaries.iter().flatten() {
        let told_by = known.len();
        known.push(Known {
            id: &secondary.id,
            connected: secondary.state != SecondaryState::Disconnected,
            told_by: None,
            via: "",
            told: Told::Here(secondary),
        });
        known.extend(secondary.descendants.iter().map(|below| Known {
            id: &below.id,
            connected: below.state != SecondaryState::Disconnected,
            told_by: Some(told_by),
            via: &below.via,
            told: Told::Relayed(below, end),
        }));
    }
    known
}

/// Where the node of each id stands: where it is connected, if it is anywhere.
fn places<'a>(known: &[Known<'a>]) -> HashMap<&'a str, usize> {
    let mut at: HashMap<&str, usize> = HashMap::new();
    for (index, one) in known.iter().enumerate() {
        let place = at.entry(one.id).or_insert(index);
        if one.connected && !known[*place].connected {
            *place = index;
        }
    }
    at.remove("");
    at
}

fn upstream(one: &Known<'_>, known: &[Known<'_>], at: &HashMap<&str, usize>) -> Option<usize> {
    let told_by = one.told_by?;
    let teller = at.get(known[told_by].id).copied().unwrap_or(told_by);
    Some(at.get(one.via).copied().unwrap_or(teller))
}

struct Forest<'a> {
    known: Vec<Known<'a>>,
    /// Whom each follows; none: the node that was asked.
    follows: Vec<Option<usize>>,
    /// Whether each is still to be shown.
    stands: Vec<bool>,
}

impl Forest<'_> {
    fn grow(&mut self, above: Option<usize>, depth: usize) -> Vec<Branch> {
        let mut branches = Vec::new();
        if depth < MOST_DEEP {
            for index in 0..self.known.len() {
                if self.follows[index] == above && self.stands[index] {
                    branches.push(self.branch(index, depth));
                }
            }
        }
        branches
    }

    fn branch(&mut self, index: usize, depth: usize) -> Branch {
        self.stands[index] = false;
        let below = self.grow(Some(index), depth + 1);
        let role = if below.is_empty() {
            "secondary"
        } else {
            "relay"
        };
        let branch = match self.known[index].told {
            Told::Here(secondary) => direct(secondary, role),
            Told::Relayed(told, end) => relayed(told, role, end),
        };
        Branch { below, ..branch }
    }
}

fn direct(secondary: &SecondaryStatus, role: &str) -> Branch {
    let role = if secondary.serves.is_empty() {
        role
    } else {
        "relay"
    };
    let bytes = secondary.lag_bytes;
    let bytes = bytes.map(|bytes| format!(", {}", show_bytes(bytes)));
    let head = format!(
        "{}  {role}  {}  {}  lsn {}  lag {}{}, {}",
        secondary.name,
        secondary.address,
        secondary.state,
        secondary.applied,
        count_if_known(secondary.lag_rows, "row"),
        bytes.unwrap_or_default(),
        show_lag(secondary.lag_ms)
    );
    let mut lines = Vec::new();
    if secondary.files_differ {
        lines.push("ITS FILES ARE NOT THOSE OF THIS NODE: headwater verify --against".to_owned());
    }
    if let Some(reason) = &secondary.reason {
        lines.push(format!("{}: {reason}", secondary.state));
    }
    if secondary.state == SecondaryState::Disconnected && secondary.last_seen_unix_ms > 0 {
        let seen = show_moment(secondary.last_seen_unix_ms);
        lines.push(format!("last seen {seen}"));
    }
    if !secondary.serves.is_empty() {
        lines.push(format!("serves {}", secondary.serves));
    }
    Branch {
        lines,
        ..Branch::new(head)
    }
}

fn relayed(told: &Descendant, role: &str, end: Option<u64>) -> Branch {
    let lag = end.map(|end| end.saturating_sub(told.applied.0));
    let lag = count_if_known(lag, "row");
    Branch::new(format!(
        "{}  {role}  {}  {}  lsn {}  lag {lag}",
        told.name, told.address, told.state, told.applied
    ))
}

/// More than relays ever stand below each other.
const MOST_DEEP: usize = 64;
