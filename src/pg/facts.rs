//! What every new session would look up in catalogs for itself, in shared memory: right for as long as no catalog of the
//! cluster has changed at all, in any database, here or, on a standby, on the primary.
//!
//! PostgreSQL tells sessions of such changes by a queue of messages, which are put there after a change can be seen and
//! before its transaction ends for its client. The number of the next message is thus the age of everything that was read.

use std::ffi::CStr;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU64, Ordering, fence};

use pgrx::pg_guard;
use pgrx::{PgSharedMemoryInitialization, pg_sys};

use crate::pg::session;

/// The most bytes of a fact.
pub const ROOM: usize = (WORDS - HEAD) * 8;
const SLOTS: usize = 1024;
const WORDS: usize = 32;
/// Words before the fact: how often the slot was written, twice; the message; what of whom; how many bytes.
const HEAD: usize = 4;

/// PostgreSQL's function that tells the size of its queue; its name changed with version 18. Without it there are no facts.
const QUEUE_SIZE: [&CStr; 2] = [c"SInvalShmemSize", c"SharedInvalShmemSize"];

/// What PostgreSQL's queue begins with, in every version (sinvaladt.c).
#[repr(C)]
struct Queue {
    oldest: AtomicI32,
    next: AtomicI32,
}

type Slot = [AtomicU64; WORDS];

/// What a fact is about; of whom, the caller says by a number.
#[derive(Clone, Copy)]
#[repr(u32)]
pub enum About {
    /// The account of a role, at its login.
    Account = 1,
    /// Whether all that a role does is recorded.
    Watched = 2,
    /// The extension's objects in a database.
    Objects = 3,
}

/// Before something is read of which a fact is made.
#[derive(Clone, Copy)]
pub struct Moment(i32);

static QUEUE: AtomicPtr<Queue> = AtomicPtr::new(std::ptr::null_mut());
static FACTS: AtomicPtr<Slot> = AtomicPtr::new(std::ptr::null_mut());
struct Requested;
static REQUESTED: Requested = Requested;

impl PgSharedMemoryInitialization for Requested {
    type Value = ();
    // SAFETY: called in the postmaster when shared memory is laid out.
    unsafe fn on_shmem_request(&'static self) {
        // SAFETY: at the right time.
        unsafe { pg_sys::RequestAddinShmemSpace(size_of::<Slot>() * SLOTS) };
    }
    // SAFETY: called in the postmaster at start and after a crash, while no other process is alive.
    unsafe fn on_shmem_startup(&'static self, _: ()) {
        let mut found = false;
        // SAFETY: at the right time; PostgreSQL has made its queue before, of that size.
        unsafe {
            let place =
                pg_sys::ShmemInitStruct(c"pgpci_facts".as_ptr(), size_of::<Slot>() * SLOTS, &raw mut found);
            std::ptr::write_bytes(place.cast::<Slot>(), 0, SLOTS);
            FACTS.store(place.cast(), Ordering::Relaxed);
            let Some(size) = queue_size() else { return };
            let queue = pg_sys::ShmemInitStruct(c"shmInvalBuffer".as_ptr(), size, &raw mut found);
            // Made anew, it is nobody's queue: there are no facts then.
            QUEUE.store(if found { queue.cast() } else { std::ptr::null_mut() }, Ordering::Relaxed);
        }
    }
}

fn queue_size() -> Option<usize> {
    // SAFETY: looks a name up.
    let function = QUEUE_SIZE
        .iter()
        .map(|name| unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) })
        .find(|function| !function.is_null())?;
    // SAFETY: under either name it takes nothing and returns a Size.
    let function: unsafe extern "C-unwind" fn() -> usize = unsafe { std::mem::transmute(function) };
    #[allow(ffi_unwind_calls, reason = "adds numbers up, and raises nothing that they could")]
    // SAFETY: in the postmaster, which knows its settings.
    Some(unsafe { function() })
}

/// Registers the shared memory; called once, while the library is preloaded.
pub fn register() {
    pgrx::pg_shmem_init!(REQUESTED = ());
}

/// What is known, if it still holds.
pub fn recall(about: About, whose: pg_sys::Oid, out: &mut [u8; ROOM]) -> Option<&[u8]> {
    let (next, slot) = (next()?, slot(about, whose)?);
    let written = slot[0].load(Ordering::Acquire);
    let is_it = written % 2 == 0
        && slot[1].load(Ordering::Relaxed) == u64::from(next.cast_unsigned())
        && slot[2].load(Ordering::Relaxed) == name(about, whose);
    let len = usize::try_from(slot[3].load(Ordering::Relaxed)).ok().filter(|len| is_it && *len <= ROOM)?;
    let (words, _) = out.as_chunks_mut::<8>();
    for (word, from) in words.iter_mut().zip(&slot[HEAD..]).take(len.div_ceil(8)) {
        *word = from.load(Ordering::Relaxed).to_ne_bytes();
    }
    fence(Ordering::Acquire);
    (slot[0].load(Ordering::Relaxed) == written).then_some(&out[..len])
}

/// From here on something is read that may become a fact: as of now, and not as of when this session last heard of
/// changes. None where it must not become one.
pub fn moment() -> Option<Moment> {
    let next = next()?;
    // SAFETY: in a transaction, as wherever catalogs can be read; drops caches.
    unsafe { pg_sys::AcceptInvalidationMessages() };
    Some(Moment(next))
}

/// Keeps a fact that was read since that moment, if it fits.
pub fn learn(moment: Moment, about: About, whose: pg_sys::Oid, fact: &[u8]) {
    let Some(slot) = slot(about, whose).filter(|_| fact.len() <= ROOM) else { return };
    let written = slot[0].load(Ordering::Relaxed);
    // Whoever else is writing here goes first.
    let is_ours = written % 2 == 0
        && slot[0].compare_exchange(written, written + 1, Ordering::Acquire, Ordering::Relaxed).is_ok();
    if !is_ours {
        return;
    }
    fence(Ordering::Release);
    slot[1].store(u64::from(moment.0.cast_unsigned()), Ordering::Relaxed);
    slot[2].store(name(about, whose), Ordering::Relaxed);
    slot[3].store(fact.len() as u64, Ordering::Relaxed);
    for (part, to) in fact.chunks(8).zip(&slot[HEAD..]) {
        let mut word = [0; 8];
        word[..part.len()].copy_from_slice(part);
        to.store(u64::from_ne_bytes(word), Ordering::Relaxed);
    }
    slot[0].store(written + 2, Ordering::Release);
}

/// The number of the next message. None where what this session reads is not what others do: it has changed something
/// itself, which nobody was told of yet, or reads catalogs as of the past.
fn next() -> Option<i32> {
    let is_like_others =
        session::in_transaction() && session::full_xid() == 0 && !session::in_historic_snapshot();
    // SAFETY: in shared memory, for as long as that lives.
    let queue = unsafe { QUEUE.load(Ordering::Relaxed).as_ref() }?;
    is_like_others.then(|| queue.next.load(Ordering::Acquire))
}

fn slot(about: About, whose: pg_sys::Oid) -> Option<&'static Slot> {
    let facts = FACTS.load(Ordering::Relaxed);
    let hash = name(about, whose).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    // SAFETY: so many slots are there.
    unsafe { (!facts.is_null()).then(|| &*facts.add(hash as usize % SLOTS)) }
}

fn name(about: About, whose: pg_sys::Oid) -> u64 {
    u64::from(about as u32) << 32 | u64::from(whose.to_u32())
}
