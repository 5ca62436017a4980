//! Acting as somebody else for the moment.

use pgrx::pg_sys;

/// Runs `f` with the rights of the owner of what it works on, and no more: the owner's own code may run in it (a check,
/// an index expression, a trigger), as in PostgreSQL's own maintenance. Row security does not hide rows from it.
pub fn as_owner<T>(owner: pg_sys::Oid, f: impl FnOnce() -> T) -> T {
    struct Before {
        user: pg_sys::Oid,
        context: i32,
        settings: i32,
    }
    impl Drop for Before {
        fn drop(&mut self) {
            // SAFETY: what was there before; where an error passes, PostgreSQL does the same at the end of the
            // (sub)transaction.
            unsafe {
                if !std::thread::panicking() {
                    pg_sys::AtEOXact_GUC(false, self.settings);
                }
                pg_sys::SetUserIdAndSecContext(self.user, self.context);
            }
        }
    }
    let restrictions = pg_sys::SECURITY_LOCAL_USERID_CHANGE
        | pg_sys::SECURITY_RESTRICTED_OPERATION
        | pg_sys::SECURITY_NOFORCE_RLS;
    let mut before = Before { user: pg_sys::InvalidOid, context: 0, settings: 0 };
    // SAFETY: in a transaction; the settings that the owner's code makes are undone with this level.
    let _before = unsafe {
        pg_sys::GetUserIdAndSecContext(&mut before.user, &mut before.context);
        before.settings = pg_sys::NewGUCNestLevel();
        pg_sys::SetUserIdAndSecContext(owner, before.context | restrictions as i32);
        before
    };
    f()
}
