//! Sides under the same load, in one run: servers, a primary with a secondary, a primary that
//! compacts. Rounds alternate the order, so that a machine that gets slower does not look like a
//! server that is slower. Must never compare numbers of two runs.

mod compaction;
mod options;
mod secondary;
mod servers;

use crate::error::BenchError;

pub use options::Options;

/// Measures every side in every regime: a Markdown table.
///
/// # Errors
/// When a server does not start, fails or breaks the protocol.
pub fn measure(options: &Options) -> Result<String, BenchError> {
    let mut options = options.clone();
    options.headwater.set.extend(
        options
            .workers
            .map(|workers| format!("mqtt.workers={workers}")),
    );
    if options.with_secondary {
        secondary::measure(&options)
    } else if options.with_compaction {
        compaction::measure(&options)
    } else {
        servers::measure(&options)
    }
}
