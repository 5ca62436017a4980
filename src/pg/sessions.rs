//! Sessions of roles, as shared memory has them.

use pgrx::pg_sys;

/// This process.
pub fn own_process() -> i32 {
    // SAFETY: reads a process-local variable.
    unsafe { pg_sys::MyProcPid }
}

/// Whether a process is a session of the role.
pub fn is_of(process: i32, role: pg_sys::Oid) -> bool {
    process != 0 && of(role).any(|it| it == process)
}

/// Ends every session of a role but this one, as pg_terminate_backend would.
pub fn end_all(role: pg_sys::Oid) {
    let own = own_process();
    for process in of(role).filter(|it| *it != own) {
        // SAFETY: a signal to a process that was the role's a moment ago; PostgreSQL itself does no better.
        unsafe { libc::kill(process, libc::SIGTERM) };
    }
}

fn of(role: pg_sys::Oid) -> impl Iterator<Item = i32> {
    // SAFETY: the array of all processes does not move while the server runs. What is read is two numbers, which may
    // be those of before or after a change.
    unsafe {
        let all = pg_sys::ProcGlobal;
        let count = if all.is_null() { 0 } else { (*all).allProcCount as usize };
        (0..count).filter_map(move |i| {
            let process = (*all).allProcs.add(i);
            let (pid, its) =
                ((&raw const (*process).pid).read_volatile(), (&raw const (*process).roleId).read_volatile());
            (pid != 0 && its == role).then_some(pid)
        })
    }
}
