//! What is kept of a role beside PostgreSQL's own catalog: its label. What the login must read, where no key is at
//! hand, is plain; old password verifiers, with which passwords could be guessed, are sealed; and a MAC is over all.

mod arrival;
mod exemption;
mod hours;
mod label;
mod source;

pub use arrival::Arrival;
pub use exemption::{Control, Exemption};
pub use hours::Hours;
pub use label::{ClusterKey, Label};
pub use source::Source;

use crate::error::Error;
use crate::password::{Prepared, Verifier};
use crate::xaes::{NONCE_LEN, TAG_LEN, Xaes};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

/// Passwords of a role that the next one differs from, the present one included: more would not fit into a label.
pub const HISTORY: usize = 8;
/// Sources that an account may be bound to.
pub const SOURCES: usize = 8;
/// Exemptions that a role may have at a time.
pub const EXEMPTIONS: usize = 3;
/// Bytes of a reason that is kept of a role.
pub const REASON: usize = 60;

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

    /// As a number.
    pub fn number(self) -> i32 {
        self as i32
    }

    /// The kind of that number.
    pub fn numbered(number: i32) -> Option<Kind> {
        Self::ALL.into_iter().map(|(kind, _)| kind).find(|kind| kind.number() == number)
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
    /// Since when something is kept of it; 0: not known.
    pub since: i64,
    /// The last login that was written here, which is not every one; 0: none.
    pub last_login: i64,
    /// From when it may log in.
    pub valid_from: Option<i64>,
    /// Until when it may log in.
    pub valid_until: Option<i64>,
    /// At which hours it may log in; None: at all.
    pub hours: Option<Hours>,
    /// From where it may log in; none: from everywhere.
    pub sources: Vec<Source>,
    /// What it is exempt from.
    pub exemptions: Vec<Exemption>,
    /// The sealed history; empty: none.
    pub sealed: Vec<u8>,
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
    /// What a login believes of a label that was not written by us: nothing that it would gain by, and its locks.
    pub fn distrusted(claimed: Option<&Account>) -> Account {
        Account { must_change: true, lock: claimed.and_then(|it| it.lock.clone()), ..Account::default() }
    }

    /// Whether the password is older than so many microseconds (0: of any age), where somebody has it in mind. Where
    /// nobody knows how old it is, it is as old as all else that is known of the role.
    pub fn is_expired(&self, now: i64, max_age: i64) -> bool {
        self.expires_at(max_age).is_some_and(|end| now >= end)
    }

    /// When it will be.
    pub fn expires_at(&self, max_age: i64) -> Option<i64> {
        let from = if self.changed_at != 0 { self.changed_at } else { self.since };
        (self.kind.is_human() && max_age > 0 && from != 0).then(|| from.saturating_add(max_age))
    }

    /// Whether there was no login for so long (0: ever), `seen` being the last one that is known elsewhere.
    pub fn is_inactive(&self, now: i64, seen: i64, limit: i64) -> bool {
        let last = self.last_login.max(seen).max(self.since);
        self.kind != Kind::BreakGlass && limit > 0 && last != 0 && now.saturating_sub(last) >= limit
    }

    /// Whether it may log in from there; None is the local socket.
    pub fn admits(&self, client: Option<std::net::IpAddr>) -> bool {
        self.sources.is_empty() || self.sources.iter().any(|it| it.holds(client))
    }

    /// What holds instead of a setting, at this time.
    pub fn exemption(&self, control: Control, now: i64) -> Option<i32> {
        self.exemptions.iter().find(|it| it.control == control && it.until > now).map(|it| it.value)
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
mod tests;
