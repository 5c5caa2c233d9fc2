//! `headwater sql`: one statement, its answer on standard output, its refusal on standard error.
//! Must never mix the two.

use std::io::{self, Write};

use crate::cli::client::{Client, ClientError};
use crate::cli::table::{self, Row};

/// How an answer looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// Aligned columns, for people
    #[default]
    Table,
    /// One array of objects
    Json,
    /// One object per line
    Jsonl,
    Csv,
    /// An Arrow IPC stream
    Arrow,
}

/// Why there is no answer on standard output.
#[derive(Debug, thiserror::Error)]
pub(super) enum SqlError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("the answer ended early: {0}")]
    Cut(io::Error),
    #[error("the answer is no JSON array of rows: {0}")]
    Rows(serde_json::Error),
    #[error("cannot write the answer: {0}")]
    Output(io::Error),
}

/// Asks and prints.
pub(super) fn run(url: &str, format: Format, statement: &str) -> Result<(), SqlError> {
    let client = Client::new(url)?;
    let written = match format {
        Format::Table => {
            let bytes = client
                .sql(statement, "json")?
                .bytes()
                .map_err(SqlError::Cut)?;
            let rows: Vec<Row> = serde_json::from_slice(&bytes).map_err(SqlError::Rows)?;
            let mut out = io::BufWriter::new(io::stdout().lock());
            table::render(&rows, &mut out).and_then(|()| out.flush())
        }
        Format::Json => return stream(&client, statement, "json"),
        Format::Jsonl => return stream(&client, statement, "jsonl"),
        Format::Csv => return stream(&client, statement, "csv"),
        Format::Arrow => return stream(&client, statement, "arrow"),
    };
    finish(written)
}

/// Passes the answer on as it comes.
fn stream(client: &Client, statement: &str, format: &str) -> Result<(), SqlError> {
    let mut answer = client.sql(statement, format)?.body.into_reader();
    let mut out = io::stdout().lock();
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = io::Read::read(&mut answer, &mut buffer).map_err(SqlError::Cut)?;
        if read == 0 {
            return finish(out.flush());
        }
        if let Err(error) = out.write_all(&buffer[..read]) {
            return finish(Err(error));
        }
    }
}

/// A reader that has seen enough, such as `head`, is no failure.
fn finish(written: io::Result<()>) -> Result<(), SqlError> {
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(SqlError::Output(error)),
        _ => Ok(()),
    }
}

const BUFFER: usize = 64 << 10;
