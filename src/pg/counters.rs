//! Counts per role and hour, shared by all sessions: reveals where a grant limits them, conflicts on unique
//! card numbers. Fixed memory; lost at a restart.

use pgrx::{PGRXSharedMemory, PgLwLock};
use pgrx::{pg_guard, pg_sys};

const COUNTERS: usize = 512;
const HOUR: i64 = 3_600_000_000;

/// What is counted.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// Values revealed.
    Reveals = 1,
    /// Writes that failed or conflicted on a unique card number.
    Conflicts = 2,
}

#[derive(Clone, Copy)]
struct Counter {
    role: u32,
    kind: u32,
    hour: i64,
    count: u64,
}

/// The table of counters.
#[derive(Clone, Copy)]
pub struct Counters([Counter; COUNTERS]);

// SAFETY: plain data without pointers.
unsafe impl PGRXSharedMemory for Counters {}

impl Default for Counters {
    fn default() -> Self {
        Self([Counter { role: 0, kind: 0, hour: 0, count: 0 }; COUNTERS])
    }
}

// SAFETY: the name is a static string, used once.
static TABLE: PgLwLock<Counters> = unsafe { PgLwLock::new(c"pgpci_counters") };

/// Registers the shared memory; called once, while the library is preloaded.
pub fn register() {
    pgrx::pg_shmem_init!(TABLE);
}

/// Adds to the role's count of this hour (0: only asks); returns it.
pub fn add(role: pg_sys::Oid, kind: Kind, n: u64) -> u64 {
    let hour = crate::pg::session::now() / HOUR;
    let (role, kind) = (role.to_u32(), kind as u32);
    let mut table = TABLE.exclusive();
    // The role's own place, else one of a past hour, else the smallest count.
    let place = table.0.iter_mut().min_by_key(|c| match (c.role, c.kind, c.hour) {
        (r, k, h) if (r, k, h) == (role, kind, hour) => (0, 0),
        (_, _, h) if h != hour => (1, 0),
        _ => (2, c.count),
    });
    let Some(counter) = place else { return 0 };
    if (counter.role, counter.kind, counter.hour) != (role, kind, hour) {
        if n == 0 {
            return 0;
        }
        *counter = Counter { role, kind, hour, count: 0 };
    }
    counter.count += n;
    counter.count
}
