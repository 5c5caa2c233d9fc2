//! Requests as typed values. Owns the names of parameters and the ways to send them; must never
//! let an unknown name or a malformed value pass as a default.

use std::time::Duration;

use query::{Format, Output, Params, TimeZone, nearest};
use serde_json::Value;

use super::accept;
use super::error::ApiError;

/// A request to `/api/v3/query_sql`.
#[derive(Debug, Clone, Default)]
pub(crate) struct QueryRequest {
    pub(crate) sql: String,
    pub(crate) output: Output,
    pub(crate) params: Params,
    pub(crate) min_lsn: Option<u64>,
    /// Never below `min_lsn`.
    pub(crate) as_of_lsn: Option<u64>,
    pub(crate) max_lag_ms: Option<u64>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) time_zone: Option<TimeZone>,
    /// What of the request has no effect here, though other servers know it.
    pub(crate) notices: Vec<String>,
}

/// The parts of an HTTP request that may hold parameters.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Given<'a> {
    /// What follows `?` in the URL.
    pub(crate) query: Option<&'a str>,
    pub(crate) accept: Option<&'a str>,
    pub(crate) accept_encoding: Option<&'a str>,
    pub(crate) time_zone: Option<&'a str>,
    pub(crate) content_type: Option<&'a str>,
    /// Empty unless the method is POST.
    pub(crate) body: &'a [u8],
}

/// Parameters from URL and body together; one given twice is refused.
pub(crate) fn parse_query(given: Given<'_>) -> Result<QueryRequest, ApiError> {
    let mut pairs = form_pairs(given.query.unwrap_or_default().as_bytes());
    pairs.extend(body_pairs(given)?);
    let mut request = QueryRequest::default();
    pairs.retain(|(name, _)| {
        if name == "epoch" {
            let notice = "epoch is not known here: times are RFC 3339";
            request.notices.push(notice.to_owned());
        }
        !IGNORED_NAMES.contains(&name.as_str())
    });
    check_names(&pairs, QUERY_NAMES)?;
    request.output.coding = given.accept_encoding.and_then(accept::coding);
    request.time_zone = given.time_zone.map(TimeZone::parse).transpose()?;
    let (mut sql, mut wanted) = (None, None);
    for (name, value) in &pairs {
        match name.as_str() {
            _ if value.is_null() => {}
            "q" => sql = Some(text(name, value)?.to_owned()),
            "format" => wanted = Some(format(text(name, value)?)?),
            "big_integers" => request.output.big_integers_as_text = big_integers(name, value)?,
            "time_zone" => request.time_zone = Some(TimeZone::parse(text(name, value)?)?),
            "times" => request.output.local_times = local_times(name, value)?,
            "params" => request.params = params(value)?,
            "min_lsn" => request.min_lsn = Some(number(name, value)?),
            "as_of_lsn" => request.as_of_lsn = Some(number(name, value)?),
            "max_lag_ms" => request.max_lag_ms = Some(number(name, value)?),
            "timeout_ms" => request.timeout = Some(timeout(name, value)?),
            _ => return Err(ApiError::NotSupported(format!("{name} in this version"))),
        }
    }
    request.output.format = match (wanted, given.accept) {
        (Some(format), _) => format,
        (None, Some(accept)) => accept::format(accept).ok_or_else(|| not_acceptable(accept))?,
        (None, None) => Format::default(),
    };
    request.sql = sql.ok_or_else(|| {
        ApiError::Parameter("q is missing: send the SQL as q=... or as a text/plain body".into())
    })?;
    if let (Some(min), Some(as_of)) = (request.min_lsn, request.as_of_lsn)
        && min > as_of
    {
        return Err(ApiError::Parameter(format!(
            "min_lsn = {min} is above as_of_lsn = {as_of}: no answer is of both"
        )));
    }
    Ok(request)
}

/// A request to `/api/v1/digest`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct DigestRequest {
    /// Where the digests end; without it, where the log ends.
    pub(crate) upto: Option<u64>,
    /// Of which files: `compacted` and `next`; without it, of those in force.
    pub(crate) mark: Option<(u64, u64)>,
}

/// What a request to `/api/v1/digest` asks for.
pub(crate) fn parse_digest(query: Option<&str>) -> Result<DigestRequest, ApiError> {
    let pairs = form_pairs(query.unwrap_or_default().as_bytes());
    check_names(&pairs, DIGEST_NAMES)?;
    let given = |wanted: &str| {
        let found = pairs.iter().find(|(name, _)| name == wanted);
        found.map(|(name, value)| number(name, value)).transpose()
    };
    let mark = match (given("compacted")?, given("next")?) {
        (Some(compacted), Some(next)) => Some((compacted, next)),
        (None, None) => None,
        _ => {
            return Err(ApiError::Parameter(
                "compacted and next name a set of files together: send both or neither".to_owned(),
            ));
        }
    };
    let upto = given("upto")?;
    Ok(DigestRequest { upto, mark })
}

/// The `max_lag_ms` of a request to `/ready`.
pub(crate) fn parse_ready(query: Option<&str>) -> Result<Option<u64>, ApiError> {
    let pairs = form_pairs(query.unwrap_or_default().as_bytes());
    check_names(&pairs, READY_NAMES)?;
    pairs
        .first()
        .map(|(name, value)| number(name, value))
        .transpose()
}

pub(crate) type Pairs = Vec<(String, Value)>;

pub(crate) fn form_pairs(text: &[u8]) -> Pairs {
    form_urlencoded::parse(text)
        .map(|(name, value)| (name.into_owned(), Value::String(value.into_owned())))
        .collect()
}

fn body_pairs(given: Given<'_>) -> Result<Pairs, ApiError> {
    if given.body.is_empty() {
        return Ok(Pairs::new());
    }
    let media = given.content_type.unwrap_or("text/plain");
    let media = media
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    match media.as_str() {
        "application/json" => json_pairs(given.body),
        "application/x-www-form-urlencoded" => checked_form(given.body),
        "text/plain" | "application/sql" => {
            let sql = std::str::from_utf8(given.body)
                .map_err(|_| ApiError::Parameter("the body is not UTF-8".to_owned()))?;
            Ok(vec![("q".to_owned(), Value::String(sql.to_owned()))])
        }
        other => Err(ApiError::Parameter(format!(
            "Content-Type {other} is not known: use application/json, text/plain (the SQL itself) \
             or application/x-www-form-urlencoded"
        ))),
    }
}

fn json_pairs(body: &[u8]) -> Result<Pairs, ApiError> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(fields)) => Ok(fields.into_iter().collect()),
        Ok(_) => Err(ApiError::Parameter(
            "the JSON body must be an object".to_owned(),
        )),
        Err(error) => Err(ApiError::Parameter(format!(
            "the body is not JSON: {error}"
        ))),
    }
}

/// `curl -d 'SELECT ...'` claims to send a form: say so rather than blame a strange name.
fn checked_form(body: &[u8]) -> Result<Pairs, ApiError> {
    let pairs = form_pairs(body);
    if pairs
        .iter()
        .any(|(name, _)| name.contains(char::is_whitespace))
    {
        return Err(ApiError::Parameter(
            "the body is no form: to send SQL itself, use Content-Type: text/plain".to_owned(),
        ));
    }
    Ok(pairs)
}

pub(crate) fn check_names(pairs: &[(String, Value)], known: &[&str]) -> Result<(), ApiError> {
    for (index, (name, _)) in pairs.iter().enumerate() {
        if !known.contains(&name.as_str()) {
            let hint = nearest(name, known.iter().copied()).map_or_else(
                || format!("known are {}", known.join(", ")),
                |near| format!("did you mean {near}?"),
            );
            return Err(ApiError::Parameter(format!(
                "unknown parameter {name:?}; {hint}"
            )));
        }
        if pairs[..index].iter().any(|(earlier, _)| earlier == name) {
            return Err(ApiError::Parameter(format!("{name} is given twice")));
        }
    }
    Ok(())
}

pub(crate) fn text<'a>(name: &str, value: &'a Value) -> Result<&'a str, ApiError> {
    value
        .as_str()
        .ok_or_else(|| ApiError::Parameter(format!("{name} must be a string")))
}

fn number(name: &str, value: &Value) -> Result<u64, ApiError> {
    let number = match value {
        Value::String(digits) => digits.trim().parse().ok(),
        other => other.as_u64(),
    };
    number.ok_or_else(|| {
        ApiError::Parameter(format!(
            "{name} must be a whole number of 0 or more, not {value}"
        ))
    })
}

fn not_acceptable(accept: &str) -> ApiError {
    let types: Vec<&str> = Format::media_types().map(|(media, _)| media).collect();
    ApiError::NotAcceptable(format!(
        "nothing that Accept: {accept} takes can be given: there are {}",
        types.join(", ")
    ))
}

fn local_times(name: &str, value: &Value) -> Result<bool, ApiError> {
    match text(name, value)? {
        "local" => Ok(true),
        "utc" => Ok(false),
        other => Err(ApiError::Parameter(format!(
            "{name} must be \"utc\" or \"local\", not {other:?}"
        ))),
    }
}

fn big_integers(name: &str, value: &Value) -> Result<bool, ApiError> {
    match text(name, value)? {
        "text" => Ok(true),
        "number" => Ok(false),
        other => Err(ApiError::Parameter(format!(
            "{name} must be \"number\" or \"text\", not {other:?}"
        ))),
    }
}

fn timeout(name: &str, value: &Value) -> Result<Duration, ApiError> {
    match number(name, value)? {
        0 => Err(ApiError::Parameter(format!("{name} must be 1 or more"))),
        milliseconds => Ok(Duration::from_millis(milliseconds)),
    }
}

fn format(name: &str) -> Result<Format, ApiError> {
    Format::from_name(name).ok_or_else(|| {
        let known: Vec<&str> = Format::names().collect();
        ApiError::Parameter(format!(
            "format must be one of {}, not {name:?}",
            known.join(", ")
        ))
    })
}

/// In a URL or form, the JSON comes as text.
fn params(value: &Value) -> Result<Params, ApiError> {
    match value {
        Value::String(text) => {
            let value = serde_json::from_str(text)
                .map_err(|error| ApiError::Parameter(format!("params is not JSON: {error}")))?;
            Ok(Params::from_json(&value)?)
        }
        value => Ok(Params::from_json(value)?),
    }
}

/// Largest body: the longest SQL, escaped as JSON, with its parameters.
pub(crate) const MAX_BODY_BYTES: usize = 1 << 20;
const QUERY_NAMES: &[&str] = &[
    "q",
    "format",
    "params",
    "min_lsn",
    "as_of_lsn",
    "max_lag_ms",
    "timeout_ms",
    "big_integers",
    "time_zone",
    "times",
];
/// What clients of `InfluxDB` send along, which says nothing here: there is one database.
const IGNORED_NAMES: &[&str] = &[
    "db",
    "database",
    "bucket",
    "org",
    "orgID",
    "rp",
    "precision",
    "pretty",
    "epoch",
    "chunked",
    "chunk_size",
    "u",
    "p",
];
const READY_NAMES: &[&str] = &["max_lag_ms"];
const DIGEST_NAMES: &[&str] = &["upto", "compacted", "next"];

#[cfg(test)]
mod tests {
    use super::*;

    fn post<'a>(content_type: &'a str, body: &'a str) -> Result<QueryRequest, ApiError> {
        let body = body.as_bytes();
        parse_query(Given {
            content_type: Some(content_type),
            body,
            ..Given::default()
        })
    }

    fn get(query: &str) -> Result<QueryRequest, ApiError> {
        parse_query(Given {
            query: Some(query),
            ..Given::default()
        })
    }

    fn refusal(result: Result<QueryRequest, ApiError>) -> String {
        result.expect_err("a refusal").to_string()
    }

    #[test]
    fn a_url_may_hold_everything() {
        let request =
            get("q=SELECT+1%2B1&format=csv&params=%5B1%5D&min_lsn=7&max_lag_ms=500&timeout_ms=90")
                .expect("a request");
        assert_eq!(request.sql, "SELECT 1+1");
        assert_eq!(request.output.format, Format::Csv);
        assert!(request.params.values().is_some());
        assert_eq!((request.min_lsn, request.max_lag_ms), (Some(7), Some(500)));
        assert_eq!(request.timeout, Some(Duration::from_millis(90)));
    }

    #[test]
    fn bodies_are_json_sql_or_a_form() {
        let json = r#"{"q": "SELECT $a", "params": {"a": 1}, "min_lsn": 3, "format": null}"#;
        let request = post("application/json; charset=utf-8", json).expect("JSON");
        assert_eq!(
            (request.sql.as_str(), request.min_lsn),
            ("SELECT $a", Some(3))
        );
        assert_eq!(request.output.format, Format::Json);
        let request = post("text/plain", "SELECT 'a=b&c'").expect("SQL");
        assert_eq!(request.sql, "SELECT 'a=b&c'");
        let request = post(
            "application/x-www-form-urlencoded",
            "q=SELECT+2&format=jsonl",
        );
        assert_eq!(request.expect("a form").output.format, Format::JsonLines);
        let both = Given {
            query: Some("format=arrow"),
            content_type: Some("text/plain"),
            body: b"SELECT 3",
            ..Given::default()
        };
        assert_eq!(
            parse_query(both).expect("both").output.format,
            Format::Arrow
        );
    }

    #[test]
    fn format_wins_over_accept() {
        let accept = Some("text/csv");
        let given = Given {
            query: Some("q=1"),
            accept,
            ..Given::default()
        };
        assert_eq!(
            parse_query(given).expect("a request").output.format,
            Format::Csv
        );
        let given = Given {
            query: Some("q=1&format=jsonl"),
            accept,
            ..Given::default()
        };
        assert_eq!(
            parse_query(given).expect("a request").output.format,
            Format::JsonLines
        );
        let given = Given {
            query: Some("q=1"),
            accept: Some("*/*"),
            ..Given::default()
        };
        assert_eq!(
            parse_query(given).expect("a request").output.format,
            Format::Json
        );
    }

    #[test]
    fn unknown_and_double_names_are_refused_by_name() {
        assert_eq!(
            refusal(get("q=1&fromat=csv")),
            "unknown parameter \"fromat\"; did you mean format?"
        );
        assert!(refusal(get("q=1&zzzzzzzzzz=2")).contains("known are q, format"));
        assert_eq!(refusal(get("q=1&q=2")), "q is given twice");
        assert!(refusal(post("application/json", r#"{"sql": "SELECT 1"}"#)).contains("\"sql\""));
    }

    #[test]
    fn as_of_lsn_may_come_with_a_min_lsn_that_it_fulfils() {
        let request = get("q=1&as_of_lsn=7").expect("a request");
        assert_eq!((request.as_of_lsn, request.min_lsn), (Some(7), None));
        let body = r#"{"q": "SELECT 1", "as_of_lsn": 7, "min_lsn": 7}"#;
        let request = post("application/json", body).expect("a request");
        assert_eq!((request.as_of_lsn, request.min_lsn), (Some(7), Some(7)));
        let both = refusal(get("q=1&as_of_lsn=7&min_lsn=8"));
        assert!(both.starts_with("min_lsn = 8 is above as_of_lsn = 7"));
        assert!(refusal(get("q=1&as_of_lsn=now")).starts_with("as_of_lsn must be"));
    }

    #[test]
    fn a_digest_is_of_a_whole_mark_or_of_the_present_one() {
        assert_eq!(parse_digest(None), Ok(DigestRequest::default()));
        let expected = DigestRequest {
            upto: Some(9),
            mark: Some((7, 3)),
        };
        let all = parse_digest(Some("next=3&upto=9&compacted=7"));
        assert_eq!(all, Ok(expected));
        for odd in ["compacted=7", "next=3", "upto=soon", "upto=1&upto=2", "x=1"] {
            assert!(parse_digest(Some(odd)).is_err(), "{odd}");
        }
    }

    #[test]
    fn malformed_values_are_refused() {
        assert!(refusal(get("")).starts_with("q is missing"));
        assert!(refusal(get("q=1&min_lsn=-1")).starts_with("min_lsn must be"));
        assert!(refusal(get("q=1&timeout_ms=0")).starts_with("timeout_ms must be"));
        assert!(refusal(get("q=1&format=xml")).contains("json, jsonl, csv"));
        assert!(refusal(get("q=1&params=%7B")).starts_with("params is not JSON"));
        assert!(refusal(post("application/json", "[1]")).contains("must be an object"));
        assert!(refusal(post("application/json", "{")).contains("not JSON"));
        assert!(refusal(post("application/json", r#"{"q": 1}"#)).contains("must be a string"));
        assert!(refusal(post("image/png", "x")).contains("image/png"));
        let curl = post(
            "application/x-www-form-urlencoded",
            "SELECT * FROM t WHERE a = 1",
        );
        assert!(refusal(curl).contains("text/plain"));
    }

    #[test]
    fn ready_takes_a_lag_only() {
        assert_eq!(parse_ready(None), Ok(None));
        assert_eq!(parse_ready(Some("max_lag_ms=500")), Ok(Some(500)));
        assert!(parse_ready(Some("max_lag=500")).is_err());
        assert!(parse_ready(Some("max_lag_ms=soon")).is_err());
    }
}
