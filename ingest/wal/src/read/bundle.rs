//! What a new secondary begins with: the manifest in force, and a hold on the files it names. Holds
//! mappings, never copies; what it holds stays readable after a merge has replaced it. It must
//! never copy a file.

use std::sync::Arc;

use bytes::Bytes;

use crate::ids::Position;
use crate::parquet::FileSet;
use crate::read::log::Log;

/// A manifest and a hold on its files: while one lives, [`Log::export`] finds them.
#[derive(Clone, Debug)]
pub struct Bundle {
    manifest: Bytes,
    set: Arc<FileSet>,
}

impl Log {
    /// The manifest in force, as bytes, and a hold on the files it names: while the bundle lives,
    /// [`Log::export`] finds them even after a merge has replaced them.
    pub fn bundle(&self) -> Bundle {
        let snapshot = self.snapshot();
        let set = Arc::clone(&snapshot.files);
        self.state().kept.keep_bundled(&set);
        let manifest = set.manifest(snapshot.log, snapshot.epoch);
        Bundle {
            manifest: manifest.encode().into(),
            set,
        }
    }
}

impl Bundle {
    /// The manifest's bytes, as [`Staging::begin`](crate::Staging::begin) takes them.
    pub fn manifest(&self) -> &Bytes {
        &self.manifest
    }

    /// Everything below is in the files; the log goes on from there.
    pub fn compacted(&self) -> Position {
        self.set.compacted
    }

    /// How many files it names.
    pub fn files(&self) -> u64 {
        self.set.all().count() as u64
    }

    /// Their bytes.
    pub fn bytes(&self) -> u64 {
        self.set.all().map(|file| file.meta.bytes).sum()
    }
}
