//! What became of a transaction, for a process that has no transactions of its own.

use pgrx::pg_sys;

/// What became of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It runs, or is prepared.
    Open,
    /// It committed.
    Committed,
    /// It did not, and never will.
    Aborted,
}

/// The number that the next transaction gets; None while the server recovers, or is a standby: then nothing is
/// decided yet.
pub fn next() -> Option<u64> {
    // SAFETY: reads shared memory.
    unsafe { (!pg_sys::RecoveryInProgress()).then(|| pg_sys::ReadNextFullTransactionId().value) }
}

/// The number that the first transaction after recovery got, asked while the server recovers no more: lower than `next` if
/// others have run since. Recovery ends with a checkpoint; not so a promotion, which takes no number with it.
pub fn first_after_recovery(next: u64) -> u64 {
    let mut is_good = false;
    // SAFETY: reads the control file into memory of our own, and shared memory.
    unsafe {
        let control = pg_sys::get_controlfile(pg_sys::DataDir, &raw mut is_good);
        let checkpoint = &(*control).checkPointCopy;
        let is_of_this_life = checkpoint.ThisTimeLineID == pg_sys::GetWALInsertionTimeLine();
        let first = checkpoint.nextXid.value;
        pg_sys::pfree(control.cast());
        if is_good && is_of_this_life { first.min(next) } else { next }
    }
}

/// What became of a transaction with a number below `next`, that is not older than the commit log.
pub fn fate(number: u64) -> Fate {
    let xid = pg_sys::TransactionId::from(number as u32);
    // SAFETY: in this order: a transaction is in progress until its fate is in the commit log.
    unsafe {
        if pg_sys::TransactionIdIsInProgress(xid) {
            Fate::Open
        } else if pg_sys::TransactionIdDidCommit(xid) {
            Fate::Committed
        } else {
            Fate::Aborted
        }
    }
}
