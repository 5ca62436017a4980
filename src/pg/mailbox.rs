//! Letters from backends to the broker, and its answers. All under the region's lock.

use pgpci_core::key::{Context, KeyId, Purpose};
use pgpci_core::wire::FailureKind;
use pgrx::pg_sys;

/// Longest provider name, wrapping key name, wrapped key and message, in bytes.
pub const PROVIDER: usize = 32;
/// See `PROVIDER`.
pub const KEK: usize = 512;
/// See `PROVIDER`.
pub const BLOB: usize = 2048;
/// See `PROVIDER`.
pub const MESSAGE: usize = 240;

/// Where a letter is on its way.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Nobody's.
    Free = 0,
    /// The broker has not seen it.
    Posted,
    /// The helper is working on it.
    Sent,
    /// Answered.
    Done,
    /// The helper is working, and nobody waits for it: the writer went away, or it was the broker itself.
    Abandoned,
}

/// Whom a letter is for.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Waiter {
    /// The session that wrote it.
    Session = 0,
    /// Nobody yet: the session that wrote it will ask again when it needs the key.
    Nobody,
    /// The slot that holds the key, which expires before long.
    Slot,
}

/// Bytes of at most N.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Bytes<const N: usize> {
    len: u32,
    bytes: [u8; N],
}

impl<const N: usize> Bytes<N> {
    /// Copies; false if too long.
    pub fn set(&mut self, from: &[u8]) -> bool {
        let fits = from.len() <= N;
        let len = from.len().min(N);
        self.bytes[..len].copy_from_slice(&from[..len]);
        self.len = len as u32;
        fits
    }

    /// What was set.
    pub fn get(&self) -> &[u8] {
        &self.bytes[..(self.len as usize).min(N)]
    }
}

/// What is known of a provider since the server started.
#[repr(C)]
pub struct Provider {
    /// Its name; empty: nobody's place.
    pub name: Bytes<PROVIDER>,
    /// Requests that were answered.
    pub calls: u64,
    /// Those that failed.
    pub failures: u64,
    /// When one last succeeded, in microseconds of PostgreSQL's epoch; 0: never.
    pub last_success: i64,
    /// When one last failed; 0: never.
    pub last_failure: i64,
    /// How long the last one took, in microseconds.
    pub latency: i64,
    /// Why it failed; no secrets.
    pub last_error: Bytes<MESSAGE>,
}

/// A wrapped key, and all that it takes to have it unwrapped. Nothing in it is secret.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Origin {
    /// Which installation.
    pub installation: [u8; 16],
    /// The vault of the key.
    pub vault: i32,
    /// The purpose's number.
    pub purpose: u8,
    /// Provider by name.
    pub provider: Bytes<PROVIDER>,
    /// Wrapping key by name.
    pub kek: Bytes<KEK>,
    /// The wrapped key.
    pub blob: Bytes<BLOB>,
}

/// What a letter asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Ask {
    /// The key that `blob` wraps, into a slot.
    Unwrap = 0,
    /// A new key, into a slot, and its wrapped form into `blob`.
    Generate,
    /// The key that `blob` wraps, wrapped by another wrapping key, into `blob`.
    Rewrap,
}

/// One request and its answer. No key in it: keys go straight to a slot.
#[repr(C)]
pub struct Letter {
    /// See `State`.
    pub state: State,
    /// What is asked.
    pub ask: Ask,
    /// What went wrong, if anything did.
    pub failure: Option<FailureKind>,
    /// For whom.
    pub waiter: Waiter,
    /// Whose letter.
    pub pid: i32,
    /// The database of the key.
    pub database: u32,
    /// The key.
    pub key_id: u64,
    /// Tells an answer to this letter from one to its predecessor in the same place.
    pub serial: u64,
    /// Wakes the writer.
    pub latch: usize,
    /// When the helper was asked, in microseconds of PostgreSQL's epoch.
    pub sent_at: i64,
    /// The key's origin; its blob is empty, or see `Ask`.
    pub origin: Origin,
    /// Rewrap: the provider that is to wrap the key.
    pub to_provider: Bytes<PROVIDER>,
    /// Rewrap: the wrapping key that is to wrap it.
    pub to_kek: Bytes<KEK>,
    /// Why it failed.
    pub message: Bytes<MESSAGE>,
}

impl Letter {
    /// Back to nobody's.
    pub fn clear(&mut self) {
        self.state = State::Free;
        self.latch = 0;
        self.pid = 0;
        self.waiter = Waiter::Session;
    }

    /// The encryption context that the provider binds.
    pub fn context(&self) -> Context {
        Context {
            installation: self.origin.installation,
            vault: self.origin.vault,
            key_id: KeyId(self.key_id),
            purpose: purpose(self.origin.purpose),
        }
    }

    /// Wakes the writer.
    pub fn wake(&self) {
        wake(self.latch as *mut pg_sys::Latch);
    }
}

/// Wakes whoever waits on the latch.
pub fn wake(latch: *mut pg_sys::Latch) {
    if !latch.is_null() {
        // SAFETY: latches of PGPROC entries live as long as shared memory; a stale one wakes somebody in vain.
        unsafe { pg_sys::SetLatch(latch) };
    }
}

/// This process's latch, for others to wake it.
pub fn my_latch() -> *mut pg_sys::Latch {
    // SAFETY: MyProc is set in every process that gets here.
    unsafe { &raw mut (*pg_sys::MyProc).procLatch }
}

/// The number of a purpose.
pub fn purpose_number(purpose: Purpose) -> u8 {
    match purpose {
        Purpose::Data => 0,
        Purpose::Equality => 1,
        Purpose::Hash => 2,
        Purpose::Policy => 3,
        Purpose::Trail => 4,
        Purpose::Account => 5,
    }
}

fn purpose(number: u8) -> Purpose {
    match number {
        1 => Purpose::Equality,
        2 => Purpose::Hash,
        3 => Purpose::Policy,
        4 => Purpose::Trail,
        5 => Purpose::Account,
        _ => Purpose::Data,
    }
}
