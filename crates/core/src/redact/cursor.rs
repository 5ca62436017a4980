//! Reading a text and hiding bytes of it.

use std::borrow::Cow;
use std::ops::Range;

/// What hidden bytes become.
pub(super) const STAR: u8 = b'*';

/// A text that is being redacted.
pub(super) trait Text {
    /// The bytes as they are by now.
    fn bytes(&self) -> &[u8];
    /// The bytes to write to.
    fn bytes_mut(&mut self) -> &mut [u8];

    /// Hides a range; what of it lies outside the text is ignored.
    fn hide(&mut self, range: Range<usize>) {
        if range.is_empty() {
            return; // nothing to copy for
        }
        if let Some(bytes) = self.bytes_mut().get_mut(range) {
            bytes.fill(STAR);
        }
    }
}

impl Text for &mut [u8] {
    fn bytes(&self) -> &[u8] {
        self
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        self
    }
}

/// Copied at the first byte that is hidden.
impl Text for Cow<'_, [u8]> {
    fn bytes(&self) -> &[u8] {
        self
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        self.to_mut()
    }
}

/// The byte at a place, or 0 beyond the end: no server encoding has texts with NUL.
pub(super) fn at(text: &[u8], i: usize) -> u8 {
    text.get(i).copied().unwrap_or(0)
}

/// The byte before a place, or 0 at the beginning.
pub(super) fn before(text: &[u8], i: usize) -> u8 {
    i.checked_sub(1).map_or(0, |i| at(text, i))
}

/// Whether the text goes on with these lower-case letters, in any case.
pub(super) fn word_at(text: &[u8], i: usize, word: &[u8]) -> bool {
    text.get(i..).and_then(|rest| rest.get(..word.len())).is_some_and(|it| it.eq_ignore_ascii_case(word))
}

/// Whether a byte can be part of an unquoted SQL identifier.
pub(super) fn is_identifier(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// Behind white space and comments. Gives up after a kilobyte, so that texts made of unfinished
/// comments cost no more than others.
pub(super) fn skip_space(text: &[u8], mut i: usize) -> usize {
    const MOST: usize = 1024;
    let limit = i.saturating_add(MOST).min(text.len());
    while i < limit {
        match (at(text, i), at(text, i + 1)) {
            (b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c, _) => i += 1,
            (b'-', b'-') => {
                while i < limit && !matches!(at(text, i), b'\n' | b'\r') {
                    i += 1;
                }
            }
            (b'/', b'*') => {
                let mut depth = 0u32;
                while i < limit {
                    match (at(text, i), at(text, i + 1)) {
                        (b'/', b'*') => (depth, i) = (depth + 1, i + 2),
                        (b'*', b'/') => (depth, i) = (depth.saturating_sub(1), i + 2),
                        _ => i += 1,
                    }
                    if depth == 0 {
                        break;
                    }
                }
            }
            _ => break,
        }
    }
    i.min(text.len())
}
