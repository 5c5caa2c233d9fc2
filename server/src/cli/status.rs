//! `headwater status`: a node and its peers as a tree.

use std::fmt::Write as _;
use std::io::Write as _;

use crate::client::{Client, ClientError};
use crate::status::{LogStatus, SecondaryStatus, Status, UpstreamStatus};

/// Asks and prints.
pub(super) fn run(url: &str) -> Result<(), ClientError> {
    let status = Client::new(url)?.status()?;
    // A reader that has gone is no failure.
    let _ = std::io::stdout().write_all(tree(&status).as_bytes());
    Ok(())
}

/// The primary stands at the top, whoever was asked.
fn tree(status: &Status) -> String {
    let mut text = String::new();
    let log = status
        .log
        .as_ref()
        .map_or_else(|| "no log yet".to_owned(), log_line);
    let node = format!("{}  {}  {log}", status.node, status.role);
    let about = format!(
        "version {}, up {}",
        status.version,
        show_time(status.uptime_s * 1000)
    );
    // Writing to a String cannot fail.
    let _ = match &status.upstream {
        Some(upstream) => writeln!(
            text,
            "{}  primary  lsn {}\n`-- {node}\n    {}  ({about})",
            upstream.address,
            upstream.lsn,
            upstream_line(upstream)
        ),
        None => writeln!(text, "{node}  ({about})"),
    };
    for line in status.log.as_ref().map(storage_lines).unwrap_or_default() {
        let _ = writeln!(text, "    {line}");
    }
    if let Some(reason) = &status.not_ready {
        let _ = writeln!(text, "    not ready: {reason}");
    }
    let secondaries = status.secondaries.as_deref().unwrap_or_default();
    for (at, secondary) in secondaries.iter().enumerate() {
        let branch = if at + 1 == secondaries.len() {
            "`--"
        } else {
            "|--"
        };
        let _ = writeln!(text, "{branch} {}", secondary_line(secondary));
    }
    text
}

fn log_line(log: &LogStatus) -> String {
    let segments = if log.segments == 1 {
        "segment"
    } else {
        "segments"
    };
    let size = show_bytes(log.segment_bytes);
    format!(
        "epoch {}  lsn {}  {} {segments}, {size}",
        log.epoch, log.lsn, log.segments
    )
}

/// What is in files, and what is not as it should be.
fn storage_lines(log: &LogStatus) -> Vec<String> {
    let mut lines = Vec::new();
    if log.files > 0 || log.backlog_bytes > 0 {
        let files = if log.files == 1 { "file" } else { "files" };
        lines.push(format!(
            "compacted to lsn {}: {} {files}, {}, {} rows; {} to go",
            log.compacted_lsn,
            log.files,
            show_bytes(log.file_bytes),
            log.file_rows,
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
    for damaged in &log.damaged {
        lines.push(format!("damaged: {}: {}", damaged.name, damaged.reason));
    }
    lines
}

fn secondary_line(secondary: &SecondaryStatus) -> String {
    let lag = format!(
        "lag {} rows, {}, {}",
        secondary.lag_rows,
        show_bytes(secondary.lag_bytes),
        show_lag(secondary.lag_ms)
    );
    let (name, state, lsn) = (&secondary.name, &secondary.state, secondary.applied_lsn);
    let reason = because(secondary.reason.as_deref());
    format!(
        "{name}  {}  {state}  lsn {lsn}  {lag}{reason}",
        secondary.address
    )
}

fn upstream_line(upstream: &UpstreamStatus) -> String {
    let rows = upstream
        .lag_rows
        .map_or("unknown".to_owned(), |rows| rows.to_string());
    let lag = format!("lag {rows} rows, {}", show_lag(upstream.lag_ms));
    let (state, lsn) = (&upstream.state, upstream.applied_lsn);
    format!(
        "{state}  lsn {lsn}  {lag}{}",
        because(upstream.reason.as_deref())
    )
}

fn because(reason: Option<&str>) -> String {
    reason.map_or_else(String::new, |reason| format!("  ({reason})"))
}

fn show_lag(lag_ms: Option<u64>) -> String {
    lag_ms.map_or_else(|| "unknown ms".to_owned(), |ms| format!("{ms} ms"))
}

/// Bytes in the largest unit they fill, rounded down.
pub(super) fn show_bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut tenths = u128::from(bytes) * 10;
    let mut shown = format!("{bytes} bytes");
    for unit in UNITS {
        if tenths < 10_240 {
            break;
        }
        tenths /= 1024;
        shown = format!("{}.{} {unit}", tenths / 10, tenths % 10);
    }
    shown
}

fn show_time(ms: u64) -> String {
    let s = ms / 1000;
    match s {
        0..60 => format!("{s} s"),
        60..3_600 => format!("{} min", s / 60),
        3_600..86_400 => format!("{} h {} min", s / 3_600, s % 3_600 / 60),
        _ => format!("{} days {} h", s / 86_400, s % 86_400 / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(json: &str) -> Status {
        serde_json::from_str(json).unwrap()
    }

    const LOG: &str = r#""log_id": "00", "epoch": 1, "lsn": 20, "oldest_lsn": 0,
        "committed_unix_ms": 0, "segments": 1, "segment_bytes": 1536"#;

    #[test]
    fn a_primary_stands_above_its_secondaries() {
        let secondary = |name: &str| {
            format!(
                r#"{{"name": "{name}", "id": "", "address": "10.0.0.2:9", "state": "streaming",
                "sent_lsn": 20, "received_lsn": 20, "flushed_lsn": 19, "applied_lsn": 18,
                "lag_rows": 2, "lag_bytes": 300, "lag_ms": 4, "connected_unix_ms": 0,
                "last_seen_unix_ms": 0}}"#
            )
        };
        let status = status(&format!(
            r#"{{"node": "p", "node_id": "", "role": "primary", "version": "0.1.0",
            "uptime_s": 61, {LOG}, "secondaries": [{}, {}]}}"#,
            secondary("a"),
            secondary("b")
        ));
        assert_eq!(
            tree(&status),
            "p  primary  epoch 1  lsn 20  1 segment, 1.5 KiB  (version 0.1.0, up 1 min)\n\
             |-- a  10.0.0.2:9  streaming  lsn 18  lag 2 rows, 300 bytes, 4 ms\n\
             `-- b  10.0.0.2:9  streaming  lsn 18  lag 2 rows, 300 bytes, 4 ms\n"
        );
    }

    #[test]
    fn a_secondary_stands_below_its_primary() {
        let status = status(
            r#"{"node": "s", "node_id": "", "role": "secondary", "version": "0.1.0",
            "uptime_s": 7, "not_ready": "no log yet", "upstream": {"address": "p:7441",
            "state": "connecting", "lsn": 0, "received_lsn": 0, "flushed_lsn": 0, "applied_lsn": 0,
            "lag_rows": null, "lag_ms": null, "reconnects": 2, "last_contact_unix_ms": 0,
            "reason": "no answer"}}"#,
        );
        assert_eq!(
            tree(&status),
            "p:7441  primary  lsn 0\n`-- s  secondary  no log yet\n    \
             connecting  lsn 0  lag unknown rows, unknown ms  (no answer)  \
             (version 0.1.0, up 7 s)\n    not ready: no log yet\n"
        );
    }

    #[test]
    fn files_and_faults_have_their_lines() {
        let status = status(&format!(
            r#"{{"node": "p", "node_id": "", "role": "primary", "version": "0.1.0",
            "uptime_s": 7, "not_ready": "the disk is too full", {LOG}, "compacted_lsn": 10,
            "files": 1, "file_bytes": 2048, "file_rows": 9, "backlog_bytes": 1024,
            "disk_free_bytes": 5, "stalled": "the disk is too full",
            "compaction_error": "no room",
            "damaged": [{{"name": "a.log", "reason": "a flipped bit"}}]}}"#
        ));
        assert_eq!(
            tree(&status),
            "p  primary  epoch 1  lsn 20  1 segment, 1.5 KiB  (version 0.1.0, up 7 s)\n    \
             compacted to lsn 10: 1 file, 2.0 KiB, 9 rows; 1.0 KiB to go\n    \
             stalled: the disk is too full\n    compaction fails: no room\n    \
             5 bytes of disk free\n    damaged: a.log: a flipped bit\n    \
             not ready: the disk is too full\n"
        );
    }

    #[test]
    fn sizes_and_times_are_rounded_down() {
        assert_eq!(show_bytes(1023), "1023 bytes");
        assert_eq!(show_bytes(1 << 20), "1.0 MiB");
        assert_eq!(show_bytes(1_900_000_000), "1.7 GiB");
        assert_eq!(show_time(59_999), "59 s");
        assert_eq!(show_time(90_000_000), "1 days 1 h");
    }
}
