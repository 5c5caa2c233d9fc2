//! The metrics of rows that expire. Must never count by itself.

use crate::report::metrics::Exposition;

/// Rows that were cut, that should be, and that came too late.
pub(super) fn retention(text: &mut Exposition, log: &wal::Log) {
    text.counter(
        "headwater_log_retention_cuts_total",
        "Times that a retention has cut old rows.",
        log.stats().cuts,
    );
    text.counter(
        "headwater_log_dead_letters_given_up_total",
        "Dead letters that have gone because they took more than dead_letters.max_size, about.",
        log.stats().given_up,
    );
    let waiting = log.waiting_cuts().borrow().clone();
    text.counter(
        "headwater_log_expired_total",
        "Times that rows were refused because they are older than their table keeps.",
        log.stats().expired,
    );
    text.gauge(
        "headwater_log_waiting_cuts",
        "Tables whose old rows are not cut yet, because the clock has jumped.",
        waiting.len(),
    );
    text.gauge(
        "headwater_log_waiting_cut_rows",
        "Rows that go by those cuts, about.",
        waiting.iter().map(|waits| waits.rows).sum::<u64>(),
    );
}
