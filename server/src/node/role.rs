//! What a data directory has been: the file `role` in it, written when a node starts. Must never
//! let a secondary's directory go on as a primary's: two nodes would write one log.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tracing::{info, warn};

use crate::conf::RoleName;
use crate::node::data_dir::{DataDir, DataDirError, write_durably};

/// Why a data directory is not for the role in the conf.
#[derive(Debug, thiserror::Error)]
pub enum RoleError {
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error("cannot read {}: {source}", .path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error(
        "{} must hold primary, secondary or returning; it holds {found:?}", .path.display()
    )]
    Unknown { path: PathBuf, found: String },
    #[error(
        "data directory {} is a secondary's{}: with node.role = \"primary\" two nodes would write \
         one log in one epoch. Start it with node.role = \"secondary\". If the primary is lost for \
         good: make sure that it never starts again, write the word primary into {}, start this \
         node as the primary, and let all other secondaries follow it",
        .data_dir.display(),
        .followed.as_ref().map_or_else(String::new, |name| format!(", which has followed {name:?}")),
        .file.display()
    )]
    Secondarys {
        data_dir: PathBuf,
        followed: Option<String>,
        file: PathBuf,
    },
}

/// What a data directory has been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Was {
    Primary,
    Secondary,
    /// A primary, and since then a secondary that has followed nobody yet.
    Returning,
}

/// Whether this directory may be opened by a node of this role; nothing is changed.
///
/// # Errors
/// When it may not, or cannot be read.
pub(crate) fn check(data_dir: &Path, role: RoleName) -> Result<(), RoleError> {
    let was = read(data_dir)?.or_else(|| derived(data_dir));
    // Without a log, and none that was being exchanged, there is nothing that two could write.
    let is_empty = matches!(wal::find_log(&wal::OsDisk, data_dir), Ok(None))
        && !data_dir.join(FOLLOWED).exists();
    if (role, was) == (RoleName::Primary, Some(Was::Secondary)) && !is_empty {
        return Err(RoleError::Secondarys {
            followed: followed(data_dir),
            file: data_dir.join(FILE),
            data_dir: data_dir.to_owned(),
        });
    }
    Ok(())
}

/// Opens the directory for a node of this role, and notes that. A copy of a primary's directory, or
/// that of a primary that comes back as a secondary, takes another node id: under the old one it
/// would be taken for the primary.
///
/// # Errors
/// When the directory has another role, or cannot be written.
pub(crate) fn claim(data_dir: &mut DataDir, role: RoleName) -> Result<(), RoleError> {
    let path = data_dir.path().to_owned();
    check(&path, role)?;
    match (role, read(&path)?) {
        (RoleName::Primary, Some(Was::Primary))
        | (RoleName::Secondary, Some(Was::Secondary | Was::Returning)) => {}
        (RoleName::Primary, Some(Was::Returning)) => {
            warn!(
                "this was a primary's data directory and has followed nobody since: it goes on as \
                 the primary's"
            );
            write(&path, Was::Primary)?;
        }
        (RoleName::Secondary, Some(Was::Primary)) => {
            let old = data_dir.node_id().to_owned();
            data_dir.renew_node_id()?;
            write(&path, Was::Returning)?;
            warn!(
                %old, new = %data_dir.node_id(),
                "this is a primary's data directory, or a copy of one: as a secondary it has \
                 another node id from now on; what is in its log and not in the new primary's is \
                 put aside"
            );
        }
        (RoleName::Primary, _) => write(&path, Was::Primary)?,
        (RoleName::Secondary, None) => write(&path, Was::Secondary)?,
    }
    Ok(())
}

/// A secondary follows: from now on the directory is one's.
///
/// # Errors
/// When the directory cannot be written.
pub(crate) fn follows(data_dir: &Path) -> Result<(), RoleError> {
    if read(data_dir)? != Some(Was::Secondary) {
        write(data_dir, Was::Secondary)?;
        info!("this data directory is a secondary's from now on");
    }
    Ok(())
}

fn read(data_dir: &Path) -> Result<Option<Was>, RoleError> {
    let path = data_dir.join(FILE);
    match fs::read_to_string(&path) {
        Ok(text) => match text.trim() {
            PRIMARY => Ok(Some(Was::Primary)),
            SECONDARY => Ok(Some(Was::Secondary)),
            RETURNING => Ok(Some(Was::Returning)),
            found => Err(RoleError::Unknown {
                found: found.to_owned(),
                path,
            }),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(RoleError::Read { path, source }),
    }
}

/// Only a secondary leaves these behind, also of a version that noted no role.
fn derived(data_dir: &Path) -> Option<Was> {
    let left = [FOLLOWED, DIVERGED];
    let has = |name: &&str| data_dir.join(name).exists();
    left.iter().any(has).then_some(Was::Secondary)
}

fn followed(data_dir: &Path) -> Option<String> {
    let text = fs::read_to_string(data_dir.join(FOLLOWED)).ok()?;
    text.lines().nth(2).map(str::to_owned)
}

fn write(data_dir: &Path, was: Was) -> Result<(), DataDirError> {
    let text = match was {
        Was::Primary => PRIMARY,
        Was::Secondary => SECONDARY,
        Was::Returning => RETURNING,
    };
    write_durably(&data_dir.join(FILE), text)
}

const FILE: &str = "role";
const PRIMARY: &str = "primary";
const SECONDARY: &str = "secondary";
const RETURNING: &str = "returning";

/// What a secondary leaves behind: which primary it has followed, and what has diverged.
const FOLLOWED: &str = "followed";
const DIVERGED: &str = "diverged";

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory with a log.
    fn with_log() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let config = wal::Config::default();
        let (committer, _) = wal::open_primary(wal::OsDisk::new(), dir.path(), &config).unwrap();
        committer.stop().unwrap();
        dir
    }

    fn opened(dir: &Path, role: RoleName) -> Result<String, RoleError> {
        let mut data_dir = DataDir::open(dir, crate::conf::Create::Auto)?;
        claim(&mut data_dir, role)?;
        Ok(data_dir.node_id().to_owned())
    }

    #[test]
    fn a_secondarys_directory_takes_no_primary_until_an_operator_says_so() {
        let dir = with_log();
        let id = opened(dir.path(), RoleName::Secondary).unwrap();
        fs::write(dir.path().join(FOLLOWED), "1\n1\nprimary-1\n").unwrap();
        for _ in 0..2 {
            let error = opened(dir.path(), RoleName::Primary).unwrap_err();
            let error = error.to_string();
            assert!(error.contains("has followed \"primary-1\""), "{error}");
            assert!(error.contains("node.role = \"secondary\""), "{error}");
        }
        assert_eq!(opened(dir.path(), RoleName::Secondary).unwrap(), id);
        fs::write(dir.path().join(FILE), "primary\n").unwrap();
        assert_eq!(opened(dir.path(), RoleName::Primary).unwrap(), id);
    }

    #[test]
    fn a_directory_of_a_version_without_roles_is_known_by_what_a_secondary_leaves() {
        let dir = with_log();
        DataDir::open(dir.path(), crate::conf::Create::Auto).unwrap();
        check(dir.path(), RoleName::Primary).unwrap();
        fs::create_dir(dir.path().join(DIVERGED)).unwrap();
        let error = opened(dir.path(), RoleName::Primary).unwrap_err();
        assert!(matches!(error, RoleError::Secondarys { .. }), "{error}");
    }

    #[test]
    fn a_primary_that_comes_back_as_a_secondary_is_another_node() {
        let dir = with_log();
        let id = opened(dir.path(), RoleName::Primary).unwrap();
        let other = opened(dir.path(), RoleName::Secondary).unwrap();
        assert_ne!(id, other);
        assert_eq!(opened(dir.path(), RoleName::Secondary).unwrap(), other);
        // It was a slip: nobody has been followed.
        assert_eq!(opened(dir.path(), RoleName::Primary).unwrap(), other);
        let third = opened(dir.path(), RoleName::Secondary).unwrap();
        follows(dir.path()).unwrap();
        assert_eq!(opened(dir.path(), RoleName::Secondary).unwrap(), third);
        let error = opened(dir.path(), RoleName::Primary).unwrap_err();
        assert!(matches!(error, RoleError::Secondarys { .. }), "{error}");
    }

    #[test]
    fn a_directory_without_a_log_takes_either_role() {
        let dir = tempfile::tempdir().unwrap();
        for role in [RoleName::Secondary, RoleName::Primary] {
            opened(dir.path(), role).unwrap();
        }
        assert_eq!(read(dir.path()).unwrap(), Some(Was::Primary));
    }

    #[test]
    fn a_role_that_is_none_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), "witness\n").unwrap();
        let error = opened(dir.path(), RoleName::Primary).unwrap_err();
        assert!(matches!(error, RoleError::Unknown { .. }), "{error}");
    }
}
