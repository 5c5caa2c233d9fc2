//! `headwater verify --against`: two running nodes read what their disks hold up to one LSN and of
//! one set of files, while both go on. Owns finding such a moment; must never wait for it for ever,
//! nor read everything to find out that it has passed.

use std::process::ExitCode;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use super::compare::compare;
use super::exit::FAILURE;
use super::output;
use crate::api::digest::{Digest, Mark};
use crate::api::status::Status;
use crate::cli::client::{Client, ClientError, DigestError};

/// Why nothing could be compared.
#[derive(Debug, thiserror::Error)]
pub(super) enum AgainstError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(
        "there is nothing to compare: {first} holds log {first_log}, {second} log {second_log}"
    )]
    Logs {
        first: String,
        first_log: String,
        second: String,
        second_log: String,
    },
    #[error("the nodes had nothing in common to compare for {} s: {last}", .waited.as_secs())]
    NoMoment { waited: Duration, last: String },
}

/// A node that can be asked.
trait Node: Sync {
    fn url(&self) -> &str;
    fn status(&self) -> Result<Status, ClientError>;
    fn digest(&self, upto: Option<u64>, mark: Option<&Mark>) -> Result<Digest, DigestError>;
}

impl Node for Client {
    fn url(&self) -> &str {
        Self::url(self)
    }

    fn status(&self) -> Result<Status, ClientError> {
        Self::status(self)
    }

    fn digest(&self, upto: Option<u64>, mark: Option<&Mark>) -> Result<Digest, DigestError> {
        Self::digest(self, upto, mark)
    }
}

/// Lets both nodes read what they hold, and prints how it compares.
pub(super) fn nodes(first: &str, second: &str) -> Result<ExitCode, AgainstError> {
    let (first, second) = (Client::new(first)?, Client::new(second)?);
    let (a, b) = read_both(&first, &second, PACE)?;
    let found = compare(&a, &b);
    let text = found.show(first.url(), second.url());
    output::text(&text);
    Ok(if found.is_equal() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(FAILURE)
    })
}

/// How long is waited for what.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// For a moment that both nodes hold.
    give_up: Duration,
    /// Between two looks.
    look: Duration,
    /// For a refusal, before the second node begins to read, too.
    refusal: Duration,
}

/// Both digests, the first node's first.
fn read_both(
    first: &impl Node,
    second: &impl Node,
    pace: Pace,
) -> Result<(Digest, Digest), AgainstError> {
    let began = Instant::now();
    let mut goal = None;
    loop {
        let last = match attempt(first, second, &mut goal, pace)? {
            Ok(digests) => return Ok(digests),
            Err(reason) => reason,
        };
        if began.elapsed() >= pace.give_up {
            let waited = pace.give_up;
            return Err(AgainstError::NoMoment { waited, last });
        }
        thread::sleep(pace.look);
    }
}

/// Something that may be otherwise in a moment: why.
type NotYet = String;

/// Both digests, if there is a moment that both nodes hold now. `goal` is the first node's LSN when
/// it was first asked.
fn attempt(
    first: &impl Node,
    second: &impl Node,
    goal: &mut Option<u64>,
    pace: Pace,
) -> Result<Result<(Digest, Digest), NotYet>, AgainstError> {
    let (a, b) = match (standing(first)?, standing(second)?) {
        (Ok(a), Ok(b)) => (a, b),
        (Err(reason), _) | (_, Err(reason)) => return Ok(Err(reason)),
    };
    if a.log != b.log {
        return Err(AgainstError::Logs {
            first: first.url().to_owned(),
            first_log: a.log,
            second: second.url().to_owned(),
            second_log: b.log,
        });
    }
    let goal = *goal.get_or_insert(a.lsn);
    if b.lsn < goal {
        let (url, lsn) = (second.url(), b.lsn);
        return Ok(Err(format!("{url} is at LSN {lsn}, before {goal}")));
    }
    // Both have that already.
    let upto = a.lsn.min(b.lsn);
    let order = |mark: &Mark| (mark.compacted, mark.next);
    // Who has the older files has them for certain; the other one may still remember them.
    if order(&a.mark) > order(&b.mark) {
        both(first, second, upto, &b.mark, pace)
    } else {
        let read = both(second, first, upto, &a.mark, pace)?;
        Ok(read.map(|(b, a)| (a, b)))
    }
}

/// Where a node stands.
struct Standing {
    log: String,
    lsn: u64,
    mark: Mark,
}

/// Asks a node where it stands, without letting it read anything: one that is asked for files that
/// nobody can have answers with those it has.
fn standing(node: &impl Node) -> Result<Result<Standing, NotYet>, AgainstError> {
    let nobodys = Mark {
        compacted: u64::MAX,
        next: u64::MAX,
        digest: String::new(),
    };
    let mark = match node.digest(None, Some(&nobodys)) {
        Ok(digest) => digest.mark,
        Err(DigestError::UnknownMark { newest, .. }) => *newest,
        Err(refused) => return not_yet(node, refused).map(Err),
    };
    let Some(log) = node.status()?.log else {
        return Ok(Err(format!("{} has no log yet", node.url())));
    };
    Ok(Ok(Standing {
        log: log.log_id,
        lsn: log.lsn,
        mark,
    }))
}

/// Lets two nodes read at the same time, `unsure` a little sooner: if it no longer has the files,
/// the other one is spared.
fn both(
    unsure: &impl Node,
    sure: &impl Node,
    upto: u64,
    mark: &Mark,
    pace: Pace,
) -> Result<Result<(Digest, Digest), NotYet>, AgainstError> {
    thread::scope(|scope| {
        let (sender, answer) = mpsc::sync_channel(1);
        scope.spawn(move || {
            // Nobody waits any more once the other node has refused.
            let _ = sender.send(unsure.digest(Some(upto), Some(mark)));
        });
        let early = match answer.recv_timeout(pace.refusal) {
            Ok(Err(refused)) => return not_yet(unsure, refused).map(Err),
            Ok(Ok(digest)) => Some(digest),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => None,
        };
        let other = match sure.digest(Some(upto), Some(mark)) {
            Ok(digest) => digest,
            Err(refused) => return not_yet(sure, refused).map(Err),
        };
        let late = early.map_or_else(|| answer.recv(), |digest| Ok(Ok(digest)));
        match late {
            Ok(Ok(digest)) => Ok(Ok((digest, other))),
            Ok(Err(refused)) => not_yet(unsure, refused).map(Err),
            Err(_) => Ok(Err(format!("{} was not asked", unsure.url()))),
        }
    })
}

/// Why to ask again, of a refusal that may pass.
fn not_yet(node: &impl Node, refused: DigestError) -> Result<NotYet, AgainstError> {
    match refused {
        DigestError::UnknownMark { refusal, .. } | DigestError::Behind(refusal) => {
            Ok(format!("{}: {refusal}", node.url()))
        }
        DigestError::Client(ClientError::Refused(refusal))
            if PASSING.contains(&refusal.code.as_str()) =>
        {
            Ok(format!("{}: {refusal}", node.url()))
        }
        DigestError::Client(error) => Err(error.into()),
    }
}

/// Codes of refusals that say nothing of the next request.
const PASSING: [&str; 4] = ["busy", "lagging", "lsn_gone", "not_ready"];

const PACE: Pace = Pace {
    give_up: Duration::from_secs(60),
    look: Duration::from_millis(250),
    refusal: Duration::from_secs(1),
};

#[cfg(test)]
mod tests;
