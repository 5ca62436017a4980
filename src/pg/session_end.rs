//! The end of a session, while it still has its place in shared memory.

use std::cell::Cell;

use pgrx::{pg_guard, pg_sys};

thread_local! {
    static THEN: Cell<Option<fn()>> = const { Cell::new(None) };
}

/// Has `f` called when this process ends, unless it is killed.
pub fn at_end(f: fn()) {
    if THEN.replace(Some(f)).is_none() {
        // SAFETY: registered once a process; runs while shared memory is attached.
        unsafe { pg_sys::before_shmem_exit(Some(ends), pg_sys::Datum::from(0usize)) };
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn ends(_code: i32, _arg: pg_sys::Datum) {
    if let Some(f) = THEN.take() {
        f();
    }
}
