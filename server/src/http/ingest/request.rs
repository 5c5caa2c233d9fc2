//! What a write asks for, as typed values. Owns the names of its parameters; must never let an
//! unknown name or a malformed value pass as a default.

use axum::extract::Request;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName};
use intake::{Encoding, Format, Target, Unit};

use crate::http::error::ApiError;
use crate::http::request::{Pairs, check_names, form_pairs, text};

/// Where rows go and what their times mean.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) target: Target,
    pub(super) unit: Unit,
}

/// Rows of one table.
pub(super) fn table(table: String, request: &Request) -> Result<Ask, ApiError> {
    let pairs = form_pairs(request.uri().query().unwrap_or_default().as_bytes());
    check_names(&pairs, TABLE_NAMES)?;
    let format = match find(&pairs, "format")? {
        Some(name) => format(name)?,
        None => media(header(request.headers(), &CONTENT_TYPE))?,
    };
    let tags = find(&pairs, "tags")?.unwrap_or_default().split(',');
    let tags = tags.map(str::trim).filter(|tag| !tag.is_empty());
    let tags: Vec<String> = tags.map(str::to_owned).collect();
    if tags.len() > MAX_TAGS {
        return Err(ApiError::Parameter(format!(
            "tags names {} fields, at most {MAX_TAGS} can be",
            tags.len()
        )));
    }
    Ok(Ask {
        unit: unit(&pairs, Unit::Auto)?,
        target: Target::Table {
            table,
            format,
            tags,
        },
    })
}

/// Line protocol as `InfluxDB` 3 takes it. There is one database, and every write is synced: `db`
/// and `no_sync` change nothing.
pub(super) fn write_lp(query: Option<&str>) -> Result<Ask, ApiError> {
    let pairs = pairs(query, V3_NAMES)?;
    if find(&pairs, "accept_partial")?.is_some_and(|value| value != "true") {
        return Err(ApiError::NotSupported(
            "accept_partial=false: lines are stored one by one".to_owned(),
        ));
    }
    lines(&pairs, Unit::Auto)
}

/// As `InfluxDB` 2 takes it.
pub(super) fn write_v2(query: Option<&str>) -> Result<Ask, ApiError> {
    lines(&pairs(query, V2_NAMES)?, Unit::NANOSECOND)
}

/// As `InfluxDB` 1 takes it.
pub(super) fn write_v1(query: Option<&str>) -> Result<Ask, ApiError> {
    lines(&pairs(query, V1_NAMES)?, Unit::NANOSECOND)
}

fn lines(pairs: &Pairs, default: Unit) -> Result<Ask, ApiError> {
    Ok(Ask {
        target: Target::Lines,
        unit: unit(pairs, default)?,
    })
}

/// How the body is packed.
pub(super) fn encoding(headers: &HeaderMap) -> Result<Encoding, ApiError> {
    let named = header(headers, &CONTENT_ENCODING).map(str::to_ascii_lowercase);
    match named.as_deref() {
        None | Some("" | "identity") => Ok(Encoding::Plain),
        Some("gzip" | "x-gzip") => Ok(Encoding::Gzip),
        Some("zstd") => Ok(Encoding::Zstd),
        Some(other) => Err(ApiError::Parameter(format!(
            "Content-Encoding {other} is not known: use gzip, zstd or none"
        ))),
    }
}

fn pairs(query: Option<&str>, known: &[&str]) -> Result<Pairs, ApiError> {
    let pairs = form_pairs(query.unwrap_or_default().as_bytes());
    check_names(&pairs, known)?;
    Ok(pairs)
}

fn find<'a>(pairs: &'a Pairs, wanted: &str) -> Result<Option<&'a str>, ApiError> {
    let found = pairs.iter().find(|(name, _)| name == wanted);
    found.map(|(name, value)| text(name, value)).transpose()
}

fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

fn unit(pairs: &Pairs, default: Unit) -> Result<Unit, ApiError> {
    let Some(name) = find(pairs, "precision")? else {
        return Ok(default);
    };
    Unit::from_name(name).ok_or_else(|| {
        ApiError::Parameter(format!(
            "precision must be one of {}, not {name:?}",
            Unit::NAMES.join(", ")
        ))
    })
}

fn format(name: &str) -> Result<Format, ApiError> {
    match name {
        "auto" => Ok(Format::Auto),
        "json" | "jsonl" => Ok(Format::Json),
        "csv" => Ok(Format::Csv),
        other => Err(ApiError::Parameter(format!(
            "format must be one of auto, json, jsonl, csv, not {other:?}"
        ))),
    }
}

/// What a body of this media type is. `curl -d` says that everything is a form.
fn media(content_type: Option<&str>) -> Result<Format, ApiError> {
    let media = content_type.unwrap_or_default().split(';').next();
    match media
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase()
        .as_str()
    {
        "" | "text/plain" | "application/octet-stream" | "application/x-www-form-urlencoded" => {
            Ok(Format::Auto)
        }
        "application/json"
        | "application/jsonl"
        | "application/x-ndjson"
        | "application/ndjson"
        | "application/json-lines" => Ok(Format::Json),
        "text/csv" | "application/csv" => Ok(Format::Csv),
        other => Err(ApiError::Parameter(format!(
            "Content-Type {other} is not known: use application/json, application/x-ndjson or text/csv"
        ))),
    }
}

/// Most fields that can be named as tags.
const MAX_TAGS: usize = 64;
const TABLE_NAMES: &[&str] = &["format", "tags", "precision"];
const V3_NAMES: &[&str] = &["db", "precision", "accept_partial", "no_sync"];
const V2_NAMES: &[&str] = &["org", "orgID", "bucket", "precision"];
const V1_NAMES: &[&str] = &["db", "rp", "u", "p", "precision", "consistency"];

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn ask(uri: &str, content_type: &str) -> Result<Ask, ApiError> {
        let request = Request::builder().uri(uri);
        let request = request.header(CONTENT_TYPE, content_type);
        table("t".to_owned(), &request.body(Body::empty()).expect("one"))
    }

    fn target(format: Format, tags: &[&str]) -> Target {
        Target::Table {
            table: "t".to_owned(),
            format,
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        }
    }

    #[test]
    fn the_format_is_what_is_asked_for_else_what_the_content_type_says() {
        for (uri, media, format) in [
            ("/", "application/json; charset=utf-8", Format::Json),
            ("/", "application/x-ndjson", Format::Json),
            ("/", "Text/CSV", Format::Csv),
            ("/", "application/x-www-form-urlencoded", Format::Auto),
            ("/?format=csv", "application/json", Format::Csv),
            ("/?format=jsonl", "image/png", Format::Json),
        ] {
            let expected = target(format, &[]);
            assert_eq!(
                ask(uri, media).expect(uri).target,
                expected,
                "{uri} {media}"
            );
        }
        let asked = ask("/?tags=site,%20unit,&precision=ms", "").expect("asks");
        assert_eq!(asked.target, target(Format::Auto, &["site", "unit"]));
        assert_eq!(asked.unit, Unit::Nanos(1_000_000));
    }

    #[test]
    fn what_nobody_knows_is_refused_by_name() {
        let refusal = |result: Result<Ask, ApiError>| result.expect_err("refused").to_string();
        assert!(refusal(ask("/?fromat=csv", "")).contains("did you mean format?"));
        assert!(refusal(ask("/?format=xml", "")).contains("not \"xml\""));
        assert!(refusal(ask("/?precision=days", "")).contains("auto, ns, us, ms, s, m, h"));
        assert!(refusal(ask("/", "image/png")).contains("image/png"));
        let many = format!("/?tags={}", "x,".repeat(MAX_TAGS + 1));
        assert!(refusal(ask(&many, "")).contains("at most 64"));
        let partial = refusal(write_lp(Some("accept_partial=false")));
        assert!(partial.starts_with("not supported: accept_partial=false"));
        let mut headers = HeaderMap::new();
        assert_eq!(encoding(&headers), Ok(Encoding::Plain));
        headers.insert(CONTENT_ENCODING, "gzip".parse().expect("a value"));
        assert_eq!(encoding(&headers), Ok(Encoding::Gzip));
        headers.insert(CONTENT_ENCODING, "Zstd".parse().expect("a value"));
        assert_eq!(encoding(&headers), Ok(Encoding::Zstd));
        headers.insert(CONTENT_ENCODING, "br".parse().expect("a value"));
        assert!(encoding(&headers).is_err());
    }

    #[test]
    fn each_version_of_line_protocol_has_its_own_parameters_and_unit() {
        let auto = write_lp(Some("db=x&no_sync=true&accept_partial=true"));
        assert_eq!(auto.expect("v3").unit, Unit::Auto);
        let v3 = write_lp(Some("db=x&precision=second")).expect("v3");
        assert_eq!(v3.unit, Unit::Nanos(1_000_000_000));
        let v2 = write_v2(Some("org=o&bucket=b")).expect("v2");
        assert_eq!((v2.unit, v2.target), (Unit::NANOSECOND, Target::Lines));
        let v1 = write_v1(Some("db=x&precision=ms&u=a&p=b")).expect("v1");
        assert_eq!(v1.unit, Unit::Nanos(1_000_000));
        assert!(write_v1(Some("bucket=b")).is_err());
    }
}
