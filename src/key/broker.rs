//! The backend's side of the mailbox: asks the broker for a key and waits, at most
//! `pgpci.key_wait_timeout`, in a way that a query cancel ends.

use std::cell::Cell;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use pgpci_core::key::{Context, Purpose, check_value};
use pgpci_core::secret::Secret;
use pgrx::PgSqlErrorCode as S;

use super::ring::{Key, Ring};
use super::{allowed, explain, fresh};
use crate::error::{Error, Result};
use crate::guc;
use crate::pg::delivery::blob_hash;
use crate::pg::mailbox::{self, Ask, Letter, State, Waiter};
use crate::pg::region;
use crate::pg::session;

/// The key in its slot, and when it expires. A key that is taken is fetched anew before it expires.
pub fn take(key: &Key) -> Option<(Secret<[u8; 32]>, i64)> {
    let (database, blob) = (database_of(key.purpose), blob_hash(&key.wrapped));
    let now = session::now();
    region::locked(|r| {
        r.slots
            .iter_mut()
            .find(|s| {
                s.full && (s.database, s.key_id, s.blob) == (database, key.id.0, blob) && s.expires > now
            })
            .map(|s| {
                s.used = now;
                (Secret::new(s.key), s.expires)
            })
    })?
}

/// Has the key unwrapped into a slot.
pub fn unwrap(ring: &Ring, key: &Key) -> Result<()> {
    unwrap_in(&ring.context(key.vault, key.id, key.purpose)?, key)
}

/// The same for a key that is of no database.
pub fn unwrap_in(context: &Context, key: &Key) -> Result<()> {
    Question::unwrap(context, key).ask().map(|_| ())
}

/// The database that a key belongs to: those of accounts are the cluster's.
fn database_of(purpose: Purpose) -> u32 {
    if purpose == Purpose::Account { 0 } else { session::database().to_u32() }
}

/// Has a key that is of no database unwrapped into a slot, without waiting for it; what fails is told to nobody.
pub fn unwrap_later(context: &Context, key: &Key) {
    let question = Question::unwrap(context, key);
    if question.check().is_ok() {
        let _ = question.post(Waiter::Nobody).map(std::mem::forget);
    }
}

/// Has the key unwrapped into a slot unless it is in one, without waiting for it.
pub fn unwrap_ahead(ring: &Ring, key: &Key) -> Result<()> {
    if take(key).is_some() {
        return Ok(());
    }
    let context = ring.context(key.vault, key.id, key.purpose)?;
    let question = Question::unwrap(&context, key);
    // Taken back by nobody: the broker clears it.
    question.check()?;
    question.post(Waiter::Nobody).map(std::mem::forget)
}

/// Has the key unwrapped, and checks that it is the key that it should be.
pub fn prove(ring: &Ring, key: &Key) -> Result<()> {
    unwrap(ring, key)?;
    match take(key) {
        Some((raw, _)) if check_value(raw.expose(), key.purpose) == key.check => Ok(()),
        _ => Err(Error::key(format!("what {} wrapped is not key {}", key.provider, key.id.0))),
    }
}

/// Has the key wrapped by another wrapping key; returns that form. The key itself does not leave the helper.
pub fn rewrap(ring: &Ring, key: &Key, to_provider: &str, to_kek: &str) -> Result<Vec<u8>> {
    let context = ring.context(key.vault, key.id, key.purpose)?;
    let question = Question {
        ask: Ask::Rewrap,
        context: &context,
        by: (&key.provider, &key.kek),
        to: (to_provider, to_kek),
        blob: &key.wrapped,
    };
    question.ask()
}

/// Has a new key made; returns its wrapped form and check value. The key itself is in a slot.
pub fn generate(context: &Context, provider: &str, kek: &str) -> Result<(Vec<u8>, [u8; 8])> {
    let question = Question { ask: Ask::Generate, context, by: (provider, kek), to: ("", ""), blob: &[] };
    let wrapped = question.ask()?;
    let (database, blob) = (database_of(context.purpose), blob_hash(&wrapped));
    let check = region::locked(|r| {
        let mut slots = r.slots.iter();
        let slot =
            slots.find(|s| s.full && (s.database, s.key_id, s.blob) == (database, context.key_id.0, blob));
        slot.map(|s| check_value(&s.key, context.purpose))
    });
    let check = check.flatten().ok_or_else(|| Error::key("the new key was wiped before it could be used"))?;
    Ok((wrapped, check))
}

/// A letter of ours; put back into the mailbox whatever happens.
pub(super) struct Posted {
    index: usize,
    serial: u64,
}

impl Posted {
    /// The answer, once there is one: what is wrapped, or why not.
    pub(super) fn read(&self) -> Option<std::result::Result<Vec<u8>, String>> {
        region::locked(|r| {
            let letter = &r.letters[self.index];
            let done = letter.state == State::Done && letter.serial == self.serial;
            done.then(|| match letter.failure {
                None => Ok(letter.origin.blob.get().to_vec()),
                Some(_) => Err(String::from_utf8_lossy(letter.message.get()).into_owned()),
            })
        })?
    }
}

impl Drop for Posted {
    fn drop(&mut self) {
        region::locked(|r| {
            let letter = &mut r.letters[self.index];
            if letter.serial == self.serial {
                match letter.state {
                    State::Sent => letter.state = State::Abandoned,
                    _ => letter.clear(),
                }
            }
        });
    }
}

/// What is to be asked of the broker.
pub(super) struct Question<'a> {
    pub(super) ask: Ask,
    pub(super) context: &'a Context,
    /// Provider and wrapping key.
    pub(super) by: (&'a str, &'a str),
    /// Rewrap: the new provider and wrapping key.
    pub(super) to: (&'a str, &'a str),
    pub(super) blob: &'a [u8],
}

impl<'a> Question<'a> {
    /// For a key as it is wrapped now.
    fn unwrap(context: &'a Context, key: &'a Key) -> Self {
        let by = (key.provider.as_str(), key.kek.as_str());
        Self { ask: Ask::Unwrap, context, by, to: ("", ""), blob: &key.wrapped }
    }
    /// What this database may not ask for is not asked.
    fn check(&self) -> Result<()> {
        if self.ask != Ask::Generate {
            fresh::refuse_decrypt("it has no key unwrapped")?;
        }
        if self.context.purpose == Purpose::Account {
            return Ok(());
        }
        allowed::check(self.by.0, self.by.1)?;
        if self.to.0.is_empty() { Ok(()) } else { allowed::check(self.to.0, self.to.1) }
    }

    fn ask(&self) -> Result<Vec<u8>> {
        self.check()?;
        let deadline = Instant::now() + Duration::from_millis(guc::KEY_WAIT_TIMEOUT.get() as u64);
        let mut posted: Option<Posted> = None;
        loop {
            if posted.is_none() {
                posted = self.post(Waiter::Session)?;
            }
            if let Some(done) = posted.as_ref().and_then(|posted| self.answer(posted)) {
                return done;
            }
            if Instant::now() >= deadline {
                return Err(Error::new(S::ERRCODE_CANNOT_CONNECT_NOW, "the key did not come in time")
                    .hint(explain::too_late(self.by.0)));
            }
            session::wait(if posted.is_some() { 1000 } else { 20 });
        }
    }

    /// Puts it into the mailbox; None while that is full.
    pub(super) fn post(&self, waiter: Waiter) -> Result<Option<Posted>> {
        thread_local! { static COUNT: Cell<u64> = const { Cell::new(0) } }
        COUNT.set(COUNT.get() + 1);
        let serial = (u64::from(std::process::id()) << 32) | (COUNT.get() & 0xffff_ffff);
        let mut fits = true;
        let index = region::locked(|r| {
            let index = r.letters.iter().position(|l| l.state == State::Free)?;
            let letter: &mut Letter = &mut r.letters[index];
            letter.clear();
            letter.ask = self.ask;
            letter.origin.purpose = mailbox::purpose_number(self.context.purpose);
            letter.waiter = waiter;
            letter.pid = if waiter == Waiter::Session { std::process::id() as i32 } else { 0 };
            letter.database = database_of(self.context.purpose);
            letter.origin.vault = self.context.vault;
            letter.key_id = self.context.key_id.0;
            letter.serial = serial;
            letter.latch = mailbox::my_latch() as usize;
            letter.origin.installation = self.context.installation;
            letter.failure = None;
            fits = letter.origin.provider.set(self.by.0.as_bytes())
                & letter.origin.kek.set(self.by.1.as_bytes())
                & letter.to_provider.set(self.to.0.as_bytes())
                & letter.to_kek.set(self.to.1.as_bytes())
                & letter.origin.blob.set(self.blob);
            if fits {
                letter.state = State::Posted;
            }
            Some(index)
        });
        if !fits {
            return Err(Error::key("the key's provider, wrapping key or wrapped form is too long"));
        }
        if let Some(region) = region::get() {
            mailbox::wake(region.broker.load(Ordering::Acquire));
        }
        Ok(index.flatten().map(|index| Posted { index, serial }))
    }

    fn answer(&self, posted: &Posted) -> Option<Result<Vec<u8>>> {
        let (failure, message, blob) = region::locked(|r| {
            let letter = &r.letters[posted.index];
            let done = letter.state == State::Done && letter.serial == posted.serial;
            done.then(|| (letter.failure, letter.message.get().to_vec(), letter.origin.blob.get().to_vec()))
        })??;
        let Some(kind) = failure else { return Some(Ok(blob)) };
        let message = String::from_utf8_lossy(&message);
        let providers = [self.by.0, self.to.0];
        Some(Err(explain::failure(kind, &message, &providers)))
    }
}
