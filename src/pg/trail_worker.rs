//! The trail worker: the background worker that empties the ring. What it does with the events is its owner's matter.
//! It has shared memory and no database, and runs on standbys too.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use pgrx::bgworkers::{BackgroundWorker, BackgroundWorkerBuilder, BgWorkerStartTime, SignalWakeFlags};
use pgrx::{pg_guard, pg_sys};

use crate::pg::ring::State;
use crate::pg::{mailbox, ring, ring_wait};

/// After a stop was asked for, sessions have so long to end.
const LAST_SESSIONS: Duration = Duration::from_secs(30);
/// And so long to write what they left where writing fails.
const LAST_TRIES: Duration = Duration::from_secs(3);

/// What the worker does, again and again.
pub trait Work {
    /// Takes what there is; returns how many milliseconds may pass until the next round.
    fn round(&mut self) -> i64;
    /// The configuration was read again.
    fn reloaded(&mut self);
    /// Nothing comes any more: ends. False if that must be tried again.
    fn end(&mut self) -> bool;
}

static MAKE: OnceLock<fn() -> Box<dyn Work>> = OnceLock::new();

/// Registers the worker; called once, while the library is preloaded.
pub fn register(make: fn() -> Box<dyn Work>) {
    if ring::head().is_none() || MAKE.set(make).is_err() {
        return;
    }
    BackgroundWorkerBuilder::new("pgpci trail writer")
        .set_type("pgpci trail writer")
        .set_function("pgpci_trail_main")
        .set_library("pgpci")
        .enable_shmem_access(None)
        .set_start_time(BgWorkerStartTime::PostmasterStart)
        .set_restart_time(Some(Duration::from_secs(1)))
        .load();
}

/// The worker's main function.
// SAFETY: started by the postmaster, which registered it.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn pgpci_trail_main(_arg: pg_sys::Datum) {
    BackgroundWorker::attach_signal_handlers(SignalWakeFlags::SIGHUP | SignalWakeFlags::SIGTERM);
    let Some(mut work) = MAKE.get().map(|make| make()) else { return };
    ring_wait::set_worker(mailbox::my_latch());
    if let Some(head) = ring::head() {
        head.set_state(State::Starting, "the trail worker is starting");
    }
    while !BackgroundWorker::sigterm_received() {
        if BackgroundWorker::sighup_received() {
            // SAFETY: the worker is at its top level.
            unsafe { pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP) };
            work.reloaded();
        }
        let pause = work.round();
        wait(pause);
    }
    // Sessions are told to stop at the same time, and their last words are events, too.
    ring_wait::worker_ends();
    let since = Instant::now();
    while ring_wait::sessions() > 0 && since.elapsed() < LAST_SESSIONS {
        let pause = work.round();
        wait(pause.min(50));
    }
    let since = Instant::now();
    while !work.end() && since.elapsed() < LAST_TRIES {
        wait(100);
    }
    ring_wait::set_worker(std::ptr::null_mut());
}

fn wait(milliseconds: i64) {
    if milliseconds == 0 {
        return;
    }
    let events = pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH;
    // SAFETY: the worker's own latch.
    unsafe {
        pg_sys::WaitLatch(pg_sys::MyLatch, events as i32, milliseconds, pg_sys::PG_WAIT_EXTENSION);
        pg_sys::ResetLatch(pg_sys::MyLatch);
    }
    pgrx::check_for_interrupts!();
}
