//! Letters in the broker's hands: from the mailbox to the helper, and answers back, keys into slots.

use std::hash::{DefaultHasher, Hasher};

use pgpci_core::secret::Secret;
use pgpci_core::wire::{FailureKind, Op, Outcome, Request, Response};

use crate::guc;
use crate::pg::mailbox::{self, Ask, Letter, State};
use crate::pg::region::{self, Guarded};
use crate::pg::session;

/// Hash of a wrapped key: tells blobs apart in slots.
pub fn blob_hash(blob: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(blob);
    hasher.finish()
}

/// One request in flight for a key: letters that ask for the same are answered with it.
pub fn take_posted(region: &mut Guarded) -> Vec<Request> {
    let mut requests = Vec::new();
    for i in 0..region.letters.len() {
        let letter = &region.letters[i];
        if letter.state != State::Posted {
            continue;
        }
        let same = |other: &Letter| other.state == State::Sent && is_same(other, letter);
        if region.letters.iter().any(same) {
            continue;
        }
        let letter = &mut region.letters[i];
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (provider, kek, context) =
            (text(letter.provider.get()), text(letter.kek.get()), letter.context());
        let wrapped = letter.blob.get().to_vec();
        let op = match letter.ask {
            Ask::Generate => Op::Generate { provider, kek, context },
            Ask::Unwrap => Op::Unwrap { provider, kek, context, wrapped },
            Ask::Rewrap => {
                let (to_provider, to_kek) = (text(letter.to_provider.get()), text(letter.to_kek.get()));
                Op::Rewrap { provider, kek, context, wrapped, to_provider, to_kek }
            }
        };
        letter.state = State::Sent;
        letter.sent_at = session::now();
        requests.push(Request { id: letter.serial, op });
    }
    requests
}

/// A session that was terminated while it waited did not take its letter back.
pub fn forget_dead(letter: &mut Letter) {
    // SAFETY: signal 0 only asks whether the process is there.
    let is_dead = letter.pid != 0 && unsafe { libc::kill(letter.pid, 0) } != 0;
    match letter.state {
        State::Sent if is_dead => letter.state = State::Abandoned,
        State::Posted | State::Done if is_dead => letter.clear(),
        _ => {}
    }
}

fn is_same(a: &Letter, b: &Letter) -> bool {
    (a.ask, b.ask) == (Ask::Unwrap, Ask::Unwrap)
        && a.database == b.database
        && a.key_id == b.key_id
        && a.blob.get() == b.blob.get()
}

/// An answer of the helper has arrived.
pub fn deliver(response: Response) {
    let Response { id, result } = response;
    match result {
        Ok(Outcome::Generated { key, wrapped }) => arrived(id, &key, Some(&wrapped)),
        Ok(Outcome::Unwrapped { key }) => arrived(id, &key, None),
        Ok(Outcome::Rewrapped { wrapped }) => rewrapped(id, &wrapped),
        // Nobody asks for them.
        Ok(Outcome::Pong | Outcome::Described(_)) => {}
        Err(failure) => fail(Some(id), failure.kind, &failure.message),
    }
}

fn arrived(id: u64, key: &Secret<[u8; 32]>, wrapped: Option<&[u8]>) {
    let now = session::now();
    let expires = now + i64::from(guc::KEY_CACHE_TTL.get()) * 1_000_000;
    region::locked(|region| {
        let Some(i) = region.letters.iter().position(|l| l.serial == id && is_open(l)) else {
            return;
        };
        if let Some(wrapped) = wrapped
            && !region.letters[i].blob.set(wrapped)
        {
            return finish(&mut region.letters[i], FailureKind::Invalid, "the wrapped key is too long");
        }
        let letter = &region.letters[i];
        let (database, key_id, blob) = (letter.database, letter.key_id, blob_hash(letter.blob.get()));
        let slot = region.slots.iter_mut().min_by_key(|s| match (s.full, s.database, s.key_id, s.blob) {
            (true, d, k, b) if (d, k, b) == (database, key_id, blob) => (0, 0),
            (false, ..) => (1, 0),
            _ => (2, s.used),
        });
        if let Some(slot) = slot {
            slot.wipe();
            (slot.database, slot.key_id, slot.blob, slot.expires, slot.used) =
                (database, key_id, blob, expires, now);
            slot.key.copy_from_slice(key.expose());
            slot.full = true;
        }
        complete(region, i, 0, "");
    });
}

fn rewrapped(id: u64, wrapped: &[u8]) {
    region::locked(|region| {
        let Some(i) = region.letters.iter().position(|l| l.serial == id && is_open(l)) else {
            return;
        };
        match region.letters[i].blob.set(wrapped) {
            true => complete(region, i, 0, ""),
            false => finish(&mut region.letters[i], FailureKind::Invalid, "the wrapped key is too long"),
        }
    });
}

/// Answers a letter, or all of them, with a failure.
pub fn fail(id: Option<u64>, kind: FailureKind, message: &str) {
    region::locked(|region| {
        for i in 0..region.letters.len() {
            let letter = &region.letters[i];
            if is_open(letter) && id.is_none_or(|id| id == letter.serial) {
                complete(region, i, number(kind), message);
            }
        }
    });
}

fn is_open(letter: &Letter) -> bool {
    matches!(letter.state, State::Sent | State::Abandoned | State::Posted)
}

fn finish(letter: &mut Letter, kind: FailureKind, message: &str) {
    answer(letter, number(kind), message);
}

/// Keeps account of the provider that answered.
fn account(region: &mut Region, i: usize, failure: u8, message: &str) {
    let Region { providers, letters, .. } = region;
    let letter = &letters[i];
    let name = letter.provider.get();
    let place = providers.iter().position(|p| p.name.get() == name);
    let Some(place) = place.or_else(|| providers.iter().position(|p| p.name.get().is_empty())) else {
        return;
    };
    let (provider, now) = (&mut providers[place], session::now());
    provider.name.set(name);
    provider.calls += 1;
    provider.latency = now - letter.sent_at;
    if failure == 0 {
        provider.last_success = now;
    } else {
        provider.failures += 1;
        provider.last_failure = now;
        provider.last_error.set(message.as_bytes());
    }
}

/// Answers the letter, and every other that waits for the same key.
fn complete(region: &mut Guarded, i: usize, failure: u8, message: &str) {
    if matches!(region.letters[i].state, State::Sent | State::Abandoned) {
        account(region, i, failure, message);
    }
    for other in 0..region.letters.len() {
        if other != i
            && region.letters[other].state == State::Posted
            && is_same(&region.letters[other], &region.letters[i])
        {
            answer(&mut region.letters[other], failure, message);
        }
    }
    answer(&mut region.letters[i], failure, message);
}

fn answer(letter: &mut Letter, failure: u8, message: &str) {
    if letter.state == State::Abandoned {
        return letter.clear();
    }
    letter.failure = failure;
    let mut cut = message.len().min(mailbox::MESSAGE);
    while !message.is_char_boundary(cut) {
        cut -= 1;
    }
    letter.message.set(&message.as_bytes()[..cut]);
    letter.state = State::Done;
    letter.wake();
}

fn number(kind: FailureKind) -> u8 {
    match kind {
        FailureKind::NotConfigured => 1,
        FailureKind::Refused => 2,
        FailureKind::WrongKey => 3,
        FailureKind::Unavailable => 4,
        FailureKind::Invalid => 5,
    }
}
