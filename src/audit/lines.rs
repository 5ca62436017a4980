//! The lines of a segment that are read in SQL, one after another.

use std::io::{self, BufRead, Read};
use std::path::Path;

use pgpci_core::record::MAX_LINE;

use super::closed;
use crate::pg::session;

/// After so many lines it is looked for interrupts.
const PATIENCE: u64 = 4096;

/// A segment that is being read.
pub struct Lines {
    reader: Box<dyn BufRead>,
    line: Vec<u8>,
    count: u64,
}

/// What comes next.
pub enum Line<'a> {
    /// A line, without its line feed.
    Whole(&'a [u8]),
    /// What has no line feed: it is being written, or was when the server crashed; or it is too long to be a line.
    Part(&'a [u8]),
    /// Nothing.
    End,
}

impl Lines {
    /// Of a segment, compressed or not.
    pub fn of(path: &Path) -> io::Result<Lines> {
        Ok(Lines { reader: closed::open(path)?, line: Vec::new(), count: 0 })
    }

    /// The next one. A cancel or terminate raises.
    pub fn next(&mut self) -> io::Result<Line<'_>> {
        if self.count.is_multiple_of(PATIENCE) {
            session::check_interrupts();
        }
        self.count += 1;
        self.line.clear();
        // One byte more than the longest line has with its line feed.
        self.reader.by_ref().take(MAX_LINE as u64 + 2).read_until(b'\n', &mut self.line)?;
        Ok(match self.line.strip_suffix(b"\n") {
            Some(line) => Line::Whole(line),
            None if self.line.is_empty() => Line::End,
            None => Line::Part(&self.line),
        })
    }

    /// All from the line that came last on.
    pub fn rest(mut self) -> io::Result<Vec<u8>> {
        self.reader.read_to_end(&mut self.line)?;
        Ok(self.line)
    }
}
