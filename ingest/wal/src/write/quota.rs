//! How many new tables and columns one client may bring into being within a minute: so that one that
//! makes names up does not use up the place of all others. It must never count what was not made,
//! nor know more clients than its bound.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use crate::config::Limits;
use crate::format::row::{NewNames, Refusal};

/// What clients have brought into being lately.
#[derive(Debug)]
pub(crate) struct Quota {
    tables: u64,
    columns: u64,
    clients: HashMap<u64, Used>,
    hasher: RandomState,
}

/// Tables and columns that come into being together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct New {
    pub(crate) tables: usize,
    pub(crate) columns: usize,
}

/// What one client has used: a name counts [`MINUTE`] at first, and nothing a minute of its quota
/// later.
#[derive(Clone, Copy, Debug)]
struct Used {
    at: Instant,
    tables: u64,
    columns: u64,
}

impl Quota {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            tables: u64::from(limits.new_tables_per_minute),
            columns: u64::from(limits.new_columns_per_minute),
            clients: HashMap::new(),
            hasher: RandomState::new(),
        }
    }

    /// Whether this client may bring so much into being for `table` now. Who has brought nothing for
    /// a while may bring what one call needs, however much that is.
    pub(crate) fn check(
        &self,
        client: &str,
        table: &str,
        new: New,
        now: Instant,
    ) -> Result<(), Refusal> {
        let used = self.clients.get(&self.key(client));
        let used = used.map_or_else(|| Used::none(now), |used| used.at(now, self));
        let beyond = if is_beyond(used.tables, new.tables, self.tables) {
            Some((NewNames::Tables, self.tables))
        } else if is_beyond(used.columns, new.columns, self.columns) {
            Some((NewNames::Columns, self.columns))
        } else {
            None
        };
        let Some((what, limit)) = beyond else {
            return Ok(());
        };
        let client = client.chars().take(MOST_SHOWN).collect();
        let table = table.to_owned();
        Err(Refusal::TooManyNew {
            client,
            table,
            what,
            limit,
        })
    }

    /// This client has brought so much into being.
    pub(crate) fn note(&mut self, client: &str, new: New, now: Instant) {
        if self.tables == 0 && self.columns == 0 {
            return;
        }
        let key = self.key(client);
        let used = self.clients.get(&key);
        let mut used = used.map_or_else(|| Used::none(now), |used| used.at(now, self));
        used.tables += cost(new.tables);
        used.columns += cost(new.columns);
        if self.clients.len() >= MOST_CLIENTS && !self.clients.contains_key(&key) {
            self.forget(now);
        }
        self.clients.insert(key, used);
    }

    /// Forgets those that may bring anything again, and if these are few, those that have brought
    /// least.
    fn forget(&mut self, now: Instant) {
        let clients = std::mem::take(&mut self.clients);
        let clients = clients
            .into_iter()
            .map(|(key, used)| (key, used.at(now, self)));
        let mut clients: Vec<(u64, Used)> = clients.filter(|(_, used)| used.any()).collect();
        if clients.len() > MOST_CLIENTS / 2 {
            clients.sort_unstable_by_key(|(_, used)| {
                std::cmp::Reverse(used.tables.saturating_add(used.columns))
            });
            clients.truncate(MOST_CLIENTS / 2);
        }
        self.clients = clients.into_iter().collect();
    }

    fn key(&self, client: &str) -> u64 {
        self.hasher.hash_one(client)
    }
}

impl Used {
    fn none(now: Instant) -> Self {
        Self {
            at: now,
            tables: 0,
            columns: 0,
        }
    }

    /// The same later.
    fn at(&self, now: Instant, quota: &Quota) -> Self {
        let passed = now.saturating_duration_since(self.at).as_millis();
        let passed = u64::try_from(passed).unwrap_or(u64::MAX);
        let left = |used: u64, limit: u64| used.saturating_sub(limit.saturating_mul(passed));
        Self {
            // What is left of a millisecond counts the next time.
            at: self
                .at
                .checked_add(Duration::from_millis(passed))
                .unwrap_or(now),
            tables: left(self.tables, quota.tables),
            columns: left(self.columns, quota.columns),
        }
    }

    fn any(&self) -> bool {
        self.tables > 0 || self.columns > 0
    }
}

/// Whether so many more are more than the limit, where there is one.
fn is_beyond(used: u64, more: usize, limit: u64) -> bool {
    let most = limit.saturating_mul(MINUTE);
    limit > 0 && more > 0 && used > 0 && used.saturating_add(cost(more)) > most
}

fn cost(names: usize) -> u64 {
    (names as u64).saturating_mul(MINUTE)
}

/// Milliseconds in which a client may bring its quota into being again.
const MINUTE: u64 = 60_000;
/// Most clients that are known at a time.
const MOST_CLIENTS: usize = 16_384;
/// Most characters of a client's name that a refusal repeats.
const MOST_SHOWN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(tables: u32, columns: u32) -> Quota {
        Quota::new(&Limits {
            new_tables_per_minute: tables,
            new_columns_per_minute: columns,
            ..Limits::default()
        })
    }

    /// How many calls of `new` pass one after the other.
    fn passing(quota: &mut Quota, client: &str, new: New, now: Instant, most: usize) -> usize {
        let passes = |_: &usize| {
            let passes = quota.check(client, "t", new, now).is_ok();
            if passes {
                quota.note(client, new, now);
            }
            passes
        };
        (0..most).take_while(passes).count()
    }

    const TABLE: New = New {
        tables: 1,
        columns: 2,
    };

    #[test]
    fn a_client_has_its_quota_and_gets_it_back_within_a_minute() {
        let (mut quota, start) = (quota(10, 1_000), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(passing(&mut quota, "a", TABLE, start, 99), 10);
        assert_eq!(passing(&mut quota, "b", TABLE, start, 99), 10, "its own");
        let refused = quota.check("a", "t", TABLE, start).expect_err("used up");
        assert_eq!(
            refused.to_string(),
            "client \"a\" has brought as many new tables into being within a minute as one may, 10 \
             (ingest.new_tables_per_minute): for table \"t\" there are no more for now; rows for what is \
             there are taken as ever"
        );
        let columns = New {
            tables: 0,
            columns: 1,
        };
        assert!(quota.check("a", "t", columns, start).is_ok());
        assert_eq!(passing(&mut quota, "a", TABLE, after(6), 99), 1);
        assert_eq!(passing(&mut quota, "a", TABLE, after(36), 99), 5);
        assert_eq!(passing(&mut quota, "a", TABLE, after(600), 99), 10);
    }

    #[test]
    fn what_one_call_needs_passes_after_a_while_however_much_it_is() {
        let (mut quota, start) = (quota(0, 10), Instant::now());
        let wide = New {
            tables: 1,
            columns: 500,
        };
        assert_eq!(passing(&mut quota, "a", wide, start, 99), 1);
        let next = start + Duration::from_secs(60);
        assert_eq!(passing(&mut quota, "a", wide, next, 99), 0);
        let next = start + Duration::from_secs(60 * 50);
        assert_eq!(passing(&mut quota, "a", wide, next, 99), 1);
        // Nothing but names counts.
        assert!(quota.check("a", "t", New::default(), next).is_ok());
    }

    #[test]
    fn no_limit_is_none() {
        let (mut quota, start) = (quota(0, 0), Instant::now());
        assert_eq!(passing(&mut quota, "a", TABLE, start, 5_000), 5_000);
        assert!(quota.clients.is_empty());
    }

    #[test]
    fn clients_are_known_up_to_a_bound_and_who_brings_most_longest() {
        let (mut quota, start) = (quota(10, 1_000), Instant::now());
        assert_eq!(passing(&mut quota, "greedy", TABLE, start, 99), 10);
        for number in 0..3 * MOST_CLIENTS {
            quota.note(&number.to_string(), TABLE, start);
            assert!(quota.clients.len() <= MOST_CLIENTS);
        }
        assert_eq!(passing(&mut quota, "greedy", TABLE, start, 99), 0);
    }
}
