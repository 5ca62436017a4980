//! How long a session may idle.

use pgrx::pg_sys;

/// Limits `idle_session_timeout` and `idle_in_transaction_session_timeout` of this session to so many milliseconds. Their
/// timers start when the session next idles.
pub fn limit_idle(milliseconds: i32) {
    // SAFETY: settings of this process alone, read where it begins to idle.
    unsafe {
        for setting in [&raw mut pg_sys::IdleSessionTimeout, &raw mut pg_sys::IdleInTransactionSessionTimeout]
        {
            if *setting == 0 || *setting > milliseconds {
                *setting = milliseconds;
            }
        }
    }
}
