//! The metrics of queries. Must never keep a number from one scrape to the next.

use query::QueryStats;

use crate::report::metrics::Exposition;

/// What the engine has counted.
pub(crate) fn queries(text: &mut Exposition, stats: &QueryStats) {
    text.gauge(
        "headwater_queries_running",
        "Queries that run now.",
        stats.running,
    );
    text.gauge(
        "headwater_queries_waiting",
        "Queries that wait for their turn.",
        stats.waiting,
    );
    text.gauge(
        "headwater_queries_paused",
        "Running queries that wait for their readers, without a slot.",
        stats.paused,
    );
    text.counter(
        "headwater_query_wait_seconds_total",
        "Time that all queries together have waited for their turn.",
        stats.waited_seconds,
    );
    let ended = stats.ended.map(|(outcome, count)| (outcome.name(), count));
    text.counters_by(
        "headwater_queries_total",
        "Queries that ended, by how they did.",
        "result",
        ended,
    );
    text.summary(
        "headwater_query_seconds",
        "Time from the start of a query to its end; quantiles of the last minute.",
        &stats.quantiles,
        stats.seconds,
        stats.count,
    );
    text.counters([
        (
            "headwater_blocks_read_total",
            "Blocks of the log that queries have read.",
            stats.blocks_read,
        ),
        (
            "headwater_blocks_pruned_total",
            "Blocks that a query's filters excluded.",
            stats.blocks_pruned,
        ),
        (
            "headwater_row_groups_read_total",
            "Row groups of Parquet files that queries have read.",
            stats.row_groups_read,
        ),
        (
            "headwater_row_groups_pruned_total",
            "Row groups that a query's filters excluded, of files that were looked into.",
            stats.row_groups_pruned,
        ),
    ]);
}

#[cfg(test)]
mod tests {
    use query::Outcome;

    use super::*;

    #[test]
    fn every_end_of_a_query_has_its_series() {
        let stats = QueryStats {
            running: 1,
            waiting: 7,
            paused: 8,
            waited_seconds: 1.5,
            ended: Outcome::ALL.map(|outcome| (outcome, outcome as u64)),
            seconds: 2.5,
            count: 15,
            quantiles: [0.0, 0.5, 0.9, 0.95, 0.99, 0.999, 1.0].map(|share| (share, 0.25)),
            blocks_read: 3,
            row_groups_read: 4,
            blocks_pruned: 5,
            memory_bytes: 0,
            row_groups_pruned: 6,
        };
        let mut text = Exposition::default();
        queries(&mut text, &stats);
        let text = text.finish();
        for line in [
            "queries_running 1",
            "queries_waiting 7",
            "queries_paused 8",
            "query_wait_seconds_total 1.5",
            "queries_total{result=\"ok\"} 0",
            "queries_total{result=\"refused\"} 5",
            "query_seconds{quantile=\"0\"} 0.25",
            "query_seconds{quantile=\"0.999\"} 0.25",
            "query_seconds{quantile=\"1\"} 0.25",
            "query_seconds_sum 2.5",
            "query_seconds_count 15",
            "blocks_read_total 3",
            "blocks_pruned_total 5",
            "row_groups_read_total 4",
            "row_groups_pruned_total 6",
        ] {
            assert!(text.contains(&format!("\nheadwater_{line}\n")), "{line}");
        }
    }
}
