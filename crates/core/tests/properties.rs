//! Properties that hold for every input. Failures are not persisted: a file of failing cases could
//! collect card numbers.
#![allow(clippy::unwrap_used)]

use pgpci_core::brand::{Truncation, display_limit, truncate};
use pgpci_core::error::Error;
use pgpci_core::key::{DataKey, EqualityKey, KeyId};
use pgpci_core::pan::{ClearPan, luhn_valid};
use pgpci_core::seal::{Pan, PanBuf, cmp_equality, comparand, open, seal};
use pgpci_core::wire::{Decoder, Request, Response, encode};
use proptest::prelude::*;

/// Numbers of any length; whether the check digit is right does not matter below the parser.
fn any_pan() -> impl Strategy<Value = ClearPan> {
    (12usize..=19, any::<u64>())
        .prop_map(|(len, n)| ClearPan::from_packed(n % 10u64.pow(len as u32), len).unwrap())
}

/// A number sealed under fixed keys, searchable or not, with what is shown at random.
fn any_sealed() -> impl Strategy<Value = (ClearPan, PanBuf)> {
    (any_pan(), any::<bool>(), any::<[u8; 2]>(), any::<[u8; 24]>()).prop_map(
        |(pan, searchable, [first, last], nonce)| {
            let equality = searchable.then(|| EqualityKey::new(&[2; 32]));
            let shown = truncate(&pan, first % 10, last % 6);
            let sealed = seal(&mut data_key(), equality.as_ref(), &pan, shown, &nonce).unwrap();
            (pan, sealed)
        },
    )
}

/// Few different numbers, so that equal ones occur; the third kind is a comparand.
fn any_of_few() -> impl Strategy<Value = PanBuf> {
    (0u64..4, 0..3, any::<[u8; 24]>()).prop_map(|(n, kind, nonce)| {
        let equality = EqualityKey::new(&[2; 32]);
        let pan = ClearPan::from_packed(n, 16).unwrap();
        let shown = Truncation { first: 6, last: 4 };
        match kind {
            0 => comparand(&equality, &pan),
            1 => seal(&mut data_key(), None, &pan, shown, &nonce).unwrap(),
            _ => seal(&mut data_key(), Some(&equality), &pan, shown, &nonce).unwrap(),
        }
    })
}

fn data_key() -> DataKey {
    DataKey::new(KeyId(42), &[1; 32])
}

fn digits_of(pan: &ClearPan) -> String {
    pan.to_digits().as_str().to_string()
}

/// The parser once more, slow and obvious.
fn naive_parse(text: &str) -> Result<String, Error> {
    let text = text.trim_matches(|c: char| c.is_ascii_whitespace());
    if text.is_empty() {
        return Err(Error::Empty);
    }
    if !text.chars().all(|c| "0123456789 -".contains(c)) {
        let masked = text.contains('*') && text.chars().all(|c| "0123456789 -*".contains(c));
        let full_width = text.contains(|c| ('０'..='９').contains(&c));
        return Err(match (masked, full_width) {
            (true, _) => Error::Mask,
            (_, true) => Error::FullWidthDigits,
            _ => Error::NotDigits,
        });
    }
    if text.split([' ', '-']).any(str::is_empty) {
        return Err(Error::NotDigits);
    }
    let digits = text.replace([' ', '-'], "");
    if !(12..=19).contains(&digits.len()) {
        return Err(Error::Length);
    }
    if !naive_luhn(&digits) { Err(Error::Luhn) } else { Ok(digits) }
}

fn naive_luhn(digits: &str) -> bool {
    let values = digits.chars().rev().filter_map(|c| c.to_digit(10)).enumerate();
    let sum: u32 = values.map(|(i, d)| if i % 2 == 0 { d } else { d * 2 / 10 + d * 2 % 10 }).sum();
    sum.is_multiple_of(10)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn parser_agrees_with_the_naive_one(text in "[ \t]?[0-9 \\-]{0,24}[0-9]?[*x４]?[ \n]?") {
        let parsed = ClearPan::parse(text.as_bytes()).map(|pan| digits_of(&pan));
        prop_assert_eq!(parsed, naive_parse(&text));
    }

    #[test]
    fn parser_takes_what_has_a_right_check_digit(
        digits in "[0-9]{11,18}",
        cut in 1usize..11,
        separator in "[ \\-]?",
    ) {
        let check = ('0'..='9').find(|c| naive_luhn(&format!("{digits}{c}"))).unwrap();
        let number = format!("{digits}{check}");
        let text = format!("{}{separator}{}", &number[..cut], &number[cut..]);
        let pan = ClearPan::parse(text.as_bytes()).unwrap();
        prop_assert_eq!(digits_of(&pan), number);
        prop_assert!(luhn_valid(text.as_bytes()));
        prop_assert_eq!(ClearPan::from_packed(pan.packed(), pan.len()), Some(pan));
    }

    #[test]
    fn parsers_never_panic(bytes: Vec<u8>) {
        let _ = ClearPan::parse(&bytes);
        let _ = luhn_valid(&bytes);
        let _ = PanBuf::parse_sealed(&bytes);
        let _ = PanBuf::parse_sealed(&[b"pan:1:", &bytes[..]].concat());
        let _ = Pan::from_stored(&bytes);
    }

    #[test]
    fn sealing_round_trips((pan, sealed) in any_sealed()) {
        let stored = Pan::from_stored(sealed.as_bytes()).unwrap();
        prop_assert_eq!(stored.key_id(), KeyId(42));
        let mut text = Vec::new();
        stored.write_text(&mut text);
        let again = PanBuf::parse_sealed(&text).unwrap();
        prop_assert_eq!(again.as_bytes(), sealed.as_bytes());
        prop_assert_eq!(open(&mut data_key(), again.as_pan()), Ok(pan));
    }

    #[test]
    fn flipped_bits_never_open((_, sealed) in any_sealed(), at in any::<prop::sample::Index>(), bit in 0u32..8) {
        let mut bytes = sealed.as_bytes().to_vec();
        bytes[at.index(sealed.as_bytes().len())] ^= 1u8 << bit;
        if let Ok(pan) = Pan::from_stored(&bytes) {
            let mut mask = [0; 19];
            pan.mask(&mut mask);
            prop_assert_eq!(open(&mut data_key(), pan), Err(Error::Corrupt));
        }
    }

    #[test]
    fn cut_text_never_parses((_, sealed) in any_sealed(), at in any::<prop::sample::Index>()) {
        let mut text = Vec::new();
        sealed.as_pan().write_text(&mut text);
        text.truncate(at.index(text.len()));
        prop_assert_eq!(PanBuf::parse_sealed(&text).err(), Some(Error::SealedSyntax));
    }

    #[test]
    fn flipped_text_never_opens((_, sealed) in any_sealed(), at in any::<prop::sample::Index>(), byte: u8) {
        let mut text = Vec::new();
        sealed.as_pan().write_text(&mut text);
        let original = text.clone();
        let at = at.index(text.len());
        text[at] = byte;
        if text != original && let Ok(value) = PanBuf::parse_sealed(&text) {
            // White space around is no change of the value; there is no room for it here.
            prop_assert_ne!(value.as_bytes(), sealed.as_bytes());
            prop_assert_eq!(open(&mut data_key(), value.as_pan()), Err(Error::Corrupt));
        }
    }

    #[test]
    fn masks_hide_at_least_four_and_lie_about_none(pan in any_pan(), first: u8, last: u8) {
        let shown = truncate(&pan, first, last);
        let limit = display_limit(pan.brand(), pan.len());
        prop_assert!(shown.first <= limit.first && shown.last <= limit.last);
        let sealed = seal(&mut data_key(), None, &pan, shown, &[0; 24]).unwrap();
        let mut mask = [0; 19];
        let len = sealed.as_pan().mask(&mut mask);
        prop_assert_eq!(len, pan.len());
        let hidden = mask[..len].iter().filter(|&&b| b == b'*').count();
        prop_assert_eq!(hidden, len - usize::from(shown.first + shown.last));
        prop_assert!(hidden >= 4);
        for (m, d) in mask[..len].iter().zip(digits_of(&pan).bytes()) {
            prop_assert!(*m == b'*' || *m == d);
        }
    }

    #[test]
    fn order_is_total(a in any_of_few(), b in any_of_few(), c in any_of_few()) {
        let (a, b, c) = (a.as_pan(), b.as_pan(), c.as_pan());
        prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
        prop_assert_eq!(a == b, a.cmp(&b).is_eq());
        if a <= b && b <= c {
            prop_assert!(a <= c);
        }
        if a == b {
            prop_assert_eq!((a.hash32(), a.hash64(9)), (b.hash32(), b.hash64(9)));
        }
        prop_assert_eq!(a.hash64(0) as u32, a.hash32());
        if let Some(hash) = b.equality() {
            prop_assert_eq!(cmp_equality(a, hash), a.cmp(&b));
        }
    }

    #[test]
    fn equality_is_that_of_the_digits(a in any_pan(), b in any_pan()) {
        let key = EqualityKey::new(&[2; 32]);
        prop_assert_eq!(key.hash(&a) == key.hash(&b), a == b);
    }

    #[test]
    fn decoder_never_panics(pieces: Vec<Vec<u8>>) {
        let mut decoder = Decoder::default();
        for piece in pieces {
            decoder.push(&piece);
            while let Ok(Some(_)) = decoder.next::<Request>() {}
        }
    }

    #[test]
    fn whatever_decodes_encodes_to_the_same(payload: Vec<u8>) {
        let mut decoder = Decoder::default();
        decoder.push(&(payload.len() as u32).to_le_bytes());
        decoder.push(&payload);
        if let Ok(Some(message)) = decoder.next::<Response>() {
            let mut frame = Vec::new();
            encode(&message, &mut frame).unwrap();
            decoder.push(&frame);
            let again = decoder.next::<Response>().unwrap().unwrap();
            prop_assert_eq!(format!("{again:?}"), format!("{message:?}"));
        }
    }
}
