//! A node's HTTP surface as a client sees it: SQL, readiness and the LSN of an answer.
//!
//! One kept-alive connection per value. Must never use more than the public contract.

use std::net::SocketAddr;
use std::time::Duration;

use crate::error::{BenchError, Context};

/// A client of one node.
#[derive(Clone, Debug)]
pub struct Http {
    agent: ureq::Agent,
    base: String,
}

/// One answer to a SQL query.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// `X-Headwater-Lsn`: the position the answer is for.
    pub lsn: Option<u64>,
    /// The body, whatever the status.
    pub body: String,
}

impl Http {
    /// For the node that listens on `address`. Connects at the first request.
    pub fn new(address: SocketAddr) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(TIMEOUT))
            .build();
        Self {
            agent: config.into(),
            base: format!("http://{address}"),
        }
    }

    /// The status of a GET; `None` when the node cannot be reached yet.
    pub fn status(&self, path: &str) -> Option<u16> {
        let mut response = self.agent.get(format!("{}{path}", self.base)).call().ok()?;
        // A body that was read to its end leaves the connection to the next request.
        response.body_mut().read_to_string().ok()?;
        Some(response.status().as_u16())
    }

    /// What the node tells of itself.
    ///
    /// # Errors
    /// When the node cannot be reached or does not answer with JSON.
    pub fn node_status(&self) -> Result<serde_json::Value, BenchError> {
        let url = format!("{}/api/v1/status", self.base);
        let mut response = self
            .agent
            .get(url.as_str())
            .call()
            .context(format!("ask {url}"))?;
        let body = response
            .body_mut()
            .read_to_string()
            .context(format!("read an answer of {url}"))?;
        serde_json::from_str(&body).context(format!("read an answer of {url}"))
    }

    /// One number of what the node tells of itself.
    ///
    /// # Errors
    /// When the node cannot be reached or tells no such number.
    pub fn status_number(&self, name: &str) -> Result<u64, BenchError> {
        self.node_status()?
            .get(name)
            .and_then(serde_json::Value::as_u64)
            .ok_or_else(|| BenchError::Invalid(format!("{} tells no {name}", self.base)))
    }

    /// Runs one SQL statement.
    ///
    /// # Errors
    /// When the node cannot be reached. An error of the statement is an answer.
    pub fn sql(&self, sql: &str) -> Result<Answer, BenchError> {
        let mut response = self
            .agent
            .get(format!("{}/api/v3/query_sql", self.base))
            .query("q", sql)
            .query("format", "json")
            .call()
            .context(format!("query {}", self.base))?;
        let lsn = response
            .headers()
            .get("x-headwater-lsn")
            .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        let body = response
            .body_mut()
            .read_to_string()
            .context(format!("read an answer of {}", self.base))?;
        Ok(Answer {
            status: response.status().as_u16(),
            lsn,
            body,
        })
    }

    /// The position the node's answers are for; `None` while it has none.
    ///
    /// # Errors
    /// When the node cannot be reached.
    pub fn lsn(&self) -> Result<Option<u64>, BenchError> {
        let answer = self.sql("SELECT 1")?;
        Ok(answer.lsn.filter(|_| answer.status == 200))
    }

    /// Rows of a table; 0 while there is no such table, or no log yet.
    ///
    /// # Errors
    /// When the node cannot be reached, or answers with something else than a count.
    pub fn count(&self, table: &str) -> Result<u64, BenchError> {
        let answer = self.sql(&format!("SELECT count(*) AS n FROM {table}"))?;
        match answer.status {
            200 => {}
            400 | 404 | 503 => return Ok(0),
            status => {
                return Err(BenchError::Invalid(format!(
                    "a count gave {status}: {}",
                    answer.body
                )));
            }
        }
        serde_json::from_str::<serde_json::Value>(&answer.body)
            .ok()
            .and_then(|rows| rows.get(0)?.get("n")?.as_u64())
            .ok_or_else(|| BenchError::Invalid(format!("a count gave {}", answer.body)))
    }
}

const TIMEOUT: Duration = Duration::from_secs(60);
