//! `pgpci.directory`: where what belongs to the cluster, and to no database, lives.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::guc;
use crate::pg::session;

// Held by the postmaster for its life: the lock file's lock goes with it.
static LOCK: OnceLock<File> = OnceLock::new();

/// The directory.
pub fn path() -> PathBuf {
    match guc::DIRECTORY.get() {
        Some(set) if !set.is_empty() => PathBuf::from(set.to_string_lossy().into_owned()),
        _ => {
            let mut name = session::data_directory().into_os_string();
            name.push(".pgpci");
            PathBuf::from(name)
        }
    }
}

/// Makes and locks the directory. Refuses one inside the data directory, where backups and `pg_rewind`
/// would copy it, and one that another postmaster uses. What fails otherwise is a message, not a server
/// that does not start.
pub fn prepare() -> Result<(), String> {
    let path = path();
    if real(&path).starts_with(real(&session::data_directory())) {
        return Err("pgpci.directory must not be inside the data directory".into());
    }
    let made = DirBuilder::new().mode(0o700).create(&path);
    if made.is_err() && !path.is_dir() {
        pgrx::warning!("pgpci: directory {} cannot be made; set pgpci.directory", path.display());
        return Ok(());
    }
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path.join("lock"));
    match file.map(|f| (f.try_lock(), f)) {
        Ok((Ok(()), file)) => {
            let _ = LOCK.set(file);
        }
        Ok((Err(TryLockError::WouldBlock), _)) => {
            return Err(format!("another server uses pgpci.directory {}", path.display()));
        }
        _ => pgrx::warning!("pgpci: directory {} cannot be written", path.display()),
    }
    Ok(())
}

/// The path without symbolic links, as far as it is there.
fn real(path: &Path) -> PathBuf {
    match (path.canonicalize(), path.parent(), path.file_name()) {
        (Ok(real), ..) => real,
        (Err(_), Some(parent), Some(name)) => real(parent).join(name),
        _ => path.to_path_buf(),
    }
}
