//! The keys that checkpoints may be signed by: those that were given, and those that the trail says come after them.

use std::io::BufRead;

use pgpci_core::chain::{NextKey, VerifyingKey};
use pgpci_core::record::{Body, parse};

use super::Failure;
use super::segments::Directory;

/// What lines about keys contain, within their first bytes.
const MARK: &[u8] = b"\"kind\":\"key\"";
const WITHIN: usize = 256;

/// The keys of an audit trail.
pub(super) struct Keys<'d> {
    /// Those that whoever verifies trusts.
    pub given: Vec<VerifyingKey>,
    directory: &'d Directory,
    vouched: Option<Vec<VerifyingKey>>,
}

impl<'d> Keys<'d> {
    pub(super) fn new(given: Vec<VerifyingKey>, directory: &'d Directory) -> Self {
        Keys { given, directory, vouched: None }
    }

    /// With those that came after them, each vouched for by the one before. The trail is read for that, once: an anchor
    /// may be signed by the last of them.
    pub(super) fn vouched(&mut self) -> Result<&[VerifyingKey], Failure> {
        if self.vouched.is_none() {
            let mut keys = self.given.clone();
            for file in self.directory.nodes().flat_map(|node| self.directory.segments(node)) {
                let (mut reader, mut line) = (file.open()?, Vec::new());
                // A damaged file is a finding, later.
                while reader.read_until(b'\n', &mut line).is_ok_and(|len| len > 0) {
                    if line[..line.len().min(WITHIN)].windows(MARK.len()).any(|it| it == MARK)
                        && let Ok(Body::Key { note }) = parse(line.trim_ascii_end()).map(|record| record.body)
                        && let Ok(next) = NextKey::verify(note.as_bytes(), &keys)
                    {
                        keys.push(next.to);
                    }
                    line.clear();
                }
            }
            self.vouched = Some(keys);
        }
        Ok(self.vouched.as_deref().unwrap_or(&self.given))
    }
}
