//! The lock worker: the background worker that writes locks into roles. It is connected to a database only while it
//! writes, and then begins anew: a database that somebody is connected to can be neither copied nor dropped.

use std::ffi::{CStr, CString};
use std::sync::OnceLock;
use std::time::Duration;

use pgrx::bgworkers::{BackgroundWorker, BackgroundWorkerBuilder, BgWorkerStartTime, SignalWakeFlags};
use pgrx::{pg_guard, pg_sys};

use crate::pg::{lockout, session};

const PAUSE: Duration = Duration::from_secs(1);
/// After it could not write, in microseconds: each try that fails is in the server log.
const LONG_PAUSE: i64 = 10_000_000;

/// Settings without which it would write nothing, or wait as long as somebody likes.
const OWN: [(&CStr, &CStr); 3] =
    [(c"role", c"none"), (c"default_transaction_read_only", c"off"), (c"lock_timeout", c"300ms")];

/// What the worker is for.
pub struct Work {
    /// Whether there is something to write; no catalog can be read.
    pub is_due: fn() -> bool,
    /// Writes it, in a transaction.
    pub write: fn(),
    /// What is written is certain.
    pub written: fn(),
    /// The database to connect to.
    pub database: fn() -> String,
}

static WORK: OnceLock<Work> = OnceLock::new();

/// Registers the worker; called once, while the library is preloaded.
pub fn register(work: Work) {
    if WORK.set(work).is_err() {
        return;
    }
    BackgroundWorkerBuilder::new("pgpci lock writer")
        .set_type("pgpci lock writer")
        .set_function("pgpci_locks_main")
        .set_library("pgpci")
        .enable_spi_access()
        .set_start_time(BgWorkerStartTime::RecoveryFinished)
        .set_restart_time(Some(PAUSE))
        .load();
}

/// The worker's main function.
// SAFETY: started by the postmaster, which registered it.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn pgpci_locks_main(_arg: pg_sys::Datum) {
    BackgroundWorker::attach_signal_handlers(SignalWakeFlags::SIGHUP | SignalWakeFlags::SIGTERM);
    let Some(work) = WORK.get() else { return };
    lockout::set_worker();
    while !(work.is_due)() || failed_just_now() {
        if !BackgroundWorker::wait_latch(Some(PAUSE)) {
            return;
        }
        if BackgroundWorker::sighup_received() {
            // SAFETY: the worker is at its top level.
            unsafe { pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP) };
            lockout::tries(0);
        }
    }
    lockout::tries(session::now());
    connect(&(work.database)());
    BackgroundWorker::transaction(work.write);
    (work.written)();
    // Not 0, which would be the end of it: the postmaster starts another one.
    // SAFETY: the worker is at its top level.
    unsafe { pg_sys::proc_exit(1) };
}

/// Connects to the database, whatever is set for it.
fn connect(database: &str) {
    let Ok(database) = CString::new(database) else { return };
    // SAFETY: C strings; in a worker that has yet to connect, outside of any transaction.
    unsafe {
        pg_sys::BackgroundWorkerInitializeConnection(
            database.as_ptr(),
            std::ptr::null(),
            pg_sys::BGWORKER_BYPASS_ALLOWCONN,
        );
        for (name, value) in OWN {
            let (context, source) = (pg_sys::GucContext::PGC_SUSET, pg_sys::GucSource::PGC_S_SESSION);
            pg_sys::SetConfigOption(name.as_ptr(), value.as_ptr(), context, source);
        }
    }
}

/// Whether it could not write just now, by a clock that may be set.
fn failed_just_now() -> bool {
    (0..LONG_PAUSE).contains(&session::now().saturating_sub(lockout::tried()))
}
