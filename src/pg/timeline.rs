//! Which history of which database the server is in.

use pgrx::pg_sys;

/// A timeline of a database system.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timeline {
    /// The system's identifier, from initdb on.
    pub system: u64,
    /// Its number: a new one after a promotion, and after a restore to an earlier time.
    pub number: u32,
}

impl Timeline {
    /// The present one; None while it is not known yet. On a standby, the one that is replayed.
    pub fn now() -> Option<Timeline> {
        let mut number = 0;
        // SAFETY: reads the control file's copy and shared memory.
        unsafe {
            if pg_sys::RecoveryInProgress() {
                pg_sys::GetXLogReplayRecPtr(&raw mut number);
            } else {
                number = pg_sys::GetWALInsertionTimeLine();
            }
            (number != 0).then(|| Timeline { system: pg_sys::GetSystemIdentifier(), number })
        }
    }
}
