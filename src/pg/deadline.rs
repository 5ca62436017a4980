//! The end of a session at a time that was set when it began.

use std::cell::Cell;
use std::ffi::c_int;

use pgrx::pg_sys;

// utils/timeout.h, not bound.
unsafe extern "C-unwind" {
    fn RegisterTimeout(id: c_int, handler: extern "C" fn()) -> c_int;
    fn enable_timeout_at(id: c_int, time: pg_sys::TimestampTz);
    fn get_timeout_active(id: c_int) -> bool;
}

/// At least USER_TIMEOUT, whose number is not the same in all versions: PostgreSQL then gives out a free one.
const ANY: c_int = 14;

thread_local! { static TIMEOUT: Cell<Option<c_int>> = const { Cell::new(None) } }

/// Ends this session at that time, as pg_terminate_backend would. Called again after an error, which stops all timers.
pub fn end_session_at(time: pg_sys::TimestampTz) {
    // There are places for ten libraries' timers.
    #[allow(
        ffi_unwind_calls,
        reason = "an error of these ends the session, and nothing here has a destructor"
    )]
    // SAFETY: in a client's process, whose timers are set up; the handler only sets flags.
    unsafe {
        let id = match TIMEOUT.get() {
            Some(id) => id,
            None => {
                let id = RegisterTimeout(ANY, expired);
                TIMEOUT.set(Some(id));
                id
            }
        };
        if !get_timeout_active(id) {
            enable_timeout_at(id, time);
        }
    }
}

/// In a signal handler, which sets the process's latch.
extern "C" fn expired() {
    // SAFETY: flags of this process, as the handler of SIGTERM sets them.
    unsafe {
        pg_sys::ProcDiePending = 1;
        pg_sys::InterruptPending = 1;
    }
}
