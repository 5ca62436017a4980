//! Segment files: which there are, and their lines.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use pgpci_core::chain::Checkpoint;
use pgpci_core::record::{Body, MAX_LINE, ParseError, parse};
use pgpci_core::trail::{Fault, Node, Tail, Verifier};
use sha2::{Digest, Sha256};

use super::keys::Keys;
use super::{Failure, input};

const BUFFER: usize = 256 * 1024;

/// A segment's file, by its name.
pub(super) struct SegmentFile {
    pub segment: u64,
    name: String,
    path: PathBuf,
}

/// What was found in a segment's file.
pub(super) struct SegmentReport {
    pub name: String,
    /// Numbers of its first and last good record; the first one is the higher if there is none.
    pub first: u64,
    pub last: u64,
    /// Uncompressed.
    pub bytes: u64,
    /// What is wrong with the line after the last good one, and how many bytes follow.
    pub tail: Option<(Fault, u64)>,
}

/// The segment files of a directory, by node.
pub(super) struct Directory {
    files: BTreeMap<Node, Vec<SegmentFile>>,
    /// Names of files that look like segments and are none.
    pub not_checked: Vec<String>,
}

impl Directory {
    pub(super) fn list(path: &Path) -> Result<Directory, Failure> {
        let about = |error: io::Error| Failure::Usage(format!("{}: {error}", path.display()));
        let mut directory = Directory { files: BTreeMap::new(), not_checked: Vec::new() };
        for entry in fs::read_dir(path).map_err(about)? {
            let entry = entry.map_err(about)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            match Node::parse_file_name(&name) {
                Some((node, segment)) => {
                    let file = SegmentFile { segment, name, path: entry.path() };
                    directory.files.entry(node).or_default().push(file);
                }
                // What the server is compressing this very moment.
                None if name.strip_suffix(".new").and_then(Node::parse_file_name).is_some() => {}
                None if name.contains(".jsonl") => directory.not_checked.push(name),
                None => {} // keys, counters, and whatever else lives there
            }
        }
        directory.not_checked.sort();
        for files in directory.files.values_mut() {
            files.sort_by(|a, b| (a.segment, &a.name).cmp(&(b.segment, &b.name)));
        }
        Ok(directory)
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = Node> {
        self.files.keys().copied()
    }

    pub(super) fn segments(&self, node: Node) -> &[SegmentFile] {
        self.files.get(&node).map_or(&[], Vec::as_slice)
    }

    /// The checkpoint that a node's trail goes on from, if it is of a node that is here and is
    /// signed by its key.
    pub(super) fn predecessor(
        &self,
        node: Node,
        keys: &mut Keys,
    ) -> Result<Option<(Node, Checkpoint)>, Failure> {
        let Some(first) = self.segments(node).first() else {
            return Ok(None);
        };
        let mut line = Vec::new();
        // A damaged file is a finding, later.
        let read = first.open()?.take(MAX_LINE as u64).read_until(b'\n', &mut line);
        let line = line.strip_suffix(b"\n").unwrap_or_default();
        let Ok(Body::Segment(head)) = parse(line).map(|record| record.body) else {
            return Ok(None);
        };
        let note = head.predecessor.filter(|_| read.is_ok());
        let Some(note) = note else { return Ok(None) };
        let anchor = match input::anchor(note.as_bytes(), &keys.given) {
            Err(_) => input::anchor(note.as_bytes(), keys.vouched()?),
            anchor => anchor,
        };
        Ok(anchor.ok().filter(|(node, _)| self.files.contains_key(node)))
    }
}

impl SegmentFile {
    /// What was compressed since it was listed is read so.
    pub(super) fn open(&self) -> Result<Box<dyn BufRead>, Failure> {
        let (file, is_compressed) = match File::open(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound && !self.is_compressed() => {
                let compressed = self.path.with_file_name(format!("{}.gz", self.name));
                (File::open(compressed).map_err(|_| self.failure(&error))?, true)
            }
            file => (file.map_err(|error| self.failure(&error))?, self.is_compressed()),
        };
        let file = BufReader::with_capacity(BUFFER, file);
        Ok(if is_compressed {
            Box::new(BufReader::with_capacity(BUFFER, MultiGzDecoder::new(file)))
        } else {
            Box::new(file)
        })
    }

    fn is_compressed(&self) -> bool {
        self.name.ends_with(".gz")
    }

    /// Whether this is another form of the same lines: the server is about to remove one. Its form that is gone by now
    /// is none.
    pub(super) fn is_form_of(&self, other: &SegmentFile) -> Result<bool, Failure> {
        if self.is_compressed() == other.is_compressed() {
            return Ok(false);
        }
        let (mut one, mut two) = (self.open()?, other.open()?);
        loop {
            let len = match (one.fill_buf(), two.fill_buf()) {
                (Ok(one), Ok(two)) => {
                    let len = one.len().min(two.len());
                    if len == 0 || one[..len] != two[..len] {
                        return Ok(one.is_empty() && two.is_empty());
                    }
                    len
                }
                // A damaged one is a finding.
                _ => return Ok(false),
            };
            one.consume(len);
            two.consume(len);
        }
    }

    fn failure(&self, error: &io::Error) -> Failure {
        Failure::System(format!("{}: {error}", self.path.display()))
    }

    /// The fault behind a read error, if it is one of the file's content.
    fn fault(&self, error: &io::Error) -> Result<Fault, Failure> {
        match error.kind() {
            ErrorKind::UnexpectedEof => Ok(Fault::Torn),
            ErrorKind::InvalidData | ErrorKind::InvalidInput => Ok(Fault::Compressed),
            _ => Err(self.failure(error)),
        }
    }
}

/// Reads a segment into the verifier.
pub(super) fn read(file: &SegmentFile, verifier: &mut Verifier) -> Result<SegmentReport, Failure> {
    let mut reader = file.open()?;
    let before = verifier.report().records;
    let (mut line, mut bytes) = (Vec::new(), 0);
    let fault = loop {
        line.clear();
        // One byte more than the longest line has with its line feed.
        let read = reader.by_ref().take(MAX_LINE as u64 + 2).read_until(b'\n', &mut line);
        if let Err(error) = read {
            break Some(file.fault(&error)?);
        }
        let checked = match line.strip_suffix(b"\n") {
            Some(whole) => verifier.line(whole),
            None if line.is_empty() => break None,
            None if line.len() > MAX_LINE => Err(Fault::Line(ParseError::TooLong)),
            None => Err(Fault::Torn),
        };
        match checked {
            Ok(()) => bytes += line.len() as u64,
            Err(fault) => break Some(fault),
        }
    };
    let tail = match fault {
        Some(fault) => Some(tail(fault, &line, reader, file)?),
        None => None,
    };
    verifier.end(tail);
    let (records, last) = (verifier.report().records - before, verifier.report().last_seq);
    Ok(SegmentReport {
        name: file.name.clone(),
        first: last + 1 - records,
        last,
        bytes: bytes + tail.map_or(0, |tail| tail.bytes),
        tail: tail.map(|tail| (tail.fault, tail.bytes)),
    })
}

/// The rest of a file, from the first bad line on.
fn tail(fault: Fault, line: &[u8], mut reader: impl Read, file: &SegmentFile) -> Result<Tail, Failure> {
    let mut hash = Sha256::new_with_prefix(line);
    let mut bytes = line.len() as u64;
    let mut buffer = vec![0; BUFFER];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(len) => {
                hash.update(&buffer[..len]);
                bytes += len as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => {
                file.fault(&error)?;
                break;
            }
        }
    }
    Ok(Tail { fault, bytes, sha256: hash.finalize().into() })
}
