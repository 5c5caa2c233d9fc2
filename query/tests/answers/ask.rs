//! One statement, asked of an engine or of plain DataFusion, as rows of texts. Must never round a
//! value.

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::TryStreamExt;
use query::{Engine, Params, QueryError};

/// Rows of an answer.
pub(crate) type Rows = Vec<Vec<String>>;

pub(crate) async fn ask(engine: &Engine, sql: &str) -> Result<Rows, QueryError> {
    let stream = engine.sql(sql, Params::none()).await?;
    let batches: Result<Vec<RecordBatch>, _> = stream.try_collect().await;
    match batches {
        Ok(batches) => Ok(rows(&batches)),
        Err(error) => match error.find_root() {
            datafusion::error::DataFusionError::External(own) => {
                Err(own.downcast_ref::<QueryError>().cloned().expect("ours"))
            }
            other => panic!("{sql}: {other}"),
        },
    }
}

/// The answer, which must come.
pub(crate) async fn answer(engine: &Engine, sql: &str) -> Rows {
    ask(engine, sql)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"))
}

/// What DataFusion answers when nobody stands before it; an error as its text.
pub(crate) async fn plain(sql: &str) -> Result<Rows, String> {
    let config = SessionConfig::new().with_target_partitions(1);
    let context = SessionContext::new_with_config(config);
    let frame = context.sql(sql).await.map_err(|error| error.to_string())?;
    let batches = frame.collect().await.map_err(|error| error.to_string())?;
    Ok(rows(&batches))
}

fn rows(batches: &[RecordBatch]) -> Rows {
    let options = FormatOptions::default().with_null("NULL");
    let mut rows = Vec::new();
    for batch in batches {
        let columns: Vec<ArrayFormatter<'_>> = batch
            .columns()
            .iter()
            .map(|column| ArrayFormatter::try_new(column, &options).expect("a type to show"))
            .collect();
        for row in 0..batch.num_rows() {
            let texts = columns.iter().map(|column| column.value(row).to_string());
            rows.push(texts.collect());
        }
    }
    rows
}
