//! The metrics of what comes in, by MQTT and by HTTP. Must never keep a number from one scrape to
//! the next.

use crate::report::metrics::Exposition;

/// What came in by MQTT.
pub(crate) fn mqtt(text: &mut Exposition, stats: &mqtt::Stats) {
    text.gauge(
        "headwater_mqtt_connections",
        "Connections open now.",
        stats.connections,
    );
    text.counter(
        "headwater_mqtt_refused_connections_total",
        "Connections refused.",
        stats.refused_connections,
    );
    text.counter(
        "headwater_mqtt_messages_received_total",
        "PUBLISH packets.",
        stats.received,
    );
    text.counter(
        "headwater_mqtt_messages_acknowledged_total",
        "Acknowledgements sent, each after the fsync that covers its message.",
        stats.acknowledged,
    );
    unacknowledged(text, stats);
    text.counter(
        "headwater_mqtt_rows_total",
        "Rows taken from messages.",
        stats.rows,
    );
    text.counter(
        "headwater_mqtt_payload_bytes_total",
        "Bytes of payload.",
        stats.bytes,
    );
    text.counter(
        "headwater_mqtt_dead_letters_total",
        "Messages stored in system.dead_letters.",
        stats.dead_letters,
    );
}

/// What became of the messages that were not acknowledged, or not as they had asked.
fn unacknowledged(text: &mut Exposition, stats: &mqtt::Stats) {
    text.counters([
        (
            "headwater_mqtt_messages_replicated_total",
            "Of the acknowledged, those that as many secondaries have on disk as was asked for.",
            stats.acknowledged_replicated,
        ),
        (
            "headwater_mqtt_messages_fell_back_total",
            "Of the acknowledged, those that asked for more secondaries than were connected.",
            stats.fell_back,
        ),
        (
            "headwater_mqtt_messages_qos0_total",
            "Messages of QoS 0 handed to the log: nobody is told what became of them.",
            stats.qos0,
        ),
        (
            "headwater_mqtt_messages_duplicates_total",
            "QoS 2 messages that came again and were not stored again.",
            stats.duplicates,
        ),
        (
            "headwater_mqtt_messages_refused_total",
            "Messages refused; nothing of them is stored.",
            stats.refused_messages,
        ),
        (
            "headwater_mqtt_messages_unkept_total",
            "Messages that neither their table nor system.dead_letters took: stored nowhere.",
            stats.unkept,
        ),
        (
            "headwater_mqtt_messages_dropped_total",
            "Messages whose connection ended before their answer; clients send them again.",
            stats.dropped,
        ),
    ]);
    text.gauge(
        "headwater_mqtt_messages_waiting",
        "Messages whose answer is due.",
        stats.waiting,
    );
    text.gauge(
        "headwater_mqtt_messages_awaiting_secondaries",
        "Of those, messages that are on disk here and wait for secondaries.",
        stats.awaiting_secondaries,
    );
    text.gauge(
        "headwater_mqtt_messages_awaiting_secondaries_seconds",
        "How long the first of them has waited.",
        awaiting_s(stats, wal::clock::unix_nanos()),
    );
}

/// How long the first of the messages that wait for secondaries has waited.
fn awaiting_s(stats: &mqtt::Stats, now: i64) -> u64 {
    let now_ms = u64::try_from(now / 1_000_000).unwrap_or(0);
    match stats.awaiting_since_unix_ms {
        0 => 0,
        since => now_ms.saturating_sub(since) / 1000,
    }
}

/// What came in by HTTP.
pub(crate) fn intake(text: &mut Exposition, stats: &intake::IntakeStats) {
    text.counters([
        (
            "headwater_ingest_requests_total",
            "Requests that bring rows by HTTP.",
            stats.received,
        ),
        (
            "headwater_ingest_requests_written_total",
            "Requests answered after their rows were on disk.",
            stats.written,
        ),
        (
            "headwater_ingest_requests_refused_total",
            "Requests refused for what they hold; nothing of them is stored.",
            stats.refused,
        ),
        (
            "headwater_ingest_requests_failed_total",
            "Requests whose rows are not known to be on disk; clients send them again.",
            stats.failed,
        ),
        (
            "headwater_ingest_requests_dropped_total",
            "Requests whose connection ended before their answer.",
            stats.dropped,
        ),
        (
            "headwater_ingest_rows_total",
            "Rows brought by HTTP.",
            stats.rows,
        ),
        (
            "headwater_ingest_bytes_total",
            "Bytes of their bodies, as received.",
            stats.bytes,
        ),
    ]);
    text.gauge(
        "headwater_ingest_requests_waiting",
        "Requests whose answer is due.",
        stats.waiting,
    );
}
