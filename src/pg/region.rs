//! The secret memory: one small shared mapping, made by the postmaster before it forks, that alone holds
//! unwrapped keys. memfd_secret where the kernel has it (then not even root reads it through /proc),
//! else locked memory that stays out of core dumps.
//!
//! `slots` hold keys, `slices` (one a backend) what is derived from them, `mailbox` the requests to the broker.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use pgrx::pg_guard;
use pgrx::pg_sys;
use pgrx::{PgLwLock, PgSharedMemoryInitialization};

use crate::pg::mailbox::{Letter, Origin, Provider};
use crate::pg::slice::Slice;

/// Keys kept at a time; the least recently used one gives way.
pub const SLOTS: usize = 256;
/// Requests to the broker at a time; more wait their turn.
pub const LETTERS: usize = 64;

/// Providers that are kept apart in `pci.key_status`.
pub const PROVIDERS: usize = 8;

/// One unwrapped key.
#[repr(C)]
pub struct Slot {
    /// The database whose `pci.key` the key came from.
    pub database: u32,
    /// Whether the slot holds a key.
    pub full: bool,
    /// The key's identifier.
    pub key_id: u64,
    /// Hash of the wrapped form, so that a swapped blob never finds another's key.
    pub blob: u64,
    /// When it is wiped, in microseconds of PostgreSQL's epoch.
    pub expires: i64,
    /// When it was last copied out.
    pub used: i64,
    /// When it arrived.
    pub fetched: i64,
    /// When it is to be fetched anew, if it was used since it arrived.
    pub refresh: i64,
    /// The key itself, 32 bytes.
    pub key: [u8; 32],
    /// What to ask for when it is fetched anew.
    pub origin: Origin,
}

/// The whole region. Aligned as slices are, which follow it.
#[repr(C, align(64))]
pub struct Region {
    /// The broker's latch, to wake it; null while there is no broker.
    pub broker: AtomicPtr<pg_sys::Latch>,
    /// State of the helper: 0 not running, 1 running.
    pub helper: AtomicU32,
    /// Requests sent to the helper since the server started.
    pub calls: AtomicU64,
    /// Slices that follow the region.
    pub slices: u32,
    guarded: UnsafeCell<Guarded>,
}

/// What LOCK guards.
#[repr(C)]
pub struct Guarded {
    /// Keys.
    pub slots: [Slot; SLOTS],
    /// Requests.
    pub letters: [Letter; LETTERS],
    /// Providers that were asked; guarded by LOCK.
    pub providers: [Provider; PROVIDERS],
}

/// Guards slots and letters. Ordinary shared memory: a crash-restart makes it anew.
// SAFETY: the name is a static string, used once.
pub static LOCK: PgLwLock<bool> = unsafe { PgLwLock::new(c"pgpci_region") };

static REGION: AtomicPtr<Region> = AtomicPtr::new(std::ptr::null_mut());
static PROTECTION: AtomicU32 = AtomicU32::new(0);
struct Requested;
static REQUESTED: Requested = Requested;

impl PgSharedMemoryInitialization for Requested {
    type Value = ();
    // SAFETY: called once, in the postmaster, when MaxBackends is known and nothing is forked yet.
    unsafe fn on_shmem_request(&'static self) {
        map();
    }
    // SAFETY: called in the postmaster at start and after a crash, while no other process is alive.
    unsafe fn on_shmem_startup(&'static self, _: ()) {
        reset();
    }
}

/// How the memory is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// Nothing is mapped.
    None,
    /// memfd_secret: unmapped from the kernel itself.
    Secret,
    /// mlock and MADV_DONTDUMP.
    Locked,
    /// The operating system refused to lock it.
    Unlocked,
}

/// How the memory is protected.
pub fn protection() -> Protection {
    match PROTECTION.load(Ordering::Relaxed) {
        1 => Protection::Secret,
        2 => Protection::Locked,
        3 => Protection::Unlocked,
        _ => Protection::None,
    }
}

/// Registers the mapping; called once, while the library is preloaded.
pub fn register() {
    {
        pgrx::pg_shmem_init!(LOCK);
    }
    {
        pgrx::pg_shmem_init!(REQUESTED = ());
    }
}

/// The region. None only in a process that was not forked from a postmaster with the library preloaded.
pub fn get() -> Option<&'static Region> {
    // SAFETY: mapped for the life of the process; fields that change are atomics, or behind `locked`.
    unsafe { REGION.load(Ordering::Relaxed).as_ref() }
}

/// Runs `f` on slots and letters under the lock.
pub fn locked<T>(f: impl FnOnce(&mut Guarded) -> T) -> Option<T> {
    let region = get()?;
    let _guard = LOCK.exclusive();
    // SAFETY: mapped; LOCK makes this the only reference to what it guards.
    Some(f(unsafe { &mut *region.guarded.get() }))
}

/// The slice number `i` of a backend.
pub fn slice(i: u32) -> Option<*mut Slice> {
    let region = REGION.load(Ordering::Relaxed);
    // SAFETY: slices follow the region in the same mapping.
    unsafe {
        let count = region.as_ref()?.slices;
        (i < count).then(|| region.add(1).cast::<Slice>().add(i as usize))
    }
}

/// Wipes a key wherever it is held: destroyed, or not to be used any more.
pub fn forget_key(key_id: u64) {
    locked(|region| {
        region.slots.iter_mut().filter(|slot| slot.full && slot.key_id == key_id).for_each(Slot::wipe);
    });
}

/// Wipes keys and what is derived from them: at the broker's end.
pub fn wipe() {
    locked(|region| region.slots.iter_mut().for_each(Slot::wipe));
    crate::pg::slice::wipe_all();
}

impl Slot {
    /// Overwrites the key.
    pub fn wipe(&mut self) {
        for byte in &mut self.key {
            // SAFETY: a valid place; volatile, so that the store is not optimised away.
            unsafe { std::ptr::write_volatile(byte, 0) };
        }
        self.full = false;
    }
}

fn map() {
    // SAFETY: reads a variable that is final by now.
    let slices = unsafe { pg_sys::MaxBackends }.max(1) as usize + 8;
    let size = (size_of::<Region>() + slices * size_of::<Slice>()).next_multiple_of(4096);
    // SAFETY: plain system calls; the mapping is checked before it is used. The descriptor is closed at once.
    let (address, protection) =
        unsafe { map_secret(size).or_else(|| map_locked(size)) }.unwrap_or((std::ptr::null_mut(), 0));
    if address.is_null() {
        pgrx::warning!("pgpci: no memory for keys; card numbers cannot be stored or revealed");
        return;
    }
    PROTECTION.store(protection, Ordering::Relaxed);
    // SAFETY: the mapping is zero-filled, which is a valid Region and valid slices.
    unsafe { (*address.cast::<Region>()).slices = slices as u32 };
    REGION.store(address.cast(), Ordering::Relaxed);
    if protection == 3 {
        pgrx::warning!(
            "pgpci: the operating system does not lock memory (RLIMIT_MEMLOCK); keys will not be used unless pgpci.allow_unlocked_keys is on"
        );
    }
}

/// # Safety
/// Called once in the postmaster.
unsafe fn map_secret(size: usize) -> Option<(*mut libc::c_void, u32)> {
    // SAFETY: system calls with checked results.
    unsafe {
        let fd = libc::syscall(libc::SYS_memfd_secret, libc::O_CLOEXEC) as i32;
        if fd < 0 {
            return None;
        }
        let address =
            if libc::ftruncate(fd, size as i64) == 0 { map_shared(size, libc::MAP_SHARED, fd) } else { None };
        libc::close(fd);
        address.map(|a| (a, 1))
    }
}

/// # Safety
/// Called once in the postmaster.
unsafe fn map_locked(size: usize) -> Option<(*mut libc::c_void, u32)> {
    // SAFETY: system calls with checked results.
    unsafe {
        let address = map_shared(size, libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1)?;
        let locked = libc::mlock(address, size) == 0;
        libc::madvise(address, size, libc::MADV_DONTDUMP);
        Some((address, if locked { 2 } else { 3 }))
    }
}

/// # Safety
/// `fd` fits `flags`.
unsafe fn map_shared(size: usize, flags: i32, fd: i32) -> Option<*mut libc::c_void> {
    // SAFETY: a new mapping at an address of the kernel's choice.
    let address =
        unsafe { libc::mmap(std::ptr::null_mut(), size, libc::PROT_READ | libc::PROT_WRITE, flags, fd, 0) };
    (address != libc::MAP_FAILED).then_some(address)
}

/// At start, and after a crash: no lock is held, no request open, no key kept.
fn reset() {
    let region = REGION.load(Ordering::Relaxed);
    if region.is_null() {
        return;
    }
    // SAFETY: no other process is attached.
    unsafe {
        (*region).broker.store(std::ptr::null_mut(), Ordering::Relaxed);
        (*region).helper.store(0, Ordering::Relaxed);
        let guarded = &mut *(*region).guarded.get();
        guarded.slots.iter_mut().for_each(Slot::wipe);
        guarded.letters.iter_mut().for_each(Letter::clear);
    }
    crate::pg::slice::reset_all();
}
