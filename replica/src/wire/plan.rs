//! The decision a primary makes about a secondary that connects: a pure function of what the
//! secondary is and has and what the primary still holds. It must never do I/O or change anything;
//! `PROTOCOL.md` has the same table in words.

use std::fmt;

use wal::{Boundary, Chain, Epoch, Log, LogId, Lsn, Position};

use crate::wire::message::{Hello, MAX_NAME_LEN};
use crate::wire::refusal::RefuseReason;
use crate::wire::version::Versions;

/// What a primary holds.
#[derive(Clone, Copy)]
pub struct UpstreamState<F> {
    /// Its log.
    pub log: LogId,
    /// Its epoch.
    pub epoch: Epoch,
    /// Protocol versions it speaks.
    pub versions: Versions,
    /// Log format it writes.
    pub format_version: u8,
    /// Start of the oldest segment it still has.
    pub oldest: Boundary,
    /// Its durable end.
    pub durable: Position,
    /// Chain value at a block boundary it holds; `None` where there is none.
    pub chain_at: F,
}

/// What an upstream with this log, which speaks these versions, holds now.
pub fn upstream_state(
    log: &Log,
    versions: Versions,
) -> UpstreamState<impl Fn(Lsn) -> Option<Chain> + use<'_>> {
    // First: the log may grow and lose its head meanwhile.
    let durable = *log.durable().borrow();
    UpstreamState {
        log: log.id(),
        epoch: log.epoch(),
        versions,
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

/// How a secondary that may follow gets up to date.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Send blocks from here on.
    Stream(Position),
    /// It is behind everything still held.
    Snapshot,
    /// The logs do not meet, for this reason: both sides find out where they did.
    Compare(RefuseReason),
}

/// The protocol version both speak: the newest of them.
///
/// # Errors
/// When there is none.
pub fn negotiate(hello: &Hello, ours: Versions) -> Result<u16, RefuseReason> {
    let theirs = hello.versions();
    ours.common(theirs)
        .ok_or(RefuseReason::Protocol { theirs, ours })
}

/// What to do about a secondary that says `hello`. The first row that applies wins.
///
/// # Errors
/// Why it must not follow this log.
pub fn plan<F>(hello: &Hello, upstream: &UpstreamState<F>) -> Result<Plan, RefuseReason>
where
    F: Fn(Lsn) -> Option<Chain>,
{
    compatible(hello, upstream)?;
    let Some(log) = hello.log() else {
        let genesis = upstream.log.genesis();
        return Ok(if upstream.oldest.lsn > genesis.lsn {
            Plan::Snapshot
        } else {
            Plan::Stream(genesis)
        });
    };
    if log != upstream.log {
        return Err(RefuseReason::ForeignLog {
            theirs: log,
            ours: upstream.log,
        });
    }
    let (theirs, ours) = (hello.epoch(), upstream.epoch);
    if theirs > ours {
        return Err(RefuseReason::NewerEpoch { theirs, ours });
    }
    Ok(place(hello.position(), upstream))
}

fn compatible<F>(hello: &Hello, upstream: &UpstreamState<F>) -> Result<(), RefuseReason> {
    negotiate(hello, upstream.versions)?;
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
    F: Fn(Lsn) -> Option<Chain>,
{
    let durable = upstream.durable;
    if position.lsn > durable.lsn {
        let (position, durable) = (position.lsn, durable.lsn);
        return Plan::Compare(RefuseReason::Ahead { position, durable });
    }
    if position.lsn < upstream.oldest.lsn {
        return Plan::Snapshot;
    }
    // The two ends are known without asking; a boundary at the very end may not be indexed yet.
    let chain = [durable.into(), upstream.oldest]
        .iter()
        .find(|end| end.lsn == position.lsn)
        .and_then(|end| end.chain)
        .or_else(|| (upstream.chain_at)(position.lsn));
    match chain {
        Some(chain) if chain == position.chain => Plan::Stream(position),
        Some(_) => Plan::Compare(RefuseReason::Diverged {
            position: position.lsn,
        }),
        None => Plan::Compare(RefuseReason::NotABoundary {
            position: position.lsn,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: LogId = LogId([7; 16]);

    /// Those of a build after this one.
    const SPOKEN: Versions = Versions { min: 3, max: 4 };

    fn at(lsn: u64, chain: u64) -> Position {
        Position {
            lsn: Lsn(lsn),
            chain: Chain(chain),
        }
    }

    /// A primary that holds 100..200 with blocks ending at 120, 150 and 200; chain = 10 x LSN.
    fn upstream() -> UpstreamState<impl Fn(Lsn) -> Option<Chain>> {
        UpstreamState {
            log: LOG,
            epoch: Epoch(5),
            versions: SPOKEN,
            format_version: 1,
            oldest: at(100, 1000).into(),
            durable: at(200, 2000),
            chain_at: |lsn: Lsn| matches!(lsn.0, 120 | 150).then_some(Chain(lsn.0 * 10)),
        }
    }

    fn hello(lsn: u64, chain: u64) -> Hello {
        Hello {
            protocol_min: SPOKEN.min,
            protocol_max: SPOKEN.max,
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
            Err(reason) => reason,
            Ok(plan) => panic!("not refused: {plan:?}"),
        }
    }

    fn compared(hello: &Hello) -> RefuseReason {
        match plan(hello, &upstream()) {
            Ok(Plan::Compare(reason)) => reason,
            other => panic!("not compared: {other:?}"),
        }
    }

    #[test]
    fn no_common_protocol_version() {
        let newer = Hello {
            protocol_min: SPOKEN.max + 1,
            protocol_max: 9,
            ..hello(150, 1500)
        };
        assert_eq!(
            refused(&newer),
            RefuseReason::Protocol {
                theirs: Versions {
                    min: SPOKEN.max + 1,
                    max: 9
                },
                ours: SPOKEN,
            }
        );
        let older = Hello {
            protocol_min: 0,
            protocol_max: 0,
            ..hello(150, 1500)
        };
        assert_eq!(refused(&older).code(), 1);
        let upside_down = Hello {
            protocol_min: SPOKEN.max,
            protocol_max: SPOKEN.min,
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
        assert_eq!(negotiate(&wide, SPOKEN), Ok(SPOKEN.max));
        assert_eq!(plan(&wide, &upstream()), Ok(Plan::Stream(at(150, 1500))));
        let older = Hello {
            protocol_min: SPOKEN.min,
            protocol_max: SPOKEN.min,
            ..hello(150, 1500)
        };
        assert_eq!(negotiate(&older, SPOKEN), Ok(SPOKEN.min));
        assert_eq!(plan(&older, &upstream()), Ok(Plan::Stream(at(150, 1500))));
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
        assert_eq!(plan(&fresh, &upstream()), Ok(Plan::Snapshot));
        let whole = UpstreamState {
            oldest: LOG.genesis().into(),
            ..upstream()
        };
        assert_eq!(plan(&fresh, &whole), Ok(Plan::Stream(LOG.genesis())));
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
        assert_eq!(plan(&older, &upstream()), Ok(Plan::Stream(at(150, 1500))));
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
        assert_eq!(plan(&hello(99, 990), &upstream()), Ok(Plan::Snapshot));
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
                Ok(Plan::Stream(at(lsn, lsn * 10)))
            );
        }
    }

    #[test]
    fn an_empty_log_streams_from_genesis() {
        let empty = UpstreamState {
            oldest: LOG.genesis().into(),
            durable: LOG.genesis(),
            ..upstream()
        };
        let genesis = LOG.genesis();
        let restarted = hello(genesis.lsn.0, genesis.chain.0);
        assert_eq!(plan(&restarted, &empty), Ok(Plan::Stream(genesis)));
    }
}
