//! Who writes the trail: the node, and the key that signs its checkpoints.
//!
//! Both are in the file `trail.key` of `pgpci.directory`, mode 0600, made by the trail worker when it first starts. The
//! key is wrapped there, as every key is; see `signing`. The public key is beside the trail, in `trail/trail.vkey`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use pgpci_core::chain::VerifyingKey;
use pgpci_core::key::KeyId;
use pgpci_core::trail::Node;

/// A signing key, wrapped.
#[derive(Clone)]
pub struct Wrapped {
    /// Its identifier.
    pub id: KeyId,
    /// Provider and wrapping key.
    pub by: (String, String),
    /// The wrapped form.
    pub blob: Vec<u8>,
}

/// A node and its key.
pub struct Identity {
    /// The node.
    pub node: Node,
    /// Its key, if one was made already.
    pub key: Option<Wrapped>,
    /// The public halves of the keys that it has had, the last one's last.
    pub vkeys: Vec<VerifyingKey>,
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
/// the directory is another one than that in which the file was made).
pub fn identify() -> io::Result<Identity> {
    let directory = segments();
    fs::create_dir_all(&directory)?;
    let place = place_of(&directory)?;
    match fs::read_to_string(key_file()) {
        Ok(text) => {
            let (identity, made_in) = parse(&text).ok_or_else(|| damaged(&key_file()))?;
            if made_in == place {
                identity.vkeys.iter().try_for_each(publish)?;
                return Ok(identity);
            }
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let predecessor = fs::read_to_string(checkpoint()).ok();
    let identity = Identity { node: Node(random()?), key: None, vkeys: Vec::new(), predecessor };
    identity.write()?;
    // The other node's last checkpoint says nothing of this one's trail, nor does what of that is elsewhere.
    for path in [checkpoint(), super::ship::file()] {
        let _ = fs::remove_file(path);
    }
    Ok(identity)
}

impl Identity {
    /// It has a new key from now on, whose public half is known before it signs anything.
    pub fn adopt(&mut self, key: Wrapped, vkey: VerifyingKey) -> io::Result<()> {
        publish(&vkey)?;
        let before = self.key.replace(key);
        self.vkeys.push(vkey);
        self.write().inspect_err(|_| {
            self.key = before;
            self.vkeys.pop();
        })
    }

    /// Its key is wrapped otherwise from now on.
    pub fn rewrap(&mut self, key: Wrapped) -> io::Result<()> {
        let before = self.key.replace(key);
        self.write().inspect_err(|_| self.key = before)
    }

    fn write(&self) -> io::Result<()> {
        let mut text = format!("node {}\nplace {}\n", self.node, place_of(&segments())?);
        if let Some(Wrapped { id, by: (provider, kek), blob }) = &self.key {
            text += &format!("key {:016x} {provider} {} {}\n", id.0, hex(kek.as_bytes()), hex(blob));
        }
        for vkey in &self.vkeys {
            text += &format!("vkey {vkey}\n");
        }
        replace(&key_file(), text.as_bytes(), 0o600)
    }
}

/// What tells a directory from its copies: inode and time of birth. The device's number may be another after a reboot.
fn place_of(directory: &Path) -> io::Result<String> {
    let found = fs::metadata(directory)?;
    let born = found.created().ok().and_then(|it| it.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    Ok(format!("{}:{}", found.ino(), born.as_nanos()))
}

/// Has the public key beside the trail: without it, a trail is of no use.
fn publish(vkey: &VerifyingKey) -> io::Result<()> {
    let vkey = vkey.to_string();
    let known = fs::read_to_string(vkeys()).unwrap_or_default();
    if !known.lines().any(|line| line == vkey) {
        replace(&vkeys(), format!("{known}{vkey}\n").as_bytes(), 0o644)?;
    }
    Ok(())
}

/// The public keys that are beside the trail: none before the first was made.
pub fn verifying_keys() -> io::Result<Vec<VerifyingKey>> {
    let text = match fs::read_to_string(vkeys()) {
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        text => text?,
    };
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

fn parse(text: &str) -> Option<(Identity, &str)> {
    let mut lines = text.lines();
    let mut value = |name| lines.next()?.strip_prefix(name)?.strip_prefix(' ');
    let (node, place) = (value("node")?, value("place")?);
    let node: [u8; 16] = unhex(node)?.try_into().ok()?;
    let mut identity = Identity { node: Node(node), key: None, vkeys: Vec::new(), predecessor: None };
    for line in lines {
        match line.split_once(' ')? {
            ("key", key) => {
                let [id, provider, kek, blob] = key.split(' ').collect::<Vec<_>>().try_into().ok()?;
                let id = KeyId(u64::from_str_radix(id, 16).ok()?);
                let kek = String::from_utf8(unhex(kek)?).ok()?;
                identity.key = Some(Wrapped { id, by: (provider.into(), kek), blob: unhex(blob)? });
            }
            ("vkey", vkey) => identity.vkeys.push(VerifyingKey::parse(vkey).ok()?),
            _ => return None,
        }
    }
    Some((identity, place))
}

/// Random bytes of the operating system.
pub fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(hex: &str) -> Option<Vec<u8>> {
    if !hex.is_ascii() || !hex.len().is_multiple_of(2) {
        return None;
    }
    (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).ok()).collect()
}
