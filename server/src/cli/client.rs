//! A node's HTTP interface, seen from the command line. Blocking; must never go through a proxy:
//! the address that was given is the node that was meant.

use std::io::Read;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use wal::VerifyReport;

use crate::api::digest::{Digest, Mark};
use crate::api::status::Status;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error("{url} must begin with http://; this version knows no https://")]
    BadUrl { url: String },
    #[error("no answer from {url}: {source}")]
    Unreachable { url: String, source: ureq::Error },
    #[error("{0}")]
    Refused(Refusal),
    #[error("the answer of {url} is not what was asked for: {reason}")]
    Strange { url: String, reason: String },
}

/// What a node answers when it refuses.
#[derive(Debug, Deserialize, thiserror::Error)]
#[error("{error} ({code}{})", details(.position, .request_id))]
pub(crate) struct Refusal {
    pub(crate) error: String,
    #[serde(default)]
    pub(crate) code: String,
    position: Option<u64>,
    /// What can be asked for instead of files that the node does not know.
    newest: Option<Box<Mark>>,
    request_id: Option<String>,
}

/// Why there is no digest.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DigestError {
    /// The node has other files, and no longer or not yet those asked for.
    #[error("{refusal}")]
    UnknownMark { newest: Box<Mark>, refusal: Refusal },
    /// The node's log does not reach that far yet.
    #[error("{0}")]
    Behind(Refusal),
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// Why a secondary is not forgotten.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ForgetError {
    /// It would be on the list again at once.
    #[error("{0}")]
    Connected(Refusal),
    /// Nobody of that name is on a list there.
    #[error("{0}")]
    Unknown(Refusal),
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// An answer to SQL, from its first byte on.
pub(crate) struct Answer {
    /// The LSN that was answered for.
    pub(crate) lsn: Option<u64>,
    /// How old the answer may be.
    pub(crate) lag_ms: Option<u64>,
    pub(crate) body: ureq::Body,
}

impl Answer {
    /// The whole body.
    pub(crate) fn bytes(self) -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.body.into_reader().read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// Asks one node.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    agent: ureq::Agent,
    base: String,
}

impl Client {
    pub(crate) fn new(url: &str) -> Result<Self, ClientError> {
        if !url.starts_with("http://") {
            return Err(ClientError::BadUrl {
                url: url.to_owned(),
            });
        }
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .build();
        Ok(Self {
            agent: ureq::Agent::new_with_config(config),
            base: url.trim_end_matches('/').to_owned(),
        })
    }

    /// Where this client asks.
    pub(crate) fn url(&self) -> &str {
        &self.base
    }

    /// The node's status.
    pub(crate) fn status(&self) -> Result<Status, ClientError> {
        self.get("/api/v1/status")
    }

    /// What the node finds when it reads all that it stores; takes as long as that takes.
    pub(crate) fn verify(&self) -> Result<VerifyReport, ClientError> {
        self.get("/api/v1/verify")
    }

    /// What the node's disk really holds below `upto`, its end when there is none, and of which
    /// Parquet files: those of `mark`, else those in force. Takes as long as reading all of it
    /// does.
    pub(crate) fn digest(
        &self,
        upto: Option<u64>,
        mark: Option<&Mark>,
    ) -> Result<Digest, DigestError> {
        let upto = upto.map(|lsn| format!("upto={lsn}"));
        let mark = mark.map(|mark| format!("compacted={}&next={}", mark.compacted, mark.next));
        let query: Vec<String> = [upto, mark].into_iter().flatten().collect();
        let path = format!("/api/v1/digest?{}", query.join("&"));
        self.get(&path).map_err(|error| match error {
            ClientError::Refused(refusal) => undigested(refusal),
            error => error.into(),
        })
    }

    /// Strikes a secondary off the list of those that the node has seen.
    pub(crate) fn forget(&self, name_or_id: &str) -> Result<(), ForgetError> {
        let path = format!("/api/v1/secondaries/{}", escape(name_or_id));
        match self.answer(self.agent.delete(self.to(&path)).call()) {
            Ok(_) => Ok(()),
            Err(ClientError::Refused(refusal)) => Err(match refusal.code.as_str() {
                "connected" => ForgetError::Connected(refusal),
                "not_found" => ForgetError::Unknown(refusal),
                _ => ClientError::Refused(refusal).into(),
            }),
            Err(error) => Err(error.into()),
        }
    }

    /// Lets the cut of a table be made, which waits.
    pub(crate) fn expire(&self, table: &str) -> Result<(), ClientError> {
        let path = format!("/api/v1/tables/{}/expire", escape(table));
        self.answer(self.agent.post(self.to(&path)).send_empty())
            .map(drop)
    }

    /// Gives a column of a table another name.
    pub(crate) fn rename_column(
        &self,
        table: &str,
        from: &str,
        to: &str,
    ) -> Result<(), ClientError> {
        let body = serde_json::json!({ "from": from, "to": to });
        self.change_table(table, "rename-column", &body)
    }

    /// Gives a table another name.
    pub(crate) fn rename_table(&self, from: &str, to: &str) -> Result<(), ClientError> {
        self.change_table(from, "rename", &serde_json::json!({ "to": to }))
    }

    /// Takes a table away, with all its rows.
    pub(crate) fn drop_table(&self, table: &str) -> Result<(), ClientError> {
        let body = serde_json::json!({ "all_rows_of": table });
        self.change_table(table, "drop", &body)
    }

    /// Gives a column of a table another type.
    pub(crate) fn change_type(
        &self,
        table: &str,
        column: &str,
        kind: &str,
    ) -> Result<(), ClientError> {
        let body = serde_json::json!({ "column": column, "type": kind });
        self.change_table(table, "change-type", &body)
    }

    /// Gives a column of a table another role.
    pub(crate) fn change_role(
        &self,
        table: &str,
        column: &str,
        role: &str,
    ) -> Result<(), ClientError> {
        let body = serde_json::json!({ "column": column, "role": role });
        self.change_table(table, "change-role", &body)
    }

    fn change_table(
        &self,
        table: &str,
        what: &str,
        how: &serde_json::Value,
    ) -> Result<(), ClientError> {
        let path = format!("/api/v1/tables/{}/{what}", escape(table));
        let request = self.agent.post(self.to(&path));
        let request = request.content_type("application/json");
        self.answer(request.send(how.to_string())).map(drop)
    }

    /// Answers of one SQL statement in `format`.
    pub(crate) fn sql(&self, sql: &str, format: &str) -> Result<Answer, ClientError> {
        let body = serde_json::json!({ "q": sql, "format": format }).to_string();
        let request = self
            .agent
            .post(self.to("/api/v3/query_sql"))
            .content_type("application/json");
        self.answer(request.send(body))
    }

    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        let answer = self.answer(self.agent.get(self.to(path)).call())?;
        let bytes = answer.bytes().map_err(|error| self.strange(&error))?;
        serde_json::from_slice(&bytes).map_err(|error| self.strange(&error))
    }

    fn to(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    fn answer(
        &self,
        response: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<Answer, ClientError> {
        let response = response.map_err(|source| ClientError::Unreachable {
            url: self.base.clone(),
            source,
        })?;
        let number = |name: &str| response.headers().get(name)?.to_str().ok()?.parse().ok();
        let (lsn, lag_ms) = (number("x-headwater-lsn"), number("x-headwater-lag-ms"));
        let status = response.status();
        let body = response.into_body();
        let answer = Answer { lsn, lag_ms, body };
        if status.is_success() {
            return Ok(answer);
        }
        let bytes = answer.bytes().map_err(|error| self.strange(&error))?;
        match serde_json::from_slice(&bytes) {
            Ok(refusal) => Err(ClientError::Refused(refusal)),
            Err(_) => Err(self.strange(&format!("HTTP status {status}"))),
        }
    }

    fn strange(&self, reason: &impl ToString) -> ClientError {
        ClientError::Strange {
            url: self.base.clone(),
            reason: reason.to_string(),
        }
    }
}

fn undigested(mut refusal: Refusal) -> DigestError {
    let newest = refusal.newest.take();
    match newest.filter(|_| refusal.code == "unknown_mark") {
        Some(newest) => DigestError::UnknownMark { newest, refusal },
        None if refusal.code == "lagging" => DigestError::Behind(refusal),
        None => ClientError::Refused(refusal).into(),
    }
}

/// A text as one part of a path.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

fn details(position: &Option<u64>, request_id: &Option<String>) -> String {
    let at = position.map(|position| format!(", at position {position}"));
    let request = request_id.as_ref().map(|id| format!(", request {id}"));
    [at, request].into_iter().flatten().collect()
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Where a node listens unless it is told otherwise.
pub(crate) const DEFAULT_URL: &str = "http://127.0.0.1:7440";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_http_urls_are_taken() {
        assert!(Client::new("http://127.0.0.1:7440/").is_ok());
        for url in ["127.0.0.1:7440", "https://host", "ftp://host"] {
            let error = Client::new(url).unwrap_err().to_string();
            assert!(error.starts_with(url), "{error}");
        }
    }

    #[test]
    fn refusals_tell_all_they_were_given() {
        let json =
            r#"{"error": "no table t", "code": "table", "position": 14, "request_id": "r1"}"#;
        let refusal: Refusal = serde_json::from_str(json).unwrap();
        assert_eq!(
            refusal.to_string(),
            "no table t (table, at position 14, request r1)"
        );
        let refusal: Refusal = serde_json::from_str(r#"{"error": "no", "code": "x"}"#).unwrap();
        assert_eq!(refusal.to_string(), "no (x)");
    }

    #[test]
    fn a_refused_digest_says_what_to_ask_for() {
        let refusal = |code: &str, more: &str| -> Refusal {
            let json = format!(r#"{{"error": "no", "code": "{code}"{more}}}"#);
            serde_json::from_str(&json).unwrap()
        };
        let newest = r#", "newest": {"compacted": 90, "next": 4, "digest": "00000000000000ab"}"#;
        let error = undigested(refusal("unknown_mark", newest));
        let DigestError::UnknownMark { newest, .. } = &error else {
            panic!("{error:?}");
        };
        assert_eq!((newest.compacted, newest.next), (90, 4));
        assert_eq!(error.to_string(), "no (unknown_mark)");
        let behind = undigested(refusal("lagging", ""));
        assert!(matches!(behind, DigestError::Behind(_)));
        for code in ["unknown_mark", "lsn_gone"] {
            assert!(matches!(
                undigested(refusal(code, "")),
                DigestError::Client(ClientError::Refused(_))
            ));
        }
    }

    #[test]
    fn names_are_one_part_of_a_path() {
        assert_eq!(escape("node-1.example_~"), "node-1.example_~");
        assert_eq!(escape("a/b c?d\u{e9}"), "a%2Fb%20c%3Fd%C3%A9");
    }
}
