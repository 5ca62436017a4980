//! The key file of provider `local`: one line, `pgpci-local-key:1:<base64 of 32 bytes>`.
//!
//! Whoever reads the file unwraps every data key, so it is only used when nobody but the
//! effective user can.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use base64ct::{Base64, Encoding};
use pgpci_core::secret::Secret;
use zeroize::Zeroizing;

use crate::private;

/// The wrapping key (KEK) in a key file; wiped when dropped.
pub type WrappingKey = Secret<[u8; KEY_LEN]>;

/// Length of the wrapping key in bytes: XAES-256-GCM.
pub const KEY_LEN: usize = 32;

/// What a key file of this version begins with.
pub const PREFIX: &str = "pgpci-local-key:1:";

/// The line's length in bytes, with the line feed that ends it.
const LINE_LEN: usize = PREFIX.len() + BASE64_LEN + 1;
const BASE64_LEN: usize = KEY_LEN.div_ceil(3) * 4;

/// Why a key file cannot be used or made. No variant carries any of its content.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such file.
    #[error("key file does not exist (make one with `pgpci key init`)")]
    Missing,
    /// It cannot be read, or others could read it.
    #[error("key file {0}")]
    Private(private::Error),
    /// It is not the one line that it should be.
    #[error("key file is malformed")]
    Malformed,
    /// Never overwritten: every data key wrapped by it would be lost.
    #[error("key file already exists, and is never overwritten")]
    Exists,
    /// The kernel's random generator failed.
    #[error("no random bytes from the kernel")]
    Random,
    /// Any other failure of the operating system, with what was being done.
    #[error("{0} failed: {1}")]
    Os(&'static str, std::io::Error),
}

/// Reads the wrapping key after checking that nobody else can.
pub fn read(path: &Path) -> Result<WrappingKey, Error> {
    let mut content = buffer();
    let len = private::read(path, content.as_mut_slice()).map_err(|error| match error {
        private::Error::Missing => Error::Missing,
        other => Error::Private(other),
    })?;
    parse(content.get(..len).unwrap_or_default())
}

/// For the content of a key file: one byte more than a whole line, so that a longer file is
/// noticed. Of fixed size, as a buffer that grows leaves unwiped copies behind.
pub(crate) fn buffer() -> Zeroizing<[u8; LINE_LEN + 1]> {
    Zeroizing::new([0; LINE_LEN + 1])
}

/// Makes a key file with a random wrapping key, mode 0600, and returns that key. It is on
/// stable storage when this returns. An existing file is an error.
pub fn create(path: &Path) -> Result<WrappingKey, Error> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true) // O_EXCL: follows no symlink either
        .mode(0o600)
        .open(path)
        .map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => Error::Exists,
            _ => Error::Os("creating the key file", error),
        })?;
    write_random(&mut file)
        .and_then(|key| sync_directory(path).map(|()| key))
        // Half a key file would stand in the way of the next attempt. It is ours (O_EXCL), and
        // no data key was wrapped by it yet.
        .inspect_err(|_| drop(std::fs::remove_file(path)))
}

/// Puts the entry of `path` in its directory on stable storage.
pub fn sync_directory(path: &Path) -> Result<(), Error> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(parent)
        .and_then(|directory| directory.sync_all())
        .map_err(|error| Error::Os("syncing the key file's directory", error))
}

/// The wrapping key in the content of a key file: the one line, with or without its line feed.
/// [`Error::Malformed`] for anything else.
pub fn parse(line: &[u8]) -> Result<WrappingKey, Error> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let encoded = line
        .strip_prefix(PREFIX.as_bytes())
        .filter(|encoded| encoded.len() == BASE64_LEN)
        .ok_or(Error::Malformed)?;
    let mut key = WrappingKey::new([0; KEY_LEN]);
    match Base64::decode(encoded, key.expose_mut()) {
        Ok(decoded) if decoded.len() == KEY_LEN => Ok(key),
        _ => Err(Error::Malformed),
    }
}

fn write_random(file: &mut File) -> Result<WrappingKey, Error> {
    let mut key = WrappingKey::new([0; KEY_LEN]);
    getrandom::fill(key.expose_mut()).map_err(|_| Error::Random)?;
    let mut encoded = Zeroizing::new([0u8; BASE64_LEN]);
    Base64::encode(key.expose(), encoded.as_mut_slice()).map_err(|_| Error::Malformed)?;
    let mut line = Zeroizing::new([0u8; LINE_LEN]);
    let parts = PREFIX.bytes().chain(*encoded).chain([b'\n']);
    for (to, from) in line.iter_mut().zip(parts) {
        *to = from;
    }
    file.write_all(line.as_slice())
        .and_then(|()| file.sync_all())
        .map_err(|error| Error::Os("writing the key file", error))?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(encoded: &str) -> Vec<u8> {
        format!("{PREFIX}{encoded}").into_bytes()
    }

    #[test]
    fn one_line_with_or_without_its_end() {
        let zero = format!("{}A=", "A".repeat(42));
        for text in [line(&zero), line(&format!("{zero}\n"))] {
            let key = parse(&text).ok();
            assert_eq!(key.map(|key| *key.expose()), Some([0; KEY_LEN]));
        }
        assert_eq!(line(&format!("{zero}\n")).len(), LINE_LEN);
    }

    #[test]
    fn anything_else_is_malformed() {
        let zero = format!("{}A=", "A".repeat(42));
        let bad = [
            Vec::new(),
            b"\n".to_vec(),
            line(""),
            line(&zero[1..]),
            line(&format!("{zero}\n\n")),
            line(&format!("{zero}\r\n")),
            line(&format!("{}B=", "A".repeat(42))), // bits beyond the key
            line(&"A".repeat(44)),                  // 33 bytes
            line(&format!("{}*=", "A".repeat(42))),
            format!("pgpci-local-key:2:{zero}").into_bytes(),
            format!(" {PREFIX}{zero}").into_bytes(),
            vec![0xff; LINE_LEN],
        ];
        for text in bad {
            assert!(matches!(parse(&text), Err(Error::Malformed)), "{text:?}");
        }
    }
}
