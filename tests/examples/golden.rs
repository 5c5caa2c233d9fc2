//! Writes the golden log of the current format version into an empty directory, once per
//! version: `cargo run -p tests --example golden -- tests/golden/vN`. Must never be run over
//! files that are there.

#![allow(clippy::expect_used, reason = "a test that panics has failed")]

use std::path::PathBuf;
use std::time::Duration;

use tests::workload::{append, keyed};
use wal::{Config, OsDisk, Row, TableDef, TableOptions, Value, open_primary};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = PathBuf::from(std::env::args().nth(1).ok_or("name the directory")?);
    std::fs::create_dir(&dir)?;
    let mut config = Config {
        segment_size: 7000,
        ..keyed()
    };
    // Since version 3: how far rows have expired.
    let options = TableOptions {
        retention: Some(Duration::from_secs(86_400)),
        ..TableOptions::default()
    };
    config.tables.push(TableDef {
        name: "short".to_owned(),
        options,
        ..TableDef::default()
    });
    let (committer, _) = open_primary(OsDisk::new(), &dir, &config)?;
    let mut appender = committer.appender(Box::new(|_| ()));
    for number in 0..30 {
        append(&mut appender, number)?;
        if number % 4 == 0 {
            // Since version 3: from the third on beyond 2^53.
            let serial = if number < 8 { number } else { SERIAL + number };
            let row = Row {
                time: number,
                tags: &[],
                fields: &[("serial".into(), Value::Int(serial))],
            };
            let group = appender.append("serials", &[row])?;
            appender.wait(group)?;
        }
        if number == 28 {
            wal::compact_now(committer.log())?;
        }
    }
    drop(appender);
    committer.stop()?;
    Ok(())
}

/// An identifier as devices send them.
const SERIAL: i64 = 1_724_442_618_569_203_714;
