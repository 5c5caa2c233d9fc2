//! What the quickstart shows while it runs: an answer of the secondary, asked over HTTP like anyone
//! would, with how fresh it is. Must never look into the node by another way.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::cli::client::{Client, ClientError};
use crate::cli::output::say;
use crate::cli::table::{self, Row};

/// Asks one node, again and again.
pub(super) struct Board {
    client: Client,
    before: Option<(Instant, u64)>,
}

/// Rows of one answer and the LSN they answer for.
struct Rows {
    rows: Vec<Row>,
    lsn: u64,
    lag_ms: Option<u64>,
    took: Duration,
}

impl Board {
    pub(super) fn new(url: String) -> Result<Self, ClientError> {
        Ok(Self {
            client: Client::new(&url)?,
            before: None,
        })
    }

    /// Rows that the node holds of the sensors now.
    pub(super) async fn rows(&self) -> Result<u64, ClientError> {
        match self.ask(COUNT).await {
            Ok(answer) => Ok(number(&answer.rows, "messages")),
            // No sensor has published yet.
            Err(ClientError::Refused(_)) => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// The same once the node has everything below `lsn`, or after a while in any case.
    pub(super) async fn rows_at(&self, lsn: u64) -> Result<u64, ClientError> {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.ask(COUNT).await {
                Ok(answer) if answer.lsn >= lsn => return Ok(number(&answer.rows, "messages")),
                Ok(_) | Err(ClientError::Refused(_)) if Instant::now() < end => {
                    tokio::time::sleep(GLANCE).await;
                }
                Ok(answer) => return Ok(number(&answer.rows, "messages")),
                Err(error) => return Err(error),
            }
        }
    }

    /// Prints the sensors by site. An answer that does not come is said, not an end.
    pub(super) async fn print(&mut self) {
        let answer = match self.ask(BY_SITE).await {
            Ok(answer) => answer,
            Err(error) => return say!("{} does not answer: {error}\n", self.client.url()),
        };
        let now = Instant::now();
        let messages: u64 = answer
            .rows
            .iter()
            .filter_map(|row| row.get("messages")?.as_u64())
            .sum();
        let rate = self.before.replace((now, messages)).map(|(then, before)| {
            let rows = messages.saturating_sub(before) as f64;
            format!(", {:.0} rows/s", rows / (now - then).as_secs_f64())
        });
        let mut text = Vec::new();
        // Writing to a Vec cannot fail.
        let _ = table::render(&answer.rows, &mut text);
        let lag = answer
            .lag_ms
            .map_or("unknown".to_owned(), |ms| format!("{ms} ms"));
        say!(
            "{}LSN {}, lag {lag}, answered in {:.1} ms{}\n",
            String::from_utf8_lossy(&text),
            answer.lsn,
            answer.took.as_secs_f64() * 1e3,
            rate.unwrap_or_default()
        );
        if let Some(line) = self.dead_letters().await {
            say!("{line}\n");
        }
    }

    /// How many messages could not be stored, and why the newest could not, if there are any.
    async fn dead_letters(&self) -> Option<String> {
        // Without a dead letter there is no such table.
        let answer = self.ask(NEWEST_DEAD_LETTER).await.ok()?;
        let text = |column: &str| answer.rows.first()?.get(column)?.as_str();
        let count = number(&answer.rows, "letters");
        let letters = if count == 1 { "letter" } else { "letters" };
        let newest: String = format!("{}: {}", text("topic")?, text("reason")?)
            .chars()
            .filter(|letter| !letter.is_control())
            .take(MOST_SHOWN)
            .collect();
        Some(format!("{count} dead {letters}, newest: {newest}"))
    }

    async fn ask(&self, sql: &'static str) -> Result<Rows, ClientError> {
        let client = self.client.clone();
        crate::node::parts::blocking(move || -> Result<Rows, ClientError> {
            let begun = std::time::Instant::now();
            let answer = client.sql(sql, "json")?;
            let (lsn, lag_ms) = (answer.lsn, answer.lag_ms);
            let strange = |reason: String| ClientError::Strange {
                url: client.url().to_owned(),
                reason,
            };
            let bytes = answer.bytes().map_err(|error| strange(error.to_string()))?;
            let rows =
                serde_json::from_slice(&bytes).map_err(|error| strange(error.to_string()))?;
            let took = begun.elapsed();
            Ok(Rows {
                rows,
                lsn: lsn.unwrap_or(0),
                lag_ms,
                took,
            })
        })
        .await
    }
}

fn number(rows: &[Row], column: &str) -> u64 {
    rows.first()
        .and_then(|row| row.get(column))
        .and_then(Value::as_u64)
        .unwrap_or(0)
}

const COUNT: &str = "SELECT count(*) AS messages FROM sensors";

/// Rounded to two decimals by way of integers.
const BY_SITE: &str = "SELECT split_part(topic, '/', 2) AS site, \
     count(DISTINCT topic) AS devices, count(*) AS messages, \
     CAST(avg(temperature) * 100 AS BIGINT) / 100.0 AS temperature, \
     CAST(avg(humidity) * 100 AS BIGINT) / 100.0 AS humidity, \
     CAST(min(battery) * 100 AS BIGINT) / 100.0 AS lowest_battery, \
     max(time) AS newest \
     FROM sensors GROUP BY split_part(topic, '/', 2) ORDER BY site";

const NEWEST_DEAD_LETTER: &str = "SELECT count(*) OVER () AS letters, topic, reason \
     FROM system.dead_letters ORDER BY time DESC LIMIT 1";

/// Most characters of what is said of a dead letter.
const MOST_SHOWN: usize = 300;

const PATIENCE: Duration = Duration::from_secs(15);
const GLANCE: Duration = Duration::from_millis(50);
