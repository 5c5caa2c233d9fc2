//! What a secondary may report: in order, of what it was sent, of the same blocks, and no more than
//! there may be. It owns those rules and must never keep anything.

use wal::{Chain, Lsn};

use crate::serve::error::ShipError;
use crate::wire::message::MAX_SUMMARIES;
use crate::wire::{Descendants, NodeSummary, Report};

/// A list of those below must be as short as any node may send it.
pub(crate) fn check_summaries(descendants: &Descendants) -> Result<(), ShipError> {
    let nodes = &descendants.nodes;
    if nodes.len() > MAX_SUMMARIES || !nodes.iter().all(NodeSummary::is_short) {
        let reason = "it lists more nodes, or longer names, than there may be";
        return Err(ShipError::Protocol(reason.to_owned()));
    }
    Ok(())
}

/// What a list of those below takes of the memory while it is kept.
pub(crate) fn bytes_of(descendants: &Descendants) -> u64 {
    let texts = |node: &NodeSummary| {
        let texts = [&node.id, &node.name, &node.address, &node.state, &node.via];
        texts.iter().map(|text| text.len()).sum::<usize>()
    };
    let nodes = descendants.nodes.iter();
    let bytes: usize = nodes
        .map(|node| texts(node) + size_of::<NodeSummary>())
        .sum();
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// A report must be possible: in order, of what was sent, and of the same blocks.
pub(crate) fn check(
    report: &Report,
    sent: u64,
    chain_at: impl Fn(Lsn) -> Option<Chain>,
) -> Result<(), ShipError> {
    let Report {
        received,
        flushed,
        applied,
        chain,
        ..
    } = *report;
    if report.descendants.len() > MAX_DISKS {
        return Err(ShipError::Protocol("it reports too many disks".to_owned()));
    }
    if applied > flushed || flushed > received || received > sent {
        return Err(ShipError::Protocol(format!(
            "it reports received {received}, flushed {flushed}, applied {applied} of {sent} sent"
        )));
    }
    if chain_at(Lsn(flushed)).is_some_and(|own| own != Chain(chain)) {
        return Err(ShipError::Protocol(format!(
            "its log differs from this node's before {flushed}"
        )));
    }
    Ok(())
}

/// Disks of descendants in one report.
const MAX_DISKS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn chain_at(lsn: Lsn) -> Option<Chain> {
        (lsn == Lsn(100)).then_some(Chain(7))
    }

    fn report(received: u64, flushed: u64, applied: u64, chain: u64) -> Report {
        Report {
            received,
            flushed,
            applied,
            chain,
            ..Report::default()
        }
    }

    #[test]
    fn a_report_must_be_possible() {
        assert!(check(&report(90, 80, 70, 1), 90, chain_at).is_ok());
        assert!(check(&report(100, 100, 100, 7), 100, chain_at).is_ok());
        for impossible in [
            report(91, 80, 70, 1),
            report(80, 90, 70, 1),
            report(90, 70, 80, 1),
        ] {
            assert!(matches!(
                check(&impossible, 90, chain_at),
                Err(ShipError::Protocol(_))
            ));
        }
    }

    #[test]
    fn a_report_with_another_chain_at_the_same_end_is_divergence() {
        let error = check(&report(100, 100, 100, 8), 100, chain_at).expect_err("diverged");
        assert!(error.to_string().contains("differs"), "{error}");
    }
}
