//! Closed segments: compressed by the command `pgpci compress`, one at a time, and read as they are.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use flate2::bufread::MultiGzDecoder;
use pgpci_core::trail::Node;

use super::{files, node};
use crate::guc;
use crate::pg::{helper, worker};

const BUFFER: usize = 1 << 18;
/// After a failure it is tried again so much later.
const AGAIN: Duration = Duration::from_secs(600);

/// Reads a segment, compressed or not. One that was compressed since it was listed is read so.
pub fn open(path: &Path) -> io::Result<Box<dyn BufRead>> {
    let (file, is_compressed) = match File::open(path) {
        Ok(file) => (file, is_compressed(path)),
        Err(error) if error.kind() == ErrorKind::NotFound && !is_compressed(path) => {
            (File::open(compressed(path)).map_err(|_| error)?, true)
        }
        Err(error) => return Err(error),
    };
    let file = BufReader::with_capacity(BUFFER, file);
    Ok(match is_compressed {
        true => Box::new(BufReader::with_capacity(BUFFER, MultiGzDecoder::new(file))),
        false => Box::new(file),
    })
}

/// All of it.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn is_compressed(path: &Path) -> bool {
    path.extension().is_some_and(|it| it == "gz")
}

fn compressed(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".gz");
    PathBuf::from(name)
}

/// Compresses what is closed.
pub struct Compressor {
    running: Option<(Child, PathBuf)>,
    /// When it is looked for something to do; None: after the next segment was closed.
    next: Option<Instant>,
}

impl Default for Compressor {
    fn default() -> Self {
        Compressor { running: None, next: Some(Instant::now()) }
    }
}

impl Compressor {
    /// A segment was closed.
    pub fn closed(&mut self) {
        self.next.get_or_insert_with(Instant::now);
    }

    /// Looks after it. Never waits. `first_open`: the first segment that is not complete on the disk.
    pub fn look(&mut self, first_open: impl FnOnce() -> String) {
        if let Some((child, path)) = &mut self.running {
            let failure = match child.try_wait() {
                Ok(None) => return,
                Ok(Some(status)) if status.success() => None,
                Ok(Some(status)) => Some(status.to_string()),
                Err(error) => Some(error.to_string()),
            };
            self.next = Some(Instant::now());
            if let Some(why) = failure {
                pgrx::warning!("pgpci: {} cannot be compressed: {why}", path.display());
                self.next = Some(Instant::now() + AGAIN);
            }
            self.running = None;
        }
        if self.next.is_none_or(|then| then > Instant::now()) {
            return;
        }
        self.next = None;
        let Some(path) = next(&first_open()) else { return };
        match helper::run_aside(&worker::command(), &["compress".as_ref(), path.as_os_str()]) {
            Ok(child) => self.running = Some((child, path)),
            Err(error) => {
                pgrx::warning!("pgpci: {} cannot be compressed: {error}", path.display());
                self.next = Some(Instant::now() + AGAIN);
            }
        }
    }
}

/// The oldest segment of this node that is closed and not compressed.
fn next(first_open: &str) -> Option<PathBuf> {
    let (node, last) = Node::parse_file_name(first_open)?;
    if !guc::AUDIT_COMPRESS.get() {
        return None;
    }
    let segments = files::list(&node::segments(), node).ok()?;
    segments
        .into_iter()
        .filter(|(number, _)| *number < last)
        .map(|(_, path)| path)
        .find(|it| !is_compressed(it))
}

/// A crash came between the two: the compressed one is whole, or it would not have its name.
pub fn remove_doubles(list: &mut Vec<(u64, PathBuf)>) -> io::Result<()> {
    let doubles: Vec<_> = list.windows(2).filter(|it| it[0].0 == it[1].0).map(|it| it[0].1.clone()).collect();
    doubles.iter().try_for_each(fs::remove_file)?;
    list.retain(|(_, path)| !doubles.contains(path));
    Ok(())
}
