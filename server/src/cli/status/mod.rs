//! `headwater status`: the cluster as a tree, as far as the node that was asked knows it. Owns what
//! is said of each node; must never hide that something is wrong.

mod below;
mod tree;

use replica::{CertificateStatus, FollowPhase};

use super::output;
use super::show::{count, count_if_known, show_bytes, show_lag, show_moment, show_time};
use crate::api::status::{LogStatus, MqttStatus, Status, UpstreamStatus};
use crate::cli::client::{Client, ClientError};
use crate::report::accounting::{AtRisk, Stages};
use tree::Branch;

/// Asks and prints.
pub(super) fn run(url: &str) -> Result<(), ClientError> {
    let status = Client::new(url)?.status()?;
    output::text(&tree(&status));
    Ok(())
}

/// The primary stands at the top, whoever was asked.
fn tree(status: &Status) -> String {
    let asked = asked(status);
    let root = match &status.upstream {
        Some(upstream) => above(upstream, asked),
        None => asked,
    };
    root.draw()
}

/// The way up to the primary, with the node that was asked at its end.
fn above(upstream: &UpstreamStatus, asked: Branch) -> Branch {
    let mut branch = asked;
    let hops = upstream.route.len();
    for (at, hop) in upstream.route.iter().take(MOST_HOPS).enumerate() {
        let head = if upstream.rooted && at + 1 == hops {
            format!("{}  primary  lsn {}", hop.name, upstream.lsn)
        } else {
            format!("{}  relay", hop.name)
        };
        branch = Branch {
            below: vec![branch],
            ..Branch::new(head)
        };
    }
    if upstream.rooted && hops > 0 {
        return branch;
    }
    if hops == 0 {
        let head = format!("{}  upstream", upstream.address);
        branch = Branch {
            below: vec![branch],
            ..Branch::new(head)
        };
        if FOLLOWING.contains(&upstream.state) {
            // An upstream of an earlier version follows a primary or is one, and does not say.
            branch.head.push_str(&format!("  lsn {}", upstream.lsn));
            return branch;
        }
        branch.head.push_str(match upstream.state {
            FollowPhase::Refused => "  REFUSED",
            _ => "  not reached",
        });
    }
    let head = format!("no way to the primary  lsn {} when heard", upstream.lsn);
    Branch {
        below: vec![branch],
        ..Branch::new(head)
    }
}

/// The node that was asked, and who follows it.
fn asked(status: &Status) -> Branch {
    let relays = status.upstream.is_some() && status.secondaries.is_some();
    let role = if relays { "relay" } else { &status.role };
    let mut head = vec![status.node.clone(), role.to_owned()];
    head.extend(status.upstream.as_ref().map(|up| up.state.to_string()));
    head.push(match &status.log {
        Some(log) => format!("epoch {}  lsn {}", log.epoch, log.lsn),
        None => "no log yet".to_owned(),
    });
    head.extend(status.upstream.as_ref().map(lag));
    head.push("<- asked".to_owned());
    let mut lines = vec![format!(
        "version {}, up {}",
        status.version,
        show_time(status.uptime_s.saturating_mul(1000))
    )];
    if let Some(reason) = &status.not_ready {
        lines.push(format!("not ready: {reason}"));
    }
    lines.extend(status.upstream.iter().flat_map(upstream_lines));
    lines.extend(status.log.iter().flat_map(log_lines));
    lines.extend(status.certificate.iter().flat_map(certificate_lines));
    lines.extend(status.mqtt.iter().flat_map(mqtt_lines));
    let accounting = status.accounting.as_ref();
    lines.extend(accounting.map(|counts| stages_line(counts.lsn)));
    lines.extend(accounting.and_then(|counts| counts.at_risk).map(risk_line));
    Branch {
        head: head.join("  "),
        lines,
        below: below::branches(status),
    }
}

fn lag(upstream: &UpstreamStatus) -> String {
    let rows = count_if_known(upstream.lag_rows, "row");
    format!("lag {rows}, {}", show_lag(upstream.lag_ms))
}

/// How it follows, and what became of what it had.
fn upstream_lines(upstream: &UpstreamStatus) -> Vec<String> {
    let mut lines = Vec::new();
    let all = match upstream.upstreams.len() {
        0 | 1 => String::new(),
        _ => format!(" (of {})", upstream.upstreams.join(", ")),
    };
    lines.push(format!("follows {}{all}", upstream.address));
    if let Some(reason) = &upstream.reason {
        lines.push(format!("{}: {reason}", upstream.state));
    }
    lines.extend(upstream.bootstrap.map(|bootstrap| {
        format!(
            "bootstrapping: {} of {}, {} of {}",
            bootstrap.files_held,
            count(bootstrap.files, "file"),
            show_bytes(bootstrap.bytes_held),
            show_bytes(bootstrap.bytes)
        )
    }));
    if upstream.snapshots > 0 {
        let taken = count(upstream.snapshots, "snapshot");
        lines.push(format!("{taken} taken in since it started"));
    }
    if upstream.divergences > 0 {
        let times = count(upstream.divergences, "time");
        lines.push(format!("DIVERGED {times} since it started"));
    }
    // The newest are last.
    let hidden = upstream.diverged.len().saturating_sub(MOST_DIVERGED);
    if hidden > 0 {
        lines.push(format!("kept aside: {hidden} more, not shown"));
    }
    lines.extend(upstream.diverged.iter().skip(hidden).map(|diverged| {
        format!(
            "kept aside: {}: {}, {}, lsn {} to {}",
            diverged.path,
            count(diverged.rows, "row"),
            show_bytes(diverged.bytes),
            diverged.from_lsn,
            diverged.to_lsn
        )
    }));
    lines
}

/// What the log holds, and what of it is not as it should be.
fn log_lines(log: &LogStatus) -> Vec<String> {
    let mut lines = vec![format!(
        "{}, {}, from lsn {}",
        count(log.segments, "segment"),
        show_bytes(log.segment_bytes),
        log.oldest_lsn
    )];
    if log.files > 0 || log.backlog_bytes > 0 {
        lines.push(format!(
            "compacted to lsn {}: {}, {}, {}; {} to go",
            log.compacted_lsn,
            count(log.files, "file"),
            show_bytes(log.file_bytes),
            count(log.file_rows, "row"),
            show_bytes(log.backlog_bytes)
        ));
    }
    let reasons = [
        ("stalled", &log.stalled),
        ("compaction fails", &log.compaction_error),
    ];
    for (what, reason) in reasons {
        lines.extend(reason.as_ref().map(|reason| format!("{what}: {reason}")));
    }
    if let Some(free) = log.disk_free_bytes.filter(|_| log.stalled.is_some()) {
        lines.push(format!("{} of disk free", show_bytes(free)));
    }
    for waits in &log.waiting_cuts {
        lines.push(format!(
            "NOT EXPIRED: {}: {} of {} rows, for {} s more; if the clock is right: headwater \
             expire {:?}",
            waits.table, waits.rows, waits.of_rows, waits.left_s, waits.table
        ));
    }
    for damaged in &log.damaged {
        lines.push(format!("DAMAGED: {}: {}", damaged.name, damaged.reason));
    }
    let scrub = log.scrub;
    if scrub.bytes > 0 || scrub.passes > 0 {
        let last = match scrub.last_pass_unix_ms {
            0 => String::new(),
            ended => format!(", last by {}", show_moment(ended)),
        };
        lines.push(format!(
            "scrub: {} read, {} found; all was read {}{last}",
            show_bytes(scrub.bytes),
            count(scrub.faults, "fault"),
            count(scrub.passes, "time")
        ));
    }
    lines
}

/// Until when others accept the node, and what is to be known of the cluster's CA.
fn certificate_lines(certificate: &CertificateStatus) -> Vec<String> {
    let ms = |unix_s: i64| u64::try_from(unix_s.saturating_mul(1000)).unwrap_or(0);
    let (now, name) = (wal::clock::unix_ms(), &certificate.name);
    let (from, until) = (ms(certificate.from_unix_s), ms(certificate.until_unix_s));
    let ca_until = ms(certificate.ca_until_unix_s);
    let role = match certificate.role.as_str() {
        "" => String::new(),
        role => format!(", role {role}"),
    };
    let own = match until.saturating_sub(now) {
        0 => format!(
            "CERTIFICATE OF {name:?} HAS EXPIRED: {}",
            show_moment(until)
        ),
        _ if from > now => format!(
            "CERTIFICATE OF {name:?} IS NOT VALID YET: only from {} on; compare the clocks",
            show_moment(from)
        ),
        left => format!(
            "certificate of {name:?}: until {}, {} left{role}",
            show_moment(until),
            show_time(left)
        ),
    };
    let ca = match ca_until.saturating_sub(now) {
        0 => Some(format!(
            "THE CLUSTER CA'S CERTIFICATE HAS EXPIRED: {}; nodes go on accepting each other",
            show_moment(ca_until)
        )),
        left if left < CA_SOON_MS => Some(format!(
            "the cluster CA's certificate: until {}, ONLY {} left",
            show_moment(ca_until),
            show_time(left)
        )),
        _ => None,
    };
    [Some(own), ca].into_iter().flatten().collect()
}

/// What of the messages is not as it should be.
fn mqtt_lines(mqtt: &MqttStatus) -> Vec<String> {
    let mut lines = Vec::new();
    if mqtt.dead_letters > 0 {
        let newest = mqtt.newest_dead_letter.as_ref().map(|letter| {
            let when = show_moment(letter.unix_ms);
            let (topic, reason) = (&letter.topic, &letter.reason);
            format!("; newest {when}, topic {topic}: {reason}")
        });
        lines.push(format!(
            "{} since it started (system.dead_letters){}",
            count(mqtt.dead_letters, "dead letter"),
            newest.unwrap_or_default()
        ));
    }
    if mqtt.unkept > 0 {
        lines.push(format!(
            "{} that no table takes, nor system.dead_letters: STORED NOWHERE, see the log",
            count(mqtt.unkept, "message")
        ));
    }
    if mqtt.awaiting_secondaries > 0 {
        lines.push(format!(
            "WAITING FOR SECONDARIES: {} on disk here, not acknowledged, the first since {}",
            count(mqtt.awaiting_secondaries, "message"),
            show_moment(mqtt.awaiting_since_unix_ms)
        ));
    }
    lines
}

/// How far the log has come.
fn stages_line(lsn: Stages) -> String {
    let reached = |lsn: Option<u64>, stage: &str| Some(format!("{stage} to {}", lsn?));
    let whole = lsn.queryable.is_some();
    let parts = [
        reached(Some(lsn.durable), "durable"),
        reached(lsn.shipped, "shipped"),
        reached(lsn.applied, "applied"),
        reached(lsn.queryable, "queryable"),
        (!whole).then(|| "NOT ALL QUERYABLE".to_owned()),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    format!("lsn: {}", parts.join(", "))
}

fn risk_line(risk: AtRisk) -> String {
    if risk.rows == 0 && risk.bytes == 0 {
        return "nothing would be lost if this node vanished now".to_owned();
    }
    format!(
        "would be lost if this node vanished now: {}, {}, {} ms",
        count(risk.rows, "row"),
        show_bytes(risk.bytes),
        risk.ms
    )
}

/// States in which there is an upstream that answers.
const FOLLOWING: [FollowPhase; 4] = [
    FollowPhase::Streaming,
    FollowPhase::CatchingUp,
    FollowPhase::Bootstrapping,
    FollowPhase::NeedsSnapshot,
];

/// More than any way is long; whoever answers may not be one of ours.
const MOST_HOPS: usize = 64;

/// What was put aside and is listed.
const MOST_DIVERGED: usize = 8;

/// What is left of the cluster CA's certificate is said from here on: 90 days, for it takes a while
/// to give every node another.
const CA_SOON_MS: u64 = 90 * 86_400_000;

#[cfg(test)]
mod tests;
