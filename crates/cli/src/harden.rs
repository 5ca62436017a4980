//! Keeps keys in this process's memory from leaving it: core files, debuggers, swap.

use std::hint::black_box;
use std::mem::forget;

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{DumpableBehavior, Resource, Rlimit};
use rustix::process::{getrlimit, set_dumpable_behavior, setrlimit};
use rustix::thread::{CapabilitySet, capabilities};

/// Heap that is locked where not everything may be, in bytes. Together with the stack well below
/// the usual limit of 8 MiB; what is in use here at once is around 1 MiB.
const HEAP_LEN: usize = 4 << 20;

/// Stack that is locked there, in bytes.
const STACK_LEN: usize = 256 << 10;

/// Below malloc's threshold for mappings of their own, so that pieces come from the heap itself.
const PIECE_LEN: usize = 64 << 10;

/// Forbids core files and attaching by the same user, and locks memory as far as the limits
/// allow. Fails only where it would leave keys open to the same user. To be called first: what
/// was allocated before is not locked under a limit.
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
    let is_exempt = capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK));
    // Under FUTURE, an allocation beyond the limit fails, which aborts the process: only where no
    // limit applies. ONFAULT, because stacks of threads are reserved by the megabyte.
    let everything = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
    if (limit.maximum.is_none() || is_exempt) && mlockall(everything).is_ok() {
        return;
    }
    // Everything counts by its address space, and this program with its libraries is beyond the
    // usual limit before it has done anything. So: where keys pass, which is the heap and the
    // stack of the one thread that all requests run on.
    lock_heap();
    lock_stack();
}

/// Grows the heap by pieces, locks them, and gives them back to malloc, which takes from them first.
fn lock_heap() {
    let mut pieces = Vec::with_capacity(HEAP_LEN / PIECE_LEN);
    for _ in 0..HEAP_LEN / PIECE_LEN {
        let piece: Vec<u8> = Vec::with_capacity(PIECE_LEN);
        match region::lock(piece.as_ptr(), PIECE_LEN) {
            // Dropping it would unlock.
            Ok(guard) => forget(guard),
            Err(_) => break,
        }
        pieces.push(piece);
    }
    // The heap shrinks from its end only, and this stays there.
    if let Some(last) = pieces.pop() {
        forget(last);
    }
}

/// Locks the stack that later calls will use.
#[inline(never)]
fn lock_stack() {
    let stack = [0u8; STACK_LEN];
    if let Ok(guard) = region::lock(black_box(stack.as_ptr()), STACK_LEN) {
        forget(guard);
    }
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
