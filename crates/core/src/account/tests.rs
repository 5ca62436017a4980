//! What is kept of a role.
#![allow(clippy::unwrap_used)]
use super::*;
use base64ct::{Base64UrlUnpadded, Encoding};

const KEY: [u8; 32] = [3; 32];

fn verifier(n: u8) -> Verifier {
    Verifier::Scram { iterations: 4096, salt: vec![n; 16], stored: [n; 32], server: [n; 32] }
}

#[test]
fn labels_round_trip() {
    let lock = Lock { since: 1, until: None, valid_until: Some(-5), reason: Some("leave".into()) };
    let mut account = Account {
        kind: Kind::Service,
        changed_at: 7,
        must_change: true,
        lock: Some(lock),
        since: 3,
        last_login: 5,
        valid_from: Some(1),
        valid_until: Some(9),
        hours: Hours::parse("08:00-18:00", "Europe/Rome"),
        sources: Source::parse("10.0.0.0/8").into_iter().collect(),
        ..Account::default()
    };
    let mut history = History { past: vec![], given: Some([1; 16]) };
    (0..6).for_each(|n| history.push(verifier(n), 3));
    assert_eq!(history.past, [verifier(5), verifier(4), verifier(3)]);
    account.set_history(&KEY, &[9; 24], &history);
    let label = Label::parse(&account.to_label(&KEY, "kate").unwrap()).unwrap();
    assert!(
        label.is_genuine(&KEY, "kate")
            && !label.is_genuine(&KEY, "till")
            && !label.is_genuine(&[4; 32], "kate")
    );
    let read = label.account.clone();
    assert_eq!(read, account);
    assert_eq!(read.history(&KEY).unwrap(), history);
    assert_eq!(read.history(&[4; 32]), Err(Error::Corrupt));
    let mut changed = read.clone();
    changed.sealed[30] ^= 1;
    assert_eq!(changed.history(&KEY), Err(Error::Corrupt));
    changed.sealed.truncate(20);
    assert_eq!(changed.history(&KEY), Err(Error::Corrupt));
    for other in ["", "account:1:", "account:2:AA", "account:1:!", "pgpci:1"] {
        assert_eq!(Label::parse(other), None, "{other}");
    }
}

#[test]
fn a_label_is_short_enough_to_stay_in_its_row() {
    // With all that may be kept of it at once.
    let exemption =
        |control| Exemption { control, value: 900_000, until: 1 << 60, reason: "r".repeat(REASON) };
    let mut account = Account {
        lock: Some(Lock {
            since: 1 << 60,
            until: Some(1 << 60),
            valid_until: Some(1 << 60),
            reason: Some("l".repeat(REASON)),
        }),
        since: 1 << 60,
        changed_at: 1 << 60,
        last_login: 1 << 60,
        valid_from: Some(1 << 60),
        valid_until: Some(1 << 60),
        hours: Hours::parse("08:00-18:00", "America/Argentina/ComodRivadavia"),
        sources: vec![Source::parse("fd00::/64").unwrap(); SOURCES],
        exemptions: vec![exemption(Control::MaxAge); EXEMPTIONS],
        ..Account::default()
    };
    let mut history = History { given: Some([1; 16]), ..History::default() };
    (0..16).for_each(|n| history.push(verifier(n), HISTORY - 1));
    account.set_history(&KEY, &[9; 24], &history);
    assert!(account.to_label(&KEY, "kate").is_some());
}

#[test]
fn the_key_in_a_label() {
    let key = ClusterKey {
        installation: [1; 16],
        id: 7,
        provider: "local".into(),
        kek: "".into(),
        wrapped: vec![2; 60],
        check: [3; 8],
    };
    assert_eq!(ClusterKey::parse(&key.to_label()), Some(key.clone()));
    assert_eq!(Label::parse(&key.to_label()), None);
}

#[test]
fn ages_of_passwords() {
    let account = Account { changed_at: 100, ..Account::default() };
    assert!(!account.is_expired(189, 90) && account.is_expired(190, 90));
    assert!(!account.is_expired(i64::MAX, 0), "exempt");
    // Nobody knows how old it is.
    assert!(!Account::default().is_expired(i64::MAX, 90));
    assert!(Account { since: 100, ..Account::default() }.is_expired(190, 90));
    assert!(!Account { kind: Kind::Service, ..account }.is_expired(190, 90));
}

#[test]
fn given_passwords_are_told_apart() {
    let given = |password: &str| given(&KEY, &Prepared::new(password.as_bytes()));
    assert_eq!(given("a\u{ad}b"), given("ab"));
    assert_ne!(given("ab"), given("ac"));
}

#[test]
fn who_does_not_come_is_inactive() {
    let account = Account { since: 100, last_login: 150, ..Account::default() };
    assert!(!account.is_inactive(239, 0, 90) && account.is_inactive(240, 0, 90));
    // Known elsewhere, or never.
    assert!(!account.is_inactive(240, 151, 90));
    assert!(Account { since: 100, ..Account::default() }.is_inactive(190, 0, 90));
    assert!(!Account::default().is_inactive(i64::MAX, 0, 90), "nothing is known");
    assert!(!account.is_inactive(i64::MAX, 0, 0), "exempt");
    assert!(!Account { kind: Kind::BreakGlass, ..account }.is_inactive(i64::MAX, 0, 90));
}

#[test]
fn a_change_of_one_bit_shows() {
    let account = Account { kind: Kind::Service, changed_at: 7, ..Account::default() };
    let label = account.to_label(&KEY, "kate").unwrap();
    let bytes = Base64UrlUnpadded::decode_vec(&label[10..]).unwrap();
    for bit in 0..bytes.len() * 8 {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let read = Label::parse(&format!("account:1:{}", Base64UrlUnpadded::encode_string(&changed)));
        assert!(read.is_none_or(|it| !it.is_genuine(&KEY, "kate")), "bit {bit}");
    }
}

#[test]
fn a_label_of_somebody_else_gives_nothing_and_keeps_its_lock() {
    let lock = Some(Lock { since: 1, until: None, valid_until: None, reason: None });
    let claimed = Account { kind: Kind::BreakGlass, lock: lock.clone(), changed_at: 9, ..Account::default() };
    let believed = Account::distrusted(Some(&claimed));
    assert_eq!((believed.kind, believed.must_change, believed.lock), (Kind::Person, true, lock));
    assert!(Account::distrusted(None).must_change);
}

#[test]
fn exemptions_end_by_themselves() {
    let exemption = Exemption { control: Control::MaxAge, value: 365, until: 50, reason: "r".into() };
    let account = Account { exemptions: vec![exemption], ..Account::default() };
    assert_eq!(account.exemption(Control::MaxAge, 49), Some(365));
    assert_eq!(account.exemption(Control::MaxAge, 50), None);
    assert_eq!(account.exemption(Control::Idle, 49), None);
}
