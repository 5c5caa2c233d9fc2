//! Log bytes per row at given group sizes: what a block costs besides its rows. Must never
//! count the head of a segment.

use clap::Args;

use crate::error::BenchError;
use crate::load::packet::PAYLOAD;
use crate::load::rows::{Filler, log_bytes};
use crate::node::data_dir::DataDir;
use crate::stats::{Table, grouped};

/// Writes logs with groups of fixed sizes and prints bytes per row.
#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    data: DataDir,
    /// Rows per group, as often as needed.
    #[arg(long = "size", default_values = ["1", "10", "100", "1000"])]
    sizes: Vec<usize>,
    /// Groups of each size, each with its own fsync.
    #[arg(long, default_value_t = 1000)]
    groups: usize,
    /// Devices the rows come from.
    #[arg(long, default_value_t = 1000)]
    devices: usize,
}

/// Fills one log per group size: a Markdown table.
///
/// # Errors
/// When a log fails.
pub fn measure(options: &Options) -> Result<String, BenchError> {
    if options.sizes.contains(&0) || options.groups == 0 || options.devices == 0 {
        return Err(BenchError::Usage(
            "sizes, groups and devices start at 1".to_owned(),
        ));
    }
    let mut table = Table::new(&["rows per group", "bytes per row", "of the JSON", "rows"]);
    for &size in &options.sizes {
        let dir = options.data.temp("logsize")?;
        let mut filler = Filler::create(&dir.path().join("data"), options.devices)?;
        // The first group also writes the schema and the head of the segment.
        filler.group(size)?;
        let head = log_bytes(&filler.log());
        let rows = (size * options.groups) as u64;
        filler.rows(rows, size)?;
        let bytes = log_bytes(&filler.log()) - head;
        filler.close()?;
        let per_row = bytes as f64 / rows as f64;
        table.row(&[
            grouped(size as f64),
            format!("{per_row:.1}"),
            format!("{:.2}", per_row / PAYLOAD.len() as f64),
            grouped(rows as f64),
        ]);
    }
    Ok(format!(
        "One tag (about 24 bytes), 3 fields, {} devices; the JSON alone is {} bytes.\n\n{table}",
        options.devices,
        PAYLOAD.len()
    ))
}
