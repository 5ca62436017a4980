//! Redaction over generated numbers, texts and secrets, and how often it hides what is none.
//! Failures are not persisted: a file of failing cases could collect card numbers.
#![allow(clippy::unwrap_used)]

use pgpci_core::brand::{Brand, brand_of, display_limit};
use pgpci_core::pan::luhn_valid;
use pgpci_core::redact::{End, Found, in_place, redact};
use proptest::prelude::*;

/// First digits and lengths of every brand.
const BRANDS: &[(&[&str], &[usize])] = &[
    (&["4"], &[13, 16, 18, 19]),
    (&["51", "52", "53", "54", "55", "2221", "2300", "2500", "2699", "2720"], &[16]),
    (&["34", "37"], &[15]),
    (&["6011", "644", "649", "65"], &[16, 17, 18, 19]),
    (&["300", "305", "36", "38", "39"], &[14, 16, 19]),
    (&["3528", "3589", "355"], &[16, 17, 18, 19]),
    (&["62", "8100", "8171"], &[16, 17, 18, 19]),
    (&["50", "56", "57", "58", "59", "6013", "6304", "6390", "67"], &[12, 13, 14, 15, 16, 17, 18, 19]),
    (&["2200", "2204"], &[16, 17, 18, 19]),
];

/// The groups that numbers are printed in, by their sizes; what is left over makes the last group.
const GROUPS: &[&[usize]] =
    &[&[99], &[4, 4, 4, 4], &[4, 6, 5], &[4, 6, 4], &[4, 3, 3, 3], &[6, 13], &[8, 8], &[5, 5, 5]];

const SEPARATORS: &[&str] = &[" ", "-", ".", "_", "+", "%20", "\u{a0}", "  ", " - "];

fn any_number() -> impl Strategy<Value = String> {
    (any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<prop::sample::Index>(), "[0-9]{19}")
        .prop_map(|(brand, prefix, len, digits)| {
            let (prefixes, lengths) = brand.get(BRANDS);
            let prefix = prefix.get(prefixes);
            let body = format!("{prefix}{}", &digits[..len.get(lengths) - prefix.len() - 1]);
            let check = ('0'..='9').find(|it| luhn_valid(format!("{body}{it}").as_bytes())).unwrap();
            let number = format!("{body}{check}");
            assert_ne!(brand_of(number.as_bytes()), Brand::Unknown, "the table above");
            number
        })
}

/// The number as printed, and its mask.
fn printed(number: &str, groups: &[usize], separator: &str) -> (String, String) {
    let limit = display_limit(brand_of(number.as_bytes()), number.len());
    let (first, last) = (limit.first.min(6) as usize, number.len() - limit.last as usize);
    let (mut text, mut mask) = (String::new(), String::new());
    let (mut group, mut left) = (groups.iter().chain([&99]), 0);
    for (i, digit) in number.chars().enumerate() {
        if left == 0 {
            left = *group.next().unwrap();
            if i > 0 {
                text.push_str(separator);
                mask.push_str(separator);
            }
        }
        left -= 1;
        text.push(digit);
        mask.push(if (first..last).contains(&i) { '*' } else { digit });
    }
    (text, mask)
}

/// 12 and more digits behind a point and few digits are a fraction, on purpose.
fn is_fraction(groups: &[usize], separator: &str) -> bool {
    groups == [6, 13] && separator == "."
}

/// What stands around a number: anything but digits and separators next to it, in which nothing
/// else is found.
fn any_surroundings() -> impl Strategy<Value = (String, String)> {
    let text = "([ -/:-~\t\néß€卡]{0,20}[a-zA-Z\"'(),:;=&{}\\[\\]<>/?\t\néß€卡])?";
    let quiet =
        |it: &String| redact(it.as_bytes()) == it.as_bytes() && !it.contains('%') && !it.contains("\\u");
    let ending = text.prop_map(|it: String| it.chars().rev().collect::<String>());
    (text.prop_filter("quiet", quiet), ending.prop_filter("quiet", quiet))
}

fn in_place_copy(text: &[u8], end: End) -> (Vec<u8>, Found) {
    let mut copy = text.to_vec();
    let found = in_place(&mut copy, end);
    (copy, found)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn every_number_is_masked_and_nothing_else_changes(
        number in any_number(),
        groups in prop::sample::select(GROUPS),
        separator in prop::sample::select(SEPARATORS),
        (before, after) in any_surroundings(),
    ) {
        prop_assume!(!is_fraction(groups, separator));
        // Around a secret more may be hidden.
        let other = format!("{before}x{after}");
        prop_assume!(redact(other.as_bytes()) == other.as_bytes());
        let (text, mask) = printed(&number, groups, separator);
        let (text, mask) = (format!("{before}{text}{after}"), format!("{before}{mask}{after}"));
        let redacted = redact(text.as_bytes());
        // A part of some numbers is a number too; then more is hidden.
        let hidden = redacted.iter().zip(mask.bytes()).all(|(a, b)| *a == b || *a == b'*' && b != b' ');
        prop_assert!(hidden, "{} {}", text, String::from_utf8_lossy(&redacted));
        if groups.len() == 1 {
            prop_assert_eq!(String::from_utf8_lossy(&redacted), mask);
        }
    }

    #[test]
    fn numbers_beside_each_other_are_all_masked(
        numbers in prop::collection::vec((any_number(), prop::sample::select(GROUPS)), 1..5),
        separator in prop::sample::select(SEPARATORS),
        between in prop::sample::select(&[" ", ", ", "\t", "-", "','", " 12 ", " 123 "][..]),
    ) {
        prop_assume!(!numbers.iter().any(|(_, groups)| is_fraction(groups, separator)));
        let (texts, masks): (Vec<_>, Vec<_>) =
            numbers.iter().map(|(number, groups)| printed(number, groups, separator)).unzip();
        let (text, mask) = (texts.join(between), masks.join(between));
        let redacted = redact(text.as_bytes());
        for ((is, was), should) in redacted.iter().zip(text.bytes()).zip(mask.bytes()) {
            prop_assert!(*is == b'*' || *is == was && was == should, "{} {}", text, String::from_utf8_lossy(&redacted));
        }
    }

    #[test]
    fn redacting_again_changes_nothing(
        pieces in prop::collection::vec(
            prop_oneof![
                any_number(),
                "[0-9]{1,9}",
                prop::sample::select(SEPARATORS).prop_map(str::to_string),
                "[*]{1,5}|４|１１１１|[a-f]|%[0-9]",
            ],
            0..30,
        ),
    ) {
        let text = pieces.concat();
        let once = redact(text.as_bytes());
        let twice = redact(&once);
        prop_assert_eq!(String::from_utf8_lossy(&twice), String::from_utf8_lossy(&once));
    }

    #[test]
    fn both_ways_agree_and_keep_length_and_encoding(
        pieces in prop::collection::vec(
            prop_oneof![
                any_number(),
                "\\PC{0,5}",
                prop::sample::select(&[
                    "password", "PASSWORD ", "'", "''", "\"", "\\", "$$", "$a$", "=", ":", "=>", ",", " ", "E'", "--",
                    "/*", "*/", "\n", "crypt(", "hmac(", ")", "md5", "0123456789abcdef0123456789abcdef",
                    "SCRAM-SHA-256$4096:a$b:c", "postgres://u:p", "@", "５１０５１０５１０５１０５１００", "null", "$1",
                ][..]).prop_map(str::to_string),
            ],
            0..20,
        ),
    ) {
        let text = pieces.concat();
        let redacted = redact(text.as_bytes());
        let (whole, found) = in_place_copy(text.as_bytes(), End::Whole);
        prop_assert_eq!(&redacted[..], &whole);
        prop_assert_eq!(found.is_empty(), whole == text.as_bytes());
        prop_assert_eq!(redacted.len(), text.len());
        prop_assert!(std::str::from_utf8(&redacted).is_ok());
        in_place_copy(text.as_bytes(), End::Cut);
    }

    #[test]
    fn any_bytes_will_do(bytes: Vec<u8>) {
        prop_assert_eq!(in_place_copy(&bytes, End::Whole).0, redact(&bytes).into_owned());
        in_place_copy(&bytes, End::Cut);
    }

    #[test]
    fn every_password_is_hidden_whole(
        password in "[a-zA-Z0-9éß$@!#%^*(){}\\[\\]|:;,./<>?~ -]{1,20}",
        keyword in "password|PASSWORD|PassWord|sslpassword|passwd",
        space in "[ \n\t]{1,3}(/[*] c [*]/)?(-- c\n)? ?",
        form in 0usize..4,
    ) {
        let nothing = "*".repeat(password.len());
        let (open, close) = [("'", "'"), ("E'", "'"), ("U&'", "'"), ("$q$", "$q$")][form];
        prop_assume!(!password.contains("$q$") && !password.ends_with("$q"));
        let before = format!("ALTER ROLE bob {keyword}{space}{open}");
        let after = format!("{close} VALID UNTIL 'x'");
        let redacted = redact(format!("{before}{password}{after}").as_bytes()).into_owned();
        prop_assert_eq!(String::from_utf8(redacted).unwrap(), format!("{before}{nothing}{after}"));
    }
}

/// A fixed sequence, so that the rates are the same in every run (xorshift64*).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn digits(&mut self, len: usize) -> String {
        (0..len).map(|_| char::from(b'0' + (self.next() >> 33) as u8 % 10)).collect()
    }
}

/// Texts of 1,000 in which something was hidden.
fn rate(text: impl Fn(&mut Numbers) -> String) -> f64 {
    const TEXTS: u32 = 50_000;
    let mut numbers = Numbers(42);
    let hidden =
        (0..TEXTS).filter(|_| !in_place_copy(text(&mut numbers).as_bytes(), End::Whole).1.is_empty());
    f64::from(hidden.count() as u32) * 1000.0 / f64::from(TEXTS)
}

#[test]
fn false_positives_are_few() {
    let hex = |n: &mut Numbers| format!("{:016x}{:016x}", n.next(), n.next());
    let uuid = |n: &mut Numbers| {
        let it = hex(n);
        format!("{}-{}-4{}-8{}-{}", &it[..8], &it[8..12], &it[12..15], &it[15..18], &it[18..30])
    };
    let second = |n: &mut Numbers| 1_700_000_000 + n.next() % 200_000_000;
    for (what, most, rate) in [
        ("16 random digits", 36.0, rate(|n| n.digits(16))),
        ("19 random digits", 25.0, rate(|n| n.digits(19))),
        ("12 random digits", 12.0, rate(|n| n.digits(12))),
        ("24 random digits", 0.0, rate(|n| n.digits(24))),
        ("20 random digits", 0.0, rate(|n| n.digits(20))),
        ("UUID", 0.1, rate(uuid)),
        ("32 hex digits", 2.0, rate(hex)),
        ("epoch in ms", 0.0, rate(|n| format!("{}{}", second(n), n.digits(3)))),
        ("epoch in µs", 0.0, rate(|n| format!("{}{}", second(n), n.digits(6)))),
        ("epoch in ns", 0.0, rate(|n| format!("{}{}", second(n), n.digits(9)))),
        (
            "timestamp",
            0.0,
            rate(|n| format!("2026-11-{:02} {:02}:15:27.{}+00", n.next() % 30, n.next() % 24, n.digits(6))),
        ),
        ("YYYYMMDDhhmmss", 0.0, rate(|n| format!("202611{:02}{:02}1527", n.next() % 30, n.next() % 24))),
        ("double", 0.0, rate(|n| format!("{}.{}", n.next() % 1000, n.digits(15)))),
        (
            "IPv4",
            0.0,
            rate(|n| format!("{}.{}.{}.{}", n.next() % 256, n.next() % 256, n.next() % 256, n.next() % 256)),
        ),
        ("bigint", 29.0, rate(|n| ((n.next() >> 1) as i64).to_string())),
        (
            "ten small numbers",
            12.0,
            rate(|n| (0..10).map(|_| (n.next() % 1000).to_string()).collect::<Vec<_>>().join(" ")),
        ),
    ] {
        println!("{rate:6.2} of 1,000  {what}");
        assert!(rate <= most, "{what}: {rate} of 1,000");
    }
}
