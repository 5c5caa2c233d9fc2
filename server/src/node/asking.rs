//! A primary whose log may have ended further on than it does now: asks the secondaries that it knows
//! before it writes anything, and adds what they have, so that nothing acknowledged is lost and no
//! history splits. Must never wait without an end, nor add what does not continue the log.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use replica::{Lent, Member};
use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};
use wal::{Follower, FollowerConfig, LogEnd, LogId, Position, Recovery, TornTail};

use crate::conf;
use crate::node::error::StartError;
use crate::node::healing::Opening;
use crate::node::members;
use crate::node::parts::blocking;

/// Whether the secondaries have had their say, and what was cut off the log meanwhile.
type Asked = (bool, Option<TornTail>);

impl Opening<'_> {
    /// Asks where there is a reason to. Not yet, where the log cannot be opened at all.
    pub(super) async fn ask_for_end(&self, shipping: &conf::Shipping) -> Result<Asked, StartError> {
        let path = self.data_dir.to_owned();
        let (known, found) = blocking(move || {
            let found = wal::find_end(&wal::OsDisk::new(), &path);
            (members::load(&path), found)
        })
        .await;
        let Ok(Some(end)) = found else {
            return Ok((known.is_empty(), None));
        };
        match doubt(&known, &end) {
            Some(doubt) => self.ask(shipping, known, end, doubt).await,
            None => Ok((true, None)),
        }
    }

    async fn ask(
        &self,
        shipping: &conf::Shipping,
        known: Vec<Member>,
        end: LogEnd,
        doubt: Doubt,
    ) -> Result<Asked, StartError> {
        let mut lost_end = LostEnd::new(self, &end);
        if end.at.is_none() && !lost_end.open().await {
            // Opening it for the primary says why.
            return Ok((true, None));
        }
        let Some((id, begun)) = lost_end.tip() else {
            return Ok((true, None));
        };
        let wait = doubt.wait;
        let all: HashSet<String> = known.iter().map(|member| member.id.clone()).collect();
        let names: Vec<&str> = known.iter().map(|member| member.name.as_str()).collect();
        let (names, wait_s) = (names.join(", "), wait.as_secs());
        let reason = format!(
            "the log may have ended further on than LSN {}: {}; {names} will be asked for it, for \
             {wait_s} s at most",
            begun.lsn, doubt.reason
        );
        let (mut borrower, http) = self.wait_aloud(shipping, &reason, doubt.lacks)?;
        warn!(
            replication = %borrower.local_addr(),
            http = %http.as_ref().map_or("off".to_owned(), |http| http.local_addr().to_string()),
            "nothing is taken yet: {reason}"
        );
        let (mut left, mut deadline) = (all.clone(), Instant::now() + wait);
        let mut tip = begun;
        while !left.is_empty() {
            let answer = timeout_at(deadline, borrower.more(id, tip, &left)).await;
            let Ok(lent) = answer else {
                warn!(
                    "not all secondaries have answered in time: the log is opened as it is; what \
                     they have beyond it they put aside under their diverged/"
                );
                break;
            };
            let before = tip.lsn;
            tip = lost_end.add(&lent).await.unwrap_or(tip);
            let more = tip.lsn.0.saturating_sub(before.0);
            if more == 0 {
                left.remove(&lent.id);
                continue;
            }
            warn!(secondary = lent.name, lsns = more, end = %tip,
                "the log had lost its end: a secondary has given it back");
            // There may be more of it, on any of them.
            left.clone_from(&all);
            deadline = Instant::now() + wait;
        }
        let back = tip.lsn > begun.lsn;
        let torn_tail = lost_end.close().await?;
        borrower.close().await;
        if let Some(http) = http {
            http.stop().await;
        }
        if !back {
            info!("no secondary that has answered has more of the log than there is here");
        }
        Ok((true, torn_tail.filter(|_| !back)))
    }

    fn adding(&self) -> FollowerConfig {
        FollowerConfig {
            reserve_disk: self.log.reserve_disk,
            cache: self.log.cache.clone(),
            tasks: self.log.tasks.clone(),
            ..FollowerConfig::default()
        }
    }
}

/// The log while its end is asked for. It is opened only once there is something to add: opening it
/// cuts off what cannot be read at its end, and that is why secondaries are asked.
struct LostEnd {
    data_dir: PathBuf,
    config: FollowerConfig,
    at: Option<(LogId, Position)>,
    log: Option<(Follower, Recovery)>,
}

impl LostEnd {
    fn new(opening: &Opening<'_>, end: &LogEnd) -> Self {
        Self {
            data_dir: opening.data_dir.to_owned(),
            config: opening.adding(),
            at: end.at,
            log: None,
        }
    }

    fn tip(&self) -> Option<(LogId, Position)> {
        match &self.log {
            Some((log, _)) => Some((log.log().id(), log.tip())),
            None => self.at,
        }
    }

    /// Whether it could be.
    async fn open(&mut self) -> bool {
        let (path, config) = (self.data_dir.clone(), self.config.clone());
        let opened = blocking(move || wal::open_to_add(wal::OsDisk::new(), &path, &config)).await;
        self.log = opened.ok();
        self.log.is_some()
    }

    /// Adds what a secondary has lent; where the log ends then, if it is open.
    async fn add(&mut self, lent: &Lent) -> Option<Position> {
        if lent.blocks.is_empty() || (self.log.is_none() && !self.open().await) {
            return None;
        }
        let (log, _) = self.log.as_mut()?;
        if let Err(error) = log.append(lent.blocks.clone()).await {
            warn!(secondary = lent.name, %error, "what a secondary has does not continue the log");
        }
        Some(log.tip())
    }

    /// What opening it has cut off.
    async fn close(self) -> Result<Option<TornTail>, StartError> {
        let Some((log, recovery)) = self.log else {
            return Ok(None);
        };
        log.stop().await?;
        Ok(recovery.torn_tail)
    }
}

/// Why a log may have lost its end.
#[derive(Debug, PartialEq, Eq)]
struct Doubt {
    reason: String,
    /// How long secondaries are waited for.
    wait: Duration,
    /// LSNs that are known to be missing.
    lacks: u64,
}

/// None: there is nobody to be asked, or nothing to ask.
fn doubt(known: &[Member], end: &LogEnd) -> Option<Doubt> {
    let furthest = known.iter().max_by_key(|member| member.position.lsn)?;
    let had = furthest.position.lsn;
    if had > end.end {
        return Some(Doubt {
            reason: format!("{} had it up to LSN {had}", furthest.name),
            wait: WAIT_FOR_KNOWN,
            lacks: had.0 - end.end.0,
        });
    }
    let reason = end.doubt.clone()?;
    Some(Doubt {
        reason,
        wait: WAIT_IN_DOUBT,
        lacks: 0,
    })
}

/// How long all secondaries are waited for where it is not known that anything is missing: most
/// unfinished writes are no more than that.
const WAIT_IN_DOUBT: Duration = Duration::from_secs(10);
/// And where one of them is known to have had more.
const WAIT_FOR_KNOWN: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use wal::{Chain, Lsn};

    use super::*;

    #[test]
    fn secondaries_are_asked_where_the_end_is_in_doubt_and_longer_where_it_is_lost() {
        let member = |lsn| Member {
            id: "id".to_owned(),
            name: "b".to_owned(),
            address: SocketAddr::from(([127, 0, 0, 1], 1)),
            position: Position {
                lsn: Lsn(lsn),
                chain: Chain(7),
            },
            first_seen_unix_ms: 0,
            last_seen_unix_ms: 0,
        };
        let end = |doubt: Option<&str>| LogEnd {
            end: Lsn(50),
            at: None,
            doubt: doubt.map(str::to_owned),
        };
        let waits = |known: &[Member], doubt_of| {
            let found = doubt(known, &end(doubt_of));
            found.map(|found| (found.wait, found.lacks))
        };
        assert_eq!(waits(&[], Some("torn")), None, "nobody is known");
        assert_eq!(waits(&[member(50)], None), None);
        assert_eq!(waits(&[member(40)], Some("torn")), Some((WAIT_IN_DOUBT, 0)));
        let lost = [member(40), member(57)];
        assert_eq!(waits(&lost, None), Some((WAIT_FOR_KNOWN, 7)));
        assert_eq!(waits(&lost, Some("torn")), Some((WAIT_FOR_KNOWN, 7)));
    }
}
