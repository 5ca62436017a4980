//! A backend's part of the secret memory: ciphers and MACs set up from the keys it uses.
//!
//! The broker wipes expired entries of every slice, so an idle session keeps no key beyond its time.
//! The only other visitor is the owner; `busy` keeps them apart.

use std::cell::Cell;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

use pgpci_core::key::{DataKey, EqualityKey, HashKey, PolicyKey};
use pgrx::pg_sys;

use crate::pg::local::Local;
use crate::pg::region;

const ENTRIES: usize = 8;

/// A key made ready for its purpose. Never boxed: it must lie in the slice itself.
#[allow(clippy::large_enum_variant, reason = "a heap allocation would leave the secret memory")]
pub enum Ready {
    /// Seals and opens.
    Data(DataKey),
    /// Hashes for comparison.
    Equality(EqualityKey),
    /// Hashes for `pci.hash_pan`.
    Hash(HashKey),
    /// Authenticates policy rows.
    Policy(PolicyKey),
}

struct Entry {
    key_id: u64,
    expires: i64,
    used: u64,
    ready: Option<Ready>,
}

impl Entry {
    /// Overwrites what the key was made ready into. Dropping it alone may leave bytes behind: the compiler is free to
    /// move it elsewhere first.
    fn wipe(&mut self) {
        // SAFETY: the old value is dropped once; its bytes are then nobody's, and a value is written before anyone
        // reads one. Volatile, so that the stores are not optimised away.
        unsafe {
            let place = &raw mut self.ready;
            std::ptr::drop_in_place(place);
            for i in 0..size_of::<Option<Ready>>() {
                std::ptr::write_volatile(place.cast::<u8>().add(i), 0);
            }
            place.write(None);
        }
    }
}

/// See the module. A cache line apart from its neighbours.
#[repr(C, align(64))]
pub struct Slice {
    owner: AtomicI32,
    busy: AtomicU32,
    clock: u64,
    // Option<Ready> is not valid as zero bytes for certain, so entries are written before they are read.
    entries: [Entry; ENTRIES],
}

static MINE: Local<Cell<Option<u32>>> = Local::new(Cell::new(None));

/// Runs `f` on the key if this backend has it ready; None if it has not.
pub fn with<T>(key_id: u64, f: impl FnOnce(&mut Ready) -> T) -> Option<T> {
    let held = hold(mine()?)?;
    let slice = held.slice();
    slice.clock += 1;
    let clock = slice.clock;
    let entry = slice.entries.iter_mut().find(|e| e.key_id == key_id && e.ready.is_some())?;
    entry.used = clock;
    entry.ready.as_mut().map(f)
}

/// Keeps a key ready until it expires; the least recently used one gives way.
pub fn keep(key_id: u64, expires: i64, ready: Ready) -> bool {
    let Some(held) = mine().and_then(hold) else {
        return false;
    };
    let slice = held.slice();
    slice.clock += 1;
    let clock = slice.clock;
    let place = slice.entries.iter_mut().min_by_key(|e| {
        if e.key_id == key_id { (0, 0) } else { (1, if e.ready.is_some() { e.used } else { 0 }) }
    });
    if let Some(entry) = place {
        entry.wipe();
        *entry = Entry { key_id, expires, used: clock, ready: Some(ready) };
    }
    true
}

/// Wipes what has expired in every slice; the broker's work.
pub fn wipe_expired(now: i64) {
    each(|slice| slice.entries.iter_mut().filter(|e| e.expires <= now).for_each(Entry::wipe));
}

/// Wipes what is derived from a key in every slice. A slice whose owner is stopped in its use is left to its owner,
/// who looks over what it keeps.
pub fn forget_key(key_id: u64) {
    let mut i = 0;
    while region::slice(i).is_some() {
        for _ in 0..1000 {
            if let Some(held) = hold(i) {
                held.slice().entries.iter_mut().filter(|e| e.key_id == key_id).for_each(Entry::wipe);
                break;
            }
            std::thread::yield_now();
        }
        i += 1;
    }
}

/// Wipes what this backend is not to keep ready; false if that is not to be had now.
pub fn retain(keep: impl Fn(u64) -> bool) -> bool {
    let Some(held) = mine().and_then(hold) else {
        return false;
    };
    let entries = held.slice().entries.iter_mut();
    entries.filter(|e| e.ready.is_some() && !keep(e.key_id)).for_each(Entry::wipe);
    true
}

/// Wipes everything in every slice.
pub fn wipe_all() {
    each(|slice| slice.entries.iter_mut().for_each(Entry::wipe));
}

/// After a crash or at start: nobody owns a slice.
pub fn reset_all() {
    let mut i = 0;
    while let Some(slice) = region::slice(i) {
        // SAFETY: no other process is attached; the old contents are bytes to be overwritten, nothing to drop.
        unsafe {
            std::ptr::write_bytes(slice.cast::<u8>(), 0, size_of::<Slice>());
            for entry in 0..ENTRIES {
                let place = (&raw mut (*slice).entries[entry]).cast::<Entry>();
                place.write(Entry { key_id: 0, expires: 0, used: 0, ready: None });
            }
        }
        i += 1;
    }
}

fn each(f: impl Fn(&mut Slice)) {
    let mut i = 0;
    while region::slice(i).is_some() {
        // A slice that is busy is in use this very microsecond, or its owner is stopped: next round.
        if let Some(held) = hold(i) {
            f(held.slice());
        }
        i += 1;
    }
}

fn mine() -> Option<u32> {
    if let Some(i) = MINE.get() {
        return Some(i);
    }
    // SAFETY: reads a process-local variable.
    let me = unsafe { pg_sys::MyProcPid };
    let mut i = 0;
    while let Some(slice) = region::slice(i) {
        // SAFETY: mapped; owner is atomic.
        let owner = unsafe { &(*slice).owner };
        let free = owner.compare_exchange(0, me, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        if free {
            MINE.set(Some(i));
            // SAFETY: runs when this backend ends, while shared memory is still attached.
            unsafe { pg_sys::before_shmem_exit(Some(release), pg_sys::Datum::from(i as usize)) };
            return Some(i);
        }
        i += 1;
    }
    None
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn release(_code: i32, i: pg_sys::Datum) {
    let i = i.value() as u32;
    if let Some(held) = hold(i) {
        held.slice().entries.iter_mut().for_each(Entry::wipe);
    }
    MINE.set(None);
    if let Some(slice) = region::slice(i) {
        // SAFETY: mapped.
        unsafe { (*slice).owner.store(0, Ordering::Release) };
    }
}

struct Held(*mut Slice);

impl Held {
    // One Held exists at a time for a slice, and its users take one reference at a time.
    #[allow(clippy::mut_from_ref)]
    fn slice(&self) -> &mut Slice {
        // SAFETY: `busy` is ours until drop.
        unsafe { &mut *self.0 }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // SAFETY: mapped.
        unsafe { (*self.0).busy.store(0, Ordering::Release) };
    }
}

fn hold(i: u32) -> Option<Held> {
    let slice = region::slice(i)?;
    // SAFETY: mapped; busy is atomic.
    let busy = unsafe { &(*slice).busy };
    for round in 0..10_000 {
        if busy.swap(1, Ordering::Acquire) == 0 {
            return Some(Held(slice));
        }
        // Whoever holds it does so for microseconds, unless it is not running.
        if round < 1000 { std::hint::spin_loop() } else { std::thread::yield_now() }
    }
    None
}
