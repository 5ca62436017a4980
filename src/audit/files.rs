//! The segment files of the trail: appended to, synced, and begun anew; nothing that was said to be durable is lost
//! when that fails, and what was not is written again.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use pgpci_core::trail::Node;

use super::node::sync_directory;
use crate::pg::disk;

/// A segment, and what is to be written to it.
struct Segment {
    path: PathBuf,
    /// None until it is made.
    file: Option<File>,
    /// Bytes that are on the disk for certain.
    synced: u64,
    /// What comes behind them.
    pending: Vec<u8>,
    /// Whether an attempt to write it failed.
    is_dirty: bool,
}

/// The segments that are not yet complete on the disk; the last one is appended to.
pub struct Files {
    directory: PathBuf,
    segments: VecDeque<Segment>,
}

impl Files {
    /// Begins with a new segment, of which nothing is on the disk.
    pub fn new(directory: PathBuf, name: &str) -> Self {
        let mut files = Files { directory, segments: VecDeque::new() };
        files.begin(name, Vec::new());
        files
    }

    /// Begins a segment with these bytes; those before are complete.
    pub fn begin(&mut self, name: &str, pending: Vec<u8>) {
        let path = self.directory.join(name);
        self.segments.push_back(Segment { path, file: None, synced: 0, pending, is_dirty: false });
    }

    /// Where to append.
    pub fn pending(&mut self) -> &mut Vec<u8> {
        if self.segments.is_empty() {
            // `flush` keeps the last one, so this is never taken.
            self.begin("", Vec::new());
        }
        let last = self.segments.len() - 1;
        &mut self.segments[last].pending
    }

    /// The file name of the first segment that is not complete on the disk.
    pub fn first_open(&self) -> String {
        let first = self.segments.front().and_then(|it| it.path.file_name());
        first.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// Bytes that are not on the disk.
    pub fn unsynced(&self) -> usize {
        self.segments.iter().map(|it| it.pending.len()).sum()
    }

    /// Brings everything to the disk, segment after segment. After an error nothing of what was pending counts as
    /// written, and all of it is written anew next time: after a failed sync the kernel may have forgotten it.
    pub fn flush(&mut self) -> io::Result<()> {
        loop {
            let Some(first) = self.segments.front_mut() else { return Ok(()) };
            first.flush(&self.directory)?;
            if self.segments.len() == 1 {
                return Ok(());
            }
            self.segments.pop_front();
        }
    }
}

impl Segment {
    fn flush(&mut self, directory: &Path) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let done = self.try_flush(directory);
        match &done {
            Ok(()) => {
                self.synced += self.pending.len() as u64;
                self.pending.clear();
                self.pending.shrink_to(1 << 20);
                self.is_dirty = false;
            }
            Err(_) => self.is_dirty = true,
        }
        done
    }

    fn try_flush(&mut self, directory: &Path) -> io::Result<()> {
        if let Some(file) = &self.file {
            self.is_still_there(file)?;
        }
        let file = match &self.file {
            Some(file) => file,
            None => {
                let file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&self.path)?;
                self.file.insert(file)
            }
        };
        let is_new = self.synced == 0;
        if self.is_dirty {
            file.set_len(self.synced)?;
        }
        file.write_all_at(&self.pending, self.synced)?;
        file.sync_data()?;
        // Hardly anybody reads it soon: tables need that memory more, and filling what was just freed is faster.
        disk::forget(file);
        if is_new {
            sync_directory(directory)?;
        }
        Ok(())
    }

    /// An open file goes on taking bytes when it was removed, or its directory was moved: nobody would find them.
    fn is_still_there(&self, file: &File) -> io::Result<()> {
        let (there, open) = (fs::metadata(&self.path)?, file.metadata()?);
        if (there.dev(), there.ino()) == (open.dev(), open.ino()) {
            return Ok(());
        }
        Err(io::Error::new(ErrorKind::NotFound, format!("{} was replaced", self.path.display())))
    }
}

/// The segments of a node that are there, by number; compressed ones too.
pub fn list(directory: &Path, node: Node) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if let Some((of, segment)) = Node::parse_file_name(&entry.file_name().to_string_lossy())
            && of == node
        {
            found.push((segment, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}
