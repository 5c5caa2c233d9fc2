//! What the log of a node says of its disk: which files are damaged, when the log takes nothing, when
//! what is written beside it has no room. Each tells the beginning and the end of what lasts; it must
//! never tell the same at every look.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::timeout;
use tracing::{info, warn};
use wal::Damaged;

/// Logs what is on the list, once for as long as it stays there.
pub(crate) async fn tell(mut damage: watch::Receiver<Vec<Damaged>>) {
    let mut told = HashSet::new();
    loop {
        let listed = damage.borrow_and_update().clone();
        for damaged in entered(&mut told, &listed) {
            warn!(
                file = %damaged.name,
                reason = %damaged.reason,
                "a file is damaged; queries that need it fail until a peer has given it back"
            );
        }
        if damage.changed().await.is_err() {
            return;
        }
    }
}

/// Logs when something that is written beside the log begins to wait for room, and when that is
/// over.
pub(crate) async fn tell_room(mut waiting: watch::Receiver<Option<String>>) {
    let mut begun: Option<Instant> = None;
    loop {
        let reason = waiting.borrow_and_update().clone();
        match (reason, begun) {
            (Some(reason), None) => {
                begun = Some(Instant::now());
                warn!(
                    reason,
                    "the disk has too little room beside log.reserve_disk: what is kept for others \
                     is given up: earlier views, replaced files that queries read, segments for \
                     secondaries that are away; what was put aside in diverged/ stays until \
                     somebody removes it"
                );
            }
            (None, Some(since)) => {
                let for_s = since.elapsed().as_secs();
                info!(
                    for_s,
                    "there is room beside the log again: compaction goes on"
                );
                begun = None;
            }
            _ => {}
        }
        if waiting.changed().await.is_err() {
            return;
        }
    }
}

/// Logs when the log begins to take nothing, now and then that it still does, and when it is over.
pub(crate) async fn tell_stalls(mut stalled: watch::Receiver<Option<String>>) {
    let mut begun: Option<Instant> = None;
    loop {
        let reason = stalled.borrow_and_update().clone();
        match (&reason, begun) {
            (Some(reason), since) => {
                let begun = *begun.get_or_insert_with(Instant::now);
                warn!(
                    reason,
                    for_s = since.map_or(0, |_| begun.elapsed().as_secs()),
                    "the log takes nothing and nothing is acknowledged until there is room; \
                     queries are answered"
                );
            }
            (None, Some(since)) => {
                let for_s = since.elapsed().as_secs();
                info!(for_s, "there is room again: the log goes on");
                begun = None;
            }
            (None, None) => {}
        }
        // While it lasts, the numbers in the reason change.
        let pause = reason.map_or(Duration::MAX, |_| STALL_TOLD_EVERY);
        if let Ok(Err(_)) = timeout(pause, stalled.changed()).await {
            return;
        }
    }
}

/// What was not on the list at the last look; `told` is what was.
fn entered<'a>(told: &mut HashSet<String>, listed: &'a [Damaged]) -> Vec<&'a Damaged> {
    let before = std::mem::take(told);
    told.extend(listed.iter().map(|damaged| damaged.name.clone()));
    let new = |damaged: &&Damaged| !before.contains(&damaged.name);
    listed.iter().filter(new).collect()
}

/// A stall that lasts is told again.
const STALL_TOLD_EVERY: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_told_once_and_again_when_it_comes_back() {
        let listed = |names: &[&str]| -> Vec<Damaged> {
            let damaged = |name: &&str| Damaged {
                name: (*name).to_owned(),
                bytes: 0,
                reason: "a flipped bit".to_owned(),
            };
            names.iter().map(damaged).collect()
        };
        let mut told = HashSet::new();
        for (list, news) in [
            (&["a"][..], &["a"][..]),
            (&["a", "b"], &["b"]),
            (&["a", "b"], &[]),
            (&["b"], &[]),
            (&["b", "a"], &["a"]),
        ] {
            let list = listed(list);
            let names: Vec<&str> = entered(&mut told, &list)
                .into_iter()
                .map(|damaged| damaged.name.as_str())
                .collect();
            assert_eq!(names, news);
        }
    }

    #[tokio::test]
    async fn telling_of_stalls_ends_with_the_log_whether_there_is_one_or_not() {
        for reason in [None, Some("full".to_owned())] {
            let (stalls, stalled) = watch::channel(reason);
            let telling = tokio::spawn(tell_stalls(stalled));
            stalls.send(Some("full".to_owned())).unwrap();
            stalls.send(None).unwrap();
            drop(stalls);
            let limit = Duration::from_secs(10);
            tokio::time::timeout(limit, telling).await.unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn telling_ends_with_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let config = wal::Config::default();
        let (committer, _) = wal::open_primary(wal::OsDisk::new(), dir.path(), &config).unwrap();
        let telling = tokio::spawn(tell(committer.log().damage()));
        let of_room = tokio::spawn(tell_room(committer.log().waiting_for_room()));
        committer.stop().unwrap();
        let limit = Duration::from_secs(10);
        tokio::time::timeout(limit, telling).await.unwrap().unwrap();
        tokio::time::timeout(limit, of_room).await.unwrap().unwrap();
    }
}
