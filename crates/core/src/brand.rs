//! Card brands by issuer identification number (IIN), and how much of a number each lets be kept.

use crate::pan::ClearPan;

/// A card brand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Brand {
    Visa,
    Mastercard,
    AmericanExpress,
    Discover,
    Diners,
    Jcb,
    UnionPay,
    Maestro,
    Mir,
    /// No IIN of the table, or one that is never that long.
    Unknown,
}

impl Brand {
    /// The name as the brand writes it, or `unknown`.
    pub fn name(self) -> &'static str {
        match self {
            Brand::Visa => "Visa",
            Brand::Mastercard => "Mastercard",
            Brand::AmericanExpress => "American Express",
            Brand::Discover => "Discover",
            Brand::Diners => "Diners Club",
            Brand::Jcb => "JCB",
            Brand::UnionPay => "UnionPay",
            Brand::Maestro => "Maestro",
            Brand::Mir => "Mir",
            Brand::Unknown => "unknown",
        }
    }
}

/// The brand of a number given as ASCII digits, by the longest IIN prefix that matches.
pub fn brand_of(digits: &[u8]) -> Brand {
    let Some(iin) = digits.first_chunk::<6>() else {
        return Brand::Unknown;
    };
    if !digits.iter().all(u8::is_ascii_digit) {
        return Brand::Unknown;
    }
    let iin = iin.iter().fold(0, |n, d| n * 10 + u32::from(d - b'0'));
    lookup(iin, digits.len())
}

/// [`brand_of`] for the first six digits as a number, and the length.
pub(crate) fn lookup(iin: u32, len: usize) -> Brand {
    match IIN_RANGES.iter().find(|it| (it.first..=it.last).contains(&iin)) {
        Some(it) if it.lengths.contains(&len) => it.brand,
        _ => Brand::Unknown,
    }
}

/// How many leading and trailing digits are kept readable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Truncation {
    /// Leading digits shown.
    pub first: u8,
    /// Trailing digits shown.
    pub last: u8,
}

/// Digits that stay hidden whatever the brand and length.
pub const MIN_HIDDEN: usize = 4;

/// The most that may be kept of a number: PCI SSC FAQ 1091 (truncation formats by brand).
pub fn display_limit(brand: Brand, len: usize) -> Truncation {
    use Brand::*;
    let (first, last) = match (brand, len) {
        (Visa | Mastercard | Discover | Jcb | UnionPay, 16) => (8, 4),
        _ => (6, 4),
    };
    // Numbers of 12 and 13 digits would otherwise hide two and three only.
    let room = len.saturating_sub(MIN_HIDDEN + usize::from(last));
    Truncation { first: first.min(room as u8), last }
}

/// What is shown of a number: the wish, as far as [`display_limit`] allows it.
pub fn truncate(pan: &ClearPan, first: u8, last: u8) -> Truncation {
    let limit = display_limit(pan.brand(), pan.len());
    Truncation { first: first.min(limit.first), last: last.min(limit.last) }
}

/// An IIN range, written with six digits so that prefixes of different lengths compare.
struct IinRange {
    first: u32,
    last: u32,
    brand: Brand,
    lengths: &'static [usize],
}

const fn range(first: u32, last: u32, brand: Brand, lengths: &'static [usize]) -> IinRange {
    IinRange { first, last, brand, lengths }
}

const SIXTEEN_UP: &[usize] = &[16, 17, 18, 19];
const TWELVE_UP: &[usize] = &[12, 13, 14, 15, 16, 17, 18, 19];
const DINERS: &[usize] = &[14, 16, 19];

/// The ranges do not overlap, so the first that matches is the longest prefix. 622126–622925 is
/// shared by UnionPay and Discover; their limits are the same, and 62 is UnionPay's.
#[rustfmt::skip]
const IIN_RANGES: &[IinRange] = &[
    range(400000, 499999, Brand::Visa, &[13, 16, 18, 19]),
    range(510000, 559999, Brand::Mastercard, &[16]),
    range(222100, 272099, Brand::Mastercard, &[16]),
    range(340000, 349999, Brand::AmericanExpress, &[15]),
    range(370000, 379999, Brand::AmericanExpress, &[15]),
    range(601100, 601199, Brand::Discover, SIXTEEN_UP),
    range(644000, 659999, Brand::Discover, SIXTEEN_UP),
    range(300000, 305999, Brand::Diners, DINERS),
    range(360000, 369999, Brand::Diners, DINERS),
    range(380000, 399999, Brand::Diners, DINERS),
    range(352800, 358999, Brand::Jcb, SIXTEEN_UP),
    range(620000, 629999, Brand::UnionPay, SIXTEEN_UP),
    range(810000, 817199, Brand::UnionPay, SIXTEEN_UP),
    range(500000, 509999, Brand::Maestro, TWELVE_UP),
    range(560000, 599999, Brand::Maestro, TWELVE_UP),
    range(601300, 601399, Brand::Maestro, TWELVE_UP),
    range(630400, 630499, Brand::Maestro, TWELVE_UP),
    range(639000, 639099, Brand::Maestro, TWELVE_UP),
    range(670000, 679999, Brand::Maestro, TWELVE_UP),
    range(220000, 220499, Brand::Mir, SIXTEEN_UP),
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use Brand::*;

    /// Test numbers that processors publish.
    const TEST_NUMBERS: &[(Brand, &str)] = &[
        (Visa, "4242424242424242 4111111111111111 4012888888881881"),
        (Visa, "4000056655665556 4222222222222"),
        (Mastercard, "5555555555554444 5105105105105100 5200828282828210"),
        (Mastercard, "2223003122003222 2222420000001113 2223000048400011"),
        (AmericanExpress, "378282246310005 371449635398431"),
        (Discover, "6011111111111117 6011000990139424 6011981111111113"),
        (Diners, "30569309025904 38520000023237 36227206271667 3056930009020004"),
        (Jcb, "3566002020360505 3530111333300000 3566111111111113"),
        (UnionPay, "6200000000000005 6200000000000047 6205500000000000004"),
        (Maestro, "6759411100000008 586824160825533338 6759560045005727054"),
        (Maestro, "50339619890917 6304000000000000"),
    ];

    #[test]
    fn published_test_numbers() {
        for (brand, numbers) in TEST_NUMBERS {
            for number in numbers.split(' ') {
                assert_eq!(brand_of(number.as_bytes()), *brand, "{number}");
                let pan = ClearPan::parse(number.as_bytes()).unwrap();
                assert_eq!(pan.brand(), *brand, "{number}");
            }
        }
    }

    #[test]
    fn the_length_must_fit_and_the_text_be_digits() {
        assert_eq!(brand_of(b"2200000000000000"), Mir);
        for text in ["41111111111111", "3782822463100050", "9999999999999999", "4111", "4111 1111"] {
            assert_eq!(brand_of(text.as_bytes()), Unknown, "{text}");
        }
    }

    #[test]
    fn ranges_do_not_overlap() {
        for (i, a) in IIN_RANGES.iter().enumerate() {
            assert!(a.first <= a.last && a.last <= 999_999);
            for b in &IIN_RANGES[i + 1..] {
                assert!(a.last < b.first || b.last < a.first, "{} {}", a.first, b.first);
            }
        }
    }

    #[test]
    fn limits_of_the_faq() {
        for (brand, len, limit) in [
            (Visa, 16, (8, 4)),
            (UnionPay, 16, (8, 4)),
            (Maestro, 16, (6, 4)),
            (Unknown, 16, (6, 4)),
            (AmericanExpress, 15, (6, 4)),
            (Diners, 14, (6, 4)),
            (Visa, 13, (5, 4)),
            (Maestro, 12, (4, 4)),
            (Visa, 19, (6, 4)),
        ] {
            let Truncation { first, last } = display_limit(brand, len);
            assert_eq!((first, last), limit, "{brand:?} {len}");
        }
    }

    #[test]
    fn a_wish_is_cut_to_the_limit() {
        let pan = ClearPan::parse(b"4111111111111111").unwrap();
        let shown = |first, last| {
            let it = truncate(&pan, first, last);
            (it.first, it.last)
        };
        assert_eq!((shown(6, 4), shown(255, 255), shown(0, 0)), ((6, 4), (8, 4), (0, 0)));
    }
}
