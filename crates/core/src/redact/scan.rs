//! Finds the places of a text that are worth a look, many bytes at a time.

/// What may begin at a hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// A digit, at that place: full-width digits are found by their last byte.
    Digit(usize),
    /// The `w` of `password`.
    Password,
    /// The first slash of `://`.
    Uri,
    /// The `p` of `crypt`, or the `a` of `hmac`.
    Crypt,
}

const WIDTH: usize = 32;

/// The first place from `from` on that ends something worth a look.
pub(super) fn next(text: &[u8], mut from: usize) -> Option<usize> {
    // The first two bytes have too little before them to end anything but a digit.
    while from < 2 {
        if text.get(from)?.is_ascii_digit() {
            return Some(from);
        }
        from += 1;
    }
    while let Some(window) = text.get(from - 2..).and_then(|rest| rest.first_chunk()) {
        if let Some(i) = first_hit(window) {
            return Some(from + i);
        }
        from += WIDTH;
    }
    // Statements are short: what is left over is looked at in one go as well. A zero ends nothing.
    let rest = text.get(from - 2..)?;
    let mut window = [0; WIDTH + 2];
    window[..rest.len()].copy_from_slice(rest);
    first_hit(&window).map(|i| from + i)
}

/// The first of the bytes behind the first two that ends something.
#[inline(always)]
fn first_hit(window: &[u8; WIDTH + 2]) -> Option<usize> {
    // A loop without branches over fixed sizes: the compiler makes vector instructions of it.
    let mut hits = [0u8; WIDTH];
    for (i, hit) in hits.iter_mut().enumerate() {
        *hit = ends(window[i], window[i + 1], window[i + 2]);
    }
    let words = hits.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word));
    let found = words.enumerate().find(|(_, word)| *word != 0);
    found.map(|(i, word)| i * 8 + (word.trailing_zeros() / 8) as usize)
}

/// What a place is that [`next`] found.
pub(super) fn what(text: &[u8], hit: usize) -> What {
    match text.get(hit).map_or(0, |it| it | 0x20) {
        b'w' => What::Password,
        b'/' => What::Uri,
        b'p' | b'a' => What::Crypt,
        b'0'..=b'9' if text[hit] < 0x80 => What::Digit(hit),
        _ => What::Digit(hit.saturating_sub(2)),
    }
}

/// 1 if the third byte is a digit, or with the two before it: a full-width digit, or `ssw`, `ryp`
/// and `hma` in any case, which hardly occur but in the words looked for, or `:/`.
#[inline(always)]
fn ends(a: u8, b: u8, c: u8) -> u8 {
    let (x, y, z) = (a | 0x20, b | 0x20, c | 0x20);
    let digit = c.wrapping_sub(b'0') <= 9;
    let full_width = (a == 0xef) & (b == 0xbc) & (c.wrapping_sub(0x90) <= 9);
    let password = (x == b's') & (y == b's') & (z == b'w');
    let crypt = (x == b'r') & (y == b'y') & (z == b'p');
    let hmac = (x == b'h') & (y == b'm') & (z == b'a');
    let uri = (b == b':') & (c == b'/');
    u8::from(digit | full_width | password | crypt | hmac | uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_same_at_every_offset() {
        let needles: [(&[u8], usize, What); 7] = [
            (b"7", 0, What::Digit(0)),
            ("５".as_bytes(), 2, What::Digit(0)),
            (b"passWORD", 4, What::Password),
            (b"x://", 2, What::Uri),
            (b"Crypt", 3, What::Crypt),
            (b"HMAC", 2, What::Crypt),
            (b"ssw", 2, What::Password),
        ];
        for (needle, offset, expected) in needles {
            for lead in 0..100 {
                let text = [&vec![b'.'; lead][..], needle, &[b'.'; 50]].concat();
                let hit = lead + offset;
                assert_eq!(next(&text, 0), Some(hit), "{lead}");
                assert_eq!(next(&text, hit + 1), None, "{lead}");
                let expected = match expected {
                    What::Digit(_) => What::Digit(lead),
                    other => other,
                };
                assert_eq!(what(&text, hit), expected);
            }
        }
        assert_eq!(next(b"", 0), None);
        assert_eq!(next(b"a", 5), None);
    }
}
