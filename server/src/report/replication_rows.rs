//! The rows of `system.replication`: this node's peers, and those that it knows of through them.
//! Pure; must never invent a position that no peer has told.

use query::ReplicationRow;
use replica::Descendant;

use super::who::{PRIMARY, SECONDARY, Who};

/// Those that follow this node, directly or through relays; `end` is where the primary's log ends,
/// as far as it is known now.
pub(crate) fn followers(
    own: &Who,
    end: Option<u64>,
    secondaries: Vec<replica::SecondaryStatus>,
) -> Vec<ReplicationRow> {
    let mut rows = Vec::new();
    for secondary in secondaries {
        let (relay, below) = (&secondary, &secondary.descendants);
        let indirect = below
            .iter()
            .map(|summary| follower_of(own, end, relay, summary));
        let indirect: Vec<ReplicationRow> = indirect.collect();
        rows.push(follower(own, secondary));
        rows.extend(indirect);
    }
    rows
}

fn follower(own: &Who, secondary: replica::SecondaryStatus) -> ReplicationRow {
    ReplicationRow {
        node: own.name.clone(),
        peer: secondary.name,
        role: SECONDARY.to_owned(),
        address: secondary.address.to_string(),
        state: secondary.state.to_string(),
        sent_lsn: Some(secondary.sent.0),
        received_lsn: Some(secondary.received.0),
        flushed_lsn: Some(secondary.flushed.0),
        applied_lsn: Some(secondary.applied.0),
        lag_rows: secondary.lag_rows,
        lag_bytes: secondary.lag_bytes,
        lag_ms: secondary.lag_ms,
        reason: secondary.reason,
        id: secondary.id,
        via: own.name.clone(),
        hops: 1,
    }
}

/// One that follows `relay`, or somebody who does.
fn follower_of(
    own: &Who,
    end: Option<u64>,
    relay: &replica::SecondaryStatus,
    summary: &Descendant,
) -> ReplicationRow {
    let find = |id: &str| relay.descendants.iter().find(|one| one.id == id);
    let mut hops = 2;
    let mut above = &summary.via;
    // What peers tell may be wrong, even a ring.
    while let Some(next) = find(above).filter(|_| *above != relay.id && hops < MOST_HOPS) {
        above = &next.via;
        hops += 1;
    }
    let via = find(&summary.via).map_or(&relay.name, |next| &next.name);
    ReplicationRow {
        node: own.name.clone(),
        peer: summary.name.clone(),
        role: SECONDARY.to_owned(),
        address: summary.address.clone(),
        state: summary.state.to_string(),
        applied_lsn: Some(summary.applied.0),
        lag_rows: end.map(|end| end.saturating_sub(summary.applied.0)),
        id: summary.id.clone(),
        via: via.clone(),
        hops,
        ..ReplicationRow::default()
    }
}

/// Whom this node follows.
pub(crate) fn upstream(own: &Who, follow: replica::FollowStatus) -> ReplicationRow {
    // Who it is is known with the first contact.
    let next = follow.route.first();
    let peer = next.map_or_else(|| follow.upstream.clone(), |hop| hop.name.clone());
    let id = next.map_or_else(String::new, |hop| hop.id.clone());
    let role = if follow.route.len() > 1 {
        SECONDARY
    } else {
        PRIMARY
    };
    ReplicationRow {
        node: own.name.clone(),
        peer,
        role: role.to_owned(),
        address: follow.upstream,
        state: follow.state.to_string(),
        sent_lsn: Some(follow.primary_durable.0),
        received_lsn: Some(follow.received.0),
        flushed_lsn: Some(follow.flushed.0),
        applied_lsn: Some(follow.applied.0),
        lag_rows: follow.lag_rows,
        lag_bytes: None,
        lag_ms: follow.lag_ms,
        reason: follow.reason,
        id,
        via: own.name.clone(),
        hops: 1,
    }
}

/// No relay stands further down.
const MOST_HOPS: u64 = 16;

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};
    use std::time::Instant;

    use wal::Lsn;

    use super::*;
    use replica::SecondaryState;

    fn own() -> Who {
        Who {
            name: "p".to_owned(),
            id: "p1".to_owned(),
            started: Instant::now(),
        }
    }

    fn summary(name: &str, via: &str) -> Descendant {
        Descendant {
            id: format!("id-{name}"),
            name: name.to_owned(),
            address: "10.0.0.9:1".to_owned(),
            state: SecondaryState::Streaming,
            applied: Lsn(7),
            via: format!("id-{via}"),
        }
    }

    fn relay(below: Vec<Descendant>) -> replica::SecondaryStatus {
        replica::SecondaryStatus {
            name: "relay".to_owned(),
            id: "id-relay".to_owned(),
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 9)),
            state: SecondaryState::Streaming,
            protocol: 3,
            serves: "127.0.0.1:7441".to_owned(),
            descendants: below,
            files_differ: false,
            sent: Lsn(10),
            received: Lsn(10),
            flushed: Lsn(9),
            applied: Lsn(8),
            lag_rows: Some(2),
            lag_bytes: Some(200),
            lag_ms: Some(4),
            connected_at_unix_ms: 1,
            last_seen_unix_ms: 2,
            reason: None,
        }
    }

    #[test]
    fn relays_come_before_those_that_follow_them() {
        let below = vec![summary("leaf", "inner"), summary("inner", "relay")];
        let rows = followers(&own(), Some(10), vec![relay(below)]);
        let shown: Vec<_> = rows
            .iter()
            .map(|row| (row.peer.as_str(), row.via.as_str(), row.hops, row.lag_rows))
            .collect();
        let expected = [
            ("relay", "p", 1, Some(2)),
            ("leaf", "inner", 3, Some(3)),
            ("inner", "relay", 2, Some(3)),
        ];
        assert_eq!(shown, expected);
        assert_eq!(rows[1].flushed_lsn, None);
    }

    #[test]
    fn a_ring_in_what_peers_tell_ends() {
        let below = vec![summary("a", "b"), summary("b", "a"), summary("c", "nobody")];
        let rows = followers(&own(), None, vec![relay(below)]);
        assert_eq!(rows[1].lag_rows, None, "nobody knows where the log ends");
        assert_eq!(rows.len(), 4);
        assert_eq!((rows[1].hops, rows[2].hops, rows[3].hops), (16, 16, 2));
    }
}
