//! Opens or creates a log's directory: loads sealed segments, recovers the active one, starts the
//! writer's thread. What was cut is reported in `Recovery`; it must never be silent.

pub(crate) mod closed;
pub(crate) mod flipped;
mod loading;
mod manifest;
mod newest;
pub(crate) mod recovery;
mod reframe;
pub(crate) mod settle;

use std::path::Path;
use std::sync::Arc;

use crate::clock::unix_nanos;
use crate::config::{Config, FollowerConfig};
use crate::disk::Disk;
use crate::error::WalError;
use crate::format::body::BodyWriter;
use crate::ids::{Epoch, LogId};
use crate::open::loading::{OpenMode, open};
use crate::open::recovery::Recovery;
use crate::open::settle::settle;
use crate::paths::find_log;
use crate::read::log::LogState;
use crate::write::committer::Committer;
use crate::write::follower::Follower;
use crate::write::group::GroupBuilder;
use crate::write::writer::Writer;

/// Opens the log in `data_dir` for a primary, or begins one. What is damaged is left as a hole and
/// reported; only what cannot be understood at all is refused.
///
/// # Errors
/// `NewerFormat` when a newer version has written the files, `Io` when they cannot be read or made.
pub fn open_primary(
    disk: Arc<dyn Disk>,
    data_dir: &Path,
    config: &Config,
) -> Result<(Committer, Recovery), WalError> {
    settle(&disk, data_dir)?;
    let id = find_log(disk.as_ref(), data_dir)?.unwrap_or_else(LogId::random);
    let (mut writer, state, recovery) = open(
        disk,
        data_dir,
        (id, FIRST_EPOCH),
        OpenMode::PRIMARY,
        &config.cache,
    )?;
    if writer.active.has_hole {
        close_damaged(&mut writer, &state)?;
    }
    Ok((Committer::start(writer, state, config)?, recovery))
}

/// Opens a primary's log before it writes anything itself: blocks that it has had, and lost, can be
/// added as another node has them, byte for byte. Then it is closed, and opened for the primary.
///
/// # Errors
/// As [`open_primary`].
pub fn open_to_add(
    disk: Arc<dyn Disk>,
    data_dir: &Path,
    config: &FollowerConfig,
) -> Result<(Follower, Recovery), WalError> {
    settle(&disk, data_dir)?;
    let id = find_log(disk.as_ref(), data_dir)?.unwrap_or_else(LogId::random);
    let ids = (id, FIRST_EPOCH);
    let (writer, state, recovery) = open(disk, data_dir, ids, OpenMode::PRIMARY, &config.cache)?;
    Ok((Follower::start(writer, state, config)?, recovery))
}

/// Seals a segment with a hole at once: only whole segments can be fetched from a secondary.
fn close_damaged(writer: &mut Writer, state: &LogState) -> Result<(), WalError> {
    let mut body = BodyWriter::default();
    let seed = writer.active.seed;
    let mut group = GroupBuilder::new(&mut body, writer.tip, unix_nanos(), seed);
    group.seal();
    writer.commit(state, &[group.finish()])?;
    let sealed = writer.rotate()?;
    state.published.publish(writer.committed(Some(sealed)));
    Ok(())
}

/// Opens a secondary's copy of log `id`, or begins one.
///
/// # Errors
/// `WrongLog` when the directory holds another log, and as `open_primary`.
pub fn open_follower(
    disk: Arc<dyn Disk>,
    data_dir: &Path,
    id: LogId,
    epoch: Epoch,
    config: &FollowerConfig,
) -> Result<(Follower, Recovery), WalError> {
    // Or a new log would be begun in the place of one that is being put in force.
    settle(&disk, data_dir)?;
    if let Some(found) = find_log(disk.as_ref(), data_dir)?
        && found != id
    {
        return Err(WalError::foreign(data_dir, id, found));
    }
    let (writer, state, recovery) = open(
        disk,
        data_dir,
        (id, epoch),
        OpenMode::SECONDARY,
        &config.cache,
    )?;
    Ok((Follower::start(writer, state, config)?, recovery))
}

/// Opens a log that is being brought in: its Parquet files are still on their way.
pub(crate) fn open_staged(
    disk: Arc<dyn Disk>,
    incoming: &Path,
    id: LogId,
    epoch: Epoch,
    config: &FollowerConfig,
) -> Result<(Follower, Recovery), WalError> {
    let (writer, state, recovery) =
        open(disk, incoming, (id, epoch), OpenMode::STAGED, &config.cache)?;
    Ok((Follower::start(writer, state, config)?, recovery))
}

/// The epoch of a log that has seen no promotion.
const FIRST_EPOCH: Epoch = Epoch(1);
