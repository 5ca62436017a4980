//! A clear card number (PAN), as short as possible in memory and never printed.

use crate::brand::{Brand, lookup};
use crate::error::Error;
use std::fmt;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// The fewest digits of a number (ISO/IEC 7812-1).
pub const MIN_LEN: usize = 12;
/// The most digits of a number (ISO/IEC 7812-1).
pub const MAX_LEN: usize = 19;

/// Looked up, since `pow` is a loop and this is on the path of every value.
pub(crate) const POWERS_OF_TEN: [u64; MAX_LEN + 1] = {
    let mut powers = [1; MAX_LEN + 1];
    let mut i = 1;
    while i <= MAX_LEN {
        powers[i] = powers[i - 1] * 10;
        i += 1;
    }
    powers
};

/// A clear card number of 12 to 19 digits. Wiped on drop, printed as `***`.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct ClearPan {
    /// The digits as a number: 10^19 is less than 2^64.
    digits: u64,
    len: u8,
}

impl ClearPan {
    /// Reads digits as people and programs write them: single spaces or dashes between groups,
    /// white space around; the Luhn check digit must be right.
    pub fn parse(text: &[u8]) -> Result<ClearPan, Error> {
        let text = text.trim_ascii();
        let (mut digits, mut len) = (0u64, 0u8);
        let mut luhn = Luhn::default();
        let mut after_digit = false;
        for &byte in text {
            let digit = byte.wrapping_sub(b'0');
            if digit <= 9 {
                // Too many digits make nonsense here, and are refused below by their number.
                digits = digits.wrapping_mul(10).wrapping_add(u64::from(digit));
                len = len.saturating_add(1);
                luhn.push(digit);
                after_digit = true;
            } else if is_separator(byte) && after_digit {
                after_digit = false;
            } else {
                return Err(why_not_digits(text));
            }
        }
        if text.is_empty() {
            Err(Error::Empty)
        } else if !after_digit {
            Err(Error::NotDigits)
        } else if !(MIN_LEN..=MAX_LEN).contains(&usize::from(len)) {
            Err(Error::Length)
        } else if !luhn.is_valid() {
            Err(Error::Luhn)
        } else {
            Ok(ClearPan { digits, len })
        }
    }

    /// Number of digits, 12 to 19.
    #[allow(clippy::len_without_is_empty)] // never empty
    pub fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// The brand, by the first digits and the length.
    pub fn brand(&self) -> Brand {
        lookup((self.digits / POWERS_OF_TEN[self.len() - 6]) as u32, self.len())
    }

    /// Writes the digits as ASCII and returns how many there are.
    pub fn digits(&self, out: &mut [u8; MAX_LEN]) -> usize {
        let mut rest = self.digits;
        for byte in out[..self.len()].iter_mut().rev() {
            *byte = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        self.len()
    }

    /// The digits as text.
    pub fn to_digits(&self) -> Digits {
        let mut bytes = [0; MAX_LEN];
        let len = self.digits(&mut bytes) as u8;
        Digits { bytes, len }
    }

    /// The reverse of [`packed`](Self::packed), for what was sealed before; no check digit needed.
    pub fn from_packed(digits: u64, len: usize) -> Option<ClearPan> {
        let possible = (MIN_LEN..=MAX_LEN).contains(&len) && digits < POWERS_OF_TEN[len];
        possible.then_some(ClearPan { digits, len: len as u8 })
    }

    /// The digits as one number; leading zeros need [`len`](Self::len) to come back.
    pub fn packed(&self) -> u64 {
        self.digits
    }
}

impl fmt::Debug for ClearPan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClearPan(***)")
    }
}

/// Clear digits as text, for the one door that shows them. Wiped on drop.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Digits {
    bytes: [u8; MAX_LEN],
    len: u8,
}

impl Digits {
    /// The digits.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).expect("digits are ASCII")
    }
}

impl fmt::Debug for Digits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digits(***)")
    }
}

/// Whether the last digit is the check digit of the rest (ISO/IEC 7812-1 annex B). Spaces and
/// dashes are skipped; anything else, or no digit at all, is invalid.
pub fn luhn_valid(digits: &[u8]) -> bool {
    let mut luhn = Luhn::default();
    let mut any = false;
    for &byte in digits {
        match byte {
            b'0'..=b'9' => {
                luhn.push(byte - b'0');
                any = true;
            }
            _ if is_separator(byte) => {}
            _ => return false,
        }
    }
    any && luhn.is_valid()
}

/// The Luhn sum in one pass from the left. Which digits count double depends on the length, known
/// only at the end, so both sums are carried.
#[derive(Default)]
struct Luhn {
    /// The sum if the last digit so far counts once.
    once: u32,
    /// The sum if the last digit so far counts double.
    double: u32,
}

impl Luhn {
    fn push(&mut self, digit: u8) {
        /// Twice the digit, with the digits of the result added up.
        const DOUBLED: [u8; 16] = [0, 2, 4, 6, 8, 1, 3, 5, 7, 9, 0, 0, 0, 0, 0, 0];
        let once = self.double.wrapping_add(u32::from(digit));
        self.double = self.once.wrapping_add(u32::from(DOUBLED[usize::from(digit & 15)]));
        self.once = once;
    }

    fn is_valid(&self) -> bool {
        self.once.is_multiple_of(10)
    }
}

fn is_separator(byte: u8) -> bool {
    matches!(byte, b' ' | b'-')
}

/// The most helpful error for a text that is not a card number.
#[cold]
fn why_not_digits(text: &[u8]) -> Error {
    let mask = |&b: &u8| b == b'*' || b.is_ascii_digit() || is_separator(b);
    if text.contains(&b'*') && text.iter().all(mask) {
        Error::Mask
    } else if text.windows(3).any(|w| matches!(w, [0xEF, 0xBC, 0x90..=0x99])) {
        Error::FullWidthDigits
    } else {
        Error::NotDigits
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn reads_what_people_write() {
        for text in
            ["4111111111111111", " 4111 1111 1111 1111\n", "4111-1111-1111-1111", "\t4111 1111-1111 1111 "]
        {
            let pan = ClearPan::parse(text.as_bytes()).unwrap();
            assert_eq!(pan.to_digits().as_str(), "4111111111111111", "{text}");
        }
    }

    #[test]
    fn says_what_is_wrong() {
        for (text, error) in [
            ("", Error::Empty),
            (" \t ", Error::Empty),
            ("4111 1111 1111 111x", Error::NotDigits),
            ("4111  1111 1111 1111", Error::NotDigits),
            ("4111 -1111 1111 1111", Error::NotDigits),
            ("-4111111111111111", Error::NotDigits),
            ("4111111111111111-", Error::NotDigits),
            ("4111.1111.1111.1111", Error::NotDigits),
            ("pan:1:AAAA", Error::NotDigits),
            ("**bold**", Error::NotDigits),
            ("411111******1111", Error::Mask),
            ("4111 11** **** 1111", Error::Mask),
            ("****", Error::Mask),
            ("\u{FF14}111111111111111", Error::FullWidthDigits),
            ("00000000000", Error::Length),
            ("00000000000000000000", Error::Length),
            ("4242424242424241", Error::Luhn),
        ] {
            assert_eq!(ClearPan::parse(text.as_bytes()), Err(error), "{text}");
        }
    }

    #[test]
    fn any_number_of_digits_is_refused_quietly() {
        assert_eq!(ClearPan::parse(&[b'9'; 1000]), Err(Error::Length));
    }

    #[test]
    fn keeps_leading_zeros() {
        let pan = ClearPan::parse(b"000000000000").unwrap();
        assert_eq!((pan.packed(), pan.len()), (0, 12));
        assert_eq!(pan.to_digits().as_str(), "000000000000");
    }

    #[test]
    fn unpacks_only_what_fits() {
        assert!(ClearPan::from_packed(999_999_999_999, 12).is_some());
        assert!(ClearPan::from_packed(1_000_000_000_000, 12).is_none());
        assert!(ClearPan::from_packed(u64::MAX, 19).is_none());
        assert!(ClearPan::from_packed(0, 11).is_none());
        assert!(ClearPan::from_packed(0, 20).is_none());
        assert!(ClearPan::from_packed(0, usize::MAX).is_none());
    }

    #[test]
    fn luhn_skips_separators_only() {
        assert!(luhn_valid(b"4242 4242-4242 4242"));
        assert!(luhn_valid(b"79927398713")); // the usual textbook example
        assert!(!luhn_valid(b"4242424242424241"));
        assert!(!luhn_valid(b"4242x4242"));
        assert!(!luhn_valid(b" - "));
        assert!(!luhn_valid(b""));
    }

    #[test]
    fn never_printed() {
        let pan = ClearPan::parse(b"4111111111111111").unwrap();
        let printed = format!("{pan:?} {:?}", pan.to_digits());
        assert_eq!(printed, "ClearPan(***) Digits(***)");
    }
}
