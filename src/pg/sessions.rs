//! Sessions of roles, as shared memory has them.

use pgrx::pg_sys;

/// This process.
pub fn own_process() -> i32 {
    // SAFETY: reads a process-local variable.
    unsafe { pg_sys::MyProcPid }
}

/// Whether a process is a session of the role.
pub fn is_of(process: i32, role: pg_sys::Oid) -> bool {
    // SAFETY: the structure of a process that is there, or null: what a process that ended has left in its own does not
    // count. The number that is read is that of before or after a change.
    unsafe {
        process != 0
            && pg_sys::BackendPidGetProc(process)
                .as_ref()
                .is_some_and(|it| (&raw const it.roleId).read_volatile() == role)
    }
}

/// Ends every session of a role but this one, as pg_terminate_backend would.
pub fn end_all(role: pg_sys::Oid) {
    let own = own_process();
    for process in processes().filter(|it| *it != own && is_of(*it, role)) {
        // SAFETY: a signal to a process that was the role's a moment ago; PostgreSQL itself does no better.
        unsafe { libc::kill(process, libc::SIGTERM) };
    }
}

/// The numbers of all processes, of some that have ended, too.
fn processes() -> impl Iterator<Item = i32> {
    // SAFETY: the array of all processes does not move while the server runs.
    unsafe {
        let all = pg_sys::ProcGlobal;
        let count = if all.is_null() { 0 } else { (*all).allProcCount as usize };
        (0..count).map(move |i| (&raw const (*(*all).allProcs.add(i)).pid).read_volatile())
    }
}
