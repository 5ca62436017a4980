//! The memory of the ring: a memfd that the postmaster maps before it forks.

use std::sync::atomic::{AtomicPtr, Ordering};

use crate::pg::ring::{FIRST, Head, SLOT};
use crate::pg::ring_wait;

static RING: AtomicPtr<Head> = AtomicPtr::new(std::ptr::null_mut());

/// Maps the ring; called once, while the library is preloaded.
pub fn register(megabytes: i32) {
    match map((megabytes.max(1) as u64) << 20 >> SLOT.trailing_zeros()) {
        Some(head) => RING.store(head, Ordering::Relaxed),
        None => pgrx::warning!("pgpci: no memory for the audit trail's ring; protected work is refused"),
    }
    ring_wait::register();
}

/// A new ring of so many slots. Its memory is there from the start: nobody dies of writing to it later.
pub fn map(slots: u64) -> Option<*mut Head> {
    let size = FIRST + slots as usize * SLOT;
    // SAFETY: system calls with checked results; the mapping is zero-filled, which is a valid Head and valid slots.
    unsafe {
        let fd = libc::memfd_create(c"pgpci_ring".as_ptr(), libc::MFD_CLOEXEC);
        if fd < 0 {
            return None;
        }
        let made = libc::ftruncate(fd, size as i64) == 0 && libc::posix_fallocate(fd, 0, size as i64) == 0;
        let (access, shared) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        let address = if made {
            libc::mmap(std::ptr::null_mut(), size, access, shared, fd, 0)
        } else {
            libc::MAP_FAILED
        };
        libc::close(fd);
        if address == libc::MAP_FAILED {
            return None;
        }
        let head = address.cast::<Head>();
        (*head).lay_out(slots);
        Some(head)
    }
}

/// The ring. None only where the postmaster could not map it.
pub fn head() -> Option<&'static Head> {
    // SAFETY: mapped for the life of the process; what changes is atomic.
    unsafe { RING.load(Ordering::Relaxed).as_ref() }
}
