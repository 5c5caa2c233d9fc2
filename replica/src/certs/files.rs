//! The files that certificates are kept in: their names, and how they are read and written. It must
//! never overwrite a key or a certificate, leave a key readable by others, nor half a list where a
//! node may read it.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use wal::{OsDisk, WalError};

use crate::certs::crl;
use crate::certs::error::CertsError;

pub(crate) fn refuse_existing(paths: &[&Path]) -> Result<(), CertsError> {
    // A dangling link is in the way too, so this asks for the entry, not for what it leads to.
    match paths.iter().find(|path| fs::symlink_metadata(path).is_ok()) {
        Some(path) => Err(CertsError::Exists {
            path: path.to_path_buf(),
        }),
        None => Ok(()),
    }
}

pub(crate) fn create_dir(path: &Path) -> Result<(), CertsError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)
        .map_err(|source| CertsError::io("create", path, source))
}

pub(crate) fn read(path: &Path) -> Result<String, CertsError> {
    fs::read_to_string(path).map_err(|source| CertsError::io("read", path, source))
}

pub(crate) fn write_new(path: &Path, text: &str, mode: u32) -> Result<(), CertsError> {
    let mut file = match OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
    {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(CertsError::Exists {
                path: path.to_owned(),
            });
        }
        Err(source) => return Err(CertsError::io("create", path, source)),
    };
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(|source| CertsError::io("write", path, source))
}

/// Copies the list of the CA in `dir`, if it has one, into a node's directory.
pub(crate) fn hand_out(dir: &Path, home: &Path) -> Result<Option<PathBuf>, CertsError> {
    let (from, to) = (dir.join(CRL_FILE), home.join(CRL_FILE));
    let Some(list) = crl::read(&from).map_err(|source| CertsError::io("read", &from, source))?
    else {
        return Ok(None);
    };
    replace(&to, &list)?;
    Ok(Some(to))
}

/// Puts a whole new file in the place of the old one, which a node may be reading; on disk once
/// this returns.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), CertsError> {
    // The parent of a bare file name is the empty path, which no system opens.
    let beside = Path::new(".").join(path);
    let draft = beside.with_extension("pem.new");
    OsDisk::new()
        .replace(&draft, &beside, bytes)
        .map_err(|error| match error {
            WalError::Io { source, .. } => CertsError::io("write", path, source),
            other => CertsError::io("write", path, io::Error::other(other)),
        })
}

/// Files of a node's certificate directory.
pub(crate) const CA_FILE: &str = "ca.pem";
pub(crate) const CERT_FILE: &str = "cert.pem";
pub(crate) const KEY_FILE: &str = "key.pem";

/// The file beside a node's certificate, and beside the CA, that lists what is revoked.
pub(crate) const CRL_FILE: &str = "crl.pem";

/// The CA's key, which stays with the CA.
pub(crate) const CA_KEY_FILE: &str = "ca-key.pem";

/// Modes of files with and without a key.
pub(crate) const SECRET: u32 = 0o600;
pub(crate) const PUBLIC: u32 = 0o644;
