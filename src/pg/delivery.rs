//! Letters in the broker's hands: from the mailbox to the helper, and answers back, keys into slots.

use std::cell::Cell;
use std::hash::{DefaultHasher, Hasher};

use pgpci_core::key::Purpose;
use pgpci_core::secret::Secret;
use pgpci_core::wire::{FailureKind, Op, Outcome, Request, Response};

use crate::guc::{self, KeyMode};
use crate::pg::mailbox::{self, Ask, Letter, State, Waiter};
use crate::pg::region::{self, Guarded, Slot};
use crate::pg::session;

/// How messages begin that are about the helper, and not about a provider.
pub const HELPER: &str = "the key helper";

/// The least time between attempts to fetch a key anew, in microseconds.
const MIN_REFRESH: i64 = 1_000_000;

/// Hash of a wrapped key: tells blobs apart in slots.
pub fn blob_hash(blob: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(blob);
    hasher.finish()
}

/// One request in flight for a key: letters that ask for the same are answered with it, even one that nobody
/// waits for any more.
pub fn take_posted(region: &mut Guarded, now: i64) -> Vec<Request> {
    let mut requests = Vec::new();
    for i in 0..region.letters.len() {
        let letter = &region.letters[i];
        if letter.state != State::Posted {
            continue;
        }
        // It arrived between the session's look at the slots and its letter.
        if letter.ask == Ask::Unwrap && region.slots.iter().any(|slot| holds(slot, letter, now)) {
            answer(&mut region.letters[i], None, "");
            continue;
        }
        let same =
            |other: &Letter| matches!(other.state, State::Sent | State::Abandoned) && is_same(other, letter);
        if region.letters.iter().any(same) {
            continue;
        }
        let letter = &mut region.letters[i];
        letter.state = if letter.waiter == Waiter::Session { State::Sent } else { State::Abandoned };
        requests.push(request(letter));
    }
    requests
}

/// Requests for keys that are in use and expire before long, so that no session has to wait for one.
/// A key that was not used since it arrived is left to expire.
pub fn take_due(region: &mut Guarded, now: i64) -> Vec<Request> {
    thread_local! { static COUNT: Cell<u32> = const { Cell::new(0) } }
    let Guarded { slots, letters, .. } = region;
    let mut requests = Vec::new();
    if guc::KEY_MODE.get() == KeyMode::EncryptOnly {
        return requests;
    }
    for i in 0..slots.len() {
        let slot = &slots[i];
        if !slot.full || slot.refresh > now || last_use(slots, slot) <= slot.fetched {
            continue;
        }
        let slot = &mut slots[i];
        let Some(letter) = letters.iter_mut().find(|l| l.state == State::Free) else { break };
        // Where this fails, it is tried again until the key expires, at ever shorter distances.
        slot.refresh = now + ((slot.expires - now) / 4).max(MIN_REFRESH);
        COUNT.set(COUNT.get().wrapping_add(1));
        letter.clear();
        letter.ask = Ask::Unwrap;
        (letter.database, letter.key_id, letter.origin) = (slot.database, slot.key_id, slot.origin);
        letter.serial = u64::from(std::process::id()) << 32 | u64::from(COUNT.get());
        letter.waiter = Waiter::Slot;
        letter.state = State::Abandoned;
        requests.push(request(letter));
    }
    requests
}

/// When the key was last needed. The policy key is looked at by the way, by sessions that would not wait for it:
/// it is needed where another key is.
fn last_use(slots: &[Slot], slot: &Slot) -> i64 {
    let policy = mailbox::purpose_number(Purpose::Policy);
    if slot.origin.purpose != policy {
        return slot.used;
    }
    let others = slots.iter().filter(|s| s.full && s.database == slot.database && s.origin.purpose != policy);
    others.map(|s| s.used).max().unwrap_or(0)
}

fn request(letter: &mut Letter) -> Request {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let origin = &letter.origin;
    let (provider, kek, context) = (text(origin.provider.get()), text(origin.kek.get()), letter.context());
    let wrapped = origin.blob.get().to_vec();
    letter.sent_at = session::now();
    let op = match letter.ask {
        Ask::Generate => Op::Generate { provider, kek, context },
        Ask::Unwrap => Op::Unwrap { provider, kek, context, wrapped },
        Ask::Rewrap => {
            let (to_provider, to_kek) = (text(letter.to_provider.get()), text(letter.to_kek.get()));
            Op::Rewrap { provider, kek, context, wrapped, to_provider, to_kek }
        }
    };
    Request { id: letter.serial, op }
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

/// Whether the slot holds the key that the letter names, beyond `now`.
fn holds(slot: &Slot, letter: &Letter, now: i64) -> bool {
    slot.full
        && slot.expires > now
        && (slot.database, slot.key_id) == (letter.database, letter.key_id)
        && slot.origin.blob.get() == letter.origin.blob.get()
}

fn is_same(a: &Letter, b: &Letter) -> bool {
    (a.ask, b.ask) == (Ask::Unwrap, Ask::Unwrap)
        && a.database == b.database
        && a.key_id == b.key_id
        && a.origin.blob.get() == b.origin.blob.get()
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
    // Where no key can be had again, one that was made serves for its time.
    let ttl = match guc::KEY_MODE.get() {
        KeyMode::Normal => guc::KEY_CACHE_TTL.get(),
        KeyMode::EncryptOnly => guc::FRESH_KEY_INTERVAL.get(),
    };
    let ttl = i64::from(ttl) * 1_000_000;
    region::locked(|region| {
        let Some(i) = region.letters.iter().position(|l| l.serial == id && is_open(l)) else {
            return;
        };
        if let Some(wrapped) = wrapped
            && !region.letters[i].origin.blob.set(wrapped)
        {
            return finish(&mut region.letters[i], FailureKind::Invalid, "the wrapped key is too long");
        }
        let letter = &region.letters[i];
        let (database, key_id) = (letter.database, letter.key_id);
        let blob = blob_hash(letter.origin.blob.get());
        let is_wanted = || {
            let waits = |l: &Letter| l.state == State::Posted && is_same(l, letter);
            region.slots.iter().any(|s| holds(s, letter, 0)) || region.letters.iter().any(waits)
        };
        // A key that was destroyed while it was fetched anew does not come back.
        if letter.waiter == Waiter::Slot && !is_wanted() {
            return complete(region, i, None, "");
        }
        let slot = region.slots.iter_mut().min_by_key(|s| match s.full {
            _ if holds(s, letter, 0) => (0, 0),
            false => (1, 0),
            true => (2, s.used),
        });
        if let Some(slot) = slot {
            slot.wipe();
            (slot.database, slot.key_id, slot.blob, slot.origin) = (database, key_id, blob, letter.origin);
            (slot.fetched, slot.used, slot.expires, slot.refresh) = (now, now, now + ttl, now + ttl / 5 * 4);
            slot.key.copy_from_slice(key.expose());
            slot.full = true;
        }
        complete(region, i, None, "");
    });
}

fn rewrapped(id: u64, wrapped: &[u8]) {
    region::locked(|region| {
        let Some(i) = region.letters.iter().position(|l| l.serial == id && is_open(l)) else {
            return;
        };
        match region.letters[i].origin.blob.set(wrapped) {
            true => complete(region, i, None, ""),
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
                complete(region, i, Some(kind), message);
            }
        }
    });
}

fn is_open(letter: &Letter) -> bool {
    matches!(letter.state, State::Sent | State::Abandoned | State::Posted)
}

fn finish(letter: &mut Letter, kind: FailureKind, message: &str) {
    answer(letter, Some(kind), message);
}

/// Keeps account of the provider that answered.
fn account(region: &mut Guarded, i: usize, failure: Option<FailureKind>, message: &str) {
    let Guarded { providers, letters, .. } = region;
    let letter = &letters[i];
    let name = letter.origin.provider.get();
    let place = providers.iter().position(|p| p.name.get() == name);
    let Some(place) = place.or_else(|| providers.iter().position(|p| p.name.get().is_empty())) else {
        return;
    };
    let (provider, now) = (&mut providers[place], session::now());
    provider.name.set(name);
    provider.calls += 1;
    provider.latency = now - letter.sent_at;
    if failure.is_none() {
        provider.last_success = now;
    } else {
        provider.failures += 1;
        provider.last_failure = now;
        provider.last_error.set(message.as_bytes());
    }
}

/// Answers the letter, and every other that waits for the same key.
fn complete(region: &mut Guarded, i: usize, failure: Option<FailureKind>, message: &str) {
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

fn answer(letter: &mut Letter, failure: Option<FailureKind>, message: &str) {
    if letter.state == State::Abandoned || letter.waiter != Waiter::Session {
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
