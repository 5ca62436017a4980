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
