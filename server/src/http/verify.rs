//! `/api/v1/verify`: reads everything that is stored and says what is damaged. Owns the shape of
//! that answer; must never take damage for a failure.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use query::QueryError;
use wal::VerifyReport;

use super::app::App;
use super::error::{ApiError, Failure};

/// The state of all that is stored. Damage is an answer, not a failure.
pub(crate) async fn verify(State(app): State<Arc<App>>) -> Result<Response, Failure> {
    let log = app.node.log().ok_or(QueryError::NoLog)?;
    let report: VerifyReport = app.verifier.run(move || log.verify()).await?;
    let text = serde_json::to_string(&report);
    let text = text.map_err(|error| ApiError::Internal(error.to_string()))?;
    Ok(([(CONTENT_TYPE, "application/json")], app.hidden.hide(text)).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
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
        assert_eq!(serde_json::to_value(report()).unwrap(), expected);
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
        let body = serde_json::to_value(VerifyReport {
            log: Some(LogId([0xab; 16])),
            torn_tail: Some(torn),
            faults: vec![fault],
            ..report()
        })
        .unwrap();
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
