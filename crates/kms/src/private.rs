//! Files that only the effective user can read: key files and PIN files. They are checked after
//! opening (`fstat`), so that what was checked is what is read.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, fstat};
use rustix::process::geteuid;

/// Why a private file is not read. To be put after the name of what it is.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such file.
    #[error("does not exist")]
    Missing,
    /// A directory, FIFO, device or socket.
    #[error("is not a regular file")]
    NotRegular,
    /// The effective user may not open it.
    #[error("may not be read: the server's user must own it, with chmod 0600")]
    Denied,
    /// It belongs to somebody else, who could read and replace it.
    #[error("belongs to uid {0}, not to this user: chown it, and chmod 0600")]
    Owner(u32),
    /// Group or others have permissions.
    #[error("has mode {0:04o}, group and others must have none: chmod 0600")]
    Mode(u32),
    /// Any other failure of the operating system, with what was being done.
    #[error("{0} failed: {1}")]
    Os(&'static str, std::io::Error),
}

/// Reads until `buffer` is full or the file ends, after checking that nobody else can read it;
/// returns how many bytes there were.
pub fn read(path: &Path, buffer: &mut [u8]) -> Result<usize, Error> {
    let file = open(path)?;
    check(&file)?;
    fill(file, buffer)
}

fn open(path: &Path) -> Result<File, Error> {
    // Opening a FIFO would wait for its writer.
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path).map_err(|error| {
        match error.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => Error::Missing,
            ErrorKind::PermissionDenied => Error::Denied,
            // What opening a socket or a device without a driver says.
            _ if error.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error()) => Error::NotRegular,
            _ => Error::Os("opening", error),
        }
    })
}

fn check(file: &File) -> Result<(), Error> {
    let stat = fstat(file).map_err(|error| Error::Os("examining", error.into()))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Error::NotRegular);
    }
    if stat.st_uid != geteuid().as_raw() {
        return Err(Error::Owner(stat.st_uid));
    }
    let mode = Mode::from_raw_mode(stat.st_mode);
    if mode.intersects(Mode::RWXG | Mode::RWXO) {
        return Err(Error::Mode(mode.bits()));
    }
    Ok(())
}

/// Reads until `buffer` is full or the file ends; returns how many bytes there were.
fn fill(mut file: File, buffer: &mut [u8]) -> Result<usize, Error> {
    let mut len = 0;
    while let Some(rest) = buffer.get_mut(len..)
        && !rest.is_empty()
    {
        match file.read(rest) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::Os("reading", error)),
        }
    }
    Ok(len)
}
