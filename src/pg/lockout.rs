//! Failed and other logins, shared by all sessions: a file in `pgpci.directory` that the postmaster maps before it forks, so that
//! neither a crash nor a restart forgets them.

use std::fs::OpenOptions;
use std::os::fd::{AsRawFd, IntoRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicI32, AtomicPtr, Ordering};

use pgpci_core::lockout::Table;
use pgpci_core::logins::Logins;
use pgrx::{PGRXSharedMemory, PgLwLock, pg_guard, pg_sys};

use crate::pg::mailbox;

/// The first bytes of the file; another version of it begins anew.
const MAGIC: [u8; 16] = *b"pgpci lockout 4\0";

#[repr(C)]
struct Mapped {
    magic: [u8; 16],
    table: Table,
    logins: Logins,
}

/// What a restart forgets.
#[derive(Clone, Copy, Default)]
pub struct Fresh {
    /// Address of the worker's latch; 0 while there is none.
    latch: usize,
    /// Whether the entries were counted.
    is_counted: bool,
    /// Whether the worker has looked at what the roles themselves say.
    is_looked_over: bool,
    /// When it last began to write and did not end; 0: never.
    tried: i64,
    /// When a login last asked for the key that proves labels.
    asked: i64,
    /// Before then, nothing but locks is written.
    postponed: i64,
}

// SAFETY: plain data; the address is of shared memory.
unsafe impl PGRXSharedMemory for Fresh {}

// SAFETY: the name is a static string, used once.
static LOCK: PgLwLock<Fresh> = unsafe { PgLwLock::new(c"pgpci_lockout") };
static MAPPED: AtomicPtr<Mapped> = AtomicPtr::new(std::ptr::null_mut());
// The file, open for as long as the server runs; -1: none.
static FILE: AtomicI32 = AtomicI32::new(-1);

/// Maps the file and registers the lock; called once, while the library is preloaded.
pub fn register(path: &Path) {
    pgrx::pg_shmem_init!(LOCK);
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    let size = size_of::<Mapped>();
    // A page of a file that has no room on the disk would end whoever touches it.
    let descriptor = file.as_ref().ok().map(AsRawFd::as_raw_fd).filter(|file| {
        // SAFETY: an open file.
        unsafe { libc::posix_fallocate(*file, 0, size as i64) == 0 }
    });
    if descriptor.is_none() {
        pgrx::warning!(
            "pgpci: failed logins are counted in memory only; {} cannot be written",
            path.display()
        );
    }
    let flags = if descriptor.is_some() { libc::MAP_SHARED } else { libc::MAP_SHARED | libc::MAP_ANONYMOUS };
    // SAFETY: a new mapping at an address of the kernel's choice, of a size that the file has.
    let place = unsafe {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        libc::mmap(std::ptr::null_mut(), size, access, flags, descriptor.unwrap_or(-1), 0)
    };
    if place == libc::MAP_FAILED {
        pgrx::warning!("pgpci: no memory to count failed logins in");
        return;
    }
    let place = place.cast::<Mapped>();
    // SAFETY: mapped and aligned to a page; zeros are an empty table, and any content is a table.
    unsafe {
        if (*place).magic != MAGIC {
            place.write_bytes(0, 1);
            (*place).magic = MAGIC;
        }
    }
    MAPPED.store(place, Ordering::Relaxed);
    if let Some(file) = file.ok().filter(|_| descriptor.is_some()) {
        FILE.store(file.into_raw_fd(), Ordering::Relaxed);
    }
}

/// Runs `f` on the table; nothing in it may raise. None where there is no memory.
pub fn with<T>(f: impl FnOnce(&mut Table) -> T) -> Option<T> {
    // SAFETY: a valid place.
    with_place(|place| f(unsafe { &mut (*place).table }))
}

/// The same on logins that succeeded.
pub fn with_logins<T>(f: impl FnOnce(&mut Logins) -> T) -> Option<T> {
    // SAFETY: as above.
    with_place(|place| f(unsafe { &mut (*place).logins }))
}

/// Mapped for the life of the process; LOCK makes this the only reference.
fn with_place<T>(f: impl FnOnce(*mut Mapped) -> T) -> Option<T> {
    let place = MAPPED.load(Ordering::Relaxed);
    if place.is_null() {
        return None;
    }
    let mut fresh = LOCK.exclusive();
    if !keep_length() {
        return None;
    }
    if !std::mem::replace(&mut fresh.is_counted, true) {
        // SAFETY: a valid place.
        unsafe { (*place).table.count() };
    }
    Some(f(place))
}

/// Whoever empties the file by mistake would end every process that looks at what is mapped of it, one after the other:
/// it gets its length back, with zeros, which mean something. False where there is no room for that.
fn keep_length() -> bool {
    let (file, size) = (FILE.load(Ordering::Relaxed), size_of::<Mapped>() as i64);
    // SAFETY: a file that stays open, and a structure of the kernel's, to be filled.
    unsafe {
        let mut about: libc::stat = std::mem::zeroed();
        let is_short = file >= 0 && libc::fstat(file, &raw mut about) == 0 && about.st_size < size;
        !is_short || libc::posix_fallocate(file, 0, size) == 0
    }
}

/// Has the worker look.
pub fn wake() {
    let latch = LOCK.share().latch;
    mailbox::wake(latch as *mut pg_sys::Latch);
}

/// This process is the worker.
pub fn set_worker() {
    LOCK.exclusive().latch = mailbox::my_latch() as usize;
}

/// Whether the worker has yet to look at the roles since the server started.
pub fn is_unseen() -> bool {
    !LOCK.share().is_looked_over
}

/// It has.
pub fn seen() {
    let mut fresh = LOCK.exclusive();
    fresh.is_looked_over = true;
    fresh.tried = 0;
}

/// What is not urgent is written at this time at the earliest.
pub fn postpone(until: i64) {
    LOCK.exclusive().postponed = until;
}

/// That time.
pub fn postponed() -> i64 {
    LOCK.share().postponed
}

/// Whether nobody asked for the key for so long; then the caller does.
pub fn may_ask(now: i64, pause: i64) -> bool {
    let mut fresh = LOCK.exclusive();
    let is_first = !(0..pause).contains(&now.saturating_sub(fresh.asked));
    if is_first {
        fresh.asked = now;
    }
    is_first
}

/// It begins to write, now; 0: what failed is worth another try.
pub fn tries(now: i64) {
    LOCK.exclusive().tried = now;
}

/// When it last began to write and did not end; 0: never.
pub fn tried() -> i64 {
    LOCK.share().tried
}
