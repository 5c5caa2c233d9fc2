//! Asks a node over HTTP, as curl would. Must never ask again by itself where a test did not
//! say so.

use std::time::Duration;

use serde_json::Value;
use ureq::Agent;

use crate::node::Node;

/// An HTTP client of one node.
#[derive(Debug)]
pub struct Http {
    base: String,
    agent: Agent,
}

/// An answer, whatever its status.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: String,
    pub headers: Vec<(String, String)>,
}

impl Answer {
    /// A header's value; empty when it is not there.
    pub fn header(&self, name: &str) -> &str {
        let found = self
            .headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value)
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The `code` of an error body.
    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }
}

impl Http {
    /// A client of a running node.
    pub fn of(node: &Node) -> Self {
        Self::at(&node.address("http"))
    }

    /// A client of whatever answers at this address.
    pub fn at(address: &str) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(LIMIT))
            .build();
        Self {
            base: format!("http://{address}"),
            agent: config.into(),
        }
    }

    /// What a command line calls this node.
    pub fn url(&self) -> &str {
        &self.base
    }

    /// DELETE of a path.
    pub fn delete(&self, path: &str) -> Answer {
        let request = self.agent.delete(format!("{}{path}", self.base));
        read(request.call().expect("the node answers"))
    }

    /// GET of a path with its query string.
    pub fn get(&self, path: &str) -> Answer {
        let request = self.agent.get(format!("{}{path}", self.base));
        read(request.call().expect("the node answers"))
    }

    /// One statement with `format` and further parameters.
    pub fn query(&self, sql: &str, parameters: &[(&str, &str)]) -> Answer {
        let mut request = self
            .agent
            .get(format!("{}/api/v3/query_sql", self.base))
            .query("q", sql);
        for (name, value) in parameters {
            request = request.query(name, value);
        }
        read(request.call().expect("the node answers"))
    }

    /// POST of rows to a path that takes them; the connection's end where the node went before it
    /// answered.
    ///
    /// # Errors
    /// When there was no answer.
    pub fn send(&self, path: &str, kind: &str, body: &str) -> Result<Answer, ureq::Error> {
        let request = self.agent.post(format!("{}{path}", self.base));
        request.header("content-type", kind).send(body).map(read)
    }

    /// POST of a body.
    pub fn post(&self, kind: &str, body: &str) -> Answer {
        let request = self.agent.post(format!("{}/api/v3/query_sql", self.base));
        read(
            request
                .header("content-type", kind)
                .send(body)
                .expect("the node answers"),
        )
    }

    /// The rows of a statement that must succeed.
    ///
    /// # Panics
    /// When it does not.
    pub fn rows(&self, sql: &str) -> Vec<Value> {
        let answer = self.query(sql, &[("format", "json")]);
        assert_eq!(answer.status, 200, "{sql}: {}", answer.body);
        match answer.json() {
            Value::Array(rows) => rows,
            other => panic!("{other}"),
        }
    }

    /// The one number a statement returns.
    pub fn number(&self, sql: &str) -> i64 {
        let rows = self.rows(sql);
        let value = rows[0]
            .as_object()
            .and_then(|row| row.values().next())
            .cloned();
        value
            .and_then(|value| value.as_i64())
            .unwrap_or_else(|| panic!("{sql}: {rows:?}"))
    }

    /// What the node tells of itself.
    pub fn status(&self) -> Value {
        self.get("/api/v1/status").json()
    }

    /// A metric without labels, if the node shows it.
    pub fn metric(&self, name: &str) -> Option<f64> {
        let text = self.get("/metrics").body;
        let value = |line: &str| {
            line.strip_prefix(name)?
                .strip_prefix(' ')?
                .parse::<f64>()
                .ok()
        };
        text.lines().find_map(value)
    }

    /// The LSN the node answers for.
    pub fn lsn(&self) -> u64 {
        self.try_lsn().expect("the node has a log")
    }

    /// The LSN the node answers for, if it can answer.
    pub fn try_lsn(&self) -> Option<u64> {
        let answer = self.query("SELECT 1", &[]);
        (answer.status == 200).then_some(())?;
        answer.header("X-Headwater-Lsn").parse().ok()
    }
}

fn read(mut response: ureq::http::Response<ureq::Body>) -> Answer {
    let headers = response.headers().iter().map(|(name, value)| {
        (
            name.to_string(),
            value.to_str().unwrap_or_default().to_owned(),
        )
    });
    let headers = headers.collect();
    let status = response.status().as_u16();
    let body = response.body_mut().read_to_string().unwrap_or_default();
    Answer {
        status,
        body,
        headers,
    }
}

/// A node that answers later than this hangs.
const LIMIT: Duration = Duration::from_secs(60);
