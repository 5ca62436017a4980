//! Waiting for the trail worker, and waking it.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, Ordering};

use pgrx::PgSharedMemoryInitialization;
use pgrx::{pg_guard, pg_sys};

use crate::pg::ring::{self, State};
use crate::pg::{mailbox, session};

/// How long a session waits for a worker that does not run, in microseconds; it is started again after a second.
const WORKER_MISSING: i64 = 10_000_000;

/// In ordinary shared memory: a crash-restart makes it anew.
#[repr(C)]
struct Waiting {
    worker: AtomicPtr<pg_sys::Latch>,
    /// Sessions that may still have something to record.
    sessions: AtomicI32,
    /// Whether the worker waits for their end.
    ends: AtomicBool,
    variable: pg_sys::ConditionVariable,
}

static WAITING: AtomicPtr<Waiting> = AtomicPtr::new(std::ptr::null_mut());
struct Requested;
static REQUESTED: Requested = Requested;

impl PgSharedMemoryInitialization for Requested {
    type Value = ();
    // SAFETY: called in the postmaster when shared memory is laid out.
    unsafe fn on_shmem_request(&'static self) {
        // SAFETY: at the right time.
        unsafe { pg_sys::RequestAddinShmemSpace(size_of::<Waiting>()) };
    }
    // SAFETY: called in the postmaster at start and after a crash, while no other process is alive.
    unsafe fn on_shmem_startup(&'static self, _: ()) {
        let mut found = false;
        // SAFETY: at the right time; the structure is initialised before anybody sees it.
        unsafe {
            let place =
                pg_sys::ShmemInitStruct(c"pgpci_waiting".as_ptr(), size_of::<Waiting>(), &raw mut found);
            let place = place.cast::<Waiting>();
            std::ptr::write_bytes(place, 0, 1);
            pg_sys::ConditionVariableInit(&raw mut (*place).variable);
            WAITING.store(place, Ordering::Release);
        }
        ring::processes_are_gone();
    }
}

/// Registers the shared memory.
pub(super) fn register() {
    pgrx::pg_shmem_init!(REQUESTED = ());
}

fn waiting() -> Option<&'static Waiting> {
    // SAFETY: lives as long as shared memory.
    unsafe { WAITING.load(Ordering::Relaxed).as_ref() }
}

/// The worker begins (its latch) or ends (null).
pub fn set_worker(latch: *mut pg_sys::Latch) {
    if let Some(waiting) = waiting() {
        waiting.worker.store(latch, Ordering::Release);
        waiting.ends.store(false, Ordering::Release);
    }
}

/// Wakes the worker.
pub(super) fn wake_worker() {
    if let Some(waiting) = waiting() {
        mailbox::wake(waiting.worker.load(Ordering::Acquire));
    }
}

/// Wakes whoever waits for room or durability.
pub(super) fn wake_waiters() {
    if let Some(waiting) = waiting()
        && session::has_process()
    {
        // SAFETY: initialised at startup; takes spinlocks only.
        unsafe { pg_sys::ConditionVariableBroadcast((&raw const waiting.variable).cast_mut()) };
    }
}

/// A session that records begins (1) or is over (-1).
pub fn count_session(change: i32) {
    if let Some(waiting) = waiting() {
        waiting.sessions.fetch_add(change, Ordering::AcqRel);
        if waiting.ends.load(Ordering::Acquire) {
            wake_worker();
        }
    }
}

/// The worker is to end, after the sessions.
pub fn worker_ends() {
    if let Some(waiting) = waiting() {
        waiting.ends.store(true, Ordering::Release);
    }
}

/// Sessions that may still have something to record.
pub fn sessions() -> i32 {
    waiting().map_or(0, |waiting| waiting.sessions.load(Ordering::Acquire))
}

/// Waits until all before the place is on the disk. False if that cannot be had now: the state says why.
/// A cancel or terminate raises.
pub fn wait_durable(place: u64) -> bool {
    let Some(head) = ring::head() else { return false };
    wait_until(|| head.tail() >= place, || head.want(place))
}

/// Waits until there is room in the ring. False as above.
pub fn wait_for_room() -> bool {
    let Some(head) = ring::head() else { return false };
    head.count_wait();
    let tail = head.tail();
    wait_until(|| head.tail() != tail, || head.want(tail + 1))
}

fn wait_until(is_done: impl Fn() -> bool, ask: impl Fn()) -> bool {
    let (Some(head), Some(waiting)) = (ring::head(), waiting()) else { return false };
    if !session::has_postmaster() {
        return false;
    }
    let since = session::now();
    let variable = (&raw const waiting.variable).cast_mut();
    let mut prepared = false;
    let done = loop {
        if is_done() {
            break true;
        }
        match head.state() {
            State::Running => {}
            // Not before it has had the time to begin.
            State::Starting if session::now() - since < WORKER_MISSING => {}
            _ => break false,
        }
        // SAFETY: a condition variable in shared memory; an error leaves the wait to AbortTransaction.
        unsafe {
            if !prepared {
                pg_sys::ConditionVariablePrepareToSleep(variable);
                prepared = true;
                ask();
                continue;
            }
            if pg_sys::ConditionVariableTimedSleep(variable, 1000, pg_sys::PG_WAIT_EXTENSION) {
                ask();
            }
        }
    };
    if prepared {
        // SAFETY: prepared above.
        unsafe { pg_sys::ConditionVariableCancelSleep() };
    }
    done
}
