//! The secondary's end of the handshake: says Hello, checks the answer, and does at once what needs
//! no block: finds out where two logs meet, or takes a snapshot's manifest. It must never change a
//! log.

use std::time::Duration;

use tokio::time::timeout;
use wal::{Epoch, Follower, Log, LogId, Lsn, Position};

use crate::config::FollowConfig;
use crate::error::{LinkError, clip};
use crate::follow::error::FollowError;
use crate::follow::reconcile::Meeting;
use crate::quic::{ControlReceiver, ControlSender, Link};
use crate::wire::common_point::{self, Search};
use crate::wire::{Hello, Message, Point, Probe, Route, Welcome, WirePlan};

/// What this node says first: of the log it holds, or of the one that is being brought in.
pub(crate) fn hello(
    config: &FollowConfig,
    follower: Option<&Follower>,
    bootstrapping: bool,
) -> Hello {
    let mut hello = Hello {
        protocol_min: config.versions.min,
        protocol_max: config.versions.max,
        format_version: wal::FORMAT_VERSION,
        node: config.node.clone(),
        node_id: config.node_id.clone(),
        bootstrapping,
        compressions: 1,
        serves: config.serves.clone(),
        ..Hello::default()
    };
    if let Some(follower) = follower {
        let tip = follower.tip();
        hello.log = Some(follower.log().id().0);
        hello.epoch = follower.log().epoch().0;
        hello.lsn = tip.lsn.0;
        hello.chain = tip.chain.0;
    }
    hello
}

/// What a handshake that succeeded leaves.
pub(crate) struct Agreement {
    pub(crate) sender: ControlSender,
    pub(crate) receiver: ControlReceiver,
    /// Version of this connection.
    pub(crate) protocol: u16,
    /// The upstream's log.
    pub(crate) log: LogId,
    /// Its epoch.
    pub(crate) epoch: Epoch,
    /// As it was asked for.
    pub(crate) plan: WirePlan,
    pub(crate) durable: Lsn,
    pub(crate) now_unix_ns: i64,
}

/// Says Hello and hears what the upstream makes of it.
pub(crate) async fn handshake(
    link: &Link,
    hello: Hello,
    within: Duration,
) -> Result<Agreement, FollowError> {
    let (mut sender, mut receiver) = in_time(within, link.open_control()).await?;
    in_time(within, sender.send(&Message::Hello(hello.clone()))).await?;
    match receive(&mut receiver, within).await? {
        Message::Welcome(welcome) => {
            let log = agreed(&hello, &welcome)?;
            Ok(Agreement {
                sender,
                receiver,
                protocol: welcome.protocol,
                log,
                epoch: Epoch(welcome.epoch),
                plan: welcome.plan,
                durable: Lsn(welcome.durable),
                now_unix_ns: welcome.now_unix_ns,
            })
        }
        Message::Refuse(mut refuse) => {
            refuse.message = clip(&refuse.message);
            Err(FollowError::Refused(refuse))
        }
        _ => Err(FollowError::Protocol("no answer to Hello".to_owned())),
    }
}

async fn receive(receiver: &mut ControlReceiver, within: Duration) -> Result<Message, FollowError> {
    let received = in_time(within, receiver.receive()).await?;
    received.ok_or_else(|| LinkError::Finished.into())
}

/// An upstream that takes nothing must not keep this node from the next one either.
async fn in_time<T>(
    within: Duration,
    step: impl Future<Output = Result<T, LinkError>>,
) -> Result<T, FollowError> {
    match timeout(within, step).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(FollowError::Silent(within)),
    }
}

/// Checks that the upstream agreed to what was asked; its log.
fn agreed(hello: &Hello, welcome: &Welcome) -> Result<LogId, FollowError> {
    let broken = |what: &str| Err(FollowError::Protocol(what.to_owned()));
    if !(hello.protocol_min..=hello.protocol_max).contains(&welcome.protocol) {
        return broken("it chose a version that was not offered");
    }
    let log = LogId(welcome.log);
    if hello.log().is_some_and(|own| own != log) {
        return broken("it welcomed another log");
    }
    match welcome.plan {
        WirePlan::Stream { lsn, chain } => {
            let asked = match hello.log() {
                Some(_) => hello.position(),
                None => log.genesis(),
            };
            if Position::from(Point { lsn, chain }) != asked {
                return broken("it begins at another position");
            }
        }
        WirePlan::Compare {} if hello.log.is_none() => {
            return broken("it compares with a log that is not there");
        }
        WirePlan::Snapshot { .. } | WirePlan::Compare {} => {}
    }
    Ok(log)
}

/// Finds out where this node's log and the upstream's meet.
pub(crate) async fn compare(
    mut agreement: Agreement,
    log: &Log,
    within: Duration,
) -> Result<Meeting, FollowError> {
    let mut search = Search::new(log);
    let mut meeting = Meeting {
        common: None,
        diverged_before: false,
        durable: agreement.durable,
        route: Route::default(),
    };
    while let Some(points) = search.probe() {
        let answer = ask(&mut agreement, &points, &mut meeting.route, within).await?;
        search.answer(answer);
    }
    meeting.common = search.common();
    if meeting.common.is_none() {
        let known = common_point::retired(log, meeting.durable);
        if !known.is_empty() {
            let answer = ask(&mut agreement, &known, &mut meeting.route, within).await?;
            meeting.diverged_before = common_point::has_diverged(&known, answer);
        }
    }
    Ok(meeting)
}

/// Which of these ends of blocks is the last that the upstream has, too.
async fn ask(
    agreement: &mut Agreement,
    points: &[Position],
    route: &mut Route,
    within: Duration,
) -> Result<Option<usize>, FollowError> {
    let points = points.iter().copied().map(Point::from).collect();
    let probe = Message::Probe(Probe { points });
    in_time(within, agreement.sender.send(&probe)).await?;
    loop {
        match receive(&mut agreement.receiver, within).await? {
            Message::Route(reported) => *route = reported,
            Message::Common(common) => {
                let index = common.index.map(usize::try_from);
                return Ok(index.and_then(Result::ok));
            }
            _ => return Err(FollowError::Protocol("no answer to Probe".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::PROTOCOL_MAX;

    fn config() -> FollowConfig {
        FollowConfig::new(vec!["p:1".to_owned()], "s", "id")
    }

    fn welcome(plan: WirePlan) -> Welcome {
        Welcome {
            protocol: PROTOCOL_MAX,
            log: [7; 16],
            epoch: 1,
            plan,
            durable: 100,
            now_unix_ns: 0,
        }
    }

    fn asking(log: Option<[u8; 16]>, lsn: u64, chain: u64) -> Hello {
        Hello {
            log,
            lsn,
            chain,
            ..hello(&config(), None, false)
        }
    }

    #[test]
    fn a_node_without_a_log_asks_for_one() {
        let hello = hello(&config(), None, false);
        assert_eq!((hello.log, hello.lsn, hello.epoch), (None, 0, 0));
        assert_eq!((hello.node.as_str(), hello.node_id.as_str()), ("s", "id"));
    }

    #[test]
    fn an_answer_must_be_to_what_was_asked() {
        let plan = WirePlan::Stream { lsn: 50, chain: 5 };
        let asked = asking(Some([7; 16]), 50, 5);
        let log = agreed(&asked, &welcome(plan)).expect("agreed");
        assert_eq!(log, LogId([7; 16]));

        let newer = Welcome {
            protocol: PROTOCOL_MAX + 1,
            ..welcome(plan)
        };
        let wrong = [
            (asking(Some([8; 16]), 50, 5), welcome(plan)),
            (asking(Some([7; 16]), 51, 5), welcome(plan)),
            (asking(Some([7; 16]), 50, 6), welcome(plan)),
            (asking(None, 0, 0), welcome(plan)),
            (asking(None, 0, 0), welcome(WirePlan::Compare {})),
            (asked, newer),
        ];
        for (asked, answer) in wrong {
            assert!(
                matches!(agreed(&asked, &answer), Err(FollowError::Protocol(_))),
                "{asked:?}: {answer:?}"
            );
        }
    }

    #[test]
    fn a_log_begins_at_its_genesis() {
        let genesis = LogId([7; 16]).genesis();
        let plan = WirePlan::Stream {
            lsn: genesis.lsn.0,
            chain: genesis.chain.0,
        };
        let log = agreed(&asking(None, 0, 0), &welcome(plan)).expect("agreed");
        assert_eq!(log, LogId([7; 16]));
    }
}
