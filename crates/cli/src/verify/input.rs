//! Keys and anchors from the command line.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use pgpci_core::chain::{Checkpoint, Note, VerifyingKey};
use pgpci_core::record::{Body, parse};
use pgpci_core::trail::Node;

use super::Failure;
use super::keys::Keys;

/// Keys, each given as itself or as a file with one on each line; `#` begins a comment line.
pub(super) fn keys(arguments: &[String]) -> Result<Vec<VerifyingKey>, Failure> {
    let mut keys = Vec::new();
    for argument in arguments {
        if let Ok(key) = VerifyingKey::parse(argument) {
            keys.push(key);
            continue;
        }
        let text = fs::read_to_string(argument).map_err(|error| {
            Failure::Usage(format!("--key {argument}: neither a public key nor a file with one: {error}"))
        })?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        for line in lines {
            keys.push(VerifyingKey::parse(line).map_err(|error| about(argument, &error))?);
        }
    }
    match keys.iter().find(|key| Node::from_origin(key.name()).is_none()) {
        Some(key) => Err(Failure::Usage(format!("--key: {} is no name of a node", key.name()))),
        None if keys.is_empty() => Err(Failure::Usage("--key: no key in the file".to_string())),
        None => Ok(keys),
    }
}

/// Anchors by node, their signatures verified.
pub(super) fn anchors(
    paths: &[PathBuf],
    keys: &mut Keys,
) -> Result<BTreeMap<Node, Vec<Checkpoint>>, Failure> {
    let mut anchors: BTreeMap<Node, Vec<Checkpoint>> = BTreeMap::new();
    for path in paths {
        let bytes = fs::read(path).map_err(|error| about(path.display(), &error))?;
        for note in notes(path, &bytes)? {
            let found = match anchor(&note, &keys.given) {
                Err(_) => anchor(&note, keys.vouched()?),
                found => found,
            };
            let (node, checkpoint) = found.map_err(|error| about(path.display(), &error))?;
            anchors.entry(node).or_default().push(checkpoint);
        }
    }
    Ok(anchors)
}

/// The checkpoint in a note, if it is signed by the key of the node that it is about.
pub(super) fn anchor(note: &[u8], keys: &[VerifyingKey]) -> Result<(Node, Checkpoint), String> {
    let note = Note::parse(note).map_err(|error| error.to_string())?;
    let checkpoint = Checkpoint::parse(note.unverified_text()).map_err(|error| error.to_string())?;
    let node =
        Node::from_origin(&checkpoint.origin).ok_or("checkpoint of something else than a node's trail")?;
    let keys: Vec<_> = keys.iter().filter(|key| key.name() == checkpoint.origin).cloned().collect();
    note.verify(&keys).map_err(|error| error.to_string())?;
    Ok((node, checkpoint))
}

/// Notes one behind the other, or those in lines of a trail.
fn notes(path: &Path, bytes: &[u8]) -> Result<Vec<Vec<u8>>, Failure> {
    if !bytes.starts_with(b"{") {
        let mut notes = vec![Vec::new()];
        let mut was_signature = false;
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let is_signature = line.starts_with("\u{2014} ".as_bytes());
            if was_signature && !is_signature {
                notes.push(Vec::new());
            }
            was_signature = is_signature;
            notes.last_mut().into_iter().for_each(|note| note.extend_from_slice(line));
        }
        return Ok(notes);
    }
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines
        .map(|line| match parse(line).map(|record| record.body) {
            Ok(Body::Checkpoint { note }) => Ok(note.as_bytes().to_vec()),
            _ => Err(about(path.display(), &"a line that is no checkpoint of a trail")),
        })
        .collect()
}

fn about(place: impl std::fmt::Display, error: &dyn std::fmt::Display) -> Failure {
    Failure::Usage(format!("{place}: {error}"))
}
