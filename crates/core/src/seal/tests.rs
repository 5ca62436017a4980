#![allow(clippy::unwrap_used)]
use super::*;
use crate::brand::Truncation;
use crate::error::Error;
use crate::key::{DataKey, EqualityKey, KeyId};
use crate::pan::ClearPan;
use std::cmp::Ordering;

const NONCE: &[u8; 24] = b"ABCDEFGHIJKLMNOPQRSTUVWX";
const VISA: &str = "4111111111111111";

/// Made by an independent program, with python-cryptography; stored values depend on them.
const SEARCHABLE: &str = "pan:1:AQEQZEERERERAAEjRWeJq83vQUJDREVGR0hJSktMTU5PUFFSU1RVVldYlhuwrbTGAvZwfyRm\
    lgGPHgVAS8tj4dkA1wssimtsl7kCVR8vVf-niA";
const UNSEARCHABLE: &str = "pan:1:AQAPZDeCggAFAAEjRWeJq83vQUJDREVGR0hJSktMTU5PUFFSU1RVVldYlhRzrqNEe0Q6\
    5B4lulYybHAMJuf2TW3D";

fn pan(digits: &str) -> ClearPan {
    ClearPan::parse(digits.as_bytes()).unwrap()
}

fn data_key() -> DataKey {
    DataKey::new(KeyId(0x0123_4567_89AB_CDEF), &[1; 32])
}

fn equality_key() -> EqualityKey {
    EqualityKey::new(&[2; 32])
}

fn sealed(digits: &str, first: u8, last: u8) -> PanBuf {
    let shown = Truncation { first, last };
    seal(&mut data_key(), Some(&equality_key()), &pan(digits), shown, NONCE).unwrap()
}

fn unsearchable(digits: &str, nonce: u8) -> PanBuf {
    let shown = Truncation { first: 4, last: 4 };
    seal(&mut data_key(), None, &pan(digits), shown, &[nonce; 24]).unwrap()
}

fn text(value: &PanBuf) -> String {
    let mut out = Vec::new();
    value.as_pan().write_text(&mut out);
    String::from_utf8(out).unwrap()
}

fn mask(value: &PanBuf) -> String {
    let mut out = [0; 19];
    let len = value.as_pan().mask(&mut out);
    String::from_utf8_lossy(&out[..len]).into_owned()
}

#[test]
fn pinned_format() {
    let shown = Truncation { first: 6, last: 4 };
    assert_eq!(text(&sealed(VISA, 6, 4)), SEARCHABLE);
    let amex = seal(&mut data_key(), None, &pan("378282246310005"), shown, NONCE).unwrap();
    assert_eq!(text(&amex), UNSEARCHABLE);
    for (text, digits) in [(SEARCHABLE, VISA), (UNSEARCHABLE, "378282246310005")] {
        let value = PanBuf::parse_sealed(text.as_bytes()).unwrap();
        let opened = open(&mut data_key(), value.as_pan()).unwrap();
        assert_eq!(opened.to_digits().as_str(), digits);
    }
}

#[test]
fn every_length_seals_alike() {
    for digits in ["000000000000", "4222222222222", VISA, "6205500000000000004"] {
        assert_eq!(sealed(digits, 0, 0).as_bytes().len(), MAX_SEALED);
        assert_eq!(unsearchable(digits, 0).as_bytes().len(), 66);
    }
}

#[test]
fn shows_what_was_asked_for() {
    for (first, last, masked) in [
        (6, 4, "411111******1111"),
        (8, 4, "41111111****1111"),
        (0, 4, "************1111"),
        (6, 0, "411111**********"),
        (0, 0, "****************"),
        (0, 12, "****111111111111"),
    ] {
        assert_eq!(mask(&sealed(VISA, first, last)), masked);
    }
    assert_eq!(mask(&sealed("378282246310005", 6, 4)), "378282*****0005");
    assert_eq!(format!("{:?}", sealed(VISA, 6, 4)), "Pan(411111******1111)");
}

#[test]
fn parts_of_the_shown_digits() {
    let value = sealed("378282246310005", 6, 4);
    let value = value.as_pan();
    let (mut out, mut bin, mut last4) = ([0; MAX_SHOWN], [0; 8], [0; 4]);
    assert_eq!((value.first(&mut out), &out[..6]), (6, &b"378282"[..]));
    assert_eq!((value.last(&mut out), &out[..4]), (4, &b"0005"[..]));
    assert_eq!((value.shown(&mut out), &out[..10]), (10, &b"3782820005"[..]));
    assert_eq!((value.bin(&mut bin), &bin[..6]), (6, &b"378282"[..]));
    assert_eq!((value.last4(&mut last4), &last4), (4, b"0005"));
    let short = sealed(VISA, 0, 2);
    assert_eq!((short.as_pan().bin(&mut bin), short.as_pan().last4(&mut last4)), (0, 2));
    assert_eq!(short.as_pan().truncation(), Truncation { first: 0, last: 2 });
}

#[test]
fn four_digits_stay_hidden_whatever_is_asked() {
    for (digits, first, last) in [(VISA, 8, 5), (VISA, 255, 255), ("000000000000", 5, 4)] {
        let shown = Truncation { first, last };
        let refused = seal(&mut data_key(), None, &pan(digits), shown, NONCE);
        assert_eq!(refused.err(), Some(Error::Truncation));
    }
}

#[test]
fn opens_with_its_key_only() {
    let value = sealed(VISA, 6, 4);
    let mut wrong = DataKey::new(value.as_pan().key_id(), &[9; 32]);
    assert_eq!(open(&mut wrong, value.as_pan()), Err(Error::Corrupt));
}

#[test]
fn digits_cannot_move_to_another_row() {
    let (visa, other) = (sealed(VISA, 6, 4), sealed("4012888888881881", 6, 4));
    let mut swapped = visa.as_bytes().to_vec();
    swapped[18..66].copy_from_slice(&other.as_bytes()[18..66]);
    let swapped = Pan::from_stored(&swapped).unwrap();
    assert_eq!(open(&mut data_key(), swapped), Err(Error::Corrupt));
}

#[test]
fn impossible_bytes_are_corrupt() {
    let good = sealed(VISA, 6, 4);
    for (at, byte) in [
        (0, 0),    // version
        (0, 2),    // version to come
        (1, 0),    // says unsearchable, but has a hash
        (1, 2),    // a comparand without a hash
        (1, 3),    // a comparand with digits
        (1, 4),    // carries digits, and is no comparand
        (1, 5),    // the same
        (1, 7),    // unbound, and shows digits
        (1, 9),    // unknown flag
        (2, 11),   // too few digits
        (2, 20),   // too many
        (2, 13),   // would hide three
        (3, 0x94), // shows more than 12
        (3, 0x54), // leaves a digit that is not counted
        (4, 0x4A), // not a decimal digit
        (4, 0xA1), // the same, in the first place
        (9, 0x01), // digit after the shown ones
    ] {
        let mut bytes = good.as_bytes().to_vec();
        bytes[at] = byte;
        assert_eq!(Pan::from_stored(&bytes).err(), Some(Error::Corrupt), "{at} {byte}");
    }
    for len in 0..good.as_bytes().len() {
        assert!(Pan::from_stored(&good.as_bytes()[..len]).is_err(), "{len}");
    }
}

#[test]
fn comparands_compare_and_do_nothing_else() {
    let value = comparand(&equality_key(), &pan(VISA));
    assert_eq!(value.as_bytes().len(), 34);
    let stored = Pan::from_stored(value.as_bytes()).unwrap();
    assert!(stored.is_comparand() && stored.is_searchable());
    assert_eq!(stored, sealed(VISA, 6, 4).as_pan());
    assert_eq!(mask(&value), "****************");
    assert_eq!(open(&mut data_key(), stored), Err(Error::Comparand));
    assert_eq!(PanBuf::parse_sealed(text(&value).as_bytes()).err(), Some(Error::SealedSyntax));
}

#[test]
fn unbound_values_open_for_binding_only() {
    let hash = equality_key().hash(&pan(VISA));
    for hash in [None, Some(hash)] {
        let value = unbound(&mut data_key(), hash, &pan(VISA), NONCE);
        let stored = Pan::from_stored(value.as_bytes()).unwrap();
        assert!(stored.is_comparand() && stored.is_unbound());
        assert_eq!(mask(&value), "****************");
        assert_eq!(stored.nonce(), Some(NONCE));
        assert_eq!(open(&mut data_key(), stored), Err(Error::Comparand));
        assert_eq!(open_unbound(&mut data_key(), stored).unwrap().to_digits().as_str(), VISA);
        assert_eq!(PanBuf::parse_sealed(text(&value).as_bytes()).err(), Some(Error::SealedSyntax));
        let same = sealed(VISA, 6, 4);
        assert_eq!(stored == same.as_pan(), hash.is_some());
        assert_eq!(cmp_stored(value.as_bytes(), same.as_bytes()).unwrap().is_eq(), hash.is_some());
        // Made a stored value by hand, it does not open.
        let mut stored = value.as_bytes().to_vec();
        stored[1] &= 1;
        let forged = Pan::from_stored(&stored).unwrap();
        assert_eq!(open(&mut data_key(), forged), Err(Error::Corrupt));
    }
    let stored = sealed(VISA, 6, 4);
    assert_eq!(open_unbound(&mut data_key(), stored.as_pan()), Err(Error::Comparand));
}

/// PostgreSQL can be asked to compare rows by their bytes, without asking us.
#[test]
fn what_comes_first_in_the_bytes_tells_nothing() {
    let shown = Truncation { first: 6, last: 4 };
    let with_nonce = |digits: &str, nonce: &[u8; 24]| {
        seal(&mut data_key(), Some(&equality_key()), &pan(digits), shown, nonce).unwrap()
    };
    for other in [VISA, "4111111000071111"] {
        assert!(with_nonce(VISA, &[1; 24]).as_bytes() < with_nonce(other, &[2; 24]).as_bytes());
        assert!(with_nonce(VISA, &[2; 24]).as_bytes() > with_nonce(other, &[1; 24]).as_bytes());
    }
}

#[test]
fn order_without_a_key() {
    let (visa, again, amex) = (sealed(VISA, 6, 4), sealed(VISA, 0, 0), sealed("378282246310005", 6, 4));
    assert_eq!(visa.as_pan(), again.as_pan());
    assert_eq!(visa.as_pan().hash64(7), again.as_pan().hash64(7));
    assert_ne!(visa.as_pan(), amex.as_pan());

    let (a, b) = (unsearchable(VISA, 1), unsearchable(VISA, 2));
    assert_ne!(a.as_pan(), b.as_pan());
    assert!(visa.as_pan() < a.as_pan());

    let hash = equality_key().hash(&pan(VISA));
    for (value, expected) in [(&visa, Ordering::Equal), (&a, Ordering::Greater)] {
        assert_eq!(cmp_equality(value.as_pan(), &hash), expected);
    }
    let other = comparand(&equality_key(), &pan(VISA));
    assert_eq!(cmp_equality(amex.as_pan(), &hash), amex.as_pan().cmp(&other.as_pan()));
}

/// Hash indexes and hash partitions on disk depend on these.
#[test]
fn pinned_hashes() {
    let (with, without) = (sealed(VISA, 6, 4), unsearchable(VISA, 1));
    assert_eq!(with.as_pan().hash64(0), 0x0A74_311E_383F_3D78);
    assert_eq!(with.as_pan().hash64(1), 0xD817_EE28_7F99_DEAA);
    assert_eq!(without.as_pan().hash64(0), 0xA635_AE05_8D17_4428);
    assert_eq!(with.as_pan().hash32(), with.as_pan().hash64(0) as u32);
}

#[test]
fn sealed_text_says_what_is_wrong() {
    let cut = &SEARCHABLE[..SEARCHABLE.len() - 1];
    let padded = format!("{SEARCHABLE}==");
    let spaced = SEARCHABLE.replace("EQZ", "E Z");
    let standard = SEARCHABLE.replace('-', "+");
    let unused_bits = SEARCHABLE.strip_suffix('A').unwrap().to_string() + "B";
    for text in [cut, &padded, &spaced, &standard, &unused_bits, "pan:1:", "pan:", "pan:x:", "pan::", ""] {
        assert_eq!(PanBuf::parse_sealed(text.as_bytes()).err(), Some(Error::SealedSyntax), "{text}");
    }
    for text in ["pan:2:AAAA", "pan:10:", "pan:0:"] {
        assert_eq!(PanBuf::parse_sealed(text.as_bytes()).err(), Some(Error::SealedVersion), "{text}");
    }
    assert!(PanBuf::parse_sealed(format!(" {SEARCHABLE}\n").as_bytes()).is_ok());
    assert!(is_sealed_text(b" pan:") && !is_sealed_text(VISA.as_bytes()));
}

#[test]
fn comparing_stored_bytes_agrees_with_comparing_values() {
    let key = equality_key();
    let values = [
        sealed(VISA, 6, 4),
        sealed("4242424242424242", 6, 4),
        sealed("378282246310005", 0, 4),
        unsearchable(VISA, 1),
        unsearchable(VISA, 2),
        comparand(&key, &pan(VISA)),
        comparand(&key, &pan("5555555555554444")),
    ];
    for a in &values {
        for b in &values {
            let expected = a.as_pan().cmp(&b.as_pan());
            assert_eq!(cmp_stored(a.as_bytes(), b.as_bytes()).unwrap(), expected);
        }
    }
}

#[test]
fn comparing_bytes_of_another_shape_is_an_error() {
    let value = sealed(VISA, 6, 4);
    let good = value.as_bytes();
    let mut flags = good.to_vec();
    flags[1] = 0x80;
    let mut version = good.to_vec();
    version[0] = 2;
    for bad in [&[][..], &good[..good.len() - 1], &[0; 34], &flags, &version] {
        assert_eq!(cmp_stored(good, bad), Err(Error::Corrupt));
        assert_eq!(cmp_stored(bad, good), Err(Error::Corrupt));
    }
}
