//! The layout of the stored bytes, and what can be read of them without a key.

use crate::brand::{MIN_HIDDEN, Truncation};
use crate::error::Error;
use crate::key::KeyId;
use crate::pan::{ClearPan, MAX_LEN, MIN_LEN, POWERS_OF_TEN};
use crate::xaes::{NONCE_LEN, TAG_LEN};
use std::fmt;

/// The most bytes a stored card number takes.
pub const MAX_SEALED: usize = HEADER_LEN + BODY_LEN + EQUALITY_LEN;
/// The most digits a stored card number shows.
pub const MAX_SHOWN: usize = 12;

pub(super) const EQUALITY_LEN: usize = 16;
const COMPARAND_LEN: usize = HEADER_LEN + EQUALITY_LEN;
/// The packed digits, the same for all lengths.
pub(super) const CIPHERTEXT_LEN: usize = 8;
pub(super) const HEADER_LEN: usize = 18;
const BODY_LEN: usize = NONCE_LEN + CIPHERTEXT_LEN + TAG_LEN;

const VERSION: u8 = 1;
const SEARCHABLE: u8 = 1;
const COMPARAND: u8 = 2;
const CARRIES: u8 = 4;

/// A stored card number, borrowed. Its structure has been checked, its authenticity has not: that
/// takes the key, see [`open`](super::open).
#[derive(Clone, Copy)]
pub struct Pan<'a>(pub(super) &'a [u8]);

impl<'a> Pan<'a> {
    /// Takes stored bytes, if they are what some version of pgpci could have written.
    pub fn from_stored(bytes: &'a [u8]) -> Result<Pan<'a>, Error> {
        if is_possible(bytes) { Ok(Pan(bytes)) } else { Err(Error::Corrupt) }
    }

    /// The stored bytes.
    pub fn bytes(self) -> &'a [u8] {
        self.0
    }

    /// The id of the key that opens it.
    pub fn key_id(self) -> KeyId {
        let mut id = [0; 8];
        id.copy_from_slice(&self.0[10..HEADER_LEN]);
        KeyId(u64::from_be_bytes(id))
    }

    /// Whether it carries an equality hash.
    pub fn is_searchable(self) -> bool {
        self.0[1] & SEARCHABLE != 0
    }

    /// Whether it was made for comparison only and holds no digits.
    pub fn is_comparand(self) -> bool {
        self.0[1] & COMPARAND != 0
    }

    /// Whether it is a comparand that carries its sealed digits, to be bound to the vault of a column.
    pub fn is_unbound(self) -> bool {
        self.0[1] & CARRIES != 0
    }

    /// The equality hash.
    pub fn equality(self) -> Option<&'a [u8; EQUALITY_LEN]> {
        if self.is_searchable() { self.0.last_chunk() } else { None }
    }

    /// The nonce that it was sealed with; None where no digits are sealed.
    pub fn nonce(self) -> Option<&'a [u8; NONCE_LEN]> {
        self.0[HEADER_LEN..].first_chunk()
    }

    /// The header and the equality hash, if there is one: all that is not sealed.
    pub(super) fn clear_parts(self) -> (&'a [u8], &'a [u8]) {
        let (header, rest) = self.0.split_at(HEADER_LEN);
        let hash = if self.is_searchable() { EQUALITY_LEN } else { 0 };
        (header, &rest[rest.len() - hash..])
    }

    /// Number of digits, 12 to 19.
    pub fn pan_len(self) -> usize {
        usize::from(self.0[2])
    }

    /// How many digits are shown.
    pub fn truncation(self) -> Truncation {
        Truncation { first: self.0[3] >> 4, last: self.0[3] & 15 }
    }

    /// Writes the mask, `411111******1111`, and returns its length.
    pub fn mask(self, out: &mut [u8; MAX_LEN]) -> usize {
        let (shown, first, last) = self.shown_digits();
        let len = self.pan_len();
        out[..first].copy_from_slice(&shown[..first]);
        out[first..len - last].fill(b'*');
        out[len - last..len].copy_from_slice(&shown[first..first + last]);
        len
    }

    /// Writes the shown digits, first and last ones side by side, and returns how many there are.
    pub fn shown(self, out: &mut [u8; MAX_SHOWN]) -> usize {
        let (shown, first, last) = self.shown_digits();
        *out = shown;
        first + last
    }

    /// Writes the leading digits that are shown, and returns how many there are.
    pub fn first(self, out: &mut [u8; MAX_SHOWN]) -> usize {
        let (shown, first, _) = self.shown_digits();
        out[..first].copy_from_slice(&shown[..first]);
        first
    }

    /// Writes the trailing digits that are shown, and returns how many there are.
    pub fn last(self, out: &mut [u8; MAX_SHOWN]) -> usize {
        let (shown, first, last) = self.shown_digits();
        out[..last].copy_from_slice(&shown[first..first + last]);
        last
    }

    /// Writes the bank identification number as far as it is shown: at most 8 digits.
    pub fn bin(self, out: &mut [u8; 8]) -> usize {
        let (shown, first, _) = self.shown_digits();
        let len = first.min(out.len());
        out[..len].copy_from_slice(&shown[..len]);
        len
    }

    /// Writes the last four digits as far as they are shown.
    pub fn last4(self, out: &mut [u8; 4]) -> usize {
        let (shown, first, last) = self.shown_digits();
        let len = last.min(out.len());
        out[..len].copy_from_slice(&shown[first + last - len..first + last]);
        len
    }

    /// The shown digits as ASCII, and how many are first and last ones.
    fn shown_digits(self) -> ([u8; MAX_SHOWN], usize, usize) {
        let mut digits = [0; MAX_SHOWN];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(&self.0[4..10]) {
            pair[0] = b'0' + (byte >> 4);
            pair[1] = b'0' + (byte & 15);
        }
        let Truncation { first, last } = self.truncation();
        (digits, usize::from(first), usize::from(last))
    }
}

/// Only the mask: the equality hash is a secret from those who can construct card numbers.
impl fmt::Debug for Pan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut mask = [0; MAX_LEN];
        let len = self.mask(&mut mask);
        write!(f, "Pan({})", mask[..len].escape_ascii())
    }
}

/// A stored card number that owns its bytes, without an allocation.
#[derive(Clone, Copy)]
pub struct PanBuf {
    pub(super) bytes: [u8; MAX_SEALED],
    pub(super) len: u8,
}

impl PanBuf {
    /// Takes stored bytes, if they are what some version of pgpci could have written.
    pub fn from_stored(stored: &[u8]) -> Result<PanBuf, Error> {
        let pan = Pan::from_stored(stored)?;
        let mut bytes = [0; MAX_SEALED];
        bytes[..pan.0.len()].copy_from_slice(pan.0);
        Ok(PanBuf { bytes, len: pan.0.len() as u8 })
    }

    /// The value, borrowed.
    pub fn as_pan(&self) -> Pan<'_> {
        Pan(self.as_bytes())
    }

    /// The bytes to store.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// A value with everything that is not sealed filled in, and room for the rest.
    pub(super) fn with_room(
        key_id: KeyId,
        equality: Option<[u8; EQUALITY_LEN]>,
        pan: &ClearPan,
        shown: Truncation,
    ) -> PanBuf {
        let mut bytes = [0; MAX_SEALED];
        bytes[0] = VERSION;
        bytes[2] = pan.len() as u8;
        bytes[3] = shown.first << 4 | shown.last;
        bytes[4..10].copy_from_slice(&bcd(pan, shown));
        bytes[10..HEADER_LEN].copy_from_slice(&key_id.0.to_be_bytes());
        let mut len = HEADER_LEN + BODY_LEN;
        if let Some(hash) = equality {
            bytes[1] = SEARCHABLE;
            bytes[len..].copy_from_slice(&hash);
            len = MAX_SEALED;
        }
        PanBuf { bytes, len: len as u8 }
    }

    /// Marks the value as a comparand that carries its digits.
    pub(super) fn into_unbound(mut self) -> PanBuf {
        self.bytes[1] |= COMPARAND | CARRIES;
        self
    }

    /// Drops the room for sealed digits and marks the value as a comparand.
    pub(super) fn into_comparand(mut self) -> PanBuf {
        self.bytes[1] |= COMPARAND;
        self.bytes.copy_within(HEADER_LEN + BODY_LEN.., HEADER_LEN);
        self.len = COMPARAND_LEN as u8;
        self
    }
}

impl fmt::Debug for PanBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_pan().fmt(f)
    }
}

/// Whether so many digits can be shown of a number of this length.
pub(super) fn fits(shown: Truncation, len: usize) -> bool {
    let count = usize::from(shown.first) + usize::from(shown.last);
    count <= MAX_SHOWN && count + MIN_HIDDEN <= len
}

/// The shown digits, two in a byte.
pub(super) fn bcd(pan: &ClearPan, shown: Truncation) -> [u8; MAX_SHOWN / 2] {
    let (first, last) = (usize::from(shown.first), usize::from(shown.last));
    let leading = pan.packed() / POWERS_OF_TEN[pan.len() - first];
    let trailing = pan.packed() % POWERS_OF_TEN[last];
    let all = leading * POWERS_OF_TEN[last] + trailing;
    let mut rest = all * POWERS_OF_TEN[MAX_SHOWN - first - last];
    let mut out = [0; MAX_SHOWN / 2];
    for byte in out.iter_mut().rev() {
        let pair = (rest % 100) as u8;
        *byte = ((pair / 10) << 4) | (pair % 10);
        rest /= 100;
    }
    out
}

/// The equality hash as a number, of bytes that look like a searchable value.
#[inline]
pub(super) fn comparison_key(bytes: &[u8]) -> Option<u128> {
    let is_searchable = match bytes.len() {
        MAX_SEALED => {
            bytes[..2] == [VERSION, SEARCHABLE] || bytes[..2] == [VERSION, SEARCHABLE | COMPARAND | CARRIES]
        }
        COMPARAND_LEN => bytes[..2] == [VERSION, SEARCHABLE | COMPARAND],
        _ => false,
    };
    if !is_searchable {
        return None;
    }
    bytes.last_chunk().map(|hash| u128::from_be_bytes(*hash))
}

fn is_possible(bytes: &[u8]) -> bool {
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER_LEN>() else {
        return false;
    };
    let expected = match header[1] {
        0 => BODY_LEN,
        SEARCHABLE => EQUALITY_LEN + BODY_LEN,
        // Flags of a comparand; it belongs to no data key.
        3 if header[10..] == [0; 8] => EQUALITY_LEN,
        // An unbound value shows nothing.
        6 if header[3] == 0 => BODY_LEN,
        7 if header[3] == 0 => EQUALITY_LEN + BODY_LEN,
        _ => return false,
    };
    let shown = Truncation { first: header[3] >> 4, last: header[3] & 15 };
    let len = usize::from(header[2]);
    header[0] == VERSION
        && rest.len() == expected
        && (MIN_LEN..=MAX_LEN).contains(&len)
        && fits(shown, len)
        && is_bcd(header, usize::from(shown.first + shown.last))
}

/// Whether the header holds `count` decimal digits and zeros after them.
fn is_bcd(header: &[u8; HEADER_LEN], count: usize) -> bool {
    let mut word = [0; 8];
    word[..6].copy_from_slice(&header[4..10]);
    let digits = u64::from_be_bytes(word);
    // A nibble above 9 carries into bit 4 when 6 is added to it.
    const SIXES: u64 = 0x6666_6666_6666_6666;
    let carries = digits.wrapping_add(SIXES) ^ digits ^ SIXES;
    let overflow = digits.checked_add(SIXES).is_none();
    let unused = digits << (4 * count);
    !overflow && carries & 0x1111_1111_1111_1110 == 0 && unused == 0
}
