//! `/api/v1/verify`: reads everything that is stored and says what is damaged. Owns the one thread
//! that reads so much at a time; must never let a second one start beside it, nor hold up a
//! connection or the end of the process.

use std::sync::Arc;
use std::thread;

use axum::Json;
use axum::extract::State;
use query::QueryError;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, oneshot};
use wal::VerifyReport;

use super::App;
use super::error::{ApiError, Failure};

/// The right to read everything that is stored, held by whoever does.
pub(crate) struct Verifier(Arc<Semaphore>);

impl Default for Verifier {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

impl Verifier {
    /// Does `work` on a thread of its own, which goes on when nobody waits any more.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let Ok(permit) = Arc::clone(&self.0).try_acquire_owned() else {
            return Err(ApiError::Busy("the log is being verified already"));
        };
        let (sender, receiver) = oneshot::channel();
        let work = move || {
            let report = work();
            drop(permit);
            if sender.send(report).is_err() {
                tracing::info!("the log was verified and nobody waited any more");
            }
        };
        thread::Builder::new()
            .name("verify".to_owned())
            .spawn(work)
            .map_err(|error| ApiError::Internal(format!("cannot start a thread: {error}")))?;
        receiver
            .await
            .map_err(|_| ApiError::Internal("verifying ended without a report".to_owned()))
    }
}

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
                chain: 1,
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

    #[tokio::test]
    async fn a_second_reader_is_refused_until_the_first_is_done() {
        let verifier = Verifier::default();
        let (release, held) = std::sync::mpsc::channel::<()>();
        let mut first = Box::pin(verifier.run(move || held.recv().is_ok()));
        assert!(futures::poll!(&mut first).is_pending());
        let refused = verifier.run(|| ()).await.expect_err("one at a time");
        assert!(matches!(refused, ApiError::Busy(_)));
        release.send(()).expect("the first still waits");
        assert_eq!(first.await, Ok(true));
        assert_eq!(verifier.run(|| 7).await, Ok(7));
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
