#![allow(clippy::unwrap_used)]
use super::*;
use proptest::prelude::*;

const POLICY: Policy = Policy { min_length: 12, upper: false, lower: false, special: false };

fn check(password: &str) -> Vec<Weakness> {
    POLICY.check(&Prepared::new(password.as_bytes()), "kate", [])
}

/// Of `Tr0ub4dor-kiosk`, made with Python's hashlib.
const SCRAM: &str = include_str!("scram.txt");

#[test]
fn length_is_of_characters_that_are_left() {
    assert_eq!(check("vq8-mzr-kpt"), [Weakness::Short(12)]);
    assert_eq!(check("vq8-mzr-kptw"), []);
    // Twelve characters, more bytes.
    assert_eq!(check("éü8-mzr-kptw"), []);
    assert_eq!(check("éü8-mzr-kpt"), [Weakness::Short(12)]);
    // Soft hyphens are taken away before PostgreSQL makes a verifier; also beside what makes preparing fail.
    let hyphens = "\u{ad}".repeat(8);
    assert_eq!(check(&format!("vq8!{hyphens}")), [Weakness::Short(12), Weakness::Common]);
    assert!(check(&format!("vq8!z\u{7}{hyphens}")).contains(&Weakness::Short(12)));
    // No UTF-8: bytes count.
    let latin = b"\xe9\xfc8-mzr-kptw";
    assert_eq!(POLICY.check(&Prepared::new(latin), "kate", []), []);
}

#[test]
fn classes() {
    assert_eq!(check("vqx-mzr-kptw"), [Weakness::NoDigit]);
    assert_eq!(check("918-274-5063"), [Weakness::NoLetter]);
    let strict = Policy { upper: true, lower: true, special: true, ..POLICY };
    let check = |password: &str| strict.check(&Prepared::new(password.as_bytes()), "kate", []);
    assert_eq!(check("vq8-mzr-kptw"), [Weakness::NoUpper]);
    assert_eq!(check("VQ8-MZR-KPTW"), [Weakness::NoLower]);
    assert_eq!(check("Vq8xmzrnkptw"), [Weakness::NoSpecial]);
    assert_eq!(check("Vq8-mzr-kptw"), []);
}

#[test]
fn the_role_and_what_everybody_tries() {
    assert_eq!(check("xq7KATE-vbzmw"), [Weakness::HoldsName]);
    // A short name is in too many words.
    assert_eq!(POLICY.check(&Prepared::new(b"vq8-mzr-kptw"), "q", []), []);
    for common in [
        "Password1234",
        "P@ssw0rd2026!",
        "p4$$w0rd!!!!!!1",
        "1234567890ab",
        "abcdefghijk1",
        "aaaabbbbcccc1",
        "Welcome2026!!",
        "passwordpassword1",
        "Password1Password1",
        "qwertyuiop12",
        "postgres12345",
        "letmein12345",
    ] {
        assert!(check(common).contains(&Weakness::Common), "{common}");
    }
    for fine in ["seven-purple-otters9", "Tr0ub4dor-kiosk", "master-of-9-cheeses", "9xk2vbz7mwq4"] {
        assert_eq!(check(fine), [], "{fine}");
    }
    let own = ["Vq8-Mzr-kptw"];
    assert_eq!(POLICY.check(&Prepared::new(b"vq8-mzr-kptw"), "kate", own), [Weakness::Common]);
}

#[test]
fn verifiers_of_postgresql() {
    let scram = Verifier::parse(SCRAM.trim(), "kate").unwrap();
    assert_eq!(scram.check(), Ok(()));
    assert!(scram.matches(&Prepared::new(b"Tr0ub4dor-kiosk")));
    // The same after SASLprep, and not the same.
    assert!(scram.matches(&Prepared::new("Tr0ub4dor\u{ad}-kiosk".as_bytes())));
    assert!(!scram.matches(&Prepared::new(b"Tr0ub4dor-kiosl")));
    // md5('secretkate')
    let md5 = Verifier::parse("md5aa401bf79367d21c318dc188b2507558", "kate").unwrap();
    assert_eq!(md5.check(), Err(Weakness::Md5));
    assert_eq!(format!("{scram:?}{md5:?}"), "Verifier(***)Verifier(***)");
}

#[test]
fn md5_is_of_password_and_name() {
    let digest: [u8; 16] = <md5::Md5 as md5::Digest>::digest(b"secretkate").into();
    let text = format!("md5{:032x}", u128::from_be_bytes(digest));
    let md5 = Verifier::parse(&text, "kate").unwrap();
    assert!(md5.matches(&Prepared::new(b"secret")));
    assert!(!md5.matches(&Prepared::new(b"Secret")));
    // The role was renamed since: another name, another password.
    assert!(!Verifier::parse(&text, "kati").unwrap().matches(&Prepared::new(b"secret")));
}

#[test]
fn either_key_tells() {
    let Some(Verifier::Scram { iterations, salt, stored, server }) = Verifier::parse(SCRAM.trim(), "") else {
        panic!("not a verifier");
    };
    let password = Prepared::new(b"Tr0ub4dor-kiosk");
    for (stored, server, is_it) in
        [(stored, [0; 32], true), ([0; 32], server, true), ([0; 32], [0; 32], false)]
    {
        let made = Verifier::Scram { iterations, salt: salt.clone(), stored, server };
        assert_eq!(made.matches(&password), is_it);
        assert_eq!(made.is_same(&Verifier::parse(SCRAM.trim(), "").unwrap()), is_it);
    }
}

#[test]
fn weak_and_malformed_verifiers() {
    let with = |iterations: &str, salt: &str| {
        let key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        Verifier::parse(&format!("SCRAM-SHA-256${iterations}:{salt}${key}:{key}"), "")
    };
    let salt = "AAAAAAAAAAAAAAAAAAAAAA==";
    assert_eq!(with("4096", salt).unwrap().check(), Ok(()));
    assert_eq!(with("4095", salt).unwrap().check(), Err(Weakness::FewIterations));
    assert_eq!(with("100001", salt).unwrap().check(), Err(Weakness::ManyIterations));
    assert_eq!(with("4096", "AAAA").unwrap().check(), Err(Weakness::ShortSalt));
    for malformed in ["", "x", "-1", "4096 ", "99999999999"] {
        assert!(with(malformed, salt).is_none(), "{malformed}");
    }
    for malformed in [
        "SCRAM-SHA-256$4096:xx$yy:zz",
        "scram-sha-256$4096",
        "md5aa401bf79367d21c318dc188b250755",
        "MD5aa401bf79367d21c318dc188b2507558",
    ] {
        assert!(Verifier::parse(malformed, "").is_none() && looks_like_verifier(malformed), "{malformed}");
    }
    assert!(!looks_like_verifier("md5 is not a good hash 1") && !looks_like_verifier("é"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is given: no panic, and what is accepted is long enough.
    #[test]
    fn accepted_passwords_are_long_enough(bytes in proptest::collection::vec(any::<u8>(), 0..40), role in ".{0,8}") {
        let password = Prepared::new(&bytes);
        if POLICY.check(&password, &role, []).is_empty() {
            prop_assert!(bytes.len() >= 12);
        }
    }

    /// Nor for what looks like a verifier.
    #[test]
    fn parsing_never_panics(text in "(SCRAM-SHA-256\\$|md5)?[0-9a-f:$=+/A-Z]{0,80}") {
        let _ = Verifier::parse(&text, "kate").map(|it| it.check());
        let _ = looks_like_verifier(&text);
    }
}
