//! `/api/v1/digest`: what this node's disk really holds, for a comparison with another node. Owns
//! the shape of that answer; must never say whether it is right: whoever compares does.

use std::sync::Arc;

use axum::extract::State;
use axum::http::Uri;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use query::QueryError;
use serde_json::{Value, json};
use wal::{Chain, Digest, DigestError, Lsn, PartitionDigest, RangeDigest};

use super::app::App;
use super::error::{self, ApiError, Failure};
use super::freshness;
use super::headers;
use super::request::{self, DigestRequest};

/// Reads everything below an LSN, and the Parquet files of one mark. Damage is an answer, not a
/// failure.
pub(crate) async fn digest(State(app): State<Arc<App>>, uri: Uri) -> Result<Response, Failure> {
    let DigestRequest { upto, mark } = request::parse_digest(uri.query())?;
    if let Some(lsn) = upto {
        freshness::await_lsn(app.node.as_ref(), &app.seats, lsn, freshness::MAX_WAIT).await?;
    }
    let log = app.node.log().ok_or(QueryError::NoLog)?;
    let upto = upto.map_or_else(|| log.snapshot().end().lsn, Lsn);
    let mark = mark.map(|(compacted, next)| (Lsn(compacted), next));
    let read = app.verifier.run(move || log.digest(upto, mark)).await?;
    let digest = read.map_err(|refused| failure(refused, upto))?;
    let text = app.hidden.hide(body(&digest).to_string());
    let mut response = ([(CONTENT_TYPE, "application/json")], text).into_response();
    headers::set_position(response.headers_mut(), digest.upto.lsn, digest.epoch);
    Ok(response)
}

fn failure(refused: DigestError, upto: Lsn) -> ApiError {
    let lsn = upto.0;
    match refused {
        DigestError::UnknownMark { newest } => ApiError::UnknownMark { newest },
        DigestError::Ahead { at } => QueryError::LsnAhead { lsn, at: at.0 }.into(),
        DigestError::Gone { oldest } => QueryError::LsnGone {
            lsn,
            oldest: oldest.0,
        }
        .into(),
    }
}

fn body(digest: &Digest) -> Value {
    json!({
        "log": digest.log.to_string(),
        "epoch": digest.epoch.0,
        "upto": {
            "lsn": digest.upto.lsn.0,
            "chain": chain(digest.upto.chain),
        },
        "oldest": digest.oldest.0,
        "mark": error::mark(&digest.mark),
        "ranges": digest.ranges.iter().map(range).collect::<Vec<Value>>(),
        "partitions": digest.partitions.iter().map(partition).collect::<Vec<Value>>(),
    })
}

fn range(range: &RangeDigest) -> Value {
    json!({
        "first": range.first.0,
        "end": range.end.0,
        "chain": chain(range.chain),
        "fault": range.fault,
    })
}

/// All zeros where it is not known.
fn chain(chain: Option<Chain>) -> String {
    chain.unwrap_or_default().to_string()
}

fn partition(partition: &PartitionDigest) -> Value {
    json!({
        "table": partition.table,
        "partition": partition.partition,
        "files": partition.files,
        "rows": partition.rows,
        "bytes": partition.bytes,
        "digest": hex(partition.digest),
        "fault": partition.fault,
    })
}

/// As text: not every reader of JSON keeps 64 bits of a number.
fn hex(value: u64) -> String {
    format!("{value:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use wal::{Boundary, Epoch, FilesMark, LogId};

    fn mark() -> FilesMark {
        FilesMark {
            compacted: Lsn(5),
            next: 3,
            digest: u64::MAX,
        }
    }

    #[test]
    fn a_digest_names_every_range_and_partition_with_its_fault() {
        let digest = Digest {
            log: LogId([0xab; 16]),
            epoch: Epoch(2),
            upto: Boundary {
                lsn: Lsn(9),
                chain: Some(Chain(0x1f)),
            },
            oldest: Lsn(4),
            mark: mark(),
            ranges: vec![RangeDigest {
                first: Lsn(4),
                end: Lsn(9),
                chain: Some(Chain(0x1f)),
                fault: None,
            }],
            partitions: vec![PartitionDigest {
                table: "plant".to_owned(),
                partition: "2026-11-21T00:00:00Z/1d".to_owned(),
                files: 1,
                rows: 5,
                bytes: 700,
                digest: 7,
                fault: Some("odd".to_owned()),
            }],
        };
        let expected = json!({
            "log": "ab".repeat(16),
            "epoch": 2,
            "upto": {"lsn": 9, "chain": "000000000000001f"},
            "oldest": 4,
            "mark": {"compacted": 5, "next": 3, "digest": "ffffffffffffffff"},
            "ranges": [{"first": 4, "end": 9, "chain": "000000000000001f", "fault": null}],
            "partitions": [{
                "table": "plant", "partition": "2026-11-21T00:00:00Z/1d", "files": 1, "rows": 5,
                "bytes": 700, "digest": "0000000000000007", "fault": "odd",
            }],
        });
        assert_eq!(body(&digest), expected);
    }

    #[test]
    fn an_unknown_mark_tells_the_newest_and_an_lsn_out_of_reach_says_where() {
        let unknown = failure(DigestError::UnknownMark { newest: mark() }, Lsn(9));
        assert_eq!(unknown, ApiError::UnknownMark { newest: mark() });
        let ahead = failure(DigestError::Ahead { at: Lsn(7) }, Lsn(9));
        assert_eq!(ahead, QueryError::LsnAhead { lsn: 9, at: 7 }.into());
        let gone = failure(DigestError::Gone { oldest: Lsn(7) }, Lsn(3));
        assert_eq!(gone, QueryError::LsnGone { lsn: 3, oldest: 7 }.into());
    }
}
