//! Numbered rows in bulk, two messages to a segment of 1 MiB, and what SQL must answer about
//! them. Must never write a number twice.

use serde_json::{Value, json};
use tests::http::Http;
use tests::publisher::Device;

/// Publishes messages of [`ROWS`] rows to the topics `load/0` to `load/3` in turn; all are
/// acknowledged.
pub(crate) fn publish(mqtt: &str, messages: i64) {
    let mut random = fastrand::Rng::with_seed(tests::seed());
    let mut device = Device::connect(mqtt, "load");
    for message in 0..messages {
        let topic = format!("load/{}", message % TOPICS);
        device.send(&topic, &rows(numbers_of(message), BEGIN, &mut random));
    }
}

/// Publishes enough to another table for the active segment to be full, and so sealed.
pub(crate) fn seal(device: &mut Device) {
    let mut random = fastrand::Rng::with_seed(tests::seed());
    for message in 0..2 {
        device.send("filler/0", &rows(numbers_of(message), BEGIN, &mut random));
    }
}

/// Rows as a JSON array, each a second after the one before; row 0 would be at `begin`. Their text
/// is random, so that files stay large.
pub(crate) fn rows(
    numbers: std::ops::Range<i64>,
    begin: i64,
    random: &mut fastrand::Rng,
) -> String {
    let row = |n: i64| {
        let pad: String = (0..PAD).map(|_| random.alphanumeric()).collect();
        let time = begin + n;
        format!(r#"{{"n":{n},"time":{time},"pad":"{pad}"}}"#)
    };
    format!("[{}]", numbers.map(row).collect::<Vec<_>>().join(","))
}

/// What [`READ_ALL`] answers after so many messages.
pub(crate) fn all(messages: i64) -> Value {
    let topic = |topic: i64| {
        let of_topic = (0..messages).filter(|message| message % TOPICS == topic);
        let numbers: Vec<i64> = of_topic.flat_map(numbers_of).collect();
        let last = numbers.last().copied().unwrap_or_default();
        json!({
            "topic": format!("load/{topic}"),
            "c": numbers.len(),
            "s": numbers.iter().sum::<i64>(),
            "p": numbers.len() * PAD,
            "t": clock(last),
        })
    };
    (0..TOPICS.min(messages)).map(topic).collect()
}

/// The time of row `n` as SQL shows it; within the first day.
pub(crate) fn clock(n: i64) -> String {
    let (hour, minute, second) = (n / 3600, n / 60 % 60, n % 60);
    assert!(hour < 24, "row {n} is a day later");
    format!("2023-11-15T{hour:02}:{minute:02}:{second:02}Z")
}

/// The Parquet files in force, as SQL lists them.
pub(crate) fn files(http: &Http) -> Vec<Value> {
    http.rows(
        r#"SELECT name, "table", "window", first_lsn, end_lsn, rows, bytes, hash
           FROM system.files ORDER BY name"#,
    )
}

fn numbers_of(message: i64) -> std::ops::Range<i64> {
    message * ROWS..(message + 1) * ROWS
}

/// Rows of one message.
pub(crate) const ROWS: i64 = 600;
/// Bytes of text in each row.
pub(crate) const PAD: usize = 900;
/// Unix seconds of row 0, 2023-11-15T00:00:00Z; each row is a second later.
const BEGIN: i64 = 1_700_006_400;
const TOPICS: i64 = 4;

/// Reads every row and every column of `load`.
pub(crate) const READ_ALL: &str = "SELECT topic, count(*) AS c, sum(n) AS s, \
    sum(character_length(pad)) AS p, max(time) AS t FROM load GROUP BY topic ORDER BY topic";
