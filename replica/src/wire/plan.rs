//! The decision a primary makes about a secondary that connects: a pure function of what the
//! secondary is and has and what the primary still holds. It must never do I/O or change anything;
//! `PROTOCOL.md` has the same table in words.

use std::fmt;

use wal::{Epoch, Log, LogId, Lsn, Position};

use crate::wire::codec::{PROTOCOL_MAX, PROTOCOL_MIN, V3_SINCE};
use crate::wire::message::{Hello, MAX_NAME_LEN};
use crate::wire::refusal::RefuseReason;

/// What a primary holds.
#[derive(Clone, Copy)]
pub struct UpstreamState<F> {
    /// Its log.
    pub log: LogId,
    /// Its epoch.
    pub epoch: Epoch,
    /// Log format it writes.
    pub format_version: u8,
    /// Start of the oldest segment it still has.
    pub oldest: Position,
    /// Its durable end.
    pub durable: Position,
    /// Chain value at a block boundary it holds; `None` where there is none.
    pub chain_at: F,
}

/// What an upstream with this log holds now.
pub fn upstream_state(log: &Log) -> UpstreamState<impl Fn(Lsn) -> Option<u64> + use<'_>> {
    // First: the log may grow and lose its head meanwhile.
    let durable = *log.durable().borrow();
    UpstreamState {
        log: log.id(),
        epoch: log.epoch(),
        format_version: wal::FORMAT_VERSION,
        oldest: log.oldest(),
        durable,
        chain_at: |lsn| log.chain_at(lsn),
    }
}

impl<F> fmt::Debug for UpstreamState<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamState")
            .field("log", &self.log)
            .field("epoch", &self.epoch)
            .field("format_version", &self.format_version)
            .field("oldest", &self.oldest)
            .field("durable", &self.durable)
            .finish_non_exhaustive()
    }
}

/// What to do about a secondary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Send blocks from here on.
    Stream(Position),
    /// It is behind everything still held.
    Snapshot {
        /// Where the held log begins.
        oldest: Position,
    },
    /// The logs do not meet: both sides find out where they did.
    Compare(RefuseReason),
    /// It must not follow this log.
    Refuse(RefuseReason),
}

/// The protocol version both speak: the newest of them.
pub fn negotiate(hello: &Hello) -> Result<u16, RefuseReason> {
    let newest = hello.protocol_max.min(PROTOCOL_MAX);
    if newest < hello.protocol_min.max(PROTOCOL_MIN) {
        let (min, max) = (hello.protocol_min, hello.protocol_max);
        return Err(RefuseReason::Protocol { min, max });
    }
    Ok(newest)
}

/// What to do about a secondary that says `hello`. The first row that applies wins.
pub fn plan<F>(hello: &Hello, upstream: &UpstreamState<F>) -> Plan
where
    F: Fn(Lsn) -> Option<u64>,
{
    if let Err(reason) = compatible(hello, upstream) {
        return Plan::Refuse(reason);
    }
    let Some(log) = hello.log() else {
        let genesis = upstream.log.genesis();
        if upstream.oldest.lsn > genesis.lsn {
            return Plan::Snapshot {
                oldest: upstream.oldest,
            };
        }
        return Plan::Stream(genesis);
    };
    if log != upstream.log {
        return Plan::Refuse(RefuseReason::ForeignLog {
            theirs: log,
            ours: upstream.log,
        });
    }
    if hello.epoch() > upstream.epoch {
        let (theirs, ours) = (hello.epoch(), upstream.epoch);
        return Plan::Refuse(RefuseReason::NewerEpoch { theirs, ours });
    }
    match place(hello.position(), upstream) {
        Plan::Refuse(reason) if negotiate(hello).is_ok_and(|version| version >= V3_SINCE) => {
            Plan::Compare(reason)
        }
        plan => plan,
    }
}

fn compatible<F>(hello: &Hello, upstream: &UpstreamState<F>) -> Result<(), RefuseReason> {
    negotiate(hello)?;
    let (theirs, ours) = (hello.format_version, upstream.format_version);
    if theirs > ours {
        return Err(RefuseReason::FormatNewer { theirs, ours });
    }
    if theirs < ours {
        return Err(RefuseReason::FormatOlder { theirs, ours });
    }
    if hello.node_id.is_empty() {
        return Err(RefuseReason::BadHello {
            what: "the node id is empty",
        });
    }
    if hello.node_id.len() > MAX_NAME_LEN || hello.node.len() > MAX_NAME_LEN {
        return Err(RefuseReason::BadHello {
            what: "the node name or id is too long",
        });
    }
    Ok(())
}

/// Where a log of the same id and a known epoch stands in the primary's.
fn place<F>(position: Position, upstream: &UpstreamState<F>) -> Plan
where
    F: Fn(Lsn) -> Option<u64>,
{
    let durable = upstream.durable;
    if position.lsn > durable.lsn {
        let (position, durable) = (position.lsn, durable.lsn);
        return Plan::Refuse(RefuseReason::Ahead { position, durable });
    }
    if position.lsn < upstream.oldest.lsn {
        return Plan::Snapshot {
            oldest: upstream.oldest,
        };
    }
    // The two ends are known without asking; a boundary at the very end may not be indexed yet.
    let chain = [durable, upstream.oldest]
        .iter()
        .find(|end| end.lsn == position.lsn)
        .map(|end| end.chain)
        .or_else(|| (upstream.chain_at)(position.lsn));
    match chain {
        Some(chain) if chain == position.chain => Plan::Stream(position),
        Some(_) => Plan::Refuse(RefuseReason::Diverged {
            position: position.lsn,
        }),
        None => Plan::Refuse(RefuseReason::NotABoundary {
            position: position.lsn,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: LogId = LogId([7; 16]);

    fn at(lsn: u64, chain: u64) -> Position {
        Position {
            lsn: Lsn(lsn),
            chain,
        }
    }

    /// A primary that holds 100..200 with blocks ending at 120, 150 and 200; chain = 10 x LSN.
    fn upstream() -> UpstreamState<impl Fn(Lsn) -> Option<u64>> {
        UpstreamState {
            log: LOG,
            epoch: Epoch(5),
            format_version: 1,
            oldest: at(100, 1000),
            durable: at(200, 2000),
            chain_at: |lsn: Lsn| matches!(lsn.0, 120 | 150).then_some(lsn.0 * 10),
        }
    }

    fn hello(lsn: u64, chain: u64) -> Hello {
        Hello {
            protocol_min: PROTOCOL_MIN,
            protocol_max: PROTOCOL_MAX,
            format_version: 1,
            log: Some(LOG.0),
            epoch: 5,
            lsn,
            chain,
            node: "s".to_owned(),
            node_id: "id".to_owned(),
            ..Hello::default()
        }
    }

    fn refused(hello: &Hello) -> RefuseReason {
        match plan(hello, &upstream()) {
            Plan::Refuse(reason) => reason,
            other => panic!("not refused: {other:?}"),
        }
    }

    fn compared(hello: &Hello) -> RefuseReason {
        match plan(hello, &upstream()) {
            Plan::Compare(reason) => reason,
            other => panic!("not compared: {other:?}"),
        }
    }

    #[test]
    fn a_version_without_the_search_is_refused_where_logs_do_not_meet() {
        let older = Hello {
            protocol_max: V3_SINCE - 1,
            ..hello(150, 1)
        };
        let position = Lsn(150);
        assert_eq!(refused(&older), RefuseReason::Diverged { position });
    }

    #[test]
    fn no_common_protocol_version() {
        let newer = Hello {
            protocol_min: PROTOCOL_MAX + 1,
            protocol_max: 9,
            ..hello(150, 1500)
        };
        assert_eq!(
            refused(&newer),
            RefuseReason::Protocol {
                min: PROTOCOL_MAX + 1,
                max: 9
            }
        );
        let older = Hello {
            protocol_min: 0,
            protocol_max: 0,
            ..hello(150, 1500)
        };
        assert_eq!(refused(&older).code(), 1);
        let upside_down = Hello {
            protocol_min: PROTOCOL_MAX,
            protocol_max: PROTOCOL_MIN,
            ..hello(150, 1500)
        };
        assert_eq!(refused(&upside_down).code(), 1);
    }

    #[test]
    fn overlapping_versions_agree_on_the_newest_common() {
        let wide = Hello {
            protocol_min: 0,
            protocol_max: 99,
            ..hello(150, 1500)
        };
        assert_eq!(negotiate(&wide), Ok(PROTOCOL_MAX));
        assert_eq!(plan(&wide, &upstream()), Plan::Stream(at(150, 1500)));
        let older = Hello {
            protocol_min: PROTOCOL_MIN,
            protocol_max: PROTOCOL_MIN,
            ..hello(150, 1500)
        };
        assert_eq!(negotiate(&older), Ok(PROTOCOL_MIN));
        assert_eq!(plan(&older, &upstream()), Plan::Stream(at(150, 1500)));
    }

    #[test]
    fn another_log_format() {
        let newer = Hello {
            format_version: 2,
            ..hello(150, 1500)
        };
        assert_eq!(
            refused(&newer),
            RefuseReason::FormatNewer { theirs: 2, ours: 1 }
        );
        let older = Hello {
            format_version: 0,
            ..hello(150, 1500)
        };
        assert_eq!(
            refused(&older),
            RefuseReason::FormatOlder { theirs: 0, ours: 1 }
        );
    }

    #[test]
    fn a_hello_without_a_usable_identity() {
        let nameless = Hello {
            node_id: String::new(),
            ..hello(150, 1500)
        };
        assert_eq!(refused(&nameless).code(), 10);
        let long = Hello {
            node: "x".repeat(MAX_NAME_LEN + 1),
            ..hello(150, 1500)
        };
        assert_eq!(refused(&long).code(), 10);
    }

    #[test]
    fn no_local_log_begins_at_the_beginning_or_needs_a_snapshot() {
        let fresh = Hello {
            log: None,
            epoch: 0,
            ..hello(0, 0)
        };
        assert_eq!(
            plan(&fresh, &upstream()),
            Plan::Snapshot {
                oldest: at(100, 1000)
            }
        );
        let whole = UpstreamState {
            oldest: LOG.genesis(),
            ..upstream()
        };
        assert_eq!(plan(&fresh, &whole), Plan::Stream(LOG.genesis()));
    }

    #[test]
    fn a_foreign_log() {
        let foreign = Hello {
            log: Some([8; 16]),
            ..hello(150, 1500)
        };
        let (theirs, ours) = (LogId([8; 16]), LOG);
        assert_eq!(refused(&foreign), RefuseReason::ForeignLog { theirs, ours });
    }

    #[test]
    fn a_newer_epoch_on_the_secondary() {
        let newer = Hello {
            epoch: 6,
            ..hello(150, 1500)
        };
        let (theirs, ours) = (Epoch(6), Epoch(5));
        assert_eq!(refused(&newer), RefuseReason::NewerEpoch { theirs, ours });
        let older = Hello {
            epoch: 4,
            ..hello(150, 1500)
        };
        assert_eq!(plan(&older, &upstream()), Plan::Stream(at(150, 1500)));
    }

    #[test]
    fn a_secondary_ahead_of_its_primary() {
        let (position, durable) = (Lsn(201), Lsn(200));
        assert_eq!(
            compared(&hello(201, 2010)),
            RefuseReason::Ahead { position, durable }
        );
    }

    #[test]
    fn behind_everything_held() {
        assert_eq!(
            plan(&hello(99, 990), &upstream()),
            Plan::Snapshot {
                oldest: at(100, 1000)
            }
        );
    }

    #[test]
    fn inside_a_block() {
        assert_eq!(
            compared(&hello(149, 1)),
            RefuseReason::NotABoundary { position: Lsn(149) }
        );
    }

    #[test]
    fn another_chain_at_the_same_lsn() {
        for lsn in [100, 150, 200] {
            let position = Lsn(lsn);
            let reason = compared(&hello(lsn, 1));
            assert_eq!(reason, RefuseReason::Diverged { position });
        }
    }

    #[test]
    fn a_known_position_streams_from_there() {
        for lsn in [100, 120, 150, 200] {
            assert_eq!(
                plan(&hello(lsn, lsn * 10), &upstream()),
                Plan::Stream(at(lsn, lsn * 10))
            );
        }
    }

    #[test]
    fn an_empty_log_streams_from_genesis() {
        let empty = UpstreamState {
            oldest: LOG.genesis(),
            durable: LOG.genesis(),
            ..upstream()
        };
        let genesis = LOG.genesis();
        let restarted = hello(genesis.lsn.0, genesis.chain);
        assert_eq!(plan(&restarted, &empty), Plan::Stream(genesis));
    }
}
