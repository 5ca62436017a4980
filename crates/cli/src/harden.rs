//! Keeps keys in this process's memory from leaving it: core files, debuggers, swap.

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{DumpableBehavior, Resource, Rlimit};
use rustix::process::{getrlimit, set_dumpable_behavior, setrlimit};

/// Forbids core files and attaching by the same user, and locks memory as far as the limits
/// allow. Fails only where it would leave keys open to the same user.
pub fn process() -> std::io::Result<()> {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    setrlimit(Resource::Core, none)?;
    // Also covers a core_pattern that pipes to a program, which ignores the limit of 0.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    panics_tell_no_data();
    lock_memory();
    Ok(())
}

/// Best effort: containers often allow nothing, and a key is here for milliseconds.
fn lock_memory() {
    let limit = getrlimit(Resource::Memlock);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let _ = setrlimit(Resource::Memlock, raised);
    // Under FUTURE, an allocation beyond the limit fails, which aborts the process: only
    // without a limit. What exists now (stack, heap so far) may be locked in any case.
    if limit.maximum.is_none() && mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE).is_ok() {
        return;
    }
    let _ = mlockall(MlockAllFlags::CURRENT);
}

/// There are no panics by intention; if there is one, its message could hold data.
fn panics_tell_no_data() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        crate::complain(&format!(
            "pgpci: internal error at {}",
            place.as_deref().unwrap_or("an unknown place")
        ));
    }));
}
