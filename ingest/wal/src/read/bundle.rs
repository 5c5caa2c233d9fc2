//! What a new secondary begins with: the manifest in force, and a hold on the files it names. Holds
//! files, never copies; what it holds stays readable after a merge has replaced it, unless its room
//! is needed. It must never copy a file.

use std::sync::Arc;

use bytes::Bytes;

use crate::ids::Position;
use crate::read::kept_files::BundledSet;
use crate::read::log::Log;

/// A manifest and a hold on its files: while one lives, [`Log::export`] finds them.
#[derive(Clone, Debug)]
pub struct Bundle {
    manifest: Bytes,
    compacted: Position,
    files: u64,
    bytes: u64,
    _held: Arc<BundledSet>,
}

impl Log {
    /// The manifest in force, as bytes, and a hold on the files it names: while the bundle lives,
    /// [`Log::export`] finds them even after a merge has replaced them.
    pub fn bundle(&self) -> Bundle {
        let snapshot = self.snapshot();
        let set = Arc::clone(&snapshot.files);
        let held = self.state().kept.keep_bundled(&set);
        let manifest = set.manifest(snapshot.log, snapshot.epoch);
        Bundle {
            manifest: manifest.encode().into(),
            compacted: set.compacted,
            files: set.all().count() as u64,
            bytes: set.all().map(|file| file.meta.bytes).sum(),
            _held: held,
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
        self.compacted
    }

    /// How many files it names.
    pub fn files(&self) -> u64 {
        self.files
    }

    /// Their bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}
