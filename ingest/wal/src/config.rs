//! What may be tuned per process. Nothing here changes the bytes of a block.

use std::time::Duration;

/// Tuning of one open log.
#[derive(Clone, Debug)]
pub struct Config {
    /// A segment is sealed once it is at least this long, in bytes.
    pub segment_size: u64,
    /// Extra time to let a group fill before it is committed.
    pub max_group_delay: Duration,
    /// An appender refuses more rows (`AppendError::Full`) once this many bytes wait for a commit.
    pub pending_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            segment_size: 64 << 20,
            max_group_delay: Duration::ZERO,
            pending_bytes: 8 << 20,
        }
    }
}
