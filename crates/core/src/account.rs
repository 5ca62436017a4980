//! What is kept of a role beside PostgreSQL's own catalog: its label. What the login must read, where no key is at
//! hand, is plain; old password verifiers, with which passwords could be guessed, are sealed.

use crate::error::Error;
use crate::password::{Prepared, Verifier};
use crate::xaes::{NONCE_LEN, TAG_LEN, Xaes};
use base64ct::{Base64UrlUnpadded, Encoding};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

const PREFIX: &str = "account:1:";
const KEY_PREFIX: &str = "key:1:";
const DOMAIN: &[u8] = b"pgpci account history, v. 1";

/// What kind of account a role is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Kind {
    /// One person's.
    #[default]
    Person,
    /// An application's.
    Service,
    /// Somebody's from outside, who comes to repair.
    Vendor,
    /// For the day when nothing else gets in; on the server itself only.
    BreakGlass,
}

impl Kind {
    const ALL: [(Kind, &'static str); 4] = [
        (Kind::Person, "person"),
        (Kind::Service, "service"),
        (Kind::Vendor, "vendor"),
        (Kind::BreakGlass, "break_glass"),
    ];

    /// The name used in SQL.
    pub fn as_str(self) -> &'static str {
        Self::ALL.into_iter().find(|(kind, _)| *kind == self).map_or("", |(_, name)| name)
    }

    /// The kind of that exact name.
    pub fn parse(name: &str) -> Option<Kind> {
        Self::ALL.into_iter().find(|(_, it)| *it == name).map(|(kind, _)| kind)
    }

    /// Whether somebody has the password in mind: it ages, and the first one is changed.
    pub fn is_human(self) -> bool {
        matches!(self, Kind::Person | Kind::Vendor)
    }
}

/// Why and how long a role is locked. Times are microseconds of PostgreSQL's epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    /// Since when.
    pub since: i64,
    /// Until when; None: until an officer unlocks.
    pub until: Option<i64>,
    /// What the role's VALID UNTIL was and will be again.
    pub valid_until: Option<i64>,
    /// An officer's reason; None: wrong passwords.
    pub reason: Option<String>,
}

/// The state of an account.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Account {
    /// Its kind.
    pub kind: Kind,
    /// When the password was last changed, in microseconds of PostgreSQL's epoch; 0: not known.
    pub changed_at: i64,
    /// Whether the password must be changed before anything else is done.
    pub must_change: bool,
    /// The lock, if it is locked.
    pub lock: Option<Lock>,
    /// The sealed history; empty: none.
    pub sealed: Vec<u8>,
}

/// The key that seals histories, wrapped: the cluster's, in the label of a role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterKey {
    /// The installation that its context names.
    pub installation: [u8; 16],
    /// Its identifier.
    pub id: u64,
    /// Who unwraps it.
    pub provider: String,
    /// With which wrapping key.
    pub kek: String,
    /// The wrapped form.
    pub wrapped: Vec<u8>,
    /// Its check value.
    pub check: [u8; 8],
}

impl ClusterKey {
    /// From a label.
    pub fn parse(label: &str) -> Option<ClusterKey> {
        let bytes = Base64UrlUnpadded::decode_vec(label.strip_prefix(KEY_PREFIX)?).ok()?;
        postcard::from_bytes(&bytes).ok()
    }

    /// As a label.
    pub fn to_label(&self) -> String {
        let bytes = postcard::to_allocvec(self).unwrap_or_default();
        format!("{KEY_PREFIX}{}", Base64UrlUnpadded::encode_string(&bytes))
    }
}

/// What is sealed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct History {
    /// Verifiers that the role had before the present one, the last one first.
    pub past: Vec<Verifier>,
    /// Tells a password that somebody gave to this role from those given to others.
    pub given: Option<[u8; 16]>,
}

impl Account {
    /// From a label.
    pub fn parse(label: &str) -> Option<Account> {
        let bytes = Base64UrlUnpadded::decode_vec(label.strip_prefix(PREFIX)?).ok()?;
        postcard::from_bytes(&bytes).ok()
    }

    /// As a label.
    pub fn to_label(&self) -> String {
        let bytes = postcard::to_allocvec(self).unwrap_or_default();
        format!("{PREFIX}{}", Base64UrlUnpadded::encode_string(&bytes))
    }

    /// Whether the password is older than allowed, where somebody has it in mind.
    pub fn is_expired(&self, now: i64, max_age: i64) -> bool {
        self.kind.is_human() && self.changed_at != 0 && now.saturating_sub(self.changed_at) >= max_age
    }

    /// Whether it is locked now.
    pub fn is_locked(&self, now: i64) -> bool {
        self.lock.as_ref().is_some_and(|lock| lock.until.is_none_or(|until| until > now))
    }

    /// The history.
    pub fn history(&self, key: &[u8; 32]) -> Result<History, Error> {
        if self.sealed.is_empty() {
            return Ok(History::default());
        }
        let (nonce, rest) = self.sealed.split_first_chunk::<NONCE_LEN>().ok_or(Error::Corrupt)?;
        let (body, tag) = rest.split_last_chunk::<TAG_LEN>().ok_or(Error::Corrupt)?;
        let mut body = body.to_vec();
        Xaes::new(key).open_in_place(nonce, DOMAIN, &mut body, tag)?;
        postcard::from_bytes(&body).or(Err(Error::Corrupt))
    }

    /// Seals another history. `nonce` must never have been used before with this key.
    pub fn set_history(&mut self, key: &[u8; 32], nonce: &[u8; NONCE_LEN], history: &History) {
        let mut body = postcard::to_allocvec(history).unwrap_or_default();
        let tag = Xaes::new(key).seal_in_place(nonce, DOMAIN, &mut body);
        self.sealed = [&nonce[..], &body, &tag].concat();
    }
}

impl History {
    /// The role has another password; `old` is the one before.
    pub fn push(&mut self, old: Verifier, keep: usize) {
        self.past.insert(0, old);
        self.past.truncate(keep);
    }
}

/// What tells a given password from others, with a key that nobody can look for it without.
pub fn given(key: &[u8; 32], password: &Prepared) -> [u8; 16] {
    use hmac::{Hmac, KeyInit, Mac};
    let mut padded = [0; 64];
    padded[..32].copy_from_slice(key);
    let mut mac = Hmac::<Sha256>::new(&padded.into()).chain_update(b"pgpci given password 1\0");
    zeroize::Zeroize::zeroize(&mut padded);
    if let Some(form) = password.forms().next() {
        mac.update(form);
    }
    let whole: [u8; 32] = mac.finalize().into_bytes().into();
    let mut half = [0; 16];
    half.copy_from_slice(&whole[..16]);
    half
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

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
            sealed: vec![],
        };
        let mut history = History { past: vec![], given: Some([1; 16]) };
        (0..6).for_each(|n| history.push(verifier(n), 3));
        assert_eq!(history.past, [verifier(5), verifier(4), verifier(3)]);
        account.set_history(&KEY, &[9; 24], &history);
        let read = Account::parse(&account.to_label()).unwrap();
        assert_eq!(read, account);
        assert_eq!(read.history(&KEY).unwrap(), history);
        assert_eq!(read.history(&[4; 32]), Err(Error::Corrupt));
        let mut changed = read.clone();
        changed.sealed[30] ^= 1;
        assert_eq!(changed.history(&KEY), Err(Error::Corrupt));
        changed.sealed.truncate(20);
        assert_eq!(changed.history(&KEY), Err(Error::Corrupt));
        for other in ["", "account:1:", "account:2:AA", "account:1:!", "pgpci:1"] {
            assert_eq!(Account::parse(other), None, "{other}");
        }
    }

    #[test]
    fn a_label_is_short_enough_to_stay_in_its_row() {
        let mut account = Account::default();
        let mut history = History::default();
        (0..16).for_each(|n| history.push(verifier(n), 15));
        account.set_history(&KEY, &[9; 24], &history);
        assert!(account.to_label().len() < 1900, "{}", account.to_label().len());
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
        assert_eq!(Account::parse(&key.to_label()), None);
    }

    #[test]
    fn ages_of_passwords() {
        let account = Account { changed_at: 100, ..Account::default() };
        assert!(!account.is_expired(189, 90) && account.is_expired(190, 90));
        // Nobody knows how old it is.
        assert!(!Account::default().is_expired(i64::MAX, 90));
        assert!(!Account { kind: Kind::Service, ..account }.is_expired(190, 90));
    }

    #[test]
    fn given_passwords_are_told_apart() {
        let given = |password: &str| given(&KEY, &Prepared::new(password.as_bytes()));
        assert_eq!(given("a\u{ad}b"), given("ab"));
        assert_ne!(given("ab"), given("ac"));
    }
}
