//! `/api/v1/verify`: reads everything that is stored and says what is damaged. Owns the shape of
//! that answer; must never take damage for a failure.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use query::QueryError;
use serde_json::{Value, json};
use wal::VerifyReport;

use super::app::App;
use super::error::Failure;

/// The state of all that is stored. Damage is an answer, not a failure.
pub(crate) async fn verify(State(app): State<Arc<App>>) -> Result<Json<Value>, Failure> {
    let log = app.node.log().ok_or(QueryError::NoLog)?;
    let report = app.verifier.run(move || log.verify()).await?;
    Ok(Json(body(&report)))
}

fn body(report: &VerifyReport) -> Value {
    let torn_tail = report.torn_tail.as_ref().map(|torn| {
        json!({
            "file": torn.file,
            "offset": torn.offset,
            "bytes": torn.bytes,
            "reason": torn.reason,
        })
    });
    let faults: Vec<Value> = report
        .faults
        .iter()
        .map(|fault| {
            json!({
                "file": fault.file,
                "offset": fault.offset,
                "reason": fault.reason,
                "covers": fault.covers,
            })
        })
        .collect();
    json!({
        "log": report.log.map(|log| log.to_string()),
        "lsn": report.position.lsn.0,
        "segments": report.segments,
        "blocks": report.blocks,
        "rows": report.rows,
        "files": report.files,
        "file_rows": report.file_rows,
        "bytes": report.bytes,
        "torn_tail": torn_tail,
        "faults": faults,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use wal::{Fault, LogId, Lsn, Position, TornTail};

    fn report() -> VerifyReport {
        VerifyReport {
            log: None,
            position: Position {
                lsn: Lsn(7),
                chain: wal::Chain(1),
            },
            segments: 2,
            blocks: 3,
            rows: 4,
            files: 5,
            file_rows: 6,
            bytes: 8,
            torn_tail: None,
            faults: Vec::new(),
        }
    }

    #[test]
    fn a_sound_log_has_no_faults() {
        let expected = json!({
            "log": null, "lsn": 7, "segments": 2, "blocks": 3, "rows": 4, "files": 5,
            "file_rows": 6, "bytes": 8, "torn_tail": null, "faults": [],
        });
        assert_eq!(body(&report()), expected);
    }

    #[test]
    fn damage_is_told_with_its_place() {
        let torn = TornTail {
            file: "a.log".to_owned(),
            offset: 10,
            bytes: 3,
            reason: "short".to_owned(),
        };
        let fault = Fault {
            file: "b.parquet".to_owned(),
            offset: 20,
            reason: "odd".to_owned(),
            covers: "LSN 1 to 9".to_owned(),
        };
        let body = body(&VerifyReport {
            log: Some(LogId([0xab; 16])),
            torn_tail: Some(torn),
            faults: vec![fault],
            ..report()
        });
        assert_eq!(body["log"], json!("ab".repeat(16)));
        assert_eq!(
            body["torn_tail"],
            json!({"file": "a.log", "offset": 10, "bytes": 3, "reason": "short"})
        );
        assert_eq!(
            body["faults"],
            json!([{"file": "b.parquet", "offset": 20, "reason": "odd", "covers": "LSN 1 to 9"}])
        );
    }
}
