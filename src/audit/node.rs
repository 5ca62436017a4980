//! Who writes the trail: the node, and the key that signs its checkpoints.
//!
//! Both are in the file `trail.key` of `pgpci.directory`, mode 0600, made by the trail worker when it first starts.
//! **The key is in clear in that file**: whoever reads the server's files can sign a forged trail, and only a
//! checkpoint that was kept elsewhere proves it. The public key is beside the trail, in `trail/trail.vkey`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use pgpci_core::chain::{Signer, VerifyingKey};
use pgpci_core::secret::Secret;
use pgpci_core::trail::Node;

/// A node and its key.
pub struct Identity {
    /// The node.
    pub node: Node,
    /// Its key.
    pub signer: Signer,
    /// The last checkpoint of the node whose files these were, if they were copied.
    pub predecessor: Option<String>,
}

/// The directory of the segments.
pub fn segments() -> PathBuf {
    crate::directory::path().join("trail")
}

/// The public keys of the trail's nodes, one a line.
pub fn vkeys() -> PathBuf {
    segments().join("trail.vkey")
}

/// The last checkpoint that reached the disk, a signed note.
pub fn checkpoint() -> PathBuf {
    crate::directory::path().join("trail.checkpoint")
}

fn key_file() -> PathBuf {
    crate::directory::path().join("trail.key")
}

/// Reads who this is, or becomes somebody: at the first start, and when the files are a copy of another node's (then
/// the directory is another one than that in which the key was made).
pub fn identify() -> io::Result<Identity> {
    let directory = segments();
    fs::create_dir_all(&directory)?;
    let place = place_of(&directory)?;
    let predecessor = match fs::read_to_string(key_file()) {
        Ok(text) => {
            let (node, seed, made_in) = parse(&text).ok_or_else(|| damaged(&key_file()))?;
            if made_in == place {
                let signer = Signer::new(&node.origin(), &seed).ok_or_else(|| damaged(&key_file()))?;
                publish(&signer.verifying_key().to_string())?;
                return Ok(Identity { node, signer, predecessor: None });
            }
            fs::read_to_string(checkpoint()).ok()
        }
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let (node, seed) = (Node(random()?), Secret::new(random()?));
    let signer = Signer::new(&node.origin(), &seed).ok_or_else(|| damaged(&key_file()))?;
    let seed = hex(seed.expose());
    replace(&key_file(), format!("node {node}\nplace {place}\nseed {seed}\n").as_bytes(), 0o600)?;
    publish(&signer.verifying_key().to_string())?;
    // The other node's last checkpoint says nothing of this one's trail.
    let _ = fs::remove_file(checkpoint());
    Ok(Identity { node, signer, predecessor })
}

/// What tells a directory from its copies: inode and time of birth. The device's number may be another after a reboot.
fn place_of(directory: &Path) -> io::Result<String> {
    let found = fs::metadata(directory)?;
    let born = found.created().ok().and_then(|it| it.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    Ok(format!("{}:{}", found.ino(), born.as_nanos()))
}

/// Has the public key beside the trail: without it, a trail is of no use.
fn publish(vkey: &str) -> io::Result<()> {
    let known = fs::read_to_string(vkeys()).unwrap_or_default();
    if !known.lines().any(|line| line == vkey) {
        replace(&vkeys(), format!("{known}{vkey}\n").as_bytes(), 0o644)?;
    }
    Ok(())
}

/// The public keys that are beside the trail.
pub fn verifying_keys() -> io::Result<Vec<VerifyingKey>> {
    let text = fs::read_to_string(vkeys())?;
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines.map(|line| VerifyingKey::parse(line).map_err(|_| damaged(&vkeys()))).collect()
}

/// Writes a file so that it is there whole or as before, and durable.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(format!(".{}.new", std::process::id()));
    let new = PathBuf::from(new);
    let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(mode).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    sync_directory(path.parent().unwrap_or(Path::new("/")))
}

/// Makes durable which files a directory has.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn damaged(path: &Path) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("{} is damaged", path.display()))
}

fn parse(text: &str) -> Option<(Node, Secret<[u8; 32]>, &str)> {
    let mut lines = text.lines();
    let mut value = |name| lines.next()?.strip_prefix(name)?.strip_prefix(' ');
    let (node, place, seed) = (value("node")?, value("place")?, value("seed")?);
    let node = Node::from_origin(&Node(unhex(node)?).origin())?;
    Some((node, Secret::new(unhex(seed)?), place))
}

fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex<const N: usize>(hex: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if hex.len() != 2 * N || !hex.is_ascii() {
        return None;
    }
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).ok()?;
    }
    Some(bytes)
}
