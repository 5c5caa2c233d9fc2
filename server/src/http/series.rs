//! The metrics of the HTTP door, and of the log of the process that it is in. Must never keep a
//! number from one scrape to the next.

use crate::report::metrics::Exposition;
use crate::telemetry::{self, LogStats};

use super::app::App;
use super::door::SeatStats;

/// What the door itself has counted, in Prometheus text format.
pub(crate) fn of(app: &App) -> String {
    let mut text = Exposition::default();
    seats(&mut text, &app.seats.stats());
    log_lines(&mut text, &telemetry::stats());
    text.finish()
}

fn log_lines(text: &mut Exposition, stats: &LogStats) {
    text.counters_by(
        "headwater_log_lines_total",
        "Lines that this process has logged.",
        "level",
        stats.lines,
    );
    text.counters([
        (
            "headwater_log_lines_suppressed_total",
            "Lines that were left out of the log because there were many of their kind.",
            stats.left_out,
        ),
        (
            "headwater_log_lines_lost_total",
            "Lines that could not be written because nobody takes them, or their disk is full.",
            stats.lost,
        ),
    ]);
}

fn seats(text: &mut Exposition, stats: &SeatStats) {
    text.gauge(
        "headwater_http_connections",
        "HTTP connections that have a place now.",
        stats.taken,
    );
    text.gauge(
        "headwater_http_connections_limit",
        "HTTP connections that can have a place at one time.",
        stats.limit,
    );
    text.counter(
        "headwater_http_connections_without_place_total",
        "HTTP connections that found all places taken by others at work.",
        stats.without_place,
    );
    text.counters_by(
        "headwater_http_connections_ended_total",
        "HTTP connections that this node ended because nothing came of them, or for others.",
        "reason",
        stats.ended,
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_series() {
        let mut text = Exposition::default();
        let stats = SeatStats {
            taken: 3,
            limit: 8,
            ended: [
                ("idle", 1),
                ("head", 2),
                ("body", 3),
                ("answer", 4),
                ("place", 5),
                ("memory", 6),
            ],
            without_place: 7,
        };
        seats(&mut text, &stats);
        let levels = ["error", "warn", "info", "debug", "trace"];
        let log = LogStats {
            lines: levels.map(|level| (level, level.len() as u64)),
            left_out: 8,
            lost: 9,
        };
        log_lines(&mut text, &log);
        let text = text.finish();
        for line in [
            "http_connections 3",
            "http_connections_limit 8",
            "http_connections_without_place_total 7",
            "http_connections_ended_total{reason=\"idle\"} 1",
            "http_connections_ended_total{reason=\"memory\"} 6",
            "log_lines_total{level=\"warn\"} 4",
            "log_lines_suppressed_total 8",
            "log_lines_lost_total 9",
        ] {
            assert!(
                text.contains(&format!("headwater_{line}\n")),
                "{line}\n{text}"
            );
        }
    }
}
