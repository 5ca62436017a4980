//! The lock worker: the background worker that writes locks into roles. It is connected to a database only while it
//! writes, and then begins anew: a database that somebody is connected to can be neither copied nor dropped.

use std::sync::OnceLock;
use std::time::Duration;

use pgrx::bgworkers::{BackgroundWorker, BackgroundWorkerBuilder, BgWorkerStartTime, SignalWakeFlags};
use pgrx::{pg_guard, pg_sys};

use crate::pg::{lockout, session};

const PAUSE: Duration = Duration::from_secs(1);
/// After it could not write, in microseconds: each try that fails is in the server log.
const LONG_PAUSE: i64 = 10_000_000;

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
    BackgroundWorker::connect_worker_to_spi(Some(&(work.database)()), None);
    BackgroundWorker::transaction(work.write);
    (work.written)();
    // Not 0, which would be the end of it: the postmaster starts another one.
    // SAFETY: the worker is at its top level.
    unsafe { pg_sys::proc_exit(1) };
}

/// Whether it could not write just now, by a clock that may be set.
fn failed_just_now() -> bool {
    (0..LONG_PAUSE).contains(&session::now().saturating_sub(lockout::tried()))
}
