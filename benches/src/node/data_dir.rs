//! Where measured data lies: below a directory that the user chose, so that it is on the disk that
//! is to be measured. Must never remove anything but what it made.

use std::fs;
use std::path::PathBuf;

use clap::Args;
use tempfile::TempDir;

use crate::error::{BenchError, Context};
use crate::node::process::sibling;

/// A directory for data.
#[derive(Clone, Debug, Args)]
pub struct DataDir {
    /// Where data goes: a directory on the disk to be measured; by default beside the build.
    #[arg(long)]
    dir: Option<PathBuf>,
}

impl DataDir {
    /// A temporary directory below it, removed when it is dropped.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn temp(&self, name: &str) -> Result<TempDir, BenchError> {
        let parent = match &self.dir {
            Some(dir) => dir.clone(),
            None => sibling("..")?.join("bench-data"),
        };
        fs::create_dir_all(&parent).context(format!("make {}", parent.display()))?;
        let parent = parent
            .canonicalize()
            .context(format!("find {}", parent.display()))?;
        tempfile::Builder::new()
            .prefix(&format!("{name}-"))
            .tempdir_in(&parent)
            .context(format!("make a directory in {}", parent.display()))
    }
}
