//! The metrics of replication: of those who follow a node, and of whom it follows. Must never claim
//! a lag that is not known.

use crate::report::metrics::Exposition;

pub(crate) fn secondaries(text: &mut Exposition, secondaries: &[replica::SecondaryStatus]) {
    let label = ["secondary", "id"];
    let all = |value: fn(&replica::SecondaryStatus) -> u64| {
        secondaries
            .iter()
            .map(move |secondary| (who(secondary), value(secondary)))
    };
    text.gauges(
        "headwater_replica_connected",
        "1 while the secondary is connected.",
        label,
        all(|secondary| u64::from(secondary.state.is_connected())),
    );
    text.gauges(
        "headwater_replica_applied_lsn",
        "Everything below can be queried on the secondary.",
        label,
        all(|secondary| secondary.applied.0),
    );
    text.gauges(
        "headwater_replica_flushed_lsn",
        "Everything below is on the secondary's disk.",
        label,
        all(|secondary| secondary.flushed.0),
    );
    text.gauges(
        "headwater_replica_descendants",
        "Secondaries that follow this one, directly or not.",
        label,
        all(|secondary| secondary.descendants.len() as u64),
    );
    text.gauges(
        "headwater_replica_files_differ",
        "1 while the secondary's Parquet files are not those of this node.",
        label,
        all(|secondary| u64::from(secondary.files_differ)),
    );
    lags(text, secondaries);
}

/// Absent where they are not known: no lag is claimed of a secondary that may be anywhere.
fn lags(text: &mut Exposition, secondaries: &[replica::SecondaryStatus]) {
    let label = ["secondary", "id"];
    let known = |value: fn(&replica::SecondaryStatus) -> Option<u64>| {
        secondaries
            .iter()
            .filter_map(move |secondary| Some((who(secondary), value(secondary)?)))
    };
    text.gauges(
        "headwater_replica_lag_rows",
        "Rows that the primary has durable and that cannot be queried on the secondary yet; absent \
         while that is not known.",
        label,
        known(|secondary| secondary.lag_rows),
    );
    text.gauges(
        "headwater_replica_lag_bytes",
        "The same in bytes of log.",
        label,
        known(|secondary| secondary.lag_bytes),
    );
    text.gauges(
        "headwater_replica_lag_ms",
        "Age of the newest moment that the secondary has wholly applied; grows while nothing is \
         heard of it.",
        label,
        known(|secondary| secondary.lag_ms),
    );
}

/// Until when peers accept this node's certificates; `now_ns` is this machine's clock.
pub(crate) fn certificate(
    text: &mut Exposition,
    certificate: &replica::CertificateStatus,
    now_ns: i64,
) {
    let left = |until: i64| until.saturating_sub(now_ns / 1_000_000_000);
    let ends = [
        (["node".to_owned()], left(certificate.until_unix_s)),
        (["ca".to_owned()], left(certificate.ca_until_unix_s)),
    ];
    text.gauges(
        "headwater_certificate_expires_seconds",
        "Seconds until the node's own certificate for replication ends, and until that of the \
         cluster CA does; below 0: it has ended.",
        ["certificate"],
        ends,
    );
}

/// Two of them may have one name.
fn who(secondary: &replica::SecondaryStatus) -> [String; 2] {
    [secondary.name.clone(), secondary.id.clone()]
}

pub(crate) fn follow(text: &mut Exposition, follow: &replica::FollowStatus) {
    let connected = u64::from(follow.state.is_connected());
    text.gauge(
        "headwater_upstream_connected",
        "1 while the upstream is connected and has a way to the primary.",
        connected,
    );
    text.gauge(
        "headwater_upstream_lsn",
        "End of the primary's log, as last heard.",
        follow.primary_durable,
    );
    text.counter(
        "headwater_upstream_reconnects_total",
        "Attempts to connect after the first.",
        follow.reconnects,
    );
    healing(text, follow);
    text.gauge(
        "headwater_applied_lsn",
        "Everything below can be queried here.",
        follow.applied,
    );
    if let Some(rows) = follow.lag_rows {
        let help = "Rows that the primary announced and that cannot be queried here yet; absent \
                    while that is not known.";
        text.gauge("headwater_lag_rows", help, rows);
    }
    if let Some(ms) = follow.lag_ms {
        let help = "Age of the newest moment of the primary that is wholly applied here; grows \
                    while the primary is not heard.";
        text.gauge("headwater_lag_ms", help, ms);
    }
}

/// What a secondary has done to be its primary's equal again.
fn healing(text: &mut Exposition, follow: &replica::FollowStatus) {
    text.gauge(
        "headwater_upstream_hops",
        "Links between this node and the primary; 0: not known.",
        if follow.rooted { follow.route.len() } else { 0 },
    );
    text.counter(
        "headwater_upstream_snapshots_total",
        "Snapshots taken in.",
        follow.snapshots,
    );
    text.counter(
        "headwater_upstream_divergences_total",
        "Times that the local log was found to have diverged.",
        follow.divergences,
    );
    text.gauge(
        "headwater_replica_diverged",
        "Diverged ends of the log that were put aside and are still there.",
        follow.diverged.len(),
    );
    text.gauge(
        "headwater_replica_diverged_rows",
        "Rows in them.",
        follow.diverged.iter().map(|one| one.rows).sum::<u64>(),
    );
    if let Some(bootstrap) = &follow.bootstrap {
        text.gauge(
            "headwater_bootstrap_bytes",
            "Bytes of the snapshot that is brought in.",
            bootstrap.bytes,
        );
        text.gauge(
            "headwater_bootstrap_held_bytes",
            "Of those, bytes that are here.",
            bootstrap.bytes_held,
        );
    }
}
