//! The metrics of one node, part by part, under the names that dashboards know. Must never keep a
//! number from one scrape to the next.

mod ingest;
mod memory;
mod queries;
mod replication;
mod retention;

use crate::report::accounting::{Accounting, AtRisk, RowCounts, Stages};
use crate::report::metrics::{Exposition, seconds};
use crate::report::view::View;
pub(crate) use ingest::{intake, mqtt};
pub(crate) use memory::memory;
pub(crate) use queries::queries;
pub(crate) use replication::{certificate, follow, secondaries};
use retention::retention;

pub(crate) fn log(text: &mut Exposition, view: &View) {
    let (log, snapshot, stats) = (view.log(), view.snapshot(), view.log().stats());
    text.gauge(
        "headwater_log_durable_lsn",
        "Everything below is on disk here and can be queried.",
        snapshot.end().lsn,
    );
    text.gauge(
        "headwater_log_oldest_lsn",
        "The oldest row still held.",
        log.oldest().lsn,
    );
    text.counter("headwater_log_groups_total", "Group commits.", stats.groups);
    text.counter(
        "headwater_log_blocks_total",
        "Blocks written.",
        stats.blocks,
    );
    text.counter("headwater_log_rows_total", "Rows written.", stats.rows);
    text.counter(
        "headwater_log_bytes_total",
        "Bytes of blocks written.",
        stats.bytes,
    );
    text.counter("headwater_log_syncs_total", "fdatasync calls.", stats.syncs);
    text.counter(
        "headwater_log_sync_seconds_total",
        "Time spent in fdatasync.",
        seconds(stats.sync_nanos),
    );
    health(text, log, &stats);
    files(text, snapshot);
}

/// What is wrong with the log or its disk, and what has been done about it.
fn health(text: &mut Exposition, log: &wal::Log, stats: &wal::LogStats) {
    let stalled = u64::from(log.stalled().borrow().is_some());
    let damaged = log.damage().borrow().len();
    text.gauge(
        "headwater_log_stalled",
        "1 while nothing is committed: the disk is too full, or the system gives no more files or \
         memory.",
        stalled,
    );
    if let Some(bytes) = log.disk_free() {
        text.gauge(
            "headwater_disk_free_bytes",
            "Free bytes of the data directory's file system.",
            bytes,
        );
    }
    text.counter(
        "headwater_log_torn_tails_total",
        "Unfinished writes cut from the log's end.",
        stats.torn_tails,
    );
    text.gauge(
        "headwater_log_damaged",
        "Segments and files known to be damaged and not repaired yet.",
        damaged,
    );
    text.counter(
        "headwater_log_repaired_total",
        "Segments and files that were replaced by whole ones.",
        stats.repaired,
    );
    text.counter(
        "headwater_log_retired_segments_total",
        "Segments removed after their rows were in files.",
        stats.retired_segments,
    );
    retention(text, log);
}

/// What is in Parquet files.
fn files(text: &mut Exposition, snapshot: &wal::Snapshot) {
    let infos = snapshot.file_infos();
    text.gauge("headwater_files", "Parquet files held.", infos.len());
    text.gauge(
        "headwater_file_bytes",
        "Bytes of Parquet files.",
        infos.iter().map(|file| file.bytes).sum::<u64>(),
    );
    text.gauge(
        "headwater_file_rows",
        "Rows in Parquet files.",
        infos.iter().map(|file| file.rows).sum::<u64>(),
    );
    text.gauge(
        "headwater_compacted_lsn",
        "Everything below is in Parquet files.",
        snapshot.compacted().lsn,
    );
}

pub(crate) fn compaction(text: &mut Exposition, stats: &wal::CompactionStats) {
    text.counter(
        "headwater_compaction_steps_total",
        "Segments turned into Parquet files.",
        stats.steps,
    );
    text.counter(
        "headwater_compaction_merges_total",
        "Merges of Parquet files into larger ones.",
        stats.merges,
    );
    text.counter(
        "headwater_compaction_rows_total",
        "Rows written to Parquet files.",
        stats.rows,
    );
    text.counter(
        "headwater_compaction_input_bytes_total",
        "Bytes that compaction has read.",
        stats.bytes_in,
    );
    text.counter(
        "headwater_compaction_output_bytes_total",
        "Bytes that compaction has written.",
        stats.bytes_out,
    );
    text.counter(
        "headwater_compaction_failures_total",
        "Steps of compaction that failed; they are tried again.",
        stats.failures,
    );
    text.counter(
        "headwater_compaction_seconds_total",
        "Time spent compacting.",
        seconds(stats.busy_nanos),
    );
    text.gauge(
        "headwater_compaction_backlog_bytes",
        "Bytes of sealed segments that are not in files yet.",
        stats.backlog_bytes,
    );
}

pub(crate) fn scrub(text: &mut Exposition, stats: &wal::ScrubStats) {
    text.counter(
        "headwater_scrub_passes_total",
        "Times that everything stored was read and found to be what was written, or reported.",
        stats.passes,
    );
    text.counter(
        "headwater_scrub_bytes_total",
        "Bytes read to find damage.",
        stats.bytes,
    );
    text.counter(
        "headwater_scrub_faults_total",
        "Damaged segments and files that this has found.",
        stats.faults,
    );
    text.gauge(
        "headwater_scrub_last_pass_timestamp_seconds",
        "When everything stored was last read, in unix time; 0: not yet.",
        stats.last_pass_unix_ms / 1000,
    );
}

/// Long-lived tasks that have ended although the node went on.
pub(crate) fn tasks(text: &mut Exposition, tasks: &wal::Tasks) {
    text.counters_by(
        "headwater_task_ends_total",
        "Times that a task of the node has ended although it should not have.",
        "task",
        tasks.counts(),
    );
}

/// Where rows are. What becomes of messages stands beside the other counts of MQTT.
pub(crate) fn accounting(text: &mut Exposition, accounting: &Accounting) {
    if let Some(counts) = &accounting.rows {
        rows(text, counts);
    }
    stages(text, &accounting.lsn);
    if let Some(at_risk) = &accounting.at_risk {
        risk(text, at_risk);
    }
}

fn rows(text: &mut Exposition, rows: &RowCounts) {
    let counts = [
        (
            "headwater_rows_taken_total",
            "Rows made of messages and writes, those of system.dead_letters not counted.",
            rows.taken,
        ),
        (
            "headwater_rows_dead_lettered_total",
            "Rows of system.dead_letters.",
            rows.dead_lettered,
        ),
        (
            "headwater_rows_durable_total",
            "Rows that have come to this node's disk since it started.",
            Some(rows.durable),
        ),
    ];
    for (name, help, count) in counts {
        if let Some(count) = count {
            text.counter(name, help, count);
        }
    }
}

fn stages(text: &mut Exposition, lsn: &Stages) {
    let stages = [
        ("durable", Some(lsn.durable)),
        ("shipped", lsn.shipped),
        ("applied", lsn.applied),
        ("queryable", lsn.queryable),
    ];
    let known = stages
        .into_iter()
        .filter_map(|(stage, lsn)| Some(([stage.to_owned()], lsn?)));
    text.gauges(
        "headwater_accounting_lsn",
        "Everything below is on disk here, sent to a secondary, applied on one, or queryable here, \
         which is left out while a table is damaged.",
        ["stage"],
        known,
    );
}

fn risk(text: &mut Exposition, at_risk: &AtRisk) {
    text.gauge(
        "headwater_at_risk_rows",
        "Rows that would be lost if this node vanished now: on its disk and on no other.",
        at_risk.rows,
    );
    text.gauge(
        "headwater_at_risk_bytes",
        "The same in bytes of log and files.",
        at_risk.bytes,
    );
    text.gauge(
        "headwater_at_risk_ms",
        "Age of the oldest of those rows; 0: there are none.",
        at_risk.ms,
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_log_shows_all_its_series() {
        let dir = tempfile::tempdir().unwrap();
        let config = wal::Config::default();
        let (committer, _) = wal::open_primary(wal::OsDisk::new(), dir.path(), &config).unwrap();
        let mut text = Exposition::default();
        log(&mut text, &View::of(committer.log().clone()));
        compaction(&mut text, &wal::CompactionStats::default());
        scrub(&mut text, &wal::ScrubStats::default());
        let text = text.finish();
        committer.stop().unwrap();
        for name in [
            "log_durable_lsn",
            "log_stalled",
            "disk_free_bytes",
            "log_torn_tails_total",
            "log_damaged",
            "log_repaired_total",
            "log_retired_segments_total",
            "log_retention_cuts_total",
            "log_waiting_cuts",
            "log_expired_total",
            "log_waiting_cut_rows",
            "files",
            "file_bytes",
            "file_rows",
            "compacted_lsn",
            "compaction_steps_total",
            "compaction_merges_total",
            "compaction_rows_total",
            "compaction_input_bytes_total",
            "compaction_output_bytes_total",
            "compaction_failures_total",
            "compaction_seconds_total",
            "compaction_backlog_bytes",
            "scrub_passes_total",
            "scrub_bytes_total",
            "scrub_faults_total",
            "scrub_last_pass_timestamp_seconds",
        ] {
            assert!(text.contains(&format!("\nheadwater_{name} ")), "{name}");
        }
    }

    #[test]
    fn counts_that_a_node_does_not_know_are_left_out() {
        let mut text = Exposition::default();
        accounting(&mut text, &Accounting::default());
        mqtt(&mut text, &mqtt::Stats::default());
        let text = text.finish();
        for name in [
            "mqtt_messages_received_total",
            "mqtt_messages_acknowledged_total",
            "mqtt_messages_qos0_total",
            "mqtt_messages_duplicates_total",
            "mqtt_messages_refused_total",
            "mqtt_messages_dropped_total",
            "mqtt_messages_waiting",
        ] {
            assert!(text.contains(&format!("\nheadwater_{name} ")), "{name}");
        }
        assert!(text.contains("\nheadwater_accounting_lsn{stage=\"durable\"} 0\n"));
        for name in ["headwater_rows_", "shipped\"", "queryable\"", "at_risk"] {
            assert!(!text.contains(name), "{name}");
        }
    }

    #[test]
    fn a_primary_accounts_for_its_rows_and_every_node_for_its_log() {
        let counts = Accounting {
            rows: Some(RowCounts {
                taken: Some(7),
                dead_lettered: Some(2),
                durable: 8,
            }),
            lsn: Stages {
                durable: 40,
                shipped: Some(39),
                applied: Some(38),
                queryable: Some(41),
            },
            ..Accounting::default()
        };
        let mut text = Exposition::default();
        accounting(&mut text, &counts);
        let text = text.finish();
        for line in [
            "rows_taken_total 7",
            "rows_dead_lettered_total 2",
            "rows_durable_total 8",
            "accounting_lsn{stage=\"durable\"} 40",
            "accounting_lsn{stage=\"shipped\"} 39",
            "accounting_lsn{stage=\"applied\"} 38",
            "accounting_lsn{stage=\"queryable\"} 41",
        ] {
            assert!(text.contains(&format!("\nheadwater_{line}\n")), "{line}");
        }
    }
}
