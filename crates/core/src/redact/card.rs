//! Card numbers in digit groups.

use super::cursor::{STAR, Text, at, before};
use super::{End, Found};
use crate::brand::{Brand, display_limit, lookup};
use crate::pan::{MAX_LEN, MIN_LEN};

/// Digits that stay readable at the front, where the brand allows them.
const FIRST: u8 = 6;
/// A number begins with a group of at least that many digits, as every printed form does; lists of
/// small numbers would often make a number otherwise.
const MIN_FIRST_GROUP: usize = 4;
/// A group with fewer digits is the last of a number or no part of one.
const MIN_GROUP: usize = 3;
/// How far is looked for the rest of a mask or UUID.
const LOOK_AROUND: usize = 64;

/// Hides the card numbers in the digit groups that begin at `from`; returns where they end.
///
/// Every sequence of whole groups is tried, so a number is found whatever other numbers stand
/// beside it, and where two overlap, both are hidden.
pub(super) fn cluster(text: &mut impl Text, from: usize, end: End, found: &mut Found) -> usize {
    let (to, digits) = extent(text.bytes(), from);
    let cut = end == End::Cut && is_cut(text.bytes(), to);
    let worth_it = digits >= MIN_LEN || cut && digits > usize::from(FIRST);
    if !worth_it || is_in_uuid(text.bytes(), from, to) {
        return to;
    }
    let behind_escape = behind_escape(text.bytes(), from);
    let mut recent = Recent::default();
    let mut i = from;
    while i < to {
        let (group, before_it) = (i, recent.in_group);
        recent.in_group = 0;
        while let Some((digit, width)) = digit_at(text.bytes(), i) {
            recent.push(text, digit, i, i == group || Some(i) == behind_escape);
            i += width;
        }
        let len = recent.in_group;
        if is_decimals(text.bytes(), group, len, before_it) || is_of_mask(text.bytes(), group, i, len) {
            recent.starts = 0;
        }
        recent.starts &= !((1 << (MIN_FIRST_GROUP - 1)) - 1);
        recent.check(found);
        if cut && i >= to {
            recent.check_cut(found);
        }
        if len < MIN_GROUP {
            recent.starts = 0;
        }
        i = skip_separators(text.bytes(), i);
    }
    recent.flush(text);
    to
}

/// Where the escape ends that the digits at `from` may be part of, `%22` or `\u0022`: a number may
/// begin there. It may as well begin at `from`, as in `LIKE '%4111…'`.
fn behind_escape(text: &[u8], from: usize) -> Option<usize> {
    (1..=4).find_map(|back| {
        let mark = from.checked_sub(back)?;
        let len = match text[mark] {
            b'%' => 2,
            b'u' if before(text, mark) == b'\\' => 4,
            _ => return None,
        };
        let escape = text.get(mark + 1..mark + 1 + len)?;
        escape.iter().all(u8::is_ascii_hexdigit).then_some(mark + 1 + len)
    })
}

/// Whether nothing but the rest of a separator or digit follows.
fn is_cut(text: &[u8], to: usize) -> bool {
    let rest = &text[skip_separators(text, to)..];
    rest.is_empty() || rest.len() < 3 && matches!(rest[0], 0xef | 0xc2 | b'%')
}

/// Whether a group of digits is the fraction of a number: long, and behind a point after few.
fn is_decimals(text: &[u8], group: usize, len: usize, before_it: usize) -> bool {
    len >= MIN_LEN && (1..MIN_LEN).contains(&before_it) && before(text, group) == b'.'
}

/// Digits read lately: no number is longer than [`MAX_LEN`], so older ones are settled.
#[derive(Default)]
struct Recent {
    /// Value and place of digit number n, at n modulo the size.
    digits: [(u8, usize); 32],
    /// How many digits were read.
    count: usize,
    /// How many of them are in this group.
    in_group: usize,
    /// Bit n: the nth last digit begins a group from which a number can go on to here.
    starts: u32,
    /// Bit n: the nth last digit must be hidden.
    hidden: u32,
}

impl Recent {
    fn push(&mut self, text: &mut impl Text, digit: u8, place: usize, begins: bool) {
        self.settle(text, MAX_LEN - 1);
        self.digits[self.count % 32] = (digit, place);
        self.count += 1;
        self.in_group += 1;
        self.starts = (self.starts << 1 | u32::from(begins)) & ((1 << MAX_LEN) - 1);
        self.hidden <<= 1;
    }

    /// The nth last digit.
    fn last(&self, n: usize) -> u8 {
        self.digits[self.count.wrapping_sub(n + 1) % 32].0
    }

    /// The IIN of a number of `len` digits that ends here.
    fn iin(&self, len: usize) -> u32 {
        (1..=6).fold(0, |iin, i| iin * 10 + u32::from(self.last(len - i)))
    }

    /// Marks every card number that ends with the last digit.
    fn check(&mut self, found: &mut Found) {
        let longest = MAX_LEN.min(self.count);
        if self.starts >> (MIN_LEN - 1) == 0 {
            return;
        }
        let mut sum = 0;
        for n in 0..longest {
            let digit = self.last(n);
            let doubled = if digit > 4 { digit * 2 - 9 } else { digit * 2 };
            sum += u32::from(if n % 2 == 0 { digit } else { doubled });
            let len = n + 1;
            if len < MIN_LEN || self.starts >> n & 1 == 0 || !sum.is_multiple_of(10) {
                continue;
            }
            let brand = lookup(self.iin(len), len);
            if brand != Brand::Unknown {
                let limit = display_limit(brand, len);
                self.hide(len - usize::from(limit.first.min(FIRST)), usize::from(limit.last));
                found.cards += 1;
            }
        }
    }

    /// Marks what may be the beginning of a card number that was cut off.
    fn check_cut(&mut self, found: &mut Found) {
        for n in usize::from(FIRST)..MAX_LEN - 1 {
            let possible = |len| lookup(self.iin(n + 1), len) != Brand::Unknown;
            if self.starts >> n & 1 == 1 && (n + 2..=MAX_LEN).any(possible) {
                self.hide(n + 1 - usize::from(FIRST), 0);
                found.cards += 1;
            }
        }
    }

    /// Marks the last `from` digits, the very last `keep` of them excepted.
    fn hide(&mut self, from: usize, keep: usize) {
        self.hidden |= ((1u32 << from) - 1) & !((1 << keep) - 1);
    }

    /// Hides the digit that leaves, with `n` younger ones.
    fn settle(&mut self, text: &mut impl Text, n: usize) {
        if self.hidden >> n & 1 == 0 || self.count <= n {
            return;
        }
        let place = self.digits[(self.count - n - 1) % 32].1;
        match text.bytes_mut().get_mut(place..) {
            // A full-width asterisk for a full-width digit: the text stays valid UTF-8.
            Some([0xef, _, last, ..]) => *last = 0x8a,
            Some([digit, ..]) => *digit = STAR,
            _ => {}
        }
    }

    fn flush(&mut self, text: &mut impl Text) {
        for n in 0..MAX_LEN {
            self.settle(text, n);
        }
    }
}

/// Where the digit groups end that begin at `from`, and how many digits they have.
fn extent(text: &[u8], from: usize) -> (usize, usize) {
    let (mut i, mut digits) = (from, 0);
    loop {
        while let Some((_, width)) = digit_at(text, i) {
            i += width;
            digits += 1;
        }
        let next = skip_separators(text, i);
        if next == i || digit_at(text, next).is_none() {
            return (i, digits);
        }
        i = next;
    }
}

/// The value of the digit at a place, and its length in bytes.
fn digit_at(text: &[u8], i: usize) -> Option<(u8, usize)> {
    match text.get(i)? {
        digit @ b'0'..=b'9' => Some((digit - b'0', 1)),
        0xef => match text.get(i..i + 3)? {
            [_, 0xbc, last @ 0x90..=0x99] => Some((last - 0x90, 3)),
            _ => None,
        },
        _ => None,
    }
}

/// Behind up to three separators.
fn skip_separators(text: &[u8], mut i: usize) -> usize {
    for _ in 0..3 {
        i += match text.get(i) {
            Some(b' ' | b'-' | b'.' | b'_' | b'+') => 1,
            Some(0xc2) if at(text, i + 1) == 0xa0 => 2,
            Some(b'%') if text.get(i..i + 3) == Some(b"%20") => 3,
            _ => break,
        };
    }
    i
}

/// Whether a group is what a mask left at its beginning or end. It must not become part of another
/// number when a text is redacted again; bold type (`**4111…**`) is no mask.
fn is_of_mask(text: &[u8], group: usize, end: usize, len: usize) -> bool {
    let behind = &text[group.saturating_sub(LOOK_AROUND)..group];
    let ahead = &text[end..text.len().min(end + LOOK_AROUND)];
    len <= 4 && is_mask(behind.iter().rev()) || len <= usize::from(FIRST) && is_mask(ahead.iter())
}

/// Whether bytes go on with at least four hidden digits, and then with a digit.
fn is_mask<'a>(mut bytes: impl Iterator<Item = &'a u8>) -> bool {
    let hides = |byte: &u8| matches!(byte, &STAR | 0x8a);
    let Some(first) = bytes.next().filter(|it| hides(it) || **it == 0xef) else {
        return false;
    };
    let mut stars = usize::from(hides(first));
    for byte in bytes {
        match byte {
            it if hides(it) => stars += 1,
            b' ' | b'-' | b'.' | b'_' | b'+' | b'%' | 0xc2 | 0xa0 | 0xef | 0xbc => {}
            // Of a separator %20, or of what the mask left.
            b'0'..=b'9' | 0x90..=0x99 => return stars >= 4,
            _ => return false,
        }
    }
    stars >= 4
}

/// Whether the digits are part of a UUID in its usual form; one of digits only counts as none.
fn is_in_uuid(text: &[u8], from: usize, to: usize) -> bool {
    let part = |it: &&u8| it.is_ascii_hexdigit() || **it == b'-';
    let behind = text[..from].iter().rev().take(LOOK_AROUND).take_while(part).count();
    let ahead = text[to..].iter().take(LOOK_AROUND).take_while(part).count();
    let token = &text[from - behind..to + ahead];
    token.len() == 36
        && token.iter().any(u8::is_ascii_alphabetic)
        && token
            .iter()
            .enumerate()
            .all(|(i, it)| if matches!(i, 8 | 13 | 18 | 23) { *it == b'-' } else { it.is_ascii_hexdigit() })
}
